//! A client of an echo server in another domain: sends bytes, checks what comes back, measures, and
//! ends.

use crate::options::Options;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use embassy_futures::join::join;
use embedded_io_async::{Read, ReadExactError, Write};
use log::info;
use xen_platform::Clock;
use xen_rt::xen::{self, Xen};
use xen_rt::{Domain, Reason};
use xen_vchan::{ClientConfig, Reader, Writer};

type Error = xen_vchan::Error<xen::Error>;

/// The client is a part of this image.
pub const IS_BUILT: bool = true;

/// Time for the server to appear.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes in one piece.
const CHUNK: usize = 64 * 1024;
/// Round trips of a single byte.
const ROUND_TRIPS: usize = 1000;

/// Connects, sends `vchan.bytes` bytes, checks the answers, and times single bytes. Returns why the
/// domain then ends; panics, and so ends the domain with a crash, if anything is not as it should
/// be.
pub async fn run(domain: &Domain, options: &Options) -> Reason {
    let (xen, store) = (domain.xen(), domain.store());
    let config =
        ClientConfig::new(options.domid, options.path.clone()).deadline(Some(xen.now() + TIMEOUT));
    info!("looking for the server: domid={} xs_path={}", config.peer, config.path);
    let connection = match xen_vchan::connect(xen, store, &config).await {
        Ok(connection) => connection,
        Err(why) => panic!("no connection: {why}"),
    };
    let found = connection.info();
    info!(
        "connected: ring-ref = {}, event-channel = {} to {}",
        found.control_ref, found.local_port, found.port
    );

    let (mut reader, mut writer) = connection.split();
    stream(xen, &mut reader, &mut writer, options.bytes as usize).await;
    round_trips(xen, &mut reader, &mut writer).await;
    if let Err(why) = connection.close().await {
        panic!("the channel does not close: {why}");
    }
    info!("the server answered as it should");
    Reason::Poweroff
}

/// The byte at a position of what is sent: no short piece of it repeats.
fn byte_at(position: usize) -> u8 {
    let mixed = (position as u64 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// Sends `total` bytes and reads as many at the same time.
async fn stream(xen: &Xen, reader: &mut Reader<Xen>, writer: &mut Writer<Xen>, total: usize) {
    let start = xen.now();
    let pieces = || (0..total).step_by(CHUNK).map(|at| at..total.min(at + CHUNK));
    let send = async {
        for piece in pieces() {
            let bytes: Vec<u8> = piece.map(byte_at).collect();
            writer.write_all(&bytes).await?;
        }
        Ok(())
    };
    let receive = async {
        let mut buffer = vec![0; CHUNK];
        for piece in pieces() {
            let answer = &mut buffer[..piece.len()];
            reader.read_exact(answer).await.map_err(plain)?;
            let wrong = piece
                .zip(answer.iter())
                .find(|&(at, &got)| got != byte_at(at).to_ascii_uppercase());
            if let Some((at, got)) = wrong {
                panic!("byte {at} came back as {got:#04x}");
            }
        }
        Ok(())
    };
    let (sent, received): (Result<(), Error>, Result<(), Error>) = join(send, receive).await;
    sent.unwrap_or_else(|why| panic!("sending failed: {why}"));
    received.unwrap_or_else(|why| panic!("receiving failed: {why}"));
    let micros = xen.now().since(start).as_micros().max(1) as u64;
    info!(
        "{total} bytes echoed in {micros} us, {} KiB/s",
        total as u64 * 1_000_000 / 1024 / micros
    );
}

/// The error without its wrapping, which would show it in Rust's terms.
fn plain(why: ReadExactError<Error>) -> Error {
    match why {
        ReadExactError::UnexpectedEof => Error::Closed,
        ReadExactError::Other(why) => why,
    }
}

/// Sends single bytes, each after the answer to the one before.
async fn round_trips(xen: &Xen, reader: &mut Reader<Xen>, writer: &mut Writer<Xen>) {
    let mut nanos: Vec<u64> = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = xen.now();
        let mut answer = [0];
        writer.write_all(b"x").await.unwrap_or_else(|why| panic!("sending failed: {why}"));
        reader
            .read_exact(&mut answer)
            .await
            .unwrap_or_else(|why| panic!("receiving failed: {}", plain(why)));
        assert_eq!(answer, *b"X", "the answer to x");
        let took = xen.now().since(start).as_nanos() as u64;
        // In order from the start: the library's sort takes more of the image than all the rest of
        // this.
        nanos.insert(nanos.partition_point(|&other| other < took), took);
    }
    info!(
        "round trip of 1 byte: median {} ns, p99 {} ns",
        nanos[ROUND_TRIPS / 2],
        nanos[ROUND_TRIPS * 99 / 100]
    );
}
