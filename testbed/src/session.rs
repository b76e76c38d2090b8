//! `testbed run`: a guest and a client, for a person or a pipe.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Process;
use crate::guest::READY;
use crate::host::{Host, PATIENCE};
use crate::terminal;
use crate::wire::Status;

/// The name that `xl/echo.xl` gives its guest.
const NAME: &str = "echo";

/// The most time that the guest may take to go, before it is made to.
const GOODBYE: Duration = Duration::from_secs(15);

/// Creates the guest with `settings` on top of `xl/echo.xl`, shows its boot
/// log, and joins our input and output to a client until that ends.
pub fn run(host: &Host, settings: &[String]) -> Result<ExitCode> {
    let mut words = vec!["xl", "create", "-c", "xl/echo.xl"];
    words.extend(host.settings());
    words.extend(settings.iter().map(String::as_str));
    say(&format!("$ {}", quoted(&words)));
    let console = host.spawn(&words)?;
    let shown = show_boot(&console)?;

    let domid = host.xl(&["domid", NAME])?.trim().to_string();
    say(&format!("$ vchan connect {domid}"));
    if std::io::stdin().is_terminal() {
        say("(type lines; Ctrl-D ends)");
    }
    let status =
        terminal::join(host.spawn(&["out/vchan", "connect", &domid, "--timeout", "30"])?)?;

    say(&format!("$ xl shutdown -w {NAME}"));
    if host
        .exec(&["xl", "shutdown", "-w", NAME], GOODBYE)
        .and_then(|finished| finished.expect(0))
        .is_err()
    {
        host.xl(&["destroy", NAME])?;
    }
    // What the console said meanwhile, now that it disturbs nobody.
    let _ =
        console.wait(Duration::from_secs(5)).map(|finished| print(finished.stdout.get(shown..)));
    match status {
        Status::Code(0) => Ok(ExitCode::SUCCESS),
        status => bail!("the client ended with {status}"),
    }
}

/// Shows the console live until the guest serves; returns how much was shown.
fn show_boot(console: &Process) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut shown = 0;
    loop {
        let Some(data) = console.output_after(shown, Duration::from_secs(1)) else {
            if console.running() && Instant::now() < deadline {
                continue;
            }
            let finished = console
                .wait(Duration::from_millis(1))
                .context("the guest does not say that it is ready")?;
            bail!(
                "the guest ended while booting ({}): {}",
                finished.status,
                finished.stderr.trim()
            );
        };
        let whole = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        print(data.get(..whole));
        shown += whole;
        if String::from_utf8_lossy(&data[..whole]).contains(READY) {
            return Ok(shown);
        }
        if whole == 0 {
            // Half a line: wait for the rest.
            console.output_after(shown + data.len(), Duration::from_millis(200));
        }
    }
}

fn say(line: &str) {
    println!("{line}");
}

fn print(bytes: Option<&[u8]>) {
    let text = String::from_utf8_lossy(bytes.unwrap_or_default()).replace('\r', "");
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// The words as one would type them.
fn quoted(words: &[&str]) -> String {
    let quote = |word: &&str| {
        if word.contains(['"', ' ']) { format!("'{word}'") } else { word.to_string() }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
