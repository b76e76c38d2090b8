//! `vchan connect`.

use super::{Dial, after_help};
use clap::Args;

const EXAMPLES: &str = "  \
  vchan connect 2                          type lines, read the answers; Ctrl-D ends
  vchan connect echo -v                    the domain by its name; tell how the channel is made
  vchan connect 2 <in.bin >out.bin         all bytes there and back
  vchan connect 2 --timeout 60 <in.bin     wait for a server that is still booting
  vchan connect 2 --port log               a service in the std layout";

/// The arguments of `vchan connect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ConnectArguments {
    /// The server.
    #[command(flatten)]
    pub dial: Dial,

    /// Once standard input has ended and the server has read everything and waits for more: how long nothing may come
    /// from it before the channel is closed.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub linger: u64,

    /// Tell on standard error how the channel is made.
    #[arg(short, long)]
    pub verbose: bool,
}
