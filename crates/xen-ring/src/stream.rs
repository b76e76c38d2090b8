//! Two rings in one page and an event channel, as a reader and a writer.
//!
//! For the peers that have no way to ask for an event, so that every move of an index is followed
//! by one: xenstore's ring (io/xs_wire.h) and the console's (io/console.h).

use crate::bytes::{Consumer, Corrupt, Layout, Producer};
use alloc::rc::Rc;
use embedded_io_async::{ErrorType, Read, Write};
use xen_platform::{Channel, ReadySince, SharedMem};

/// The two ends of a page, as [`split`] makes them.
pub type Ends<M, C> = (RingReader<M, C>, RingWriter<M, C>);

/// Makes the two ends of a page: `rx` is the ring the peer fills, `tx` the one it empties. Both go
/// on from the indices in the page, which need not be zero. Fails if those indices cannot be true.
pub fn split<M: SharedMem, C: Channel>(
    page: Rc<M>,
    channel: Rc<C>,
    rx: Layout,
    tx: Layout,
) -> Result<Ends<M, C>, Corrupt> {
    let events = || ReadySince::now(&channel);
    let consumer = Consumer::resume(rx, &page)?;
    let producer = Producer::resume(tx, &page)?;
    let reader =
        RingReader { consumer, events: events(), page: page.clone(), channel: channel.clone() };
    let writer = RingWriter { producer, events: events(), page, channel };
    Ok((reader, writer))
}

/// Reads what the peer writes. There is no end of file: such a ring lives as long as the domain.
pub struct RingReader<M, C> {
    page: Rc<M>,
    channel: Rc<C>,
    consumer: Consumer,
    events: ReadySince,
}

impl<M: SharedMem, C: Channel> RingReader<M, C> {
    /// Reads what is there, without waiting; 0 if there is nothing.
    pub fn try_read(&mut self, to: &mut [u8]) -> Result<usize, Corrupt> {
        let n = self.consumer.read(&self.page, &self.page, to)?;
        if n > 0 {
            self.channel.notify();
        }
        Ok(n)
    }
}

impl<M: SharedMem, C: Channel> ErrorType for RingReader<M, C> {
    type Error = Corrupt;
}

impl<M: SharedMem, C: Channel> Read for RingReader<M, C> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Corrupt> {
        loop {
            let n = self.try_read(to)?;
            if n > 0 || to.is_empty() {
                return Ok(n);
            }
            self.events.wait(&self.channel).await;
        }
    }
}

/// Writes to the peer.
pub struct RingWriter<M, C> {
    page: Rc<M>,
    channel: Rc<C>,
    producer: Producer,
    events: ReadySince,
}

impl<M: SharedMem, C: Channel> RingWriter<M, C> {
    /// Writes as much as there is space for, without waiting; 0 if there is none.
    pub fn try_write(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        let n = self.producer.write(&self.page, &self.page, from)?;
        if n > 0 {
            self.channel.notify();
        }
        Ok(n)
    }
}

impl<M: SharedMem, C: Channel> ErrorType for RingWriter<M, C> {
    type Error = Corrupt;
}

impl<M: SharedMem, C: Channel> Write for RingWriter<M, C> {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        loop {
            let n = self.try_write(from)?;
            if n > 0 || from.is_empty() {
                return Ok(n);
            }
            self.events.wait(&self.channel).await;
        }
    }

    /// Waits until the peer has taken out everything that was written.
    async fn flush(&mut self) -> Result<(), Corrupt> {
        while !self.producer.is_empty(&self.page)? {
            self.events.wait(&self.channel).await;
        }
        Ok(())
    }
}
