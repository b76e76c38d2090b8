//! Reading ahead of a guest that reads one block after the other.

use super::Objects;
use super::disk::Disk;
use super::place::{BLOCK, Piece};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;

/// The most transfers ahead at a time.
const THREADS: usize = 8;
/// Bytes that are read ahead at most.
const WINDOW: u64 = 16 << 20;
/// Bytes by which reads of one stream may be out of order.
const SLACK: u64 = 4 << 20;
/// Reads in a row that make a stream.
const STREAM: u32 = 2;

/// The reads of lately, and the pieces to fetch.
#[derive(Default)]
pub struct Ahead {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// End of the stream, in bytes.
    end: u64,
    /// Number of its reads.
    reads: u32,
    /// End of what was asked for.
    asked: u64,
    queue: VecDeque<Arc<Piece>>,
    threads: usize,
}

impl Ahead {
    /// Takes a read of a range into account. Returns what is to be fetched ahead.
    fn next(&self, at: u64, len: u64, bytes: u64, window: u64) -> Option<std::ops::Range<u64>> {
        let mut state = self.state.lock().expect("no holder panics");
        let end = at + len;
        if at > state.end + SLACK || end + SLACK < state.end {
            (state.end, state.reads, state.asked) = (end, 0, end);
            return None;
        }
        state.end = state.end.max(end);
        state.reads += 1;
        let to = (state.end + window).min(bytes);
        let from = state.asked.max(state.end);
        // A piece is worth a request; the last ones are as they are.
        if state.reads < STREAM || to < from + window / 4 && to < bytes || from >= to {
            return None;
        }
        state.asked = to;
        Some(from / BLOCK..to.div_ceil(BLOCK))
    }
}

/// Notes a read, and fetches in the background what is likely to be read next.
pub fn note<O: Objects + 'static>(
    disk: &Arc<Disk<O>>,
    ahead: &Arc<Ahead>,
    at: u64,
    len: u64,
    bytes: u64,
) {
    let window = WINDOW.min(disk.options.memory / 4);
    if window < 2 * disk.chunks.chunk * BLOCK {
        return;
    }
    let Some(blocks) = ahead.next(at, len, bytes, window) else { return };
    let pieces = disk.to_fetch(blocks);
    let mut state = ahead.state.lock().expect("no holder panics");
    state.queue.extend(pieces);
    while state.threads < THREADS.min(state.queue.len()) {
        state.threads += 1;
        let (disk, ahead) = (disk.clone(), ahead.clone());
        thread::spawn(move || {
            loop {
                let mut state = ahead.state.lock().expect("no holder panics");
                let Some(piece) = state.queue.pop_front() else {
                    state.threads -= 1;
                    return;
                };
                drop(state);
                // The read that needs it is told what is wrong.
                let _ = disk.chunks.piece(&piece);
            }
        });
    }
}
