//! The platform of a backend with one bug in it: a real bug of a real backend, by the catalogue in
//! docs/block-bugs.md.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use xen_abi::blkif::RSP_OKAY;
use xen_abi::ring::SLOTS;
use xen_platform::{
    Access, Channel, Clock, CopyBuffer, CopySegment, DomId, EventCounter, GrantRef, IndexMemory,
    Platform, Port, SharedMem, Time,
};
use xen_sim::Domain;

/// A bug between the backend and its ring or its frontend's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The padding of responses holds the backend's stack (XSA-216).
    PaddingLeak,
    /// A response fills its whole slot with the backend's memory.
    SlotLeak,
    /// A response has the id of another request.
    WrongId,
    /// A response has another operation than its request.
    WrongOperation,
    /// Errors are reported as success.
    ErrorsAsSuccess,
    /// Success is reported as an error.
    SuccessAsErrors,
    /// A failure is reported with a status that does not exist.
    UnknownStatus,
    /// The fields of the status are written as one byte: -1 is 255.
    StatusInOneByte,
    /// The response index moves ahead of the responses.
    IndexAhead,
    /// Errors of grant operations are lost (XSA-365).
    LosesGrantErrors,
    /// A segment's first sector is ignored: data lies at the start of the page.
    IgnoresFirstSector,
    /// Data is copied a sector too far in its page.
    CopiesBeside,
    /// Of a batch, the last segment is not copied.
    DropsLastSegment,
    /// Whole pages are written, whatever the segment is.
    FillsWholePages,
    /// Data that was read goes to the page of the segment before.
    ReusesGrant,
}

#[derive(Clone)]
pub struct Mutant {
    domain: Domain,
    bug: Option<Bug>,
    count: Rc<Cell<u32>>,
}

impl Mutant {
    pub fn new(domain: &Domain, bug: Option<Bug>) -> Mutant {
        Mutant { domain: domain.clone(), bug, count: Rc::default() }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn nth(&self, bug: Bug, every: u32) -> bool {
        self.count.set(self.count.get() + u32::from(self.has(bug)));
        self.has(bug) && self.count.get().is_multiple_of(every)
    }
}

impl Clock for Mutant {
    fn now(&self) -> Time {
        self.domain.now()
    }
    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        self.domain.poll_until(at, cx)
    }
}

/// A ring of the frontend, as the mutant writes it. Nothing else is mapped.
pub struct Ring(<Domain as Platform>::Map, Mutant);

impl IndexMemory for Ring {
    fn load(&self, at: usize) -> u32 {
        self.0.load(at)
    }
    fn store(&self, at: usize, value: u32) {
        // rsp_prod is the third word of the head.
        let ahead = at == 8 && self.1.nth(Bug::IndexAhead, 20);
        self.0.store(at, value.wrapping_add(u32::from(ahead)))
    }
    fn load_u8(&self, at: usize) -> u8 {
        self.0.load_u8(at)
    }
    fn store_u8(&self, at: usize, value: u8) {
        self.0.store_u8(at, value)
    }
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        self.0.fetch_or(at, bits)
    }
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        self.0.fetch_and(at, bits)
    }
    fn fence(&self) {
        self.0.fence()
    }
}

impl SharedMem for Ring {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        self.0.read(at, to)
    }
    fn write(&self, at: usize, from: &[u8]) {
        let mut bytes = from.to_vec();
        if at >= SLOTS {
            let status = i16::from_le_bytes([bytes[10], bytes[11]]);
            let wrong = match self.1.bug {
                Some(Bug::ErrorsAsSuccess) => Some(RSP_OKAY),
                Some(Bug::UnknownStatus) if status != RSP_OKAY => Some(-5),
                Some(Bug::StatusInOneByte) if status != RSP_OKAY => Some(status & 0xff),
                Some(Bug::SuccessAsErrors) if self.1.nth(Bug::SuccessAsErrors, 5) => Some(-1),
                _ => None,
            };
            bytes[10..12].copy_from_slice(&wrong.unwrap_or(status).to_le_bytes());
            if self.1.has(Bug::PaddingLeak) {
                bytes[9] = 0x5a;
                bytes[12..].fill(0x5a);
            }
            if self.1.has(Bug::SlotLeak) {
                self.0.write(at + bytes.len(), &[0x5a; 40]);
            }
            if self.1.nth(Bug::WrongId, 7) {
                bytes[0] ^= 1;
            }
            if self.1.nth(Bug::WrongOperation, 7) {
                bytes[8] ^= 1;
            }
        }
        self.0.write(at, &bytes)
    }
}

pub struct Bell(<Domain as Platform>::Channel);

impl Channel for Bell {
    fn port(&self) -> Port {
        self.0.port()
    }
    fn notify(&self) {
        self.0.notify()
    }
    fn seen(&self) -> u32 {
        self.0.seen()
    }
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_after(seen, cx)
    }
    fn is_bound(&self) -> bool {
        self.0.is_bound()
    }
}

impl Mutant {
    /// Changes one segment of a copy; returns what is copied instead.
    fn bend<'a>(&self, segment: &'a mut CopySegment<'_>, before: GrantRef) -> CopySegment<'a> {
        let (gref, at) = (segment.gref(), segment.at());
        let at = match self.bug {
            Some(Bug::IgnoresFirstSector) => 0,
            Some(Bug::CopiesBeside) if at + 512 + segment.len() <= 4096 => at + 512,
            _ => at,
        };
        match segment.buffer() {
            CopyBuffer::FromPeer(to) => CopySegment::from_peer(gref, at, to),
            CopyBuffer::ToPeer(from) => {
                let gref = if self.has(Bug::ReusesGrant) { before } else { gref };
                CopySegment::to_peer(gref, at, from)
            }
        }
    }
}

impl Platform for Mutant {
    type Grant = <Domain as Platform>::Grant;
    type Map = Ring;
    type Channel = Bell;
    type Error = xen_sim::Error;

    fn yields(&self) -> &EventCounter {
        self.domain.yields()
    }
    fn resumes(&self) -> &EventCounter {
        self.domain.resumes()
    }
    fn is_local(error: &Self::Error) -> bool {
        Domain::is_local(error)
    }
    fn domid(&self) -> Option<DomId> {
        self.domain.domid()
    }
    fn share(&self, peer: DomId, pages: usize) -> Result<Self::Grant, Self::Error> {
        self.domain.share(peer, pages)
    }
    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Self::Grant, Self::Error> {
        self.domain.share_read_only(peer, pages)
    }
    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Ring, Self::Error> {
        Ok(Ring(self.domain.map(peer, refs, access)?, self.clone()))
    }
    fn copy(&self, peer: DomId, segments: &mut [CopySegment<'_>]) -> Result<(), Self::Error> {
        let last = segments.len() - 1;
        let mut before = segments[0].gref();
        for (number, segment) in segments.iter_mut().enumerate() {
            let (gref, at, len) = (segment.gref(), segment.at(), segment.len());
            if self.has(Bug::DropsLastSegment) && number == last && last > 0 {
                segment.set_status(0);
                continue;
            }
            if self.has(Bug::FillsWholePages) && matches!(segment.buffer(), CopyBuffer::ToPeer(_)) {
                let rest = [0x5a; 4096];
                let beside = CopySegment::to_peer(gref, at + len, &rest[at + len..]);
                self.domain.copy(peer, &mut [beside])?;
            }
            let mut bent = [self.bend(segment, before)];
            self.domain.copy(peer, &mut bent)?;
            let copied = bent[0].is_copied() || self.has(Bug::LosesGrantErrors);
            segment.set_status(if copied { 0 } else { -1 });
            before = gref;
        }
        Ok(())
    }
    fn listen(&self, peer: DomId) -> Result<Bell, Self::Error> {
        Ok(Bell(self.domain.listen(peer)?))
    }
    fn connect(&self, peer: DomId, port: Port) -> Result<Bell, Self::Error> {
        Ok(Bell(self.domain.connect(peer, port)?))
    }
    fn clear_grant_on_death(
        &self,
        grant: &Self::Grant,
        at: usize,
        channel: &Bell,
    ) -> Result<(), Self::Error> {
        self.domain.clear_grant_on_death(grant, at, &channel.0)
    }
    fn clear_map_on_death(&self, map: &Ring, at: usize, channel: &Bell) -> Result<(), Self::Error> {
        self.domain.clear_map_on_death(&map.0, at, &channel.0)
    }
}
