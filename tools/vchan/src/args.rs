//! The command line.

use clap::{Args, Parser, Subcommand};
use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;
use xen_platform::DomId;

const EXIT_CODES: &str = "\
Exit codes:
  0    standard input ended and everything came back, or the server closed the channel in good order
  1    something else failed: the message says what
  2    wrong usage
  3    no such domain, or no server there before the timeout
  4    the domain or its server died
  5    the server broke the vchan protocol
  130  SIGINT (Ctrl-C); the channel was closed in good order
  143  SIGTERM; likewise";

const CONNECT_EXAMPLES: &str = "\
Examples:
  vchan connect 2                          type lines, read the answers; Ctrl-D ends
  vchan connect echo -v                    the domain by its name; tell how the channel is made
  vchan connect 2 <in.bin >out.bin         all bytes there and back
  vchan connect 2 --timeout 60 <in.bin     wait for a server that is still booting";

/// Talks to a domain over vchan: byte streams through memory shared between two Xen domains.
#[derive(Parser, Debug)]
#[command(name = "vchan", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Connects to a vchan server: copies standard input to it, and what it sends to standard output.
    Connect(ConnectArguments),
}

/// The arguments of `vchan connect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{CONNECT_EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct ConnectArguments {
    /// The server's domain: its number or its name, as `xl list` shows them.
    #[arg(value_name = "DOMID")]
    pub domain: DomainArgument,

    /// Where the server has published the channel in xenstore: absolute, or within the domain's folder.
    #[arg(long, value_name = "PATH", default_value = "data/vchan")]
    pub path: String,

    /// How long to wait for the server to appear. With 0 only what is there at once is taken; xenstore itself has a
    /// second to answer.
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    pub timeout: u64,

    /// Once standard input has ended and the server has read everything and waits for more: how long nothing may come
    /// from it before the channel is closed.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub linger: u64,

    /// Tell on standard error how the channel is made.
    #[arg(short, long)]
    pub verbose: bool,
}

impl ConnectArguments {
    /// How long the search for the server may take: `--timeout`, but never less than the second that xenstore has.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout.max(1))
    }
}

/// A domain as the user names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DomainArgument {
    /// By its number.
    Number(DomId),
    /// By its name.
    Name(String),
}

impl FromStr for DomainArgument {
    type Err = Infallible;

    /// Digits are a number, if a domain can have it; anything else is a name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().map(DomId).filter(|domid| digits && *domid < DomId::FIRST_RESERVED);
        Ok(number.map_or_else(|| DomainArgument::Name(text.to_string()), DomainArgument::Number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault_with_the_command_line() {
        <Arguments as clap::CommandFactory>::command().debug_assert()
    }

    #[test]
    fn the_defaults_are_those_of_the_echo_server() {
        let Arguments { command: Command::Connect(args) } =
            Arguments::try_parse_from(["vchan", "connect", "2"]).unwrap();
        assert_eq!(args.domain, DomainArgument::Number(DomId(2)));
        assert_eq!((&*args.path, args.timeout, args.linger, args.verbose), ("data/vchan", 10, 500, false));
    }

    #[test]
    fn what_is_no_domain_number_is_a_name() {
        let parsed = |text: &str| text.parse::<DomainArgument>().unwrap();
        assert_eq!(parsed("0"), DomainArgument::Number(DomId(0)));
        assert_eq!(parsed("32751"), DomainArgument::Number(DomId(0x7fef)));
        for name in ["32752", "99999999999", "+2", "-1", "echo", "2a"] {
            assert_eq!(parsed(name), DomainArgument::Name(name.to_string()));
        }
    }
}
