//! Faults: a disk that fails now and then says so, and did what it says it did.

use super::{Context, DEPTH, Outcome};
use crate::area::{Ledger, Span};
use crate::environment::{Device, Error, ErrorKind, Io};
use crate::stamp::{Flaw, SECTOR};
use crate::tasks::{Boxed, try_join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use core::cell::Cell;
use core::time::Duration;

/// Sectors in a piece.
const PIECE: u64 = 128;
/// Time that the disk may fail without a pause at the end.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Time that a piece is left alone after it failed at the end.
const REST: Duration = Duration::from_millis(100);

/// Writes and reads everything, `blk.loops` times, and goes on when a request fails: what was
/// written is there, a write that failed was done or not, sector by sector, and a read that
/// succeeds never shows anything else. In the last round what fails is tried again until the disk
/// works.
pub async fn faults(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let area = cx.area(&*disk)?;
    let rounds: vec::Vec<_> =
        (0..cx.plan.loops).map(|_| area.shuffled(PIECE, &mut cx.random)).collect();
    let tried = Tried {
        cx,
        disk: &*disk,
        begun: Ledger::new(&area),
        done: Ledger::new(&area),
        well: Cell::new(0),
        failed: Cell::new(0),
    };
    for (generation, pieces) in (1..).zip(&rounds) {
        let (next, last) = (Cell::new(0), generation == cx.plan.loops);
        let worker = || async {
            let mut buffer = vec![0; PIECE as usize * SECTOR];
            while let Some(piece) = pieces.get(next.replace(next.get() + 1)) {
                let buffer = &mut buffer[..piece.count as usize * SECTOR];
                let until = cx.env.now() + TIMEOUT;
                while !tried.piece(*piece, generation, buffer).await? && last {
                    if cx.env.now() > until {
                        return Err(Error::new(
                            ErrorKind::TimedOut,
                            format!("sectors from {} on fail", piece.first),
                        ));
                    }
                    cx.env.sleep(REST).await;
                }
            }
            Ok(())
        };
        try_join_all((0..DEPTH).map(|_| Box::pin(worker()) as Boxed<'_, _>).collect()).await?;
    }
    let (well, failed) = (tried.well.get(), tried.failed.get());
    Ok(format!("{failed} requests failed and {well} did not; nothing was done wrong"))
}

/// Requests of a disk, and their outcomes.
struct Tried<'a, 'b> {
    cx: &'a Context<'b>,
    disk: &'a dyn Device,
    /// The last generation that was to be written.
    begun: Ledger<'a>,
    /// The last that was.
    done: Ledger<'a>,
    well: Cell<u32>,
    failed: Cell<u32>,
}

impl Tried<'_, '_> {
    /// Writes a piece and reads it; says whether both worked.
    async fn piece(&self, span: Span, generation: u32, bytes: &mut [u8]) -> Result<bool, Error> {
        self.cx.fill(span, generation, bytes);
        self.begun.set(span, generation);
        let written = self.disk.io(Io::Write(span.first, bytes)).await;
        let written = self.count(written)?;
        if written {
            self.done.set(span, generation);
        }
        let read = self.disk.io(Io::Read(span.first, bytes)).await;
        let read = self.count(read)?;
        if read {
            (span.first..)
                .zip(bytes.as_chunks::<SECTOR>().0)
                .for_each(|(number, sector)| self.look(number, sector));
        }
        Ok(written && read)
    }

    /// Tells if a request succeeded; fails if its outcome is neither success nor a reported
    /// failure.
    fn count(&self, result: Result<(), Error>) -> Result<bool, Error> {
        let (ok, count) = match result {
            Ok(()) => (true, &self.well),
            Err(why) if why.kind() == ErrorKind::Failed => (false, &self.failed),
            Err(why) => return Err(why),
        };
        count.set(count.get() + 1);
        Ok(ok)
    }

    /// A sector that was written once is of that generation, or of a later one that failed.
    fn look(&self, number: u64, sector: &[u8; SECTOR]) {
        let generation = |ledger: &Ledger<'_>| self.cx.generation + u64::from(ledger.get(number));
        let (least, most) = (generation(&self.done), generation(&self.begun));
        let checked = match self.cx.stamps.check(number, most, sector) {
            _ if self.done.get(number) == 0 => return,
            Err(Flaw::Generation(found)) if (least..most).contains(&found) => Ok(()),
            checked => checked,
        };
        self.cx.judge(number, most, checked);
    }
}
