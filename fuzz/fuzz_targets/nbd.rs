//! Parsers and handshakes of NBD: they take or refuse whatever a peer sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::{self, Read, Write};
use xen_nbd::Uri;
use xen_nbd::handshake::{self, Offer};
use xen_nbd::wire::{self, ExportFlags};

/// A peer that has sent these bytes and takes what it is sent.
struct Peer<'a>(&'a [u8]);

impl Read for Peer<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(from.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let _ = handshake::negotiate(&mut Peer(input), "disk");
    let flags = ExportFlags::HAS_FLAGS;
    let name = String::from("disk");
    let offer = Offer { name, bytes: 1 << 20, flags, min_block: 512, preferred_block: 4096 };
    let _ = handshake::answer(&mut Peer(input), &offer);
    let _ = wire::parse_status(input);
    if let Some((kind, payload)) = input.split_at_checked(2) {
        let _ = wire::parse_error(u16::from_be_bytes([kind[0], kind[1]]), payload);
    }
    if let Ok(Ok(uri)) = std::str::from_utf8(input).map(str::parse::<Uri>) {
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
});
