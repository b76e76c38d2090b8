//! `vchan`: talks to a domain over vchan. See `vchan --help`.
#![forbid(unsafe_code)]

use clap::Parser;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use vchan::{Arguments, Code, Command, ConnectArguments, Failure};
use xen_exec::Spawner;
use xen_linux::{Input, Linux, Output, Signal, Signals, open_store};

/// How a command ended.
enum End {
    Done(Result<(), Failure>),
    Caught(Signal),
}

fn main() -> ExitCode {
    let Arguments { command: Command::Connect(args) } = Arguments::parse();
    let linux = Linux::new();
    let end = linux.run({
        let linux = linux.clone();
        |spawner| async move { until_signal(&linux, connect(&linux, &spawner, &args)).await }
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

/// Runs `command` until it ends or a signal comes, which drops it: that closes its channel in good order.
async fn until_signal(linux: &Linux, command: impl Future<Output = Result<(), Failure>>) -> End {
    let signals = match Signals::catch(linux) {
        Ok(signals) => signals,
        Err(error) => return End::Done(Err(other(error))),
    };
    let mut command = pin!(command);
    let mut signal = pin!(signals.next());
    poll_fn(|cx| match signal.as_mut().poll(cx) {
        Poll::Ready(signal) => Poll::Ready(End::Caught(signal)),
        Poll::Pending => command.as_mut().poll(cx).map(End::Done),
    })
    .await
}

async fn connect(linux: &Linux, spawner: &Spawner, args: &ConnectArguments) -> Result<(), Failure> {
    let input = Input::stdin(linux).map_err(other)?;
    let output = Output::stdout(linux).map_err(other)?;
    let store = open_store(linux, spawner).await.map_err(other)?;
    vchan::connect(linux, &store, args, input, output, say).await
}

/// Tells the user, if there is still a standard error to tell it on.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn other(error: impl ToString) -> Failure {
    Failure::new(Code::Other, error.to_string())
}
