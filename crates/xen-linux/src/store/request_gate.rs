//! One request at a time on `/dev/xen/xenbus`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use xen_abi::xs_wire::{Header, MessageType};
use xen_platform::EventCounter;
use zerocopy::FromBytes;

/// Keeps a request from being written before the answer to the last one has come.
///
/// The device passes a request on by reference: a thread of the kernel reads it later from the
/// buffer that the next write fills (`xenbus_dev_request_and_reply`,
/// drivers/xen/xenbus/xenbus_xs.c). What is written too early overwrites it on its way, and
/// xenstored carries out something else.
#[derive(Default)]
pub(super) struct RequestGate {
    /// A request has been begun whose answer has not.
    under_way: Cell<bool>,
    /// Bytes of that request that are still to be written.
    unwritten: Cell<usize>,
    /// The header of the message that is being read, as far as it has come.
    header: RefCell<Vec<u8>>,
    /// Bytes to be read of the payload behind it.
    unread: Cell<usize>,
    answers: EventCounter,
}

impl RequestGate {
    /// Waits until these bytes may be written. They are the rest of a request, or a whole one.
    pub async fn acquire(&self, bytes: &[u8]) {
        if self.unwritten.get() > 0 {
            return;
        }
        let mut seen = self.answers.count();
        while self.under_way.get() {
            poll_fn(|cx| self.answers.poll_after(&mut seen, cx)).await;
        }
        self.unwritten.set(bytes.len());
        self.under_way.set(!bytes.is_empty());
    }

    /// Notes that `bytes` bytes were written.
    pub fn wrote(&self, bytes: usize) {
        self.unwritten.set(self.unwritten.get() - bytes);
    }

    /// These bytes were read: an answer among them ends the turn, an event of a watch does not.
    pub fn read(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let of_payload = self.unread.get().min(bytes.len());
            self.unread.set(self.unread.get() - of_payload);
            bytes = &bytes[of_payload..];

            let mut header = self.header.borrow_mut();
            let (more, rest) = bytes.split_at(bytes.len().min(size_of::<Header>() - header.len()));
            header.extend_from_slice(more);
            bytes = rest;
            let Ok(Header { kind, len, .. }) = Header::read_from_bytes(&header) else { continue };
            header.clear();
            self.unread.set(len as usize);
            if kind != MessageType::WATCH_EVENT {
                self.under_way.set(false);
                self.answers.signal();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// A message of this type (io/xs_wire.h) with `len` bytes behind its header.
    fn message(kind: u32, len: u32) -> Vec<u8> {
        let header: Vec<u8> =
            [kind, 1, 0, len].iter().flat_map(|field| field.to_ne_bytes()).collect();
        [header, vec![0xaa; len as usize]].concat()
    }

    /// Writes a request if that is permitted now; returns whether it was.
    fn writes(gate: &RequestGate) -> bool {
        let request = message(2, 5);
        let turn =
            pin!(gate.acquire(&request)).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if turn {
            gate.wrote(request.len());
        }
        turn
    }

    #[test]
    fn a_request_waits_for_the_answer_to_the_last_and_for_no_event() {
        for piece in [1, 3, 16, 17, 1000] {
            let gate = RequestGate::default();
            assert!(writes(&gate) && !writes(&gate));
            for event in [0, 1, 40] {
                message(15, event).chunks(piece).for_each(|bytes| gate.read(bytes));
                assert!(!writes(&gate), "an event is no answer");
            }
            for answer in [2, 16] {
                message(answer, 7).chunks(piece).for_each(|bytes| gate.read(bytes));
                assert!(writes(&gate) && !writes(&gate), "pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_rest_of_a_request_needs_no_turn_of_its_own() {
        let gate = RequestGate::default();
        let (mut cx, request) = (Context::from_waker(Waker::noop()), message(2, 5));
        assert!(pin!(gate.acquire(&request)).poll(&mut cx).is_ready());
        gate.wrote(4);
        assert!(pin!(gate.acquire(&request[4..])).poll(&mut cx).is_ready());
        gate.wrote(request.len() - 4);
        assert!(!writes(&gate));
    }
}
