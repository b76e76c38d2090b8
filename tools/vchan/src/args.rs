//! The command line.

mod connect;
mod copy;
mod domains;
mod inspect;
mod measure;
mod owner;
mod place;
mod proxy;
mod serve;
mod tcp;

pub use connect::{ConnectArguments, Escape};
pub use copy::CopyArguments;
pub(crate) use copy::Direction;
pub use domains::Domains;
pub use inspect::{DumpArguments, ListArguments};
pub use measure::{BenchArguments, PingArguments};
pub use owner::Owner;
pub use place::{Dial, Layout, Location, Place, ServerPlace};
pub use proxy::{LocalAddress, ProxyArguments};
pub use serve::{ExecArguments, ListenArguments, RingSizes, ServeArguments};
pub(crate) use serve::{bytes, clients, ring_size};
pub use tcp::TcpAddress;
pub use tools_common::DomainArgument;

use crate::Failure;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use xen_platform::DomId;

const EXIT_CODES: &str = "\
Exit codes:
  0    both directions have ended, and all bytes arrived
  1    something else failed: the message names it
  2    wrong usage
  3    no such domain, or no server there that shows a sign of life before the timeout
  4    the other domain or its program died, or was cut off before it had sent all
  5    the other side broke the vchan protocol, or an echo was not what was sent
  6    --linger ended a connection whose other side might still have sent something
  129  SIGHUP
  130  SIGINT (Ctrl-C)
  131  SIGQUIT, of connect --raw
  143  SIGTERM
connect also exits with the status of the command that the other side's vchan exec ran for it, 128+n if signal n ended that.";

/// The examples of a command, and the exit codes of all.
fn after_help(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{EXIT_CODES}")
}

/// Talks to a domain over vchan: byte streams through memory shared between two Xen domains.
#[derive(Parser, Debug)]
#[command(name = "vchan", version = tools_common::version(), after_help = EXIT_CODES)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Connects to a vchan server: copies standard input to it, and what it sends to standard
    /// output.
    Connect(ConnectArguments),
    /// Offers a vchan to a domain: copies standard input to its client, and what that sends to
    /// standard output.
    Listen(ListenArguments),
    /// Offers a vchan to a domain, and runs a command for each client: the channel is its standard
    /// input and output.
    Exec(ExecArguments),
    /// Offers services to other domains, as a configuration file names them: commands, unix sockets
    /// and TCP servers.
    Serve(ServeArguments),
    /// Joins a vchan and local connections: a unix socket, TCP, or a pseudo terminal.
    Proxy(ProxyArguments),
    /// Copies files and folders between two domains, or serves a folder for that.
    Cp(CopyArguments),
    /// Lists the vchans of this host that are published below the domains' data folders, with
    /// state, sizes and fill.
    Ls(ListArguments),
    /// Shows the shared page of a vchan, decoded, without touching the connection.
    Dump(DumpArguments),
    /// Measures round trips to an echo server.
    Ping(PingArguments),
    /// Measures throughput and round-trip time with an echo server, and checks every byte of the
    /// echo.
    Bench(BenchArguments),
    /// Writes manual pages and shell completions into a folder.
    #[command(hide = true)]
    Generate {
        /// The folder; it must exist.
        dir: PathBuf,
    },
}

impl Command {
    /// Finds what is wrong with the place of the channel, before anything is looked up there.
    pub fn check(&self) -> Result<(), Failure> {
        let place = match self {
            Command::Connect(args) => &args.dial.place.location,
            Command::Ping(args) => &args.dial.place.location,
            Command::Bench(args) => &args.dial.place.location,
            Command::Listen(args) => args.place.check(args.timeout)?,
            Command::Exec(args) => args.place.check(args.timeout)?,
            Command::Proxy(args) => {
                args.check()?;
                &args.place.location
            }
            Command::Dump(args) => &args.place.location,
            Command::Cp(args) => &args.check()?,
            Command::Ls(_) | Command::Serve(_) | Command::Generate { .. } => return Ok(()),
        };
        place.layout()?.server_path(DomId::FIRST_RESERVED)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Command, clap::error::ErrorKind> {
        let args = [&["vchan"], args].concat();
        Arguments::try_parse_from(args).map(|args| args.command).map_err(|error| error.kind())
    }

    #[test]
    fn clap_finds_no_fault_with_the_command_line() {
        <Arguments as clap::CommandFactory>::command().debug_assert()
    }

    #[test]
    fn the_defaults_are_those_of_the_echo_server() {
        let Ok(Command::Connect(args)) = parse(&["connect", "2"]) else { panic!() };
        assert_eq!(args.dial.place.domain, DomainArgument::Number(DomId(2)));
        let path = "data/vchan".to_string();
        assert_eq!(args.dial.place.location.layout(), Ok(xen_vchan::Layout::Legacy { path }));
        assert_eq!((args.dial.timeout, args.linger, args.verbose), (10, None, false));
    }

    #[test]
    fn what_contradicts_itself_is_wrong_usage() {
        for wrong in [
            &["connect"][..],
            &["connect", "2", "--timeout", "soon"],
            &["connect", "2", "--path", "a", "--port", "b"],
            &["connect", "2", "log", "--path", "a"],
            &["connect", "2", "log", "--port", "log"],
            &["connect", "2", "--raw", "--reconnect"],
            &["connect", "2", "--raw", "--linger", "9"],
            &["connect", "2", "--escape", "^]"],
            &["connect", "2", "--raw", "--escape", "x"],
            &["listen", "2", "--once", "--keep"],
            &["listen", "2,", "--keep"],
            &["serve"],
            &["cp", "a"],
            &["cp", "--serve", "/srv", "1", "2"],
            &["cp", "a", "1:", "--read-only"],
            &["listen", "2", "--left", "2000000"],
            &["listen", "2", "--left", "0"],
            &["exec", "2"],
            &["exec", "2", "cat"],
            &["exec", "2", "sh", "cat"],
            &["exec", "2", "--clients", "0", "--", "cat"],
            &["exec", "2", "--once", "--clients", "2", "--", "cat"],
            &["proxy", "2"],
            &["proxy", "2", "--tcp", "192.0.2.1"],
            &["proxy", "2", "--unix", "x", "--pty"],
            &["proxy", "2", "--server", "--pty"],
            &["proxy", "2", "--unix", "x", "--mode", "999"],
            &["proxy", "2", "--unix", "x", "--mode", "1777"],
            &["proxy", "2", "--tcp", "127.0.0.1:1", "--mode", "600"],
            &["proxy", "2", "--unix", "x", "--server", "--mode", "600"],
            &["proxy", "2", "--unix", "x", "--owner", "nobody-of-that-name"],
            &["ping", "2", "--size", "0"],
            &["ping", "2", "--interval", "-1"],
            &["bench", "2", "--amount", "lots"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_command_has_examples_and_exit_codes() {
        for command in <Arguments as clap::CommandFactory>::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
        {
            let text = command
                .get_after_help()
                .unwrap_or_else(|| panic!("{}", command.get_name()))
                .to_string();
            let example = format!("vchan {}", command.get_name());
            assert!(text.contains(&example) && text.contains("Exit codes:"), "{text}");
        }
    }
}
