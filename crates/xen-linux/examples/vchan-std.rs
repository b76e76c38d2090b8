//! Sends a text to the server of the domain that is named "echo", over blocking reads and writes.

use std::io::{Read, Write};
use std::time::Duration;
use xen_linux::vchan::Stream;

fn main() -> std::io::Result<()> {
    let mut stream = Stream::connect_name("echo", "data/vchan", Duration::from_secs(10))?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    println!("{}", String::from_utf8_lossy(&answer));
    stream.close()
}
