//! Faults of a backend that were worked around.

use super::error::Op;
use alloc::string::String;
use core::fmt;
use xen_platform::Quoted;

/// A fault of a backend that was worked around.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A key is not a number in its range. It counts as missing.
    Key {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// The backend offers an operation and refused it as unknown. It is not used any more.
    Refused(Op),
    /// The backend offers indirect requests and refused one as unknown. They are not used any more.
    RefusedIndirect,
    /// The backend was started anew. The requests that it had not completed were sent again.
    Restarted,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Key { key, value } => {
                write!(f, "its key {key} is {}, and was passed over", Quoted(value))
            }
            Note::Refused(op) => write!(f, "it offers {op}, but does not know it"),
            Note::RefusedIndirect => {
                f.write_str("it offers indirect requests, but does not know them")
            }
            Note::Restarted => f.write_str("it was started anew"),
        }
    }
}
