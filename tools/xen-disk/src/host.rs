//! The commands on this host: its devices, signals, sockets and files.

mod ask;
mod exercise;
mod export;
mod hotplug;
mod log;
mod privileges;
mod serve;
mod service;
#[cfg(feature = "object")]
mod store;

pub(crate) use self::log::say;
use crate::config::{self, Configuration, Spec};
use crate::layer::replay;
use crate::stack::{self, Files};
use crate::{Code, Command, Failure};
use std::env;
use std::future::Future;
use std::path::PathBuf;
use tools_common::{Bar, print};
use xen_linux::Linux;
use xen_platform::{DomId, Platform};
use xen_store::Store;

/// Folder of the sockets, unless XEN_DISK_RUNDIR names another.
const RUN_DIR: &str = "/run/xen-disk";

/// Carries out `command`.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Connect(args) => {
            let spec = Spec { domain: args.domain, vdev: args.vdev, source: args.source };
            let configuration = Configuration { specs: vec![spec], ..Configuration::default() };
            log::install(args.verbose);
            serve::run(configuration, serve::Mode { wait: false, verbose: args.verbose })
        }
        Command::Serve(args) => {
            let configuration = args.config.as_deref().map(config::read).transpose()?;
            log::install(args.verbose);
            let mode = serve::Mode { wait: true, verbose: args.verbose };
            serve::run(configuration.unwrap_or_default(), mode)
        }
        Command::Hotplug(args) => hotplug::run(&args),
        Command::Export(args) => {
            log::install(args.verbose);
            export::run(&args)
        }
        Command::List(args) => {
            on_linux(|linux, store| async move { ask::list(&linux, &store, &args).await })
        }
        Command::Stats(args) => ask::stats(&args),
        Command::Order(args) => ask::order(&args),
        Command::Metrics(_) => {
            on_linux(|linux, store| async move { ask::metrics(&linux, &store).await })
        }
        Command::Disconnect(args) => {
            on_linux(|linux, store| async move { ask::disconnect(&linux, &store, &args).await })
        }
        Command::Exercise(args) => exercise::run(args),
        Command::Resize(args) => ask::resize(&args),
        Command::Convert(args) => {
            log::install(false);
            let copied = crate::convert(&args, &mut Bar::of_bytes())?;
            say(&format!("{} bytes, of which {} were written", copied.bytes, copied.written));
            Ok(())
        }
        Command::Commit(args) => {
            let moved = stack::commit(&args.stack)?;
            print(&format!("{} clusters moved\n", moved.clusters))
        }
        Command::Revert(args) => {
            let moved = stack::revert(&args.stack)?;
            print(&format!("{} clusters given up\n", moved.clusters))
        }
        Command::Rebase(args) => stack::rebase(&args.stack).map_err(Failure::from),
        Command::Replay(args) => {
            let failed = |code| {
                let log = args.log.display().to_string();
                move |error| Failure::new(code, format!("cannot replay {log}: {error}"))
            };
            let log = std::fs::File::open(&args.log).map_err(failed(Code::Other))?;
            let disk = stack::build(&args.stack, &Files::default())?;
            let count =
                replay(std::io::BufReader::new(log), &*disk).map_err(failed(Code::Other))?;
            disk.flush().map_err(failed(Code::Storage))?;
            print(&format!("{count} requests\n"))
        }
        #[cfg(feature = "object")]
        Command::Gc(args) => {
            log::install(false);
            store::gc(&args)
        }
        #[cfg(feature = "object")]
        Command::Store(command) => {
            log::install(false);
            store::run(&command)
        }
        Command::Generate { dir } => crate::generate(&dir),
    }
}

fn run_dir() -> PathBuf {
    env::var_os("XEN_DISK_RUNDIR").map_or_else(|| RUN_DIR.into(), PathBuf::from)
}

/// Returns the number of the domain that this program runs in.
fn own_domain(linux: &Linux) -> DomId {
    linux.domid().unwrap_or(DomId(0))
}

/// Runs something that needs xenstore.
fn on_linux<T: 'static, F: Future<Output = Result<T, Failure>> + 'static>(
    work: impl FnOnce(Linux, Store) -> F + 'static,
) -> Result<T, Failure> {
    let linux = Linux::new();
    linux.run({
        let linux = linux.clone();
        move |spawner| async move {
            let store = xen_linux::open_store(&linux, &spawner).await.map_err(Failure::other)?;
            work(linux, store).await
        }
    })
}
