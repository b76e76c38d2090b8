//! A ring as a rogue has it: any index and any response can be written.

use crate::acts::Response as Wrong;
use crate::error::Error;
use alloc::format;
use alloc::vec::Vec;
use core::mem::offset_of;
use xen_abi::ring::{SLOTS, Sring, slots};
use xen_blk::protocol::wire::{Abi, Decoded, Response, SLOT_MAX, decode};
use xen_platform::{Access, Channel, DomId, GrantRef, IndexMemory, Platform, Port, SharedMem};
use xen_store::Store;

const REQ_PROD: usize = offset_of!(Sring, req_prod);
const REQ_EVENT: usize = offset_of!(Sring, req_event);
const RSP_PROD: usize = offset_of!(Sring, rsp_prod);

/// The largest order of a ring's pages that is mapped.
const ORDER_MAX: u32 = 4;

/// The ring of a frontend.
pub(crate) struct Ring<P: Platform> {
    page: P::Map,
    pub channel: P::Channel,
    abi: Abi,
    slots: u32,
    /// Index of the next request to take.
    taken: u32,
    /// Index of the next response.
    answered: u32,
}

impl<P: Platform> Ring<P> {
    /// Maps the ring that the frontend has published.
    pub async fn map(
        platform: &P,
        store: &Store,
        peer: DomId,
        folder: &str,
    ) -> Result<Self, Error<P::Error>> {
        let keys = Keys { store, folder };
        let order = keys.number("ring-page-order").await?;
        let mut refs = Vec::new();
        match order {
            None => refs.push(keys.needed("ring-ref").await?),
            Some(order) => {
                for page in 0..1 << order.min(ORDER_MAX) {
                    refs.push(keys.needed(&format!("ring-ref{page}")).await?);
                }
            }
        }
        let refs: Vec<GrantRef> = refs.into_iter().map(GrantRef).collect();
        let port = Port(keys.needed("event-channel").await?);
        let abi = match store.read_string(&format!("{folder}/protocol")).await {
            Ok(name) => Abi::from_name(&name).unwrap_or(Abi::X86_64),
            Err(_) => Abi::X86_64,
        };
        let page = platform.map(peer, &refs, Access::ReadWrite).map_err(Error::Platform)?;
        let channel = platform.connect(peer, port).map_err(Error::Platform)?;
        let slots = slots(page.len(), abi.slot());
        Ok(Ring { page, channel, abi, slots, taken: 0, answered: 0 })
    }

    fn at(&self, index: u32) -> usize {
        SLOTS + (index & (self.slots - 1)) as usize * self.abi.slot()
    }

    /// Takes the next request.
    pub fn take(&mut self) -> Option<Decoded> {
        let waiting = self.page.load(REQ_PROD).wrapping_sub(self.taken);
        if waiting == 0 || waiting > self.slots {
            return None;
        }
        let mut slot = [0; SLOT_MAX];
        let slot = &mut slot[..self.abi.slot()];
        self.page.read(self.at(self.taken), slot);
        self.taken = self.taken.wrapping_add(1);
        Some(decode(self.abi, slot))
    }

    /// Asks for an event at the next request; true if one is there already.
    pub fn arm(&self) -> bool {
        self.page.store(REQ_EVENT, self.taken.wrapping_add(1));
        self.page.fence();
        self.page.load(REQ_PROD) != self.taken
    }

    /// Writes a response into the next slot, and publishes it.
    pub fn respond(&mut self, response: Response, padding: u8) {
        self.rewrite(self.answered, response, padding);
        self.answered = self.answered.wrapping_add(1);
        self.publish(self.answered);
    }

    /// Writes a response into the slot of `index`, its padding too.
    fn rewrite(&self, index: u32, response: Response, padding: u8) {
        let mut bytes = response.encode();
        // The fields are 11 bytes, with a gap behind the operation (`struct blkif_response`).
        bytes[9] = padding;
        bytes[12..].fill(padding);
        self.page.write(self.at(index), &bytes[..self.abi.response()]);
    }

    /// Index of the last response.
    fn last(&self) -> u32 {
        self.answered.wrapping_sub(1)
    }

    /// Publishes any index.
    fn publish(&self, index: u32) {
        self.page.store(RSP_PROD, index);
        self.channel.notify();
    }

    /// Gives a wrong answer instead of the right one.
    pub fn answer_wrong(&mut self, right: Response, wrong: Wrong) {
        /// Times that a response is rewritten.
        const REWRITES: u32 = 100_000;
        let slots = u64::from(self.slots);
        let far = Response { id: right.id ^ 0x5a5a_5a5a_0000_0000, ..right };
        match wrong {
            Wrong::FarId => self.respond(far, 0),
            Wrong::FreeId => {
                self.respond(Response { id: (right.id + slots / 2) % slots, ..right }, 0)
            }
            Wrong::Twice => {
                self.respond(right, 0);
                self.respond(right, 0);
            }
            Wrong::Operation => {
                self.respond(Response { operation: right.operation ^ 1, ..right }, 0)
            }
            Wrong::Status(status) => self.respond(Response { status, ..right }, 0),
            Wrong::Error => {
                self.respond(Response { status: xen_abi::blkif::RSP_ERROR, ..right }, 0)
            }
            Wrong::Padding => self.respond(right, 0x5a),
            Wrong::Ahead(by) => {
                self.respond(right, 0);
                self.publish(self.last().wrapping_add(1 + by));
            }
            Wrong::Back => {
                self.respond(right, 0);
                self.publish(self.last().wrapping_sub(1));
            }
            Wrong::Rewritten => {
                self.respond(right, 0);
                let last = self.last();
                for number in 0..REWRITES {
                    self.rewrite(last, if number % 2 == 0 { far } else { right }, 0);
                }
            }
        }
    }
}

/// The frontend's folder.
struct Keys<'a> {
    store: &'a Store,
    folder: &'a str,
}

impl Keys<'_> {
    async fn number<E>(&self, name: &str) -> Result<Option<u32>, Error<E>> {
        let path = format!("{}/{name}", self.folder);
        let value = match self.store.read_string(&path).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::Key { path, value, expected: "number" }),
        }
    }

    async fn needed<E>(&self, name: &str) -> Result<u32, Error<E>> {
        let path = || format!("{}/{name}", self.folder);
        self.number(name).await?.ok_or_else(|| Error::Key {
            path: path(),
            value: "missing".into(),
            expected: "number",
        })
    }
}
