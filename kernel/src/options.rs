//! The command line (`extra=` in the xl file): words of the form `name=value`.

use crate::block::{OPTIONS, Plan};
use crate::client;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use xen_platform::DomId;
use xen_rt::options::{BadOption, log_level};

/// The tasks of this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `vchan.role=`: which end of the channel this domain is.
    pub role: Role,
    /// `vchan.domid=`: the domain at the other end.
    pub domid: DomId,
    /// `vchan.path=`: where the channel is published, below the server's directory in xenstore.
    pub path: String,
    /// `vchan.left=`: bytes of the ring from the client to the server.
    pub left: u32,
    /// `vchan.right=`: bytes of the ring from the server to the client.
    pub right: u32,
    /// `vchan.bytes=`: how much a client sends.
    pub bytes: u32,
    /// `blk.*=`: which disks to connect and what to try with them.
    pub blk: Plan,
    /// `crash=`: how to crash on purpose once the server is ready.
    pub crash: Option<CrashTest>,
    /// Words of other kernels, which toolstacks add (`root=/dev/xvda1 ro quiet`).
    pub ignored: Vec<String>,
}

/// The end of the channel that this domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves the echo, for ever.
    Server,
    /// Tries an echo server, and ends.
    Client,
    /// Neither: there is no channel.
    None,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            role: Role::Server,
            domid: DomId(0),
            path: "data/vchan".to_owned(),
            left: 8192,
            right: 8192,
            bytes: 1 << 20,
            blk: Plan::default(),
            crash: None,
            ignored: Vec::new(),
        }
    }
}

/// A crash on purpose, to see what `on_crash` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashTest {
    /// A Rust panic.
    Panic,
    /// A read through a null pointer.
    Fault,
    /// A stack overflow.
    Stack,
}

const KNOWN: &str =
    "log, vchan.role, vchan.domid, vchan.path, vchan.left, vchan.right, vchan.bytes, crash";

/// Longest path that any vchan library takes: libxenvchan has 64 bytes for it with `/event-channel`
/// behind.
const PATH_LIMIT: usize = 49;

impl Options {
    /// Reads the command line. The last of several values for one option counts. Only a word in a
    /// namespace of ours can be wrong; others are noted in `ignored`.
    pub fn parse(line: &str) -> Result<Self, BadOption> {
        log_level(line)?;
        let mut options = Options::default();
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some((name, value)) if is_ours(name) => options.set(name, value)?,
                None if is_ours(word) => {
                    return Err(BadOption(format!(
                        "'{word}' is not of the form name=value (the names are {KNOWN}, {OPTIONS})"
                    )));
                }
                _ => options.ignored.push(word.to_owned()),
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), BadOption> {
        let bad = |wanted: &str| BadOption(format!("{name}={value}: {wanted}"));
        match name {
            // The runtime's.
            "log" => {}
            "vchan.role" => {
                self.role = match value {
                    "server" => Role::Server,
                    "client" if client::IS_BUILT => Role::Client,
                    "client" => {
                        return Err(bad("this image has no client, boot ringside.elf for it"));
                    }
                    "none" => Role::None,
                    _ => return Err(bad("wants server, client or none")),
                };
            }
            "vchan.bytes" => {
                self.bytes =
                    decimal(value).ok_or_else(|| bad("wants a number of bytes below 2^32"))?
            }
            "vchan.domid" => {
                let domid = decimal(value).and_then(|d| u16::try_from(d).ok()).map(DomId);
                let domid = domid.filter(|d| *d < DomId::FIRST_RESERVED);
                self.domid =
                    domid.ok_or_else(|| bad("wants a domain's number, from 0 to 32751"))?;
            }
            "vchan.path" => {
                let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_/@".contains(&c);
                let path = value.len() <= PATH_LIMIT
                    && value.bytes().all(plain)
                    && value.split('/').all(|part| !part.is_empty());
                let wanted = || {
                    bad("wants a path below the domain's own directory, of at most 49 letters, \
                         such as data/vchan")
                };
                self.path = path.then(|| value.to_owned()).ok_or_else(wanted)?;
            }
            "vchan.left" => self.left = ring_size(value).ok_or_else(|| bad(RING_SIZES))?,
            "vchan.right" => self.right = ring_size(value).ok_or_else(|| bad(RING_SIZES))?,
            "crash" => {
                self.crash = Some(match value {
                    "panic" => CrashTest::Panic,
                    "fault" => CrashTest::Fault,
                    "stack" => CrashTest::Stack,
                    _ => return Err(bad("wants panic, fault or stack")),
                });
            }
            _ if self.blk.set(name, value).map_err(BadOption)? => {}
            _ => {
                return Err(BadOption(format!(
                    "there is no option '{name}' (the names are {KNOWN}, {OPTIONS})"
                )));
            }
        }
        Ok(())
    }
}

/// Returns true for a name that is one of ours, or would have to be.
fn is_ours(name: &str) -> bool {
    matches!(name, "log" | "crash" | "vchan" | "blk")
        || name.starts_with("vchan.")
        || name.starts_with("blk.")
}

const RING_SIZES: &str = "wants a ring size in bytes: a power of two from 1024 to 1048576";

fn ring_size(value: &str) -> Option<u32> {
    decimal(value).filter(|size| size.is_power_of_two() && (1024..=1 << 20).contains(size))
}

/// Digits and nothing else.
fn decimal(value: &str) -> Option<u32> {
    value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn nothing_said_means_the_seeds_server() {
        let options = Options::parse("  ").unwrap();
        assert_eq!(options, Options::default());
        assert_eq!((options.domid, options.path.as_str()), (DomId(0), "data/vchan"));
        assert_eq!((options.left, options.right), (8192, 8192));
    }

    #[cfg(feature = "client")]
    #[test]
    fn every_option_is_taken() {
        let line = "log=debug vchan.role=client vchan.bytes=9 vchan.domid=7 \
                    vchan.path=data/vchan/7/a-b vchan.left=1024 vchan.right=1048576 crash=stack";
        let options = Options::parse(line).unwrap();
        let path = "data/vchan/7/a-b".to_owned();
        let crash = Some(CrashTest::Stack);
        let (role, domid) = (Role::Client, DomId(7));
        assert_eq!(
            options,
            Options {
                role,
                domid,
                path,
                left: 1024,
                right: 1 << 20,
                bytes: 9,
                crash,
                blk: Plan::default(),
                ignored: Vec::new(),
            }
        );
    }

    #[cfg(not(feature = "client"))]
    #[test]
    fn role_that_is_not_built_is_refused_with_the_image_that_has_it() {
        let error = Options::parse("vchan.role=client").unwrap_err().to_string();
        assert!(error.contains("this image has no client, boot ringside.elf"), "{error}");
    }

    #[cfg(feature = "exercise")]
    #[test]
    fn options_of_disks_are_taken_too() {
        let options = Options::parse("vchan.role=none blk.seed=5 blk.run=report,rand").unwrap();
        assert_eq!((options.role, options.blk.seed, options.blk.tests.len()), (Role::None, 5, 2));
        for (line, says) in [
            ("blk.run=sing", "blk.run: there is no test 'sing'"),
            ("blk.size=1T", "blk.size=1T: wants bytes"),
        ] {
            let error = Options::parse(line).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn words_of_other_kernels_are_noted_and_ignored() {
        let line = "root=/dev/xvda1 ro console=hvc0 log=warn quiet vchan.domid=3 logger=x";
        let options = Options::parse(line).unwrap();
        assert_eq!(options.domid, DomId(3));
        assert_eq!(options.ignored, ["root=/dev/xvda1", "ro", "console=hvc0", "quiet", "logger=x"]);
    }

    #[test]
    fn a_bad_option_is_named_with_what_it_wants() {
        for (line, says) in [
            ("vchan.left=5000", "vchan.left=5000: wants a ring size"),
            ("vchan.left=+1024", "vchan.left=+1024: wants a ring size"),
            ("vchan.domid=32752", "vchan.domid=32752: wants a domain's number"),
            ("vchan.path=/data/vchan", "vchan.path=/data/vchan: wants a path below"),
            ("vchan.path=a//b", "vchan.path=a//b: wants a path below"),
            ("vchan.role=both", "vchan.role=both: wants server, client or none"),
            ("vchan.bytes=4294967296", "vchan.bytes=4294967296: wants a number"),
            ("log=loud", "log=loud: wants off, error"),
            ("crash=now", "crash=now: wants panic"),
            ("vchan.port=1", "there is no option 'vchan.port'"),
            ("vchan.role", "'vchan.role' is not of the form name=value"),
            ("log", "'log' is not of the form name=value"),
        ] {
            let error = Options::parse(line).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_command_line_panics(
            line in "\\PC{0,80}",
            name in "(log|vchan\\.[a-z]{4,5}|crash)",
            value in "\\PC{0,60}"
        ) {
            let _ = Options::parse(&line);
            if let Ok(options) = Options::parse(&std::format!("{name}={value}")) {
                prop_assert!(options.left.is_power_of_two() && options.right.is_power_of_two());
                prop_assert!(options.path.len() <= PATH_LIMIT && !options.path.starts_with('/'));
            }
        }
    }
}
