//! Time limits of requests.

use crate::storage::object::Unavailable;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// Time limit of one request, from its first to its last byte.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of making a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of a put of nothing, and of a removal.
pub const PUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a put for which there is a second more.
const PUT_RATE: usize = 256 << 10;
/// Times after which something is asked for again beside the requests before: one that hangs holds
/// nobody up for longer.
pub const HEDGES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Asks, and again after each of these times, until the first of all requests is done.
pub async fn hedged<F: Future>(times: &[Duration], ask: impl Fn() -> F) -> F::Output {
    let mut asked = FuturesUnordered::from_iter([ask()]);
    for time in times {
        match timeout(*time, asked.next()).await {
            Ok(done) => return done.expect("one is asked"),
            Err(_) => asked.push(ask()),
        }
    }
    asked.next().await.expect("one is asked")
}

/// Returns the time that a put may take.
pub fn put_timeout(bytes: &[u8]) -> Duration {
    PUT_TIMEOUT + Duration::from_secs((bytes.len() / PUT_RATE) as u64)
}

/// Returns the error of a request that took longer.
pub fn late() -> io::Error {
    Unavailable::error(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::pending;
    use tokio::runtime::Builder;

    #[test]
    fn request_that_hangs_twice_is_answered_by_the_third() {
        let asked = Cell::new(0);
        let ask = || async {
            asked.set(asked.get() + 1);
            match asked.get() {
                3 => 3,
                _ => pending().await,
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let times = [Duration::from_millis(5), Duration::from_millis(5)];
        assert_eq!(runtime.block_on(hedged(&times, ask)), 3);
        assert_eq!((asked.get(), HEDGES.len()), (3, times.len()));
    }
}
