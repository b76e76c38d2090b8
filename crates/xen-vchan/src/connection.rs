//! A connection, and its two directions as streams.

use crate::Error;
use crate::info::{Info, Live};
use crate::link::Link;
use crate::rings::Wish;
use alloc::rc::Rc;
use alloc::vec::Vec;
use embedded_io_async::{ErrorType, Read, Write};
use xen_platform::Platform;

/// A vchan whose two ends have met. It is closed when it and all readers and writers of it are dropped, or by
/// [`Connection::close`].
pub struct Connection<P: Platform>(Rc<Link<P>>);

impl<P: Platform> Connection<P> {
    pub(crate) fn new(link: Rc<Link<P>>) -> Self {
        Connection(link)
    }

    /// What the vchan consists of.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// The used bytes of the shared page as they were before the client announced itself: as the client found them, or
    /// as the server published them. The head and the list of grants.
    pub fn first_page(&self) -> &[u8] {
        &self.0.first_page
    }

    /// The used bytes of the shared page as they are now: its head and the list of grants. Empty once closed.
    pub fn page(&self) -> Vec<u8> {
        self.0.head()
    }

    /// How the connection stands now.
    pub fn state(&self) -> Live {
        self.0.state()
    }

    /// Has waiting functions [pause](xen_platform::pause) and look again so many times (8 at first) before they ask the
    /// peer for an event and sleep. A peer that answers meanwhile sends no event, and nobody is woken, which is what most
    /// of a round trip consists of: on a shared processor it runs during the first pause, and on one of its own it may
    /// answer within the time that the pauses take. Each pause costs about a hypercall.
    pub fn look_again(&self, times: u32) {
        self.0.relooks.set(times);
    }

    /// Has the event for what is read wait for the next write, to be sent once for both, or for the next wait, if that comes
    /// first. It is for those who answer all that they read at once, as an echo does: a peer that waits for space is woken
    /// half as often. Who does something else before it writes or waits must leave it off, as it is at first: the peer
    /// would sleep meanwhile.
    pub fn hold_events(&self, hold: bool) {
        self.0.holds_events.set(hold);
    }

    /// The two directions, which may go to different tasks. Called again, it gives others of the same streams: whoever
    /// reads first gets the bytes.
    pub fn split(&self) -> (Reader<P>, Writer<P>) {
        let seen = self.0.seen();
        (Reader { link: self.0.clone(), seen }, Writer { link: self.0.clone(), seen })
    }

    /// Ends the connection: tells the peer and gives the pages back; a server also removes its keys. Readers and writers
    /// that wait, or are used later, get [`Error::Closed`].
    ///
    /// The peer can still read what was written before; [`Writer::drained`] waits until it has. Fails if xenstore does not
    /// let the keys be removed; the connection is closed all the same.
    pub async fn close(self) -> Result<(), Error<P::Error>> {
        self.0.close().await
    }
}

/// The bytes that come from the peer.
pub struct Reader<P: Platform> {
    link: Rc<Link<P>>,
    seen: u32,
}

impl<P: Platform> Reader<P> {
    /// Reads what is there, without waiting: `None` if there is nothing yet, `Some(0)` if the peer has left and
    /// everything was read (or `to` is empty).
    #[inline]
    pub fn try_read(&mut self, to: &mut [u8]) -> Result<Option<usize>, Error<P::Error>> {
        self.link.try_read(to)
    }

    /// Reads a packet: waits until as many bytes are there as `to` holds, and reads them. A vchan knows no borders
    /// between packets; both ends must agree on the size, or send it first.
    ///
    /// Fails with [`ConfigError::PacketTooLarge`](crate::ConfigError::PacketTooLarge) if the ring never holds so much;
    /// with [`Error::Closed`] or [`Error::Died`] if the peer has ended and less is left, which [`Read::read`] still
    /// gives. Dropping the future loses nothing.
    pub async fn recv(&mut self, to: &mut [u8]) -> Result<(), Error<P::Error>> {
        self.link.until(&mut self.seen, Wish::Data, |link| link.try_recv(to)).await
    }

    /// As [`Reader::recv`], without waiting: `None`, and nothing was read, if not all of it is there yet.
    #[inline]
    pub fn try_recv(&mut self, to: &mut [u8]) -> Result<Option<()>, Error<P::Error>> {
        self.link.try_recv(to)
    }

    /// How many bytes can be read now. Also asks the peer for an event when it writes more: see [`Reader::news`].
    pub fn data_ready(&mut self) -> Result<usize, Error<P::Error>> {
        self.seen = self.link.seen();
        self.link.data_ready()
    }

    /// Waits for an event of the peer since the last wait or [`Reader::data_ready`], or for the end of the connection.
    /// May come without cause, so look again.
    ///
    /// The peer sends an event only if it was asked for one, as [`Reader::data_ready`] does: first ask and look, then
    /// wait.
    pub async fn news(&mut self) {
        self.link.news(&mut self.seen).await
    }
}

impl<P: Platform> ErrorType for Reader<P> {
    type Error = Error<P::Error>;
}

impl<P: Platform> Read for Reader<P> {
    /// Waits until there is something to read. 0 means that the peer has closed the connection and everything it wrote
    /// was read. A peer that died without closing it is [`Error::Died`], after everything it wrote. Dropping the future
    /// loses nothing.
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Self::Error> {
        self.link.until(&mut self.seen, Wish::Data, |link| link.try_read(to)).await
    }
}

/// The bytes that go to the peer.
pub struct Writer<P: Platform> {
    link: Rc<Link<P>>,
    seen: u32,
}

impl<P: Platform> Writer<P> {
    /// Writes what there is space for, without waiting; `None` if there is none.
    #[inline]
    pub fn try_write(&mut self, from: &[u8]) -> Result<Option<usize>, Error<P::Error>> {
        self.link.try_write(from)
    }

    /// Writes a packet: waits until there is space for all of it, and writes it at once, so that the peer never finds a
    /// part of it.
    ///
    /// Fails with [`ConfigError::PacketTooLarge`](crate::ConfigError::PacketTooLarge) if the ring never holds so much.
    /// Dropping the future before it is ready has written nothing.
    pub async fn send(&mut self, from: &[u8]) -> Result<(), Error<P::Error>> {
        self.link.until(&mut self.seen, Wish::Space, |link| link.try_send(from)).await
    }

    /// As [`Writer::send`], without waiting: `None`, and nothing was written, if there is no space for all of it.
    #[inline]
    pub fn try_send(&mut self, from: &[u8]) -> Result<Option<()>, Error<P::Error>> {
        self.link.try_send(from)
    }

    /// How many bytes can be written now. Also asks the peer for an event when it reads some: see [`Writer::news`].
    pub fn space(&mut self) -> Result<usize, Error<P::Error>> {
        self.seen = self.link.seen();
        self.link.space()
    }

    /// Waits for an event of the peer, as [`Reader::news`] does; [`Writer::space`] asks for it.
    pub async fn news(&mut self) {
        self.link.news(&mut self.seen).await
    }

    /// Waits until the peer has read everything. Fails if it leaves or dies before that.
    pub async fn drained(&mut self) -> Result<(), Error<P::Error>> {
        self.link.until(&mut self.seen, Wish::Space, |link| link.try_drained()).await
    }

    /// Waits until the peer has read everything *and* has waited for more since then. Of a peer that looks for more only
    /// when it is done with what it has read, as a loop of `read`, work and `write` does, this says that it is done: what
    /// it had to answer is in the ring by then. Somebody must read the answers meanwhile, or the peer never gets there.
    ///
    /// It takes at least the time of one pause, 1 ms. Fails if the peer leaves or dies before it waits. What another
    /// writer of the same connection writes meanwhile may be waited for or not.
    pub async fn settled(&mut self) -> Result<(), Error<P::Error>> {
        self.link.settled(&mut self.seen).await
    }

    /// Whether the peer has read everything and has asked for more. It may have asked before it read, and still be at
    /// work: see [`Writer::settled`].
    pub fn idle(&mut self) -> Result<bool, Error<P::Error>> {
        self.link.is_idle()
    }
}

impl<P: Platform> ErrorType for Writer<P> {
    type Error = Error<P::Error>;
}

impl<P: Platform> Write for Writer<P> {
    /// Waits until there is space for at least one byte, and writes as many as there is space for. Dropping the future
    /// before it is ready has written nothing.
    async fn write(&mut self, from: &[u8]) -> Result<usize, Self::Error> {
        self.link.until(&mut self.seen, Wish::Space, |link| link.try_write(from)).await
    }

    /// Does nothing: what was written is in the ring already, and the peer knows. See [`Writer::drained`].
    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
