//! `vchan listen` and `vchan exec`.

use super::{ServerPlace, after_help};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use xen_vchan::{Order, Orders};

const LISTEN_EXAMPLES: &str = "  \
  vchan listen 2 >log.txt </dev/null       take what a client in domain 2 sends
  vchan listen 2 --port log --keep >log    one client after another, in the std layout
  vchan listen 2 <file                     send a file
  vchan listen all --port log --keep >log  from the clients of any domain
  vchan listen 2 --left 64K --right 1M     rings of these sizes";

const EXEC_EXAMPLES: &str = "  \
  vchan exec 2 -- cat                      an echo server for domain 2
  vchan exec 2 sh -- sh -i                 a shell for the clients in domain 2, at the port sh
  vchan exec 2 sh --pty -- login           the same with a terminal, for vchan connect --raw
  vchan exec 2 --clients 1 -- ./logger     one client after another
  vchan exec 2 --once -- tar xf -          one client, then end with the command's end
  vchan exec vm1,vm2 log -- ./logger       for two domains, whenever they are there; all stands for any

Each client has a channel and a command of its own, so that what becomes of one does not concern the others.

Environment of the command:
  VCHAN_PEER_DOMID    number of the client's domain
  VCHAN_PEER_NAME     its name; unset where this domain may not ask for it: only dom0 may
  VCHAN_PATH          path of the channel's keys in xenstore, as this server publishes them
  VCHAN_PORT          name of the service; unset without one (--path, --layout legacy)

Variables of these names that vchan itself was started with do not reach the command.";

const SERVE_EXAMPLES: &str = "  \
  vchan serve --config /etc/xen/vchan.toml the services of vchan.toml(5), until a signal comes
  systemctl enable --now vchan             the same by its unit; systemctl reload has the file read again

SIGHUP has the configuration read again. Services that did not change go on with their clients.";

/// The sizes of the two rings.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingSizes {
    /// Bytes of the ring from the client to the server, 1 to 1M; rounded up as libxenvchan does.
    #[arg(long, value_name = "BYTES", default_value = "8192", value_parser = ring_size)]
    pub left: usize,

    /// Bytes of the ring from the server to the client, likewise.
    #[arg(long, value_name = "BYTES", default_value = "8192", value_parser = ring_size)]
    pub right: usize,
}

impl RingSizes {
    /// The smallest rings for that.
    pub(crate) fn orders(self) -> Orders {
        Orders::for_sizes(self.left, self.right)
            .expect("the sizes were checked when they were parsed")
    }
}

/// The arguments of `vchan listen`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(LISTEN_EXAMPLES))]
pub struct ListenArguments {
    /// The client's domain, and where the channel is published in this domain's folder.
    #[command(flatten)]
    pub place: ServerPlace,

    /// The rings.
    #[command(flatten)]
    pub sizes: RingSizes,

    /// End when the first client has left: the default.
    #[arg(long, conflicts_with = "keep")]
    pub once: bool,

    /// Serve one client after another.
    #[arg(long)]
    pub keep: bool,

    /// Milliseconds of silence after which to close the channel of a client that cannot half-close,
    /// once standard input has ended and the client has read everything and waits for more. Without
    /// this such a client decides when the channel closes.
    #[arg(long, value_name = "MS")]
    pub linger: Option<u64>,

    /// Time to wait for a client; without this, for as long as its domain lives.
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,

    /// Report on standard error how the channel is made, the clients that come and go, and the
    /// bytes that went each way.
    #[arg(short, long)]
    pub verbose: bool,
}

/// The arguments of `vchan exec`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(EXEC_EXAMPLES))]
pub struct ExecArguments {
    /// The client's domain, and where the channel is published in this domain's folder.
    #[command(flatten)]
    pub place: ServerPlace,

    /// The rings.
    #[command(flatten)]
    pub sizes: RingSizes,

    /// End when the first client has left, or the command for it has ended.
    #[arg(long, conflicts_with = "clients")]
    pub once: bool,

    /// Number of clients that are served at a time. One more can connect, and waits until another
    /// has left.
    #[arg(long, value_name = "NUMBER", default_value = "64", value_parser = clients)]
    pub clients: usize,

    /// Time to wait for a client while there is none; without this, for as long as its domain
    /// lives.
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,

    /// Run the command on a pseudo terminal of its own, which has the size of the client's terminal
    /// if that is vchan connect --raw. The end of the client's input is typed as Ctrl-D. A client
    /// that is gone means SIGHUP, too. TERM is that of vchan exec, or else xterm.
    #[arg(long)]
    pub pty: bool,

    /// Time in seconds that the command has to end once the client has left, which ends its input.
    /// Then its process group gets SIGTERM, and after as long again SIGKILL. A client that was cut
    /// off, and the end of this server, mean SIGTERM at once.
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    pub grace: u64,

    /// Report on standard error how the channel is made, the clients that come and go, and the
    /// bytes that went each way.
    #[arg(short, long)]
    pub verbose: bool,

    /// The command and its arguments, after --.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The arguments of `vchan serve`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(SERVE_EXAMPLES))]
pub struct ServeArguments {
    /// The file that names the services, in the form of vchan.toml(5).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// Report on standard error the clients that come and go, and the bytes that went each way.
    #[arg(short, long)]
    pub verbose: bool,
}

/// A number of bytes: decimal, with K or M for the powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<usize>().ok())
        .flatten();
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "no number of bytes, as 8192, 64K or 1M".into())
}

/// A number of clients that are served at a time.
pub(crate) fn clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("a number of clients is 1 to 1024".into()),
    }
}

/// The size of a ring in bytes.
pub(crate) fn ring_size(text: &str) -> Result<usize, String> {
    let most = Order::MAX.bytes() as usize;
    match bytes(text)? {
        size if (1..=most).contains(&size) => Ok(size),
        _ => Err("a ring has 1 to 1048576 bytes (1M)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_limits() {
        assert_eq!(
            ["0", "1", "8192", "64K", "1M", "3m"].map(bytes),
            [0, 1, 8192, 65536, 1 << 20, 3 << 20].map(Ok)
        );
        for wrong in [
            "",
            "K",
            "1G",
            "-1",
            "+1",
            "1.5K",
            "ä",
            "99999999999999999999M",
            "18446744073709551615K",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(
            ring_size("0").is_err() && ring_size("1048577").is_err() && ring_size("1M").is_ok()
        );
    }
}
