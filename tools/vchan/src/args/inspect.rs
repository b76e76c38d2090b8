//! `vchan ls` and `vchan dump`.

use super::{Place, after_help};
use clap::Args;

const LIST_EXAMPLES: &str = "  \
  vchan ls                                 a table
  vchan ls --json | jq '.[].path'          for scripts

All domains' keys below /local/domain/<number>/data are found, whatever the layout; servers that publish elsewhere are not.
A server for many clients (vchan exec, the unikernel) publishes the next channel once one is taken: the list shows that.
LEFT is the ring from the client to the server, RIGHT the other: bytes in it / its size. Only a page that is granted
to this domain can be looked into; what is not known is shown as -.";

const DUMP_EXAMPLES: &str = "  \
  vchan dump 2                             the channel that domain 2 offers this one
  vchan dump echo --path data/other        another path
  vchan dump 2 --json | jq .left.used      for scripts";

/// The arguments of `vchan ls`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(LIST_EXAMPLES))]
pub struct ListArguments {
    /// Print JSON: a list of objects.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `vchan dump`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(DUMP_EXAMPLES))]
pub struct DumpArguments {
    /// The server.
    #[command(flatten)]
    pub place: Place,

    /// Print JSON: one object.
    #[arg(long)]
    pub json: bool,
}
