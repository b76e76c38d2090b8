//! Starts one process, on pipes or on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::wire::{Message, Request};

/// Something to read from, and what its bytes are called in a frame.
type Source = (Box<dyn Read + Send>, fn(Vec<u8>) -> Message);

/// A process and the other ends of its descriptors.
pub struct Spawned {
    /// The process.
    pub child: Child,
    /// Its standard input; dropping it is the end of input.
    pub stdin: Box<dyn Write + Send>,
    /// Its outputs.
    pub outputs: Vec<Source>,
}

/// Starts what `request` describes, as leader of its own process group.
pub fn spawn(request: &Request) -> Result<Spawned> {
    if request.terminal { on_terminal(request) } else { on_pipes(request) }
}

fn command(request: &Request, argv: &[String]) -> Result<Command> {
    let (program, arguments) = argv.split_first().context("no program named")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(request.env.iter().map(|(name, value)| (name, value)));
    if !request.cwd.is_empty() {
        command.current_dir(&request.cwd);
    }
    Ok(command)
}

fn on_pipes(request: &Request) -> Result<Spawned> {
    let mut command = command(request, &request.argv)?;
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", request.argv[0]))?;
    let stdin = Box::new(child.stdin.take().context("no pipe")?);
    let stdout = Box::new(child.stdout.take().context("no pipe")?);
    let stderr = Box::new(child.stderr.take().context("no pipe")?);
    Ok(Spawned {
        child,
        stdin,
        outputs: vec![(stdout, Message::Stdout), (stderr, Message::Stderr)],
    })
}

fn on_terminal(request: &Request) -> Result<Spawned> {
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("cannot open a terminal")?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?.into_string()?;
    let slave = File::options()
        .read(true)
        .write(true)
        .open(&name)
        .with_context(|| format!("cannot open {name}"))?;
    // setsid makes the terminal the process's own and then becomes it.
    let argv: Vec<String> = ["setsid", "-c"]
        .map(str::to_string)
        .into_iter()
        .chain(request.argv.iter().cloned())
        .collect();
    let mut command = command(request, &argv)?;
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let child = command.spawn().context("cannot start setsid (package util-linux)")?;
    let master = File::from(master);
    Ok(Spawned {
        child,
        stdin: Box::new(master.try_clone()?),
        outputs: vec![(Box::new(master), Message::Stdout)],
    })
}
