//! The questions to `xen-disk serve` about all of its disks: a line of JSON each way, over the
//! socket `serve` in the folder of the disks' sockets.

use super::Question;
use crate::config::Entry;
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A question or an order.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Lists the disks.
    List,
    /// The counts of the disks that are served, for Prometheus.
    Metrics,
    /// Reads the configuration again.
    Reload,
    /// Serves one more disk, with the keys of a `[[disk]]`, until it is removed.
    Add(Box<Entry>),
    /// Takes a disk from its guest, and forgets it.
    Remove(Name),
    /// Asks about one disk that is served.
    Disk(Name, Question),
}

/// A disk as the configuration names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The domain.
    pub vm: String,
    /// The disk's name in the guest.
    pub vdev: String,
}

/// A disk that is served, or waits for its domain.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name.
    #[serde(flatten)]
    pub name: Name,
    /// Its stack.
    pub stack: String,
    /// True if it is not in the configuration.
    pub added: bool,
    /// Its counts, if it is served.
    pub served: Option<Report>,
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It is done, or begun.
    Done,
    /// The disks.
    List(Vec<Listed>),
    /// Text for Prometheus.
    Metrics(String),
    /// The answer of one disk.
    Disk(super::Answer),
    /// It cannot be done.
    Failed(String),
}

/// Returns the path of the socket, in the folder `dir`. It is not called like those of disks.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("serve")
}

/// Parses a line.
pub fn parse(line: &[u8]) -> Result<Order, String> {
    serde_json::from_slice(line).map_err(|error| format!("that is no order: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders_are_read() {
        for text in [
            "\"list\"",
            "\"metrics\"",
            "\"reload\"",
            r#"{"add":{"vm":"a","vdev":"xvdb","stack":"ram","size":"1G"}}"#,
            r#"{"remove":{"vm":"a","vdev":"xvdb"}}"#,
            r#"{"disk":[{"vm":"a","vdev":"xvdb"},"stats"]}"#,
            r#"{"disk":[{"vm":"a","vdev":"xvdb"},{"resize":{"bytes":512,"shrink":false}}]}"#,
        ] {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
        for text in ["", "list", r#"{"add":{"vm":"a"}}"#, r#"{"remove":{"vm":"a","colour":1}}"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_fatal(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
