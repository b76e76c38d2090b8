//! Pieces that were used lately, and those that are being fetched.

use super::place::Within;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The object and the offset of a piece.
pub type Key = (Within, u32);
/// The blocks of a piece.
pub type Bytes = Arc<Vec<u8>>;

/// Pieces in memory.
pub struct Pieces {
    most: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pieces: HashMap<Key, (u64, Bytes)>,
    by_use: BTreeMap<u64, Key>,
    bytes: u64,
    uses: u64,
    fetches: HashMap<Key, Arc<Fetch>>,
}

/// A piece that one thread fetches, and others may wait for.
#[derive(Default)]
struct Fetch {
    done: Mutex<Option<Result<Bytes, (io::ErrorKind, String)>>>,
    ready: Condvar,
}

impl State {
    fn add(&mut self, key: Key, piece: Bytes, most: u64) {
        if piece.len() as u64 > most {
            return;
        }
        self.uses += 1;
        self.bytes += piece.len() as u64;
        if let Some((used, old)) = self.pieces.insert(key, (self.uses, piece)) {
            self.by_use.remove(&used);
            self.bytes -= old.len() as u64;
        }
        self.by_use.insert(self.uses, key);
        while self.bytes > most {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            self.bytes -= self.pieces.remove(&key).map_or(0, |(_, piece)| piece.len() as u64);
        }
    }

    fn find(&mut self, key: &Key) -> Option<Bytes> {
        let (used, piece) = self.pieces.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(piece.clone())
    }
}

impl Pieces {
    /// Keeps up to `most` bytes.
    pub fn new(most: u64) -> Self {
        Pieces { most, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Keeps a piece.
    pub fn add(&self, key: Key, piece: Bytes) {
        self.state().add(key, piece, self.most);
    }

    /// Returns true if the piece is in memory, or about to be.
    pub fn is_coming(&self, key: &Key) -> bool {
        let state = self.state();
        state.pieces.contains_key(key) || state.fetches.contains_key(key)
    }

    /// Returns a piece, and fetches it if need be. Of several threads that need it at the same time
    /// one fetches it.
    pub fn get(&self, key: Key, fetch: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Bytes> {
        let (mine, slot) = {
            let mut state = self.state();
            if let Some(piece) = state.find(&key) {
                return Ok(piece);
            }
            match state.fetches.get(&key) {
                Some(slot) => (false, slot.clone()),
                None => {
                    let slot = Arc::<Fetch>::default();
                    state.fetches.insert(key, slot.clone());
                    (true, slot)
                }
            }
        };
        if !mine {
            return slot.wait();
        }
        let fetched = fetch().map(Arc::new);
        let mut state = self.state();
        state.fetches.remove(&key);
        if let Ok(piece) = &fetched {
            state.add(key, piece.clone(), self.most);
        }
        drop(state);
        let done = fetched.as_ref().map(Arc::clone);
        slot.end(done.map_err(|error| (error.kind(), error.to_string())));
        fetched
    }
}

impl Fetch {
    fn wait(&self) -> io::Result<Bytes> {
        let done = self.done.lock().expect("no holder panics");
        let done = self.ready.wait_while(done, |done| done.is_none()).expect("no holder panics");
        let done = done.as_ref().expect("it was waited for");
        done.as_ref().map(Arc::clone).map_err(|(kind, text)| io::Error::new(*kind, text.clone()))
    }

    fn end(&self, done: Result<Bytes, (io::ErrorKind, String)>) {
        *self.done.lock().expect("no holder panics") = Some(done);
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn piece_is_fetched_once_and_the_least_used_goes() {
        let pieces = Pieces::new(100);
        let count = AtomicU32::new(0);
        let fetch = || {
            thread::sleep(Duration::from_millis(20));
            count.fetch_add(1, Ordering::Relaxed);
            Ok(vec![7; 40])
        };
        let key = |n| (Within::Log(n), 0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(*pieces.get(key(1), fetch).unwrap(), [7; 40]));
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let failed = pieces.get(key(2), || Err(io::ErrorKind::TimedOut.into())).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        pieces.get(key(2), fetch).unwrap();
        pieces.state().find(&key(1)).unwrap();
        pieces.get(key(3), fetch).unwrap();
        assert!(pieces.is_coming(&key(1)) && !pieces.is_coming(&key(2)));
        pieces.add(key(4), Arc::new(vec![0; 101]));
        assert!(!pieces.is_coming(&key(4)) && pieces.is_coming(&key(3)));
    }
}
