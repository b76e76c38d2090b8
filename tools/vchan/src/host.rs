//! The commands on this host: its devices, its standard streams, its programs and its sockets.

mod child;
mod door;
mod progress;

use crate::{other, say};
use std::io::{self, Write};
use std::time::Duration;
use vchan::{Command, Failure, Stop};
use xen_exec::Spawner;
use xen_linux::{Input, Linux, Output, open_store};
use xen_store::Store;

/// Carries out `command`; a request through `stop` ends a server in good order.
pub(crate) async fn run(linux: &Linux, spawner: &Spawner, command: &Command, stop: &Stop) -> Result<(), Failure> {
    match command {
        Command::Connect(args) => {
            let (input, output) = stdio(linux)?;
            vchan::connect(linux, &store(linux, spawner).await?, args, input, output, say).await
        }
        Command::Listen(args) => {
            let streams = stdio(linux)?;
            vchan::listen(linux, &store(linux, spawner).await?, args, streams, stop, say).await
        }
        Command::Exec(args) => {
            let grace = Duration::from_secs(args.grace);
            let start = async || child::start(linux, &args.command, grace);
            vchan::exec(linux, &store(linux, spawner).await?, args, stop, say, start).await
        }
        Command::Proxy(args) => {
            let local = door::Local::open(linux, &args.door, args.server)?;
            vchan::proxy(linux, &store(linux, spawner).await?, args, stop, say, async || local.next().await).await
        }
        Command::Ping(args) => vchan::ping(linux, &store(linux, spawner).await?, args, print).await,
        Command::Bench(args) => {
            let store = store(linux, spawner).await?;
            print(&vchan::bench(linux, &store, args, &mut progress::Bar::new()).await?)
        }
        Command::Ls(args) => print(&vchan::list(linux, &store(linux, spawner).await?, args).await?),
        Command::Generate { dir } => vchan::generate(dir),
        Command::Dump(args) => print(&vchan::dump(linux, &store(linux, spawner).await?, args).await?),
    }
}

/// Prints a result.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| other(format!("cannot write to standard output: {error}")))
}

fn stdio(linux: &Linux) -> Result<(Input, Output), Failure> {
    Ok((Input::stdin(linux).map_err(other)?, Output::stdout(linux).map_err(other)?))
}

async fn store(linux: &Linux, spawner: &Spawner) -> Result<Store, Failure> {
    open_store(linux, spawner).await.map_err(other)
}
