//! The command line.

use alloc::format;
use xen_rt::options::BadOption;

/// The tasks of this boot.
pub struct Options {
    /// `blk.serve=`: length of each disk in bytes.
    pub bytes: u64,
}

impl Options {
    /// Reads the command line. Words that are not in a namespace of ours are ignored.
    pub fn parse(line: &str) -> Result<Options, BadOption> {
        let mut bytes = None;
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("blk.serve", value)) => bytes = Some(size(value)?),
                _ if word.starts_with("blk") => {
                    return Err(BadOption(format!("'{word}': there is only blk.serve=SIZE")));
                }
                _ => {}
            }
        }
        let missing = || BadOption("blk.serve=SIZE is missing, for instance blk.serve=64M".into());
        bytes.map(|bytes| Options { bytes }).ok_or_else(missing)
    }
}

/// Reads a number of bytes with or without a unit; it must be whole pages.
fn size(value: &str) -> Result<u64, BadOption> {
    let (digits, shift) = match value.as_bytes().last() {
        Some(b'K') => (&value[..value.len() - 1], 10),
        Some(b'M') => (&value[..value.len() - 1], 20),
        Some(b'G') => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number
        .and_then(|number: u64| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0 && bytes % 4096 == 0)
        .ok_or_else(|| BadOption(format!("blk.serve={value}: wants 4K, 64M, 1G or the like")))
}
