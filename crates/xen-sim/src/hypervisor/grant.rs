//! Grants and mappings.

use super::page::{Area, POISON, Page, shared_memory};
use super::process::Domain;
use super::world::{GrantEntry, Holding, LastWord, State};
use crate::{Channel, Operation, Reason};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use xen_platform::{
    Access, Channel as _, CopyBuffer, CopySegment, DomId, GrantRef, Granted, SharedMem,
};

/// The first reference that is free for use (`GNTTAB_NR_RESERVED_ENTRIES`, grant_table.h).
const FIRST_REF: u32 = 8;

/// One more than the highest reference: 64 frames (Xen's default for `max_grant_frames`) of 512
/// entries.
const END_REF: u32 = 64 * 512;

/// Pages that a domain shares. See [`Granted`].
pub struct Grant {
    pub(crate) area: Area,
    pub(crate) id: u64,
    refs: Vec<GrantRef>,
    owner: Domain,
}

/// A peer's pages, mapped.
pub struct Map {
    pub(crate) area: Area,
    pub(crate) id: u64,
    peer: DomId,
    mapper: Domain,
}

shared_memory!(Grant);
shared_memory!(Map);

impl Granted for Grant {
    fn refs(&self) -> &[GrantRef] {
        &self.refs
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({:?} of domain {})", self.refs, self.owner.id())
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Map({} pages of domain {} in domain {})",
            self.area.pages.borrow().len(),
            self.peer,
            self.mapper.id()
        )
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.owner.let_go(self.id, self.area.generation)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        self.mapper.let_go(self.id, self.area.generation)
    }
}

impl Domain {
    pub(crate) fn share_pages(
        &self,
        peer: DomId,
        pages: usize,
        access: Access,
    ) -> Result<Grant, Reason> {
        self.admit(Operation::Share)?;
        if pages == 0 {
            return Err(Reason::NoPages);
        }
        // A domain that does not exist can be granted a page; only reserved numbers have another
        // meaning.
        if peer >= DomId::FIRST_RESERVED {
            return Err(Reason::NoDomain(peer));
        }
        let mut state = self.0.world.0.state.borrow_mut();
        let table = &state.domain(self.id()).grants;
        let refs: Vec<_> = (FIRST_REF..END_REF)
            .map(GrantRef)
            .filter(|gref| !table.contains_key(gref))
            .take(pages)
            .collect();
        if refs.len() < pages {
            return Err(Reason::TableFull);
        }
        let pages: Vec<_> = refs.iter().map(|gref| state.fresh_page(self.id(), *gref)).collect();
        let table = &mut state.domain(self.id()).grants;
        for (gref, page) in refs.iter().zip(&pages) {
            table.insert(
                *gref,
                GrantEntry { page: page.clone(), to: peer, access, mapped: 0, revoked: false },
            );
        }
        let area = self.area(pages, true, false);
        let id = state.hold(self, self.id(), &refs, &area);
        Ok(Grant { area, id, refs, owner: self.clone() })
    }

    pub(crate) fn map_pages(
        &self,
        peer: DomId,
        refs: &[GrantRef],
        access: Access,
    ) -> Result<Map, Reason> {
        self.admit(Operation::Map)?;
        self.map_admitted(peer, refs, access)
    }

    fn map_admitted(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Map, Reason> {
        if refs.is_empty() {
            return Err(Reason::NoPages);
        }
        let mut state = self.0.world.0.state.borrow_mut();
        let table = &mut state.living(peer).ok_or(Reason::NoDomain(peer))?.grants;
        let mut pages = Vec::new();
        for gref in refs {
            let entry = table.get(gref).ok_or(Reason::NoGrant(*gref))?;
            entry.permits(*gref, self.id(), access)?;
            pages.push(entry.page.clone());
        }
        for gref in refs {
            table.entry(*gref).and_modify(|entry| entry.mapped += 1);
        }
        let area = self.area(pages, access == Access::ReadWrite, true);
        let id = state.hold(self, peer, refs, &area);
        Ok(Map { area, id, peer, mapper: self.clone() })
    }

    /// Copies one piece, if the peer's grant permits it. The grant counts as mapped meanwhile.
    pub(crate) fn copy_segment(
        &self,
        peer: DomId,
        piece: &mut CopySegment<'_>,
    ) -> Result<(), Reason> {
        let (gref, at) = (piece.gref(), piece.at());
        let access = match piece.buffer() {
            CopyBuffer::FromPeer(_) => Access::ReadOnly,
            CopyBuffer::ToPeer(_) => Access::ReadWrite,
        };
        let map = self.map_admitted(peer, &[gref], access)?;
        match piece.buffer() {
            CopyBuffer::FromPeer(to) => map.read(at, to),
            CopyBuffer::ToPeer(from) => map.write(at, from),
        }
        Ok(())
    }

    fn area(&self, pages: Vec<Rc<Page>>, writable: bool, foreign: bool) -> Area {
        let (pages, generation) = (Rc::new(RefCell::new(pages)), self.0.generation());
        Area { by: Some(self.0.clone()), pages, writable, foreign, generation }
    }

    /// Arranges for the byte at `at` of the holding `id` with the pages of `area` to be cleared
    /// when it ends, and for an event.
    pub(crate) fn last_word(
        &self,
        area: &Area,
        id: u64,
        at: usize,
        channel: &Channel,
    ) -> Result<(), Reason> {
        self.admit(Operation::ClearOnDeath)?;
        let len = area.len();
        if at >= len {
            return Err(Reason::Outside { at, len });
        }
        assert!(channel.is_of(self), "the channel belongs to another process");
        if !(self.0.holds(area.generation) && channel.is_open()) {
            return Err(Reason::Resumed);
        }
        let mut state = self.0.world.0.state.borrow_mut();
        let port = channel.port();
        // The port stays open until the word is spoken, even if the channel is dropped before that.
        state.port(self.id(), port).expect("a channel's port is open").holds += 1;
        let holding = state.holdings.get_mut(&id).expect("a held grant or mapping is known");
        assert!(holding.process == self.0.id, "the pages are held by another process");
        holding.last_words.push(LastWord { at, port });
        Ok(())
    }

    /// A grant or a mapping was dropped.
    fn let_go(&self, id: u64, generation: u32) {
        if self.0.holds(generation) {
            let mut state = self.0.world.0.state.borrow_mut();
            state.speak(id);
            state.release(id);
        }
    }
}

impl State {
    fn fresh_page(&mut self, owner: DomId, gref: GrantRef) -> Rc<Page> {
        let Some(page) = self.free.pop() else { return Page::new(owner, gref) };
        page.owner.set(owner);
        page.gref.set(gref);
        page.fill(0);
        page
    }

    fn hold(&mut self, by: &Domain, owner: DomId, refs: &[GrantRef], area: &Area) -> u64 {
        let id = self.fresh_id();
        let (is_map, refs, last_words) = (area.foreign, refs.to_vec(), Vec::new());
        let pages = area.pages.clone();
        let holding =
            Holding { by: by.id(), process: by.0.id, is_map, owner, refs, pages, last_words };
        self.holdings.insert(id, holding);
        id
    }

    /// Carries out the last words of a holding: clears the bytes, sends the events.
    pub(crate) fn speak(&mut self, id: u64) {
        let holding = self.holdings.get_mut(&id).expect("a holding ends once");
        let by = holding.by;
        let last_words = std::mem::take(&mut holding.last_words);
        for word in &last_words {
            holding.pages.borrow()[word.at / xen_platform::PAGE_SIZE]
                .set(word.at % xen_platform::PAGE_SIZE, 0);
        }
        for word in last_words {
            self.notify(by, word.port);
            self.unhold(by, word.port);
        }
    }

    /// Unmaps or revokes. Pages that nobody maps any more are freed; the others are set aside until
    /// then.
    pub(crate) fn release(&mut self, id: u64) {
        let holding = self.holdings.remove(&id).expect("a holding ends once");
        let table =
            &mut self.domains.get_mut(&holding.owner).expect("grants outlive their domain").grants;
        for gref in holding.refs {
            let entry = table.get_mut(&gref).expect("a held grant has its entry");
            if holding.is_map {
                entry.mapped -= 1;
            } else {
                entry.revoked = true;
            }
            if entry.revoked && entry.mapped == 0 {
                entry.page.fill(POISON);
                self.free.push(entry.page.clone());
                table.remove(&gref);
            }
        }
    }
}
