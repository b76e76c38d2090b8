//! Talking to an echo server, and checking what comes back.

use crate::{Code, Failure};
use embedded_io_async::{Read, Write};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use xen_exec::yield_now;
use xen_platform::{Elapsed, Platform, Time};
use xen_vchan::{Connection, Reader, Writer};

/// Bytes of the pattern before it begins anew: a prime, so that no piece that is lost,
/// doubled or swapped with another looks right.
const PERIOD: usize = 65_521;

/// The most bytes of the pattern in one piece.
const PIECE: usize = 1 << 20;

/// Reads in a row before other tasks get their turn.
const READS_IN_A_ROW: u32 = 16;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// The bytes that are sent: all values but lower-case letters, which a capitalizing server changes.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub fn new() -> Self {
        let mut state = 0x9e37_79b9_u32;
        let mut next = || {
            // Xorshift by George Marsaglia.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        };
        let period: Vec<u8> = (0..PERIOD).map(|_| next().to_ascii_uppercase()).collect();
        // Again and again, so that the longest piece from anywhere in the first is in one piece.
        Pattern(period.iter().copied().cycle().take(PERIOD + PIECE).collect())
    }

    /// The bytes from `at` on: some, at most `most`. All of them, if that is no more than
    /// [`PIECE`].
    pub fn piece(&self, at: u64, most: usize) -> &[u8] {
        let start = (at % PERIOD as u64) as usize;
        &self.0[start..start + most.min(PIECE)]
    }
}

/// A connection to an echo server.
pub(crate) struct Echo<'a, P: Platform> {
    platform: &'a P,
    reader: Reader<P>,
    writer: Writer<P>,
    pattern: Pattern,
    chunk: Vec<u8>,
    /// Bytes sent and come back so far.
    at: u64,
    patience: Patience,
    /// Number of times that something has come back; wraps.
    reads: u32,
}

/// Time limit for something to come back. One timer at a time is running, and only while nothing
/// can be read: not one for each read.
struct Patience {
    limit: Duration,
    /// Moment to look whether something came, once there was something to wait for.
    next_look: Option<Time>,
    /// Something came since the last look.
    moved: bool,
}

impl Patience {
    /// Waits for `work`, at least as long as the limit after the last that was waited for, and less
    /// than twice that.
    async fn wait<T>(
        &mut self,
        platform: &impl Platform,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                self.moved = true;
                return Poll::Ready(Ok(done));
            }
            loop {
                let at = *self.next_look.get_or_insert_with(|| platform.now() + self.limit);
                match platform.poll_until(at, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) if !self.moved => return Poll::Ready(Err(Elapsed)),
                    Poll::Ready(()) => (self.next_look, self.moved) = (None, false),
                }
            }
        })
        .await
    }
}

impl<'a, P: Platform> Echo<'a, P> {
    /// `limit` is how long nothing may come back.
    pub fn new(platform: &'a P, connection: &Connection<P>, limit: Duration) -> Self {
        let (reader, writer) = connection.split();
        let patience = Patience { limit, next_look: None, moved: false };
        Echo {
            platform,
            reader,
            writer,
            pattern: Pattern::new(),
            chunk: vec![0; CHUNK],
            at: 0,
            patience,
            reads: 0,
        }
    }

    /// Sends `count` messages of `size` bytes, one write each, and takes and checks the echo
    /// meanwhile. Calls `progress` with the number of bytes that have come back.
    pub async fn stream(
        &mut self,
        size: usize,
        count: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let (start, all) = (self.at, size as u64 * count);
        let Echo { platform, reader, writer, pattern, chunk, patience, reads, .. } = self;
        let send = pin!(async {
            for n in 0..count {
                let message = start + n * size as u64;
                let mut sent = 0;
                while sent < size {
                    let rest = pattern.piece(message + sent as u64, size - sent);
                    // At once where there is space, which is cheaper than to be ready to wait.
                    sent += match writer.try_write(rest)? {
                        Some(wrote) => wrote,
                        None => writer.write(rest).await?,
                    };
                }
            }
            Ok::<(), Failure>(())
        });
        let receive = pin!(async {
            let mut received = 0;
            while received < all {
                let most = (all - received).min(chunk.len() as u64) as usize;
                let came = patience.wait(*platform, reader.read(&mut chunk[..most])).await;
                let came = came.map_err(|_| silent(patience.limit, all - received))??;
                check(pattern, start + received, &chunk[..came])?;
                received += came as u64;
                progress(received);
                // Where neither side ever waits, a signal must get its turn all the same: soon, and
                // not each time.
                *reads = reads.wrapping_add(1);
                if *reads % READS_IN_A_ROW == 0 {
                    yield_now().await;
                }
            }
            Ok(())
        });
        both(send, receive).await?;
        self.at += all;
        Ok(())
    }
}

/// Compares what came with what was sent.
fn check(pattern: &Pattern, at: u64, came: &[u8]) -> Result<(), Failure> {
    if came.is_empty() {
        return Err(Failure::new(
            Code::Other,
            "the server closed the channel before everything had come back",
        ));
    }
    let mut done = 0;
    while done < came.len() {
        let expected = pattern.piece(at + done as u64, came.len() - done);
        let found = &came[done..done + expected.len()];
        // As a whole first: looking for the place, byte by byte, would cost more than the whole
        // transfer.
        if expected != found {
            let differ = |(expected, found): (&u8, &u8)| expected != found;
            let wrong = expected.iter().zip(found).position(differ).expect("they differ");
            let (expected, found, at) = (expected[wrong], found[wrong], at + (done + wrong) as u64);
            let text = format!(
                "byte {at} came back as {found:#04x} and was sent as {expected:#04x}: is the server an echo server?"
            );
            return Err(Failure::new(Code::Protocol, text));
        }
        done += expected.len();
    }
    Ok(())
}

fn silent(limit: Duration, missing: u64) -> Failure {
    let text = format!(
        "nothing came back for {limit:?}, and {missing} bytes are missing: is it an echo server?"
    );
    Failure::new(Code::Missing, text)
}

/// Waits for both; the first failure is that of both.
async fn both(
    mut first: Pin<&mut impl Future<Output = Result<(), Failure>>>,
    mut second: Pin<&mut impl Future<Output = Result<(), Failure>>>,
) -> Result<(), Failure> {
    let mut done = (false, false);
    poll_fn(|cx| {
        // The second decides how it ended if both have: it knows what came.
        if !done.1
            && let Poll::Ready(ended) = second.as_mut().poll(cx)
        {
            ended?;
            done.1 = true;
        }
        if !done.0
            && let Poll::Ready(ended) = first.as_mut().poll(cx)
        {
            ended?;
            done.0 = true;
        }
        if done == (true, true) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_goes_on_and_survives_capitals() {
        let pattern = Pattern::new();
        let all = pattern.piece(0, 3 * PERIOD);
        assert_eq!(all.to_ascii_uppercase(), all);
        assert_eq!(all[PERIOD..2 * PERIOD], all[..PERIOD]);
        assert_eq!(pattern.piece(PERIOD as u64 - 5, 100), &all[PERIOD - 5..PERIOD + 95]);
        assert_eq!(pattern.piece(PERIOD as u64 + 7, PIECE + 1), pattern.piece(7, PIECE));
        assert_eq!(check(&pattern, 7, &all[7..2 * PERIOD + 100]), Ok(()));
    }

    #[test]
    fn a_wrong_byte_is_found_and_named() {
        let pattern = Pattern::new();
        let mut bytes = pattern.piece(0, 100_000).to_vec();
        bytes[70_000] ^= 1;
        let failure = check(&pattern, 0, &bytes).unwrap_err();
        assert!(
            failure.code == Code::Protocol && failure.text.starts_with("byte 70000 came back"),
            "{failure}"
        );
        assert!(check(&pattern, 1, pattern.piece(0, 10)).is_err());
        assert!(check(&pattern, 0, &[]).unwrap_err().text.contains("closed"));
    }
}
