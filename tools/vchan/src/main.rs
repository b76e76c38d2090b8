//! `vchan`: talks to a domain over vchan. See `vchan --help`.
#![forbid(unsafe_code)]

mod host;

use clap::Parser;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;
use tools_common::report;
use vchan::{Arguments, Code, Command, Failure, Stop};
use xen_linux::{Linux, Signal, Signals};
use xen_platform::{Clock, deadline};

/// Time limit for a server to remove its keys after a signal.
const KEYS_GRACE: Duration = Duration::from_secs(2);

/// Time limit for all services of a daemon to end.
const DAEMON_GRACE: Duration = Duration::from_secs(3600);

/// End of a command.
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
            let grace = grace(&command);
            let work = host::run(&linux, &spawner, &command, &stop);
            match signals(&linux, &command) {
                Ok(signals) => until_signal(&linux, signals, &stop, grace, work).await,
                Err(error) => End::Done(Err(other(error))),
            }
        }
    });
    match end {
        End::Done(Ok(())) => ExitCode::SUCCESS,
        End::Done(Err(failure)) => {
            if !failure.text.is_empty() {
                report(&format!("vchan: {failure}"));
            }
            failure.code.into()
        }
        End::Caught(signal) => ExitCode::from(signal.exit_code()),
    }
}

/// Returns the time that a command has to end after a signal. A client is cut off when it is
/// dropped; a server has keys to remove, and `exec` has programs to end.
fn grace(command: &Command) -> Duration {
    match command {
        Command::Exec(args) => Duration::from_secs(args.grace) + KEYS_GRACE,
        Command::Listen(_) => KEYS_GRACE,
        // Each service has a grace of its own.
        Command::Serve(_) => DAEMON_GRACE,
        Command::Proxy(args) if args.server => KEYS_GRACE,
        _ => Duration::ZERO,
    }
}

/// Catches the signals that end a command. SIGHUP does not end a daemon. SIGQUIT is left to its
/// default, a core dump, unless that would leave a terminal in raw mode.
fn signals(linux: &Linux, command: &Command) -> Result<Signals, xen_linux::Error> {
    match command {
        Command::Serve(_) => Signals::none(linux).and(Signal::Interrupt)?.and(Signal::Terminate),
        Command::Connect(args) if args.raw => Signals::catch(linux)?.and(Signal::Quit),
        _ => Signals::catch(linux),
    }
}

/// Runs `command` until it ends. A signal asks it to stop, and drops it after `grace` at the
/// latest.
async fn until_signal(
    linux: &Linux,
    signals: Signals,
    stop: &Stop,
    grace: Duration,
    command: impl Future<Output = Result<(), Failure>>,
) -> End {
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

fn other(error: impl ToString) -> Failure {
    Failure::new(Code::Other, error.to_string())
}
