//! A program for a client, in a process group or a session of its own.

use crate::other;
use rustix::process::{Pid, Signal, kill_process_group};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use vchan::{Client, ExecArguments, Failure, Program, Session};
use xen_linux::{Input, IoError, Linux, Output, ProgramInput, ProgramOutput, ProgramPty, WeakPty};
use xen_platform::sleep;
use xen_vchan::WindowSize;

/// The interval at which to look whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Fails if there is no program called `name`, so that this is not told only once a client is
/// there.
pub(crate) fn check(name: &OsStr) -> Result<(), Failure> {
    let path = Path::new(name);
    let there = if name.as_bytes().contains(&b'/') {
        path.exists()
    } else {
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders).any(|folder| folder.join(path).exists())
    };
    if there {
        return Ok(());
    }
    let text = format!("cannot run {}: there is no such program", path.display());
    Err(Failure::other(text))
}

/// Carries out `vchan exec`, each command on a terminal if so requested.
pub(crate) async fn exec(
    linux: &Linux,
    session: Session<'_, Linux>,
    args: &ExecArguments,
) -> Result<(), Failure> {
    match args.pty {
        true => {
            let start = async |client: &_| start_on_pty(linux, &args.command, client);
            vchan::exec(session, args, start).await
        }
        false => {
            let start = async |client: &_| start(linux, &args.command, client);
            vchan::exec(session, args, start).await
        }
    }
}

/// Returns `command` with the description of `client` in its environment.
fn prepare(command: &[OsString], client: &Client) -> Command {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]);
    // The socket by which systemd is told is this program's own.
    program.env_remove("NOTIFY_SOCKET");
    for (variable, value) in client.environment() {
        match value {
            Some(value) => program.env(variable, value),
            None => program.env_remove(variable),
        };
    }
    program
}

/// Says which command cannot be run, and why.
fn cannot_run(command: &[OsString], error: io::Error) -> Failure {
    Failure::other(format!("cannot run {}: {}", command[0].to_string_lossy(), IoError(error)))
}

/// Starts `command` for `client`, with its output and its input as streams.
pub(crate) fn start(
    linux: &Linux,
    command: &[OsString],
    client: &Client,
) -> Result<Program<Input, Output, Child>, Failure> {
    let child = prepare(command, client)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| cannot_run(command, error))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        unreachable!("both were asked for")
    };
    let child = Child { child, linux: linux.clone(), pty: None };
    let input = Output::new(linux, stdin).map_err(IoError).map_err(other)?;
    let output = Input::new(linux, stdout).map_err(IoError).map_err(other)?;
    Ok(Program { output, input, child })
}

/// Starts `command` for `client` on a pseudo terminal of its own, of the size of the client's.
pub(crate) fn start_on_pty(
    linux: &Linux,
    command: &[OsString],
    client: &Client,
) -> Result<Program<ProgramOutput, ProgramInput, Child>, Failure> {
    let mut program = prepare(command, client);
    if env::var_os("TERM").is_none_or(|term| term.is_empty()) {
        program.env("TERM", "xterm");
    }
    let size = client.window.map(|size| (size.columns(), size.rows()));
    let (child, pty) =
        ProgramPty::spawn(linux, &mut program, size).map_err(|error| cannot_run(command, error))?;
    let (output, input) = pty.streams();
    let child = Child { child, linux: linux.clone(), pty: Some(pty.downgrade()) };
    Ok(Program { output, input, child })
}

/// The process group of a program. It is killed when this is dropped.
pub(crate) struct Child {
    child: std::process::Child,
    linux: Linux,
    /// Its terminal, if it has one, for as long as the streams hold it.
    pty: Option<WeakPty>,
}

impl vchan::Child for Child {
    async fn wait(&mut self) -> Result<u8, Failure> {
        loop {
            match self.child.try_wait().map_err(IoError).map_err(other)? {
                Some(status) => return Ok(shell_status(status)),
                None => sleep(&self.linux, LOOK_EVERY).await,
            }
        }
    }

    fn terminate(&mut self) {
        self.signal(Signal::TERM);
        // An interactive shell ignores the other one, and passes this one on to its jobs.
        if self.pty.is_some() {
            self.signal(Signal::HUP);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    fn resizer(&self) -> Option<Box<dyn Fn(WindowSize)>> {
        let pty = self.pty.clone()?;
        Some(Box::new(move |size| {
            if let Some(pty) = pty.upgrade() {
                // A terminal that keeps its size serves all the same.
                let _ = pty.resize(size.columns(), size.rows());
            }
        }))
    }
}

impl Child {
    /// Signals the whole group, whose number stays taken for as long as it has a process.
    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // A group that has ended already needs no signal.
        let _ = group.map(|group| kill_process_group(group, signal));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::KILL);
            // It was killed: this does not take long, and leaves no zombie.
            let _ = self.child.wait();
        }
    }
}

/// The status as a shell has it: 128+n for a program that signal n ended.
fn shell_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128u8.wrapping_add(signal as u8),
        (None, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_io_async::{Read, Write};
    use vchan::Child as _;
    use xen_platform::DomId;

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn client() -> Client {
        let port = Some("log".to_string());
        let (name, path) = (None, "data/vchan/7/log".to_string());
        Client { domain: DomId(7), name, path, port, window: WindowSize::new(80, 24) }
    }

    #[test]
    fn program_learns_of_its_client() {
        let linux = Linux::new();
        let script = "echo $VCHAN_PEER_DOMID ${VCHAN_PEER_NAME-none} $VCHAN_PATH $VCHAN_PORT";
        let words = command(&["sh", "-c", script]);
        let host = linux.clone();
        let said = linux.run(|_| async move {
            let mut program = start(&host, &words, &client()).unwrap();
            let mut said = [0; 64];
            let n = program.output.read(&mut said).await.unwrap();
            String::from_utf8_lossy(&said[..n]).into_owned()
        });
        assert_eq!(said, "7 none data/vchan/7/log log\n");
    }

    #[test]
    fn program_on_a_terminal_has_the_size_of_its_client() {
        let linux = Linux::new();
        let words = command(&["sh", "-c", "stty size; echo ${TERM:+term} $VCHAN_PEER_DOMID; cat"]);
        let host = linux.clone();
        let (shown, ended) = linux.run(|_| async move {
            let program = start_on_pty(&host, &words, &client()).unwrap();
            let Program { mut output, input, mut child } = program;
            let mut shown = [0; 15];
            output.read_exact(&mut shown).await.unwrap();
            let resize = child.resizer().unwrap();
            drop((input, output));
            // The terminal is gone, and cat with it.
            resize(WindowSize::new(9, 9).unwrap());
            (String::from_utf8_lossy(&shown).into_owned(), child.wait().await)
        });
        assert_eq!((&*shown, ended), ("24 80\r\nterm 7\r\n", Ok(128 + 1)));
    }

    /// The status of a program that `act` has done something to.
    fn status_of(words: &[&str], act: fn(&mut Child)) -> Result<u8, Failure> {
        let (linux, command) = (Linux::new(), command(words));
        linux.run({
            let linux = linux.clone();
            |_| async move {
                let Program { mut child, mut output, .. } = start(&linux, &command, &client())?;
                // It says that it is ready to be signalled.
                output.read(&mut [0; 9]).await.unwrap();
                act(&mut child);
                child.wait().await
            }
        })
    }

    #[test]
    fn program_reads_writes_and_ends_with_its_input() {
        let linux = Linux::new();
        let ended = linux.run({
            let linux = linux.clone();
            |_| async move {
                let Program { mut output, mut input, mut child } =
                    start(&linux, &command(&["cat"]), &client())?;
                input.write_all(b"through").await.unwrap();
                let mut got = [0; 7];
                output.read_exact(&mut got).await.unwrap();
                assert_eq!(&got, b"through");
                drop((input, output));
                child.wait().await
            }
        });
        assert_eq!(ended, Ok(0));
    }

    #[test]
    fn status_is_that_of_a_shell() {
        assert_eq!(status_of(&["sh", "-c", "exit 3"], |_| ()), Ok(3));
        assert_eq!(status_of(&["sh", "-c", "kill -TERM $$"], |_| ()), Ok(128 + 15));
        let missing = status_of(&["/nowhere/program"], |_| ()).unwrap_err().text;
        assert!(missing.starts_with("cannot run /nowhere/program: No such file"), "{missing}");
    }

    /// The shell waits for its child, which would outlive a signal to the shell alone.
    #[test]
    fn signals_reach_the_whole_group() {
        let words = ["sh", "-c", "sleep 1000 & echo; wait"];
        assert_eq!(status_of(&words, |child| child.terminate()), Ok(128 + 15));
        let stubborn = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"];
        let ended = status_of(&stubborn, |child| {
            child.terminate();
            child.kill();
        });
        assert_eq!(ended, Ok(128 + 9));
    }
}
