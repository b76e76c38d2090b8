//! `vchan`: talks to a domain over vchan. See `vchan --help`.
#![forbid(unsafe_code)]

mod host;

use clap::Parser;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;
use vchan::{Arguments, Code, Command, Failure, Stop};
use xen_linux::{Linux, Signal, Signals};
use xen_platform::{Clock, deadline};

/// How long a server may take to remove its keys after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// How a command ended.
enum End {
    Done(Result<(), Failure>),
    Caught(Signal),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let linux = Linux::new();
    let end = linux.run({
        let linux = linux.clone();
        |spawner| async move {
            let stop = Stop::new();
            // What only connects closes its channel when it is dropped; a server has keys to remove.
            let grace = if serves(&command) { GRACE } else { Duration::ZERO };
            until_signal(&linux, &stop, grace, host::run(&linux, &spawner, &command, &stop)).await
        }
    });
    match end {
        End::Done(Ok(())) => ExitCode::SUCCESS,
        End::Done(Err(failure)) => {
            say(&format!("vchan: {failure}"));
            ExitCode::from(failure.code as u8)
        }
        End::Caught(signal) => ExitCode::from(signal.exit_code()),
    }
}

fn serves(command: &Command) -> bool {
    match command {
        Command::Listen(_) | Command::Exec(_) => true,
        Command::Proxy(args) => args.server,
        _ => false,
    }
}

/// Runs `command` until it ends. A signal asks it to stop, and drops it after `grace` at the latest.
async fn until_signal(
    linux: &Linux,
    stop: &Stop,
    grace: Duration,
    command: impl Future<Output = Result<(), Failure>>,
) -> End {
    let signals = match Signals::catch(linux) {
        Ok(signals) => signals,
        Err(error) => return End::Done(Err(other(error))),
    };
    let mut command = pin!(command);
    let mut signal = pin!(signals.next());
    let end = poll_fn(|cx| match signal.as_mut().poll(cx) {
        Poll::Ready(signal) => Poll::Ready(End::Caught(signal)),
        Poll::Pending => command.as_mut().poll(cx).map(End::Done),
    })
    .await;
    if let End::Caught(_) = end {
        stop.request();
        // The signal decides the exit code, whatever comes of this.
        let _ = deadline(linux, Some(linux.now() + grace), command).await;
    }
    end
}

/// Tells the user, if there is still a standard error to tell it on.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn other(error: impl ToString) -> Failure {
    Failure::new(Code::Other, error.to_string())
}
