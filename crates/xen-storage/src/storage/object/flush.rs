//! A flush: large pieces become chunks, several at a time; then a record with all the rest is put
//! at the end of the log. Once that is there, the changes are kept.

use super::build::is_zero;
use super::chunks::{Draft, OWN, join};
use super::disk::{Disk, Log};
use super::extents::Extents;
use super::lease::Fenced;
use super::parallel::parallel;
use super::place::{BLOCK, Stored, Within};
use super::record::shift;
use super::replay::read_record;
use super::state::{Change, Source};
use super::view::View;
use super::{Objects, log_key};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The most bytes of small pieces in a record; more are put beside it.
const INLINE: usize = 1 << 20;
/// Blocks of zeros within a run from which on they are not kept.
const HOLE: u64 = 16;

/// Time since the last renewal of the lease after which it is looked at before a flush.
const MAX_LEASE_AGE: Duration = Duration::from_secs(3600);

/// The most blocks in one record: it has to be uploaded in the time that garbage collectors leave.
const MAX_BLOCKS: u64 = (32 << 20) / BLOCK;

/// Parts of a flush that are uploaded at a time, each with several transfers: the last transfers of
/// one leave no gap before the first ones of the next.
const UPLOADS: usize = 2;

/// Blocks that are kept, and where.
type Places = Vec<(Range<u64>, Stored)>;
/// Small pieces, with their blocks.
type Drafts = Vec<(Range<u64>, Draft)>;

/// Changes of which the large pieces are uploaded.
struct Upload {
    /// The state of the store under which they were.
    view: View,
    /// The places of large pieces.
    stored: Extents<Stored>,
    /// Pieces that are to go into the record.
    drafts: Drafts,
}

impl<O: Objects> Disk<O> {
    /// Puts all changes so far into the log.
    pub fn flush(&self) -> io::Result<()> {
        let mut log = self.log();
        self.flush_into(&mut log)
    }

    pub(super) fn flush_into(&self, log: &mut Log) -> io::Result<()> {
        let (changes, bytes) = {
            let mut state = self.state();
            self.check_fence(&state)?;
            if state.dirty.is_empty() {
                return Ok(());
            }
            state.flushing = Arc::new(std::mem::take(&mut state.dirty));
            (state.flushing.clone(), state.bytes)
        };
        let mut stored = Extents::default();
        let published = self.publish_parts(log, &changes, bytes, &mut stored);
        self.remember(&stored, &changes);
        let mut state = self.state();
        state.tail.cover(&stored);
        if published.is_err() {
            // All of it is flushed again, under what was written meanwhile.
            let mut all = Extents::clone(&changes);
            all.cover(&state.dirty);
            state.dirty = all;
        }
        state.flushing = Arc::default();
        drop(state);
        self.look_for_work(log);
        published
    }

    /// Keeps what was flushed in memory as what was read is.
    fn remember(&self, stored: &Extents<Stored>, changes: &Extents<Change>) {
        for (blocks, stored) in stored.iter() {
            if let Stored::At(place) = stored {
                let bytes = Arc::new(gather(changes, &blocks));
                self.chunks.pieces.add((place.piece.within, place.piece.at), bytes);
            }
        }
    }

    /// Puts changes into the log, in one record or more, and adds their places to `stored`. While
    /// one part of them is put there, the next ones are uploaded.
    fn publish_parts(
        &self,
        log: &mut Log,
        changes: &Extents<Change>,
        bytes: u64,
        stored: &mut Extents<Stored>,
    ) -> io::Result<()> {
        let parts = split(changes, MAX_BLOCKS);
        if let [part] = &parts[..] {
            stored.cover(&self.publish(log, part, bytes)?);
            return Ok(());
        }
        thread::scope(|scope| {
            let mut left = parts.iter();
            let mut uploads = VecDeque::new();
            loop {
                for part in left.by_ref().take(UPLOADS - uploads.len()) {
                    uploads.push_back((part, scope.spawn(|| self.upload(part))));
                }
                let Some((part, upload)) = uploads.pop_front() else { return Ok(()) };
                let upload = upload.join().expect("an upload does not panic");
                stored.cover(&self.publish_upload(log, part, bytes, upload?)?);
            }
        })
    }

    /// Puts changes into the log, and returns their places.
    pub(super) fn publish(
        &self,
        log: &mut Log,
        changes: &Extents<Change>,
        bytes: u64,
    ) -> io::Result<Extents<Stored>> {
        let upload = self.upload(changes)?;
        self.publish_upload(log, changes, bytes, upload)
    }

    fn publish_upload(
        &self,
        log: &mut Log,
        changes: &Extents<Change>,
        bytes: u64,
        mut upload: Upload,
    ) -> io::Result<Extents<Stored>> {
        loop {
            let Upload { view, stored, drafts } = upload;
            // If garbage was collected meanwhile, and it took long, what was uploaded may be gone.
            if let Some(view) = view.renewed(&self.chunks.objects)? {
                let stored = self.put_record(log, stored, &drafts, bytes)?;
                if view.held(&self.chunks.objects)? {
                    return Ok(stored);
                }
            }
            self.chunks.look()?;
            upload = self.upload(changes)?;
        }
    }

    /// Uploads large pieces, and all if they are too many for a record.
    fn upload(&self, changes: &Extents<Change>) -> io::Result<Upload> {
        let view = self.chunks.view()?;
        let mut stored = Extents::default();
        for (blocks, change) in changes.iter() {
            if matches!(change, Change::Zero) {
                stored.insert(blocks, Stored::Zero);
            }
        }
        let runs = self.runs(changes);
        let done = parallel(runs, |blocks| {
            let bytes = gather(changes, &blocks);
            self.put_run(&view, blocks, &bytes)
        })?;
        let mut small = Vec::new();
        for (places, drafts) in done {
            places.into_iter().for_each(|(blocks, place)| stored.insert(blocks, place));
            small.extend(drafts);
        }
        if small.iter().map(|(_, draft)| draft.len()).sum::<usize>() > INLINE {
            let (blocks, drafts): (Vec<_>, Vec<_>) = small.into_iter().unzip();
            let places = self.chunks.put_packed(&view, drafts)?;
            blocks.into_iter().zip(places).for_each(|(blocks, place)| stored.insert(blocks, place));
            small = Vec::new();
        }
        Ok(Upload { view, stored, drafts: small })
    }

    /// Returns the runs of blocks with data, each in one chunk. A chunk of which the half was
    /// written, and the rest is zero, is one run: so the same contents are the same object, however
    /// they were written.
    fn runs(&self, changes: &Extents<Change>) -> Vec<Range<u64>> {
        let size = self.chunks.chunk;
        let mut of_chunk: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
        for (blocks, change) in changes.iter() {
            if matches!(change, Change::Zero) {
                continue;
            }
            let mut at = blocks.start;
            while at < blocks.end {
                let end = blocks.end.min((at / size + 1) * size);
                let runs = of_chunk.entry(at / size).or_default();
                match runs.last_mut() {
                    Some(run) if run.end == at => run.end = end,
                    _ => runs.push(at..end),
                }
                at = end;
            }
        }
        let state = self.state();
        let end = state.bytes.div_ceil(BLOCK);
        let runs = of_chunk.into_iter().flat_map(|(chunk, runs)| {
            let whole = chunk * size..((chunk + 1) * size).min(end).max(runs[runs.len() - 1].end);
            let data: u64 = runs.iter().map(|run| run.end - run.start).sum();
            let len = whole.end - whole.start;
            let stands_alone = data < len && data >= len / 2 && {
                let there = state.locate(whole.clone());
                let is_new = |source: &Source| matches!(source, Source::Memory(_));
                there.is_ok_and(|parts| parts.iter().all(|(_, source)| is_new(source)))
            };
            if stands_alone { vec![whole] } else { runs }
        });
        runs.collect()
    }

    /// Puts a run that is large, and encodes one that is not; without the zeros in it.
    fn put_run(
        &self,
        view: &View,
        blocks: Range<u64>,
        bytes: &[u8],
    ) -> io::Result<(Places, Drafts)> {
        let (mut places, mut drafts) = (Vec::new(), Vec::new());
        for (part, zero) in parts(bytes) {
            let blocks = blocks.start + part.start..blocks.start + part.end;
            let bytes = &bytes[(part.start * BLOCK) as usize..(part.end * BLOCK) as usize];
            if zero {
                places.push((blocks, Stored::Zero));
                continue;
            }
            let draft = self.chunks.draft(bytes)?;
            match bytes.len() as u64 >= OWN {
                true => places.push((blocks, self.chunks.put_own(view, &draft)?)),
                false => drafts.push((blocks, draft)),
            }
        }
        Ok((places, drafts))
    }

    /// Puts a record at the end of the log.
    fn put_record(
        &self,
        log: &mut Log,
        mut stored: Extents<Stored>,
        drafts: &Drafts,
        bytes: u64,
    ) -> io::Result<Extents<Stored>> {
        let (inline, places) = join(drafts.iter().map(|(_, draft)| draft), Within::Log(0));
        let blocks = drafts.iter().map(|(blocks, _)| blocks.clone());
        blocks.zip(places).for_each(|(blocks, place)| stored.insert(blocks, place));
        loop {
            let record = log.record(bytes, stored.clone());
            let mut raw = record.encode(&self.chunks.id, &self.chunks.codec)?;
            let start = raw.len() as u32;
            raw.extend_from_slice(&inline);
            let number = record.number;
            if self.put_numbered(log, number, &raw)? {
                log.appended(number, inline.len());
                (log.changed, log.bytes) = (number, bytes);
                return shift(&stored, number, start, inline.len());
            }
        }
    }

    /// Puts the record of that number. If one is there that this program put, and was told that it
    /// failed, it is taken in, and false returned: the next number is to be tried.
    pub(super) fn put_numbered(&self, log: &mut Log, number: u64, raw: &[u8]) -> io::Result<bool> {
        // Fences are kept for a day; a machine may have slept for longer.
        if self.renewed.lock().expect("no holder panics").age() > MAX_LEASE_AGE {
            self.check_lease()?;
        }
        let key = log_key(&self.chunks.id, number);
        match self.chunks.objects.replace(&key, raw, None) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done.map(|_| true),
        }
        let other = match read_record(&self.chunks, number) {
            Ok(Some(other)) => other,
            Ok(None) => return Ok(false),
            // That of a program without the key, which removed the disk.
            Err(error) => return self.check_lease().and(Err(error)),
        };
        if other.token != log.token {
            let fenced = Fenced { disk: self.name.clone(), holder: other.holder };
            return Err(self.set_fenced(fenced));
        }
        log.appended(number, 0);
        (log.changed, log.bytes) = (number, other.bytes);
        self.state().tail.cover(&other.changes);
        Ok(false)
    }
}

/// Returns changes in parts of about that many blocks with data.
fn split(changes: &Extents<Change>, most: u64) -> Vec<Extents<Change>> {
    let mut parts = vec![Extents::default()];
    let mut blocks = 0;
    for (range, change) in changes.iter() {
        if blocks >= most {
            parts.push(Extents::default());
            blocks = 0;
        }
        blocks += if matches!(change, Change::Zero) { 0 } else { range.end - range.start };
        parts.last_mut().expect("there is one").insert(range, change.clone());
    }
    parts
}

/// Returns the bytes of a run of changes; what is between them is zero.
fn gather(changes: &Extents<Change>, blocks: &Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; ((blocks.end - blocks.start) * BLOCK) as usize];
    for (range, change) in changes.within(blocks.clone()) {
        let start = ((range.start - blocks.start) * BLOCK) as usize;
        let len = ((range.end - range.start) * BLOCK) as usize;
        change.copy(0, &mut bytes[start..start + len]);
    }
    bytes
}

/// Returns the parts of a run, in blocks, and whether they are zero. Few zeros within others are
/// taken for data.
fn parts(bytes: &[u8]) -> Vec<(Range<u64>, bool)> {
    let count = bytes.len() as u64 / BLOCK;
    let mut runs: Vec<(Range<u64>, bool)> = Vec::new();
    for (at, block) in (0..).zip(bytes.chunks(BLOCK as usize)) {
        let zero = is_zero(block);
        match runs.last_mut() {
            Some((run, was)) if *was == zero => run.end = at + 1,
            _ => runs.push((at..at + 1, zero)),
        }
    }
    let mut parts: Vec<(Range<u64>, bool)> = Vec::new();
    for (run, zero) in runs {
        let zero = zero && (run.end - run.start >= HOLE.min(count));
        match parts.last_mut() {
            Some((part, was)) if *was == zero => part.end = run.end,
            _ => parts.push((run, zero)),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_told_apart_from_data() {
        let run = |text: &str| -> Vec<u8> {
            let byte = |c| u8::from(c == 'x');
            text.chars().flat_map(|c| vec![byte(c); BLOCK as usize]).collect()
        };
        assert_eq!(parts(&run("..")), [(0..2, true)]);
        assert_eq!(parts(&run("x.x")), [(0..3, false)]);
        let long = format!("xx{}x", ".".repeat(HOLE as usize));
        assert_eq!(parts(&run(&long)), [(0..2, false), (2..18, true), (18..19, false)]);
    }
}
