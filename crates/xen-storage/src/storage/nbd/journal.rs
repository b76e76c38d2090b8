//! Writes that the server has acknowledged and no flush has covered.

use std::collections::VecDeque;
use std::sync::Arc;
use xen_nbd::client::{Connection, Failure};
use xen_nbd::wire::CommandFlags;

/// The contents of a write.
#[derive(Clone)]
pub enum Data {
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Zeros.
    Zeros {
        /// Number of them.
        len: u32,
        /// They need keep no room.
        may_trim: bool,
    },
}

impl Data {
    /// Returns its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Zeros { len, .. } => (*len).into(),
        }
    }

    /// Writes it at `at`.
    pub fn send(&self, link: &Connection, at: u64) -> Result<(), Failure> {
        match self {
            Data::Bytes(bytes) => link.write(at, bytes, CommandFlags::empty()),
            Data::Zeros { len, may_trim } => {
                let none = CommandFlags::empty();
                let flags = if *may_trim { none } else { CommandFlags::NO_HOLE };
                link.write_zeroes(at, *len, flags)
            }
        }
    }

    /// Bytes of memory that remembering it takes.
    fn cost(&self) -> u64 {
        const ENTRY: u64 = 64;
        match self {
            Data::Bytes(bytes) => ENTRY + bytes.len() as u64,
            Data::Zeros { .. } => ENTRY,
        }
    }
}

/// A point in the order of writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u64);

/// The writes, in the order of their acknowledgements.
#[derive(Default)]
pub struct Journal {
    writes: VecDeque<(u64, Data)>,
    /// Number of the first of them.
    first: u64,
    cost: u64,
}

impl Journal {
    /// Adds a write.
    pub fn push(&mut self, at: u64, data: Data) {
        self.cost += data.cost();
        self.writes.push_back((at, data));
    }

    /// Returns the point after the last write.
    pub fn mark(&self) -> Mark {
        Mark(self.first + self.writes.len() as u64)
    }

    /// Forgets the writes before `mark`: they are durable.
    pub fn forget(&mut self, mark: Mark) {
        while self.first < mark.0 {
            // Two flushes at the same time may have the same mark.
            let Some((_, data)) = self.writes.pop_front() else { return };
            self.cost -= data.cost();
            self.first += 1;
        }
    }

    /// Returns all writes.
    pub fn writes(&self) -> Vec<(u64, Data)> {
        self.writes.iter().cloned().collect()
    }

    /// Bytes of memory that they take.
    pub fn cost(&self) -> u64 {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u8),
        Mark,
        Forget(usize),
    }

    proptest! {
        #[test]
        fn journal_holds_what_no_flush_has_covered(steps in proptest::collection::vec(prop_oneof![
            (1u8..).prop_map(Step::Write), Just(Step::Mark), (0usize..4).prop_map(Step::Forget),
        ], 0..60)) {
            let mut journal = Journal::default();
            let (mut all, mut marks, mut durable) = (Vec::new(), Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Write(len) => {
                        journal.push(all.len() as u64, Data::Bytes(vec![0; len.into()].into()));
                        all.push(len);
                    }
                    Step::Mark => marks.push((journal.mark(), all.len())),
                    Step::Forget(which) => {
                        if let Some((mark, count)) = marks.iter().rev().nth(which) {
                            journal.forget(*mark);
                            durable = durable.max(*count);
                        }
                    }
                }
                let left: Vec<u64> = journal.writes().iter().map(|(at, _)| *at).collect();
                prop_assert_eq!(left, (durable as u64..all.len() as u64).collect::<Vec<_>>());
                let cost: u64 = all[durable..].iter().map(|len| 64 + u64::from(*len)).sum();
                prop_assert_eq!(journal.cost(), cost);
            }
        }
    }
}
