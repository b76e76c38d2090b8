//! Joins this program's terminal (or pipes) to a process in dom0.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::client::Process;
use crate::host::Host;
use crate::wire::Status;

/// Runs `argv` on `host` with our input and output; its exit code is ours.
pub fn attach(host: &Host, argv: &[&str]) -> Result<ExitCode> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let process = if terminal { host.spawn_on_terminal(argv)? } else { host.spawn(argv)? };
    let _raw = terminal.then(Raw::enter).transpose()?;
    let status = join(process)?;
    Ok(match status {
        Status::Code(code) => ExitCode::from(code as u8),
        Status::Signal(number) => ExitCode::from(128u8.wrapping_add(number as u8)),
    })
}

/// Copies our input to the process and its output to ours, until it ends.
pub fn join(process: Process) -> Result<Status> {
    let process = Arc::new(process);
    let feeder = process.clone();
    std::thread::spawn(move || feed(&feeder));
    let mut seen = 0;
    loop {
        match process.output_after(seen, Duration::from_secs(3600)) {
            Some(data) => {
                seen += data.len();
                std::io::stdout().write_all(&data)?;
                std::io::stdout().flush()?;
            }
            None if process.running() => {}
            None => break,
        }
    }
    let finished = process.wait(Duration::from_secs(1))?;
    std::io::stderr().write_all(finished.stderr.as_bytes())?;
    Ok(finished.status)
}

fn feed(process: &Process) {
    let mut buffer = vec![0; 1 << 16];
    let mut input = std::io::stdin().lock();
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        if process.write(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = process.close_stdin();
}

/// A terminal in raw mode, until dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Raw> {
        let before = tcgetattr(std::io::stdin()).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
