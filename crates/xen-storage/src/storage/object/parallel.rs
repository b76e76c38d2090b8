//! Transfers side by side.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Most transfers of one request of a disk.
pub const TRANSFERS: usize = 16;

/// Does `work` to all items, several at a time, and returns the results in their order. After a
/// failure no more are begun.
pub fn parallel<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> io::Result<R> + Sync,
) -> io::Result<Vec<R>> {
    if items.len() <= 1 {
        return items.into_iter().map(work).collect();
    }
    let threads = items.len().min(TRANSFERS);
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let left = Mutex::new(items.into_iter().zip(&mut results));
    let failed = AtomicBool::new(false);
    let run = || -> io::Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let next = left.lock().expect("no holder panics").next();
            let Some((item, result)) = next else { break };
            *result = Some(work(item).inspect_err(|_| failed.store(true, Ordering::Relaxed))?);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mine = run();
        let done = others.into_iter().map(|other| other.join().expect("work does not panic"));
        done.fold(mine, io::Result::and)
    })?;
    drop(left);
    Ok(results.into_iter().map(|result| result.expect("all were done")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn transfers_run_side_by_side_and_in_order() {
        let barrier = Barrier::new(TRANSFERS);
        let done = parallel((0..2 * TRANSFERS).collect(), |n| {
            barrier.wait();
            Ok(n * 2)
        });
        assert_eq!(done.unwrap(), (0..2 * TRANSFERS).map(|n| n * 2).collect::<Vec<_>>());
        let failed =
            parallel(
                vec![1, 2, 3],
                |n| if n == 2 { Err(io::ErrorKind::Other.into()) } else { Ok(n) },
            );
        assert!(failed.is_err());
    }
}
