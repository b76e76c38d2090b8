//! Moves messages between the shared state and the byte stream.

use crate::shared::Shared;
use crate::{Flaw, Malformed, Store, TransportError};
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use embedded_io_async::{Read, Write};
use xen_abi::xs_wire::{Header, PAYLOAD_MAX};
use zerocopy::{FromZeros, IntoBytes};

/// Makes a client over a byte stream to xenstored.
///
/// Returns the handle and the driver, which must be spawned or polled beside the requests: it runs
/// until the stream ends or xenstored breaks the protocol, and then all pending and later requests
/// fail with what it returns. Dropping the driver ends the connection, too.
///
/// No two messages are given to one `write`: Linux drops what follows a message written to
/// `/dev/xen/xenbus`. A buffering writer must keep to that.
pub fn connect<R: Read, W: Write>(
    reader: R,
    writer: W,
) -> (Store, impl Future<Output = TransportError>) {
    let shared = Rc::new(Shared::default());
    let driver = drive(Ending(shared.clone()), reader, writer);
    (Store::new(shared), driver)
}

/// Ends the connection when the driver is dropped.
struct Ending(Rc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(TransportError::Dropped);
    }
}

async fn drive<R: Read, W: Write>(shared: Ending, reader: R, writer: W) -> TransportError {
    let end = pump(&shared.0, reader, writer).await;
    shared.0.end(end.clone());
    end
}

/// Moves messages in both directions until the stream ends or xenstored breaks the protocol.
pub(crate) async fn pump<R: Read, W: Write>(
    shared: &Shared,
    reader: R,
    writer: W,
) -> TransportError {
    let mut receiving = pin!(receive(shared, reader));
    let mut sending = pin!(send(shared, writer));
    // Both directions move at once: xenstored takes no requests from a client that does not take
    // its answers.
    poll_fn(|cx| match receiving.as_mut().poll(cx) {
        Poll::Ready(end) => Poll::Ready(end),
        Poll::Pending => sending.as_mut().poll(cx),
    })
    .await
}

async fn send<W: Write>(shared: &Shared, mut writer: W) -> TransportError {
    loop {
        let message = poll_fn(|cx| shared.poll_outgoing(cx)).await;
        let mut rest = &message[..];
        while !rest.is_empty() {
            match writer.write(rest).await {
                Ok(0) => return TransportError::Write("it takes no more bytes".into()),
                Ok(taken) => rest = &rest[taken..],
                Err(error) => return TransportError::Write(error.to_string()),
            }
        }
        if shared.all_sent() {
            if let Err(error) = writer.flush().await {
                return TransportError::Write(error.to_string());
            }
        }
    }
}

async fn receive<R: Read>(shared: &Shared, mut reader: R) -> TransportError {
    loop {
        if let Err(end) = receive_one(shared, &mut reader).await {
            return end;
        }
    }
}

async fn receive_one<R: Read>(shared: &Shared, reader: &mut R) -> Result<(), TransportError> {
    let mut header = Header::new_zeroed();
    if !fill(reader, header.as_mut_bytes()).await? {
        return Err(TransportError::Ended);
    }
    if header.len as usize > PAYLOAD_MAX {
        let (kind, req_id) = (header.kind, header.req_id);
        return Err(Malformed { kind, req_id, flaw: Flaw::Length(header.len) }.into());
    }
    let mut payload = vec![0; header.len as usize];
    if !fill(reader, &mut payload).await? {
        return Err(TransportError::Truncated);
    }
    Ok(shared.receive(header, payload)?)
}

/// Reads until `to` is full; false if the stream ends before its first byte.
async fn fill<R: Read>(reader: &mut R, to: &mut [u8]) -> Result<bool, TransportError> {
    let mut full = 0;
    while full < to.len() {
        match reader.read(&mut to[full..]).await {
            Ok(0) if full == 0 => return Ok(false),
            Ok(0) => return Err(TransportError::Truncated),
            Ok(count) => full += count,
            Err(error) => return Err(TransportError::Read(error.to_string())),
        }
    }
    Ok(true)
}
