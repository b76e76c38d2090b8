//! `vchan connect`.

use super::{Dial, after_help};
use clap::Args;

const EXAMPLES: &str = "  \
  vchan connect 2                          type lines, read the answers; Ctrl-D ends
  vchan connect echo -v                    the domain by its name; report how the channel is made, and what went through
  vchan connect 2 <in.bin >out.bin         all bytes there and back
  vchan connect 2 --timeout 60 <in.bin     wait for a server that is still booting
  vchan connect echo --reconnect           go on when the domain was rebooted, or saved and restored
  vchan connect 2 log                      a service in the std layout, as with --port log
  vchan connect 2 sh --raw                 a shell with job control, of vchan exec --pty there; Ctrl-] leaves it";

/// The arguments of `vchan connect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ConnectArguments {
    /// The server.
    #[command(flatten)]
    pub dial: Dial,

    /// Milliseconds of silence after which to leave a server that cannot half-close, once standard
    /// input has ended and the server has read everything and waits for more. The exit code is 6
    /// then: something may be missing. Without this such a server decides when the channel closes.
    #[arg(long, value_name = "MS")]
    pub linger: Option<u64>,

    /// Connect again when the server dies, or leaves while standard input goes on: to a domain of
    /// that name after its reboot or restore, which has another number then. SECS is the time
    /// within which it must be back, 300 by default. Bytes that were on their way are lost; their
    /// number is reported, and the exit code is 4 in the end.
    #[arg(long, value_name = "SECS", num_args = 0..=1, require_equals = true, default_missing_value = "300")]
    pub reconnect: Option<u64>,

    /// Put the terminal that is standard input into raw mode while connected, so that each key goes
    /// to the server at once, Ctrl-C as well; and pass its size, and each change of it, to the
    /// other side's vchan exec --pty. The terminal gets its mode back however this program ends.
    #[arg(long, conflicts_with_all = ["reconnect", "linger"])]
    pub raw: bool,

    /// Key that leaves the server, with --raw: ^X for Ctrl-X, or none.
    #[arg(long, value_name = "KEY", default_value = "^]", value_parser = escape, requires = "raw")]
    pub escape: Escape,

    /// Report on standard error how the channel is made, and at the end the bytes that went each
    /// way and the side that closed first.
    #[arg(short, long)]
    pub verbose: bool,
}

/// The byte of the key that leaves a server; `None` if there is no such key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Escape(pub Option<u8>);

fn escape(text: &str) -> Result<Escape, String> {
    match text.as_bytes() {
        b"none" => Ok(Escape(None)),
        // The characters from @ to _ are those whose control characters ASCII has.
        [b'^', key] if matches!(key.to_ascii_uppercase(), b'@'..=b'_') => {
            Ok(Escape(Some(key.to_ascii_uppercase() - b'@')))
        }
        _ => Err("a key is ^ and a letter or one of @ [ \\ ] ^ _, as ^], or none".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_is_a_control_character_or_none() {
        for (text, byte) in [("^]", 0x1d), ("^a", 1), ("^Z", 26), ("^@", 0), ("^_", 31)] {
            assert_eq!(escape(text), Ok(Escape(Some(byte))), "{text}");
        }
        assert_eq!(escape("none"), Ok(Escape(None)));
        for wrong in ["", "^", "]", "^1", "^]]", "^é", "~."] {
            assert!(escape(wrong).is_err(), "{wrong}");
        }
    }
}
