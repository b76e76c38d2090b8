//! The commands on this host: its devices, its standard streams, its programs and its sockets.

mod child;
mod daemon;
mod local;
mod terminal;

use crate::other;
use tools_common::{Bar, print, report};
use vchan::{Command, Failure, FileServer, RingSizes, Session, Stop};
use xen_exec::Spawner;
use xen_linux::{Input, IoError, Linux, Output, open_store};

/// Number of clients of each domain that `vchan cp --serve` serves at a time.
const CLIENTS: usize = 64;

/// Rings of its channels: large ones, since they carry little but data.
const COPY_RINGS: RingSizes = RingSizes { left: 64 * 1024, right: 64 * 1024 };

/// Carries out `command`; a request through `stop` ends a server in good order.
pub(crate) async fn run(
    linux: &Linux,
    spawner: &Spawner,
    command: &Command,
    stop: &Stop,
) -> Result<(), Failure> {
    command.check()?;
    let terminal = match command {
        Command::Connect(args) if args.raw => Some(terminal::Terminal::open(linux)?),
        _ => None,
    };
    let store = match command {
        Command::Generate { dir } => return vchan::generate(dir),
        Command::Exec(args) => {
            child::check(&args.command[0])?;
            open_store(linux, spawner).await
        }
        _ => open_store(linux, spawner).await,
    };
    let store = store.map_err(other)?;
    let session =
        Session { platform: linux, store: &store, stop, report: &report, offered: &|| () };
    match command {
        Command::Connect(args) => {
            let (input, output) = stdio(linux)?;
            let Some(terminal) = terminal else {
                return vchan::connect(session, args, input, output).await;
            };
            // In raw mode a line begins where the one before ended.
            let report = |text: &str| report(&format!("{}\r", text.replace('\n', "\r\n")));
            let session = Session { report: &report, ..session };
            vchan::connect_raw(session, args, &terminal, input, output).await
        }
        Command::Listen(args) => vchan::listen(session, args, stdio(linux)?).await,
        Command::Exec(args) => child::exec(linux, session, args).await,
        Command::Serve(args) => daemon::run(linux, session, args).await,
        Command::Proxy(args) => {
            let local = local::Local::open(linux, args)?;
            vchan::proxy(session, args, async || local.next().await).await
        }
        Command::Cp(args) => match &args.serve {
            Some(dir) => {
                let files =
                    FileServer::open(dir, args.read_only, CLIENTS, COPY_RINGS, args.verbose)?;
                vchan::serve_files(session, &args.server_place()?, &files).await
            }
            None => vchan::copy(session, args, &mut Bar::of_bytes()).await,
        },
        Command::Ping(args) => vchan::ping(linux, &store, args, print).await,
        Command::Bench(args) => {
            print(&vchan::bench(linux, &store, args, &mut Bar::of_steps()).await?)
        }
        Command::Ls(args) => print(&vchan::list(linux, &store, args).await?),
        Command::Dump(args) => print(&vchan::dump(linux, &store, args).await?),
        Command::Generate { .. } => unreachable!("it needs no xenstore"),
    }
}

fn stdio(linux: &Linux) -> Result<(Input, Output), Failure> {
    let failed = |error| other(IoError(error));
    Ok((Input::stdin(linux).map_err(failed)?, Output::stdout(linux).map_err(failed)?))
}
