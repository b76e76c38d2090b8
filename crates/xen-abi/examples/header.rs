//! Reads the header of a xenstore message from bytes.

use std::process::ExitCode;
use xen_abi::xs_wire::Header;
use zerocopy::FromBytes;

/// A request to read a value, as a client writes it.
const MESSAGE: &[u8] = b"\x02\0\0\0\x07\0\0\0\0\0\0\0\x06\0\0\0domid\0";

fn main() -> ExitCode {
    match Header::read_from_prefix(MESSAGE) {
        Ok((header, payload)) => {
            println!("{:?} with {} of {} bytes", header.kind, payload.len(), header.len);
            ExitCode::SUCCESS
        }
        Err(_) => {
            eprintln!("a header has 16 bytes, and {} came", MESSAGE.len());
            ExitCode::FAILURE
        }
    }
}
