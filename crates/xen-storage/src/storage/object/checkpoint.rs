//! A checkpoint: the map takes in what the log has, and the log is shortened. Flushes go on
//! meanwhile.

use super::build::build;
use super::disk::Disk;
use super::extents::Extents;
use super::parallel::parallel;
use super::{Objects, log_key};
use std::io;
use std::sync::Arc;

/// Part of the log that a checkpoint takes in.
struct Part {
    first: u64,
    last: u64,
    bytes: u64,
    changed: u64,
    fences: Vec<u64>,
}

impl<O: Objects> Disk<O> {
    /// Makes a checkpoint of all that was flushed so far.
    pub fn checkpoint(&self) -> io::Result<()> {
        let _one = self.checkpointing.lock().expect("no holder panics");
        let Some(part) = self.freeze()? else { return Ok(()) };
        let made = self.make_checkpoint(&part);
        let mut log = self.log();
        let mut state = self.state();
        match &made {
            Ok(()) => {
                log.first = part.last + 1;
                log.fences.retain(|number| *number > part.last);
            }
            Err(_) => {
                let mut all = Extents::clone(&state.frozen);
                all.cover(&state.tail);
                state.tail = all;
                state.frozen = Arc::default();
            }
        }
        drop((state, log));
        made?;
        let old = (part.first..=part.last).filter(|number| !part.fences.contains(number));
        // What stays is garbage, and is collected as such.
        let _ = parallel(old.collect(), |number| {
            self.chunks.objects.delete(&log_key(&self.chunks.id, number))
        });
        Ok(())
    }

    fn freeze(&self) -> io::Result<Option<Part>> {
        let mut log = self.log();
        let mut state = self.state();
        self.check_fence(&state)?;
        if log.next() == log.first {
            return Ok(None);
        }
        state.frozen = Arc::new(std::mem::take(&mut state.tail));
        log.inline = 0;
        let (first, last) = (log.first, log.next() - 1);
        let (bytes, changed, fences) = (log.bytes, log.changed, log.fences.clone());
        Ok(Some(Part { first, last, bytes, changed, fences }))
    }

    fn make_checkpoint(&self, part: &Part) -> io::Result<()> {
        let (tree, frozen) = {
            let state = self.state();
            (state.tree.clone(), state.frozen.clone())
        };
        let built = loop {
            let view = self.chunks.view()?;
            let built = build(&self.chunks, &view, &tree, &frozen, part.bytes)?;
            if let Some(view) = view.renewed(&self.chunks.objects)? {
                self.put_root(part, built.root)?;
                if view.held(&self.chunks.objects)? {
                    break built;
                }
            }
            self.chunks.look()?;
        };
        let mut state = self.state();
        for (number, leaf) in built.leaves {
            state.tree.replace(number, leaf);
        }
        state.frozen = Arc::default();
        Ok(())
    }

    fn put_root(&self, part: &Part, root: super::Id) -> io::Result<()> {
        let mut held = self.held.lock().expect("no holder panics");
        let Some(held) = held.as_mut() else { return Err(super::super::read_only()) };
        let done = held.update(&self.chunks.objects, &self.name, |head| {
            head.root = Some(root);
            (head.record, head.changed, head.bytes) = (part.last, part.changed, part.bytes);
        });
        done.inspect_err(|error| self.note_fence(error))
    }
}
