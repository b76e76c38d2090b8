//! NBD URIs: `nbd://HOST:PORT/EXPORT` and `nbd+unix:///EXPORT?socket=PATH`.

use crate::Address;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of NBD, if a URI names none.
const PORT: u16 = 10809;

/// A server and an export of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uri {
    /// The server.
    pub address: Address,
    /// Set if the connection must be encrypted.
    pub tls: bool,
    /// Name of the export; empty for the default one.
    pub export: String,
}

/// A fault of a URI.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{uri:?}: {text}; write for instance nbd://localhost:10809/disk or nbd+unix:///disk?socket=/run/nbd.sock"
)]
pub struct UriError {
    uri: String,
    text: String,
}

/// Replaces `%` and two digits by the byte that they mean.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        match byte {
            b'%' => {
                let (digits, after) = after.split_at_checked(2)?;
                let digits = str::from_utf8(digits).ok()?;
                // A sign would be taken as well.
                let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| hex)?);
                rest = after;
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// Replaces what cannot stand in a URI by `%` and two digits.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().fold(String::new(), |mut to, byte| {
        match plain(byte) {
            true => to.push(byte.into()),
            false => to += &format!("%{byte:02X}"),
        }
        to
    })
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let wrong = |what: &str| UriError { uri: text.into(), text: what.into() };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it is no URI"))?;
        let (tls, unix) = match scheme {
            "nbd" => (false, false),
            "nbds" => (true, false),
            "nbd+unix" => (false, true),
            "nbds+unix" => (true, true),
            _ => return Err(wrong("it is no URI of NBD")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let bad_escape = || wrong("a % is not followed by two digits, or it is no UTF-8");
        let export = decode(path).ok_or_else(bad_escape)?;
        if export.len() > crate::wire::MAX_NAME {
            return Err(wrong("the name of the export is longer than 4096 bytes"));
        }
        let mut socket = None;
        for word in query.split('&').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("socket", path)) => socket = Some(decode(path).ok_or_else(bad_escape)?),
                _ => return Err(wrong(&format!("{word:?} is not known"))),
            }
        }
        let address = match (unix, socket) {
            (true, Some(path)) if path.starts_with('/') => Address::Unix(PathBuf::from(path)),
            (true, Some(_)) => return Err(wrong("the socket's path must begin with a slash")),
            (true, None) => return Err(wrong("it lacks ?socket=PATH")),
            (false, Some(_)) => return Err(wrong("a socket needs nbd+unix://")),
            (false, None) => tcp(authority).ok_or_else(|| wrong("it names no host and port"))?,
        };
        if unix && !authority.is_empty() {
            return Err(wrong("a host and a socket exclude each other"));
        }
        Ok(Uri { address, tls, export })
    }
}

/// Takes `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT` apart.
fn tcp(authority: &str) -> Option<Address> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    let port = match port {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().ok()?
        }
        Some(_) => return None,
        None => PORT,
    };
    let fine = !host.is_empty() && host.chars().all(allowed) && port > 0;
    fine.then(|| Address::Tcp { host: host.into(), port })
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { "s" } else { "" };
        let export = encode(&self.export);
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => {
                write!(f, "nbd{tls}://[{host}]:{port}/{export}")
            }
            Address::Tcp { host, port } => write!(f, "nbd{tls}://{host}:{port}/{export}"),
            Address::Unix(path) => {
                let path = encode(&path.to_string_lossy());
                write!(f, "nbd{tls}+unix:///{export}?socket={path}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uri_of_each_kind_is_taken_apart() {
        let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
        for (text, address, tls, export) in [
            ("nbd://localhost", tcp("localhost", 10809), false, ""),
            ("nbd://10.0.0.1:99/a%20b", tcp("10.0.0.1", 99), false, "a b"),
            ("nbds://[::1]:7//disk", tcp("::1", 7), true, "/disk"),
            ("nbd+unix:///x?socket=/run/a", Address::Unix("/run/a".into()), false, "x"),
            ("nbds+unix://?socket=/a%2cb", Address::Unix("/a,b".into()), true, ""),
        ] {
            let uri: Uri = text.parse().unwrap();
            assert_eq!(uri, Uri { address, tls, export: export.into() }, "{text}");
        }
    }

    #[test]
    fn uri_that_is_wrong_is_refused_with_its_fault() {
        for (text, part) in [
            ("localhost:10809", "no URI"),
            ("http://a", "no URI of NBD"),
            ("nbd://", "no host"),
            ("nbd://a:b", "no host and port"),
            ("nbd://a:0", "no host and port"),
            ("nbd://a:70000", "no host and port"),
            ("nbd://a/%4", "two digits"),
            ("nbd://a/%+1", "two digits"),
            ("nbd://a/?socket=/b", "nbd+unix"),
            ("nbd+unix:///a", "socket=PATH"),
            ("nbd+unix:///a?socket=b", "begin with a slash"),
            ("nbd+unix://host/a?socket=/b", "exclude"),
            ("nbd://a/b?tls-type=psk", "is not known"),
        ] {
            let error = text.parse::<Uri>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn uri_that_is_taken_is_the_same_when_written(text in "(nbd|nbds|nbd\\+unix)://[a-z:0-9/%?=&\\[\\].]{0,30}|.{0,40}") {
            if let Ok(uri) = text.parse::<Uri>() {
                prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
            }
        }

        #[test]
        fn uri_keeps_every_name(export in "[^\\x00]{0,40}", path in "/[^\\x00]{0,40}") {
            let uri = Uri { address: Address::Unix(path.into()), tls: false, export };
            prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
        }
    }
}
