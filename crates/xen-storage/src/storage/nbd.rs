//! `nbd`: the export of a server of network block devices, over TCP or a socket of this machine.
//!
//! A lost connection is made anew, for as long as [`NbdOptions::outage`] says. What makes that safe
//! for what the guest was told is done:
//!
//! * Writes that the server acknowledged and no flush has covered are remembered ([`journal`]). A
//!   server that was restarted may have lost them, so they are written again, in their order,
//!   before anything else is sent on the new connection.
//! * Requests without a reply are sent again on the new connection. Before that the old one must
//!   have been ended by its server: otherwise an old write could still be carried out, after a
//!   newer one of the same place ([`links`]).
//! * Of two writes that overlap, the second waits for the first, so that "their order" is one.

mod journal;
mod links;

use super::sync_guard::SyncGuard;
use super::{Discard, Info, Storage, read_only};
use journal::Data;
use links::{Links, Unavailable};
use std::io;
use std::ops::Range;
use std::time::Duration;
use xen_nbd::client::Connection;
use xen_nbd::wire::ExportFlags;
use xen_nbd::{Uri, handshake::Export};

/// Shortest write that is looked at for zeros, in bytes.
const ZEROS: usize = 4096;
/// Longest range in one request for zeros, trim or extents, in bytes: a multiple of every block.
const RANGE: u64 = 1 << 30;
/// Longest data of one request in bytes.
const PAYLOAD: usize = 4 << 20;

/// Options of an NBD disk.
#[derive(Clone, Debug)]
pub struct NbdOptions {
    /// It is not written.
    pub read_only: bool,
    /// Time for which requests wait for a server that is lost.
    pub outage: Duration,
    /// Time after which a server that owes a reply and says nothing counts as lost.
    pub timeout: Duration,
    /// Number of connections, if the server permits several.
    pub connections: usize,
    /// Bytes of acknowledged writes that are remembered before the server is told to flush.
    pub unflushed: u64,
}

impl Default for NbdOptions {
    fn default() -> Self {
        NbdOptions {
            read_only: false,
            outage: Duration::from_secs(60),
            timeout: Duration::from_secs(120),
            connections: 4,
            unflushed: 64 << 20,
        }
    }
}

/// A disk at a server.
pub struct Nbd {
    links: Links,
    /// Properties of the export, as they were at first.
    export: Export,
    read_only: bool,
    guard: SyncGuard,
}

impl Nbd {
    /// Connects to the server.
    pub fn open(uri: Uri, options: NbdOptions) -> io::Result<Self> {
        let asked_read_only = options.read_only;
        let (links, export) = Links::open(uri, options)?;
        let wrong = |text: String| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        let sector = export.min_block.max(512);
        if sector > 4096 {
            return wrong(format!(
                "the server's least block has {sector} bytes, and 4096 are possible here: \
                 nbdkit --filter=blocksize, for instance, serves smaller ones"
            ));
        }
        let sector = if sector > 512 { 4096 } else { 512 };
        if export.bytes == 0 || !export.bytes.is_multiple_of(sector) {
            let bytes = export.bytes;
            return wrong(format!(
                "the export has {bytes} bytes, which are not one or more sectors of {sector}"
            ));
        }
        let read_only = asked_read_only || export.flags.contains(ExportFlags::READ_ONLY);
        Ok(Nbd { links, export, read_only, guard: SyncGuard::default() })
    }

    fn has(&self, flag: ExportFlags) -> bool {
        self.export.flags.contains(flag)
    }

    /// Carries a request out, whatever it takes.
    fn request<T>(
        &self,
        request: impl FnMut(&Connection) -> Result<T, xen_nbd::client::Failure>,
    ) -> io::Result<T> {
        self.links.request(request).map(|(_, value)| value).map_err(io::Error::from)
    }

    /// Checks that `range` can be changed.
    fn check_change(&self, at: u64, len: u64) -> io::Result<Range<u64>> {
        if self.read_only {
            return Err(read_only());
        }
        self.info().range(at, len)?;
        self.guard.check()?;
        Ok(at..at + len)
    }

    /// Writes one piece, and remembers it.
    fn put(&self, at: u64, data: Data) -> io::Result<()> {
        let claimed = self.links.claim(at..at + data.len());
        loop {
            let send = |link: &Connection| data.send(link, at);
            let (generation, ()) = self.links.request(send).map_err(io::Error::from)?;
            // A server that was replaced after its reply may not have it.
            let remember = self.has(ExportFlags::FLUSH);
            if self.links.remember(generation, at, &data, remember) {
                break;
            }
        }
        drop(claimed);
        if self.links.has_too_much() { self.flush() } else { Ok(()) }
    }

    /// Returns the part of a disk of `len` bytes at `at` that one request is about.
    fn piece(len: u64) -> u64 {
        len.min(RANGE)
    }
}

/// Returns true if all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    // Each byte is compared with its neighbour, by the fastest comparison there is.
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

impl Storage for Nbd {
    fn info(&self) -> Info {
        let sector_size = if self.export.min_block > 512 { 4096 } else { 512 };
        let best = self.export.preferred_block.clamp(sector_size, 4096);
        let trims = !self.read_only && self.has(ExportFlags::TRIM);
        let discard = trims.then_some(Discard {
            granularity: self.export.preferred_block.max(512),
            secure: false,
        });
        Info {
            physical_sector_size: best,
            read_only: self.read_only,
            discard,
            ..Info::new(self.links.bytes()).with_sector_size(sector_size)
        }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        let most = PAYLOAD.min(self.export.max_payload as usize);
        for (piece, at) in to.chunks_mut(most).zip((at..).step_by(most)) {
            self.request(|link| link.read(at, piece))?;
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.check_change(at, from.len() as u64)?;
        let most = PAYLOAD.min(self.export.max_payload as usize);
        for (piece, at) in from.chunks(most).zip((at..).step_by(most)) {
            let zero = self.has(ExportFlags::WRITE_ZEROES) && piece.len() >= ZEROS;
            let data = match zero && is_zero(piece) {
                true => Data::Zeros { len: piece.len() as u32, may_trim: false },
                false => Data::Bytes(piece.into()),
            };
            self.put(at, data)?;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only || !self.has(ExportFlags::FLUSH) {
            return Ok(());
        }
        self.guard.check()?;
        let mark = self.links.mark();
        match self.links.request(Connection::flush) {
            Ok(_) => {
                self.links.forget(mark);
                self.guard.check()
            }
            // The writes are remembered, and a later flush can still succeed.
            Err(Unavailable::Outage(error)) => Err(error),
            Err(Unavailable::Refused(error)) => self.guard.sync(|| Err(error)),
        }
    }

    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let mut range = self.check_change(at, len)?;
        if secure || !self.has(ExportFlags::TRIM) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        while !range.is_empty() {
            let (at, len) = (range.start, Self::piece(range.end - range.start));
            let _claimed = self.links.claim(at..at + len);
            self.request(|link| link.trim(at, len as u32))?;
            range.start += len;
        }
        Ok(())
    }

    fn write_zeroes(&self, at: u64, len: u64, may_discard: bool) -> io::Result<()> {
        let mut range = self.check_change(at, len)?;
        if !self.has(ExportFlags::WRITE_ZEROES) {
            return super::write_zeros(self, range);
        }
        while !range.is_empty() {
            let len = Self::piece(range.end - range.start);
            self.put(range.start, Data::Zeros { len: len as u32, may_trim: may_discard })?;
            range.start += len;
        }
        Ok(())
    }

    /// Asks the server for the length again: only the server can change it.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        if !bytes.is_multiple_of(self.info().sector_size.into()) || bytes == 0 {
            let text = "the length is not one or more whole sectors";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let found = self.links.look_again()?;
        if found < bytes {
            let text = format!("the server's export has {found} bytes: make it longer there first");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.links.set_bytes(bytes);
        Ok(())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let (mut here, end) = (at, self.info().bytes);
        if self.export.allocation.is_none() {
            return Ok((at < end).then_some(at..end));
        }
        let mut found: Option<Range<u64>> = None;
        while here < end {
            let len = Self::piece(end - here);
            for extent in self.request(|link| link.extents(here, len as u32))? {
                let part = here..here + u64::from(extent.len);
                here = part.end;
                match (&mut found, extent.zero) {
                    (None, true) => {}
                    (None, false) => found = Some(part),
                    (Some(data), false) => data.end = part.end,
                    (Some(_), true) => return Ok(found),
                }
            }
        }
        Ok(found)
    }

    fn identity(&self) -> Option<String> {
        Some(format!("nbd {}", self.links.uri()))
    }

    // `outlives` is false: acknowledged writes that no flush has covered may be known to this
    // program alone, if the server is restarted as well.
}
