//! A program for a client.

use crate::other;
use std::ffi::OsString;
use std::future::Future;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use vchan::{Code, Failure};
use xen_linux::{Input, Linux, Output};
use xen_platform::{Clock, sleep};

/// How often to look whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts `command`: its output, its input, and its end, to be waited for after both were dropped. Fails if it cannot be
/// started; the end fails with the program's exit code if that is not 0, and kills what does not end within `grace`.
pub(crate) fn start(
    linux: &Linux,
    command: &[OsString],
    grace: Duration,
) -> Result<(Input, Output, impl Future<Output = Result<(), Failure>> + use<>), Failure> {
    let name = command[0].to_string_lossy().into_owned();
    let child = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.map_err(|error| Failure::new(Code::Other, format!("cannot run {name}: {error}")))?;
    let mut running = Running(child);
    let (Some(stdin), Some(stdout)) = (running.0.stdin.take(), running.0.stdout.take()) else {
        unreachable!("both were asked for")
    };
    let output = Output::new(linux, stdin).map_err(other)?;
    let linux = linux.clone();
    let input = Input::new(&linux, stdout).map_err(other)?;
    Ok((input, output, async move {
        match running.end(&linux, grace).await.map_err(other)? {
            None => Err(Failure::new(Code::Other, format!("{name} did not end within {grace:?} and was killed"))),
            Some(status) if status.code().is_some_and(|code| code != 0) => {
                Err(Failure::new(Code::Other, format!("{name} ended with {status}")))
            }
            _ => Ok(()),
        }
    }))
}

/// A program that is ended when this is dropped.
struct Running(Child);

impl Running {
    /// Waits for its end; `None` if it takes too long.
    async fn end(&mut self, linux: &Linux, grace: Duration) -> std::io::Result<Option<ExitStatus>> {
        let until = linux.now() + grace;
        loop {
            match self.0.try_wait()? {
                None if linux.now() < until => sleep(linux, LOOK_EVERY).await,
                ended => return Ok(ended),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already, and was waited for, is left alone by both.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_io_async::{Read, Write};

    const GRACE: Duration = Duration::from_secs(60);

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_program_reads_writes_and_ends_with_its_input() {
        let linux = Linux::new();
        let ended = linux.run({
            let linux = linux.clone();
            |_| async move {
                let (mut output, mut input, end) = start(&linux, &command(&["cat"]), GRACE)?;
                input.write_all(b"through").await.unwrap();
                let mut got = [0; 7];
                output.read_exact(&mut got).await.unwrap();
                assert_eq!(&got, b"through");
                drop((input, output));
                end.await
            }
        });
        assert_eq!(ended, Ok(()));
    }

    #[test]
    fn how_it_failed_is_told() {
        let linux = Linux::new();
        let end_within = |words: &[&str], grace| {
            let (of_program, command) = (linux.clone(), command(words));
            linux.run(move |_| async move { start(&of_program, &command, grace)?.2.await }).unwrap_err().text
        };
        let end = |words: &[&str]| end_within(words, GRACE);
        assert_eq!(end(&["sh", "-c", "exit 3"]), "sh ended with exit status: 3");
        assert!(end(&["/nowhere/program"]).starts_with("cannot run /nowhere/program: No such file"));
        let stubborn = end_within(&["sleep", "1000"], Duration::ZERO);
        assert_eq!(stubborn, "sleep did not end within 0ns and was killed");
    }
}
