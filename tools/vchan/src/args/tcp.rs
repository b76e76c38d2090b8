//! TCP addresses, by number or by a name of this machine's own table.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Table of the names of machines (hosts(5)).
const HOSTS: &str = "/etc/hosts";

/// An address and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpAddress(pub SocketAddr);

impl FromStr for TcpAddress {
    type Err = String;

    /// Takes `ADDRESS:PORT`, with an IPv6 address in brackets, or `NAME:PORT` with a name from
    /// `/etc/hosts`. The DNS is not asked: a static program has no resolver that is sure to work.
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, || fs::read_to_string(HOSTS).unwrap_or_default()).map(TcpAddress)
    }
}

fn parse(text: &str, hosts: impl FnOnce() -> String) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = || "no address and port, as 127.0.0.1:7000 or [::1]:7000".to_string();
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(wrong());
    }
    match find(name, &hosts()) {
        Some(address) => Ok(SocketAddr::new(address, port)),
        None => Err(format!("{HOSTS} has no {name}: add it there, or give the address")),
    }
}

/// Returns the address of the first line of `table` that has the name.
fn find(name: &str, table: &str) -> Option<IpAddr> {
    table.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let (address, names) = line.trim().split_once(char::is_whitespace)?;
        let has_name = names.split_whitespace().any(|known| known.eq_ignore_ascii_case(name));
        if has_name { address.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "127.0.0.1 localhost\n# 192.0.2.9 gone\n::1\tlocalhost ip6-loopback # six\n\
                         192.0.2.1  files.example Files\nnonsense here\n";

    #[test]
    fn addresses_and_known_names_are_understood() {
        for (text, address) in [
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[::1]:7", "[::1]:7"),
            ("localhost:0", "127.0.0.1:0"),
            ("files:22", "192.0.2.1:22"),
            ("FILES.example:22", "192.0.2.1:22"),
            ("ip6-loopback:1", "[::1]:1"),
        ] {
            assert_eq!(parse(text, || TABLE.into()), Ok(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("localhost", "no address and port"),
            ("localhost:", "no address and port"),
            ("localhost:70000", "no address and port"),
            (":80", "no address and port"),
            ("::1:80", "no address and port"),
            ("gone:80", "has no gone: add it there"),
            ("here:80", "has no here"),
        ] {
            let wrong = parse(text, || TABLE.into()).unwrap_err();
            assert!(wrong.contains(part), "{text}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_table_does_harm(text in ".{0,40}", table in "(.{0,40}\n){0,4}") {
            let _ = parse(&text, || table);
        }
    }
}
