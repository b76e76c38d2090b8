//! A connection, and its two directions as streams.

use crate::info::{Info, Live};
use crate::link::{Departure, Link};
use crate::rings::{Places, WaitFor};
use crate::{Error, WindowSize};
use alloc::rc::Rc;
use alloc::vec::Vec;
use embedded_io_async::{ErrorType, Read, Write};
use xen_platform::Platform;
use xen_ring::Piece;

/// A vchan whose two ends have met. It is closed when it and all readers and writers of it are
/// dropped, or by [`Connection::close`].
pub struct Connection<P: Platform>(Rc<Link<P>>);

impl<P: Platform> Connection<P> {
    pub(crate) fn new(link: Rc<Link<P>>) -> Self {
        Connection(link)
    }

    /// Returns what the vchan consists of.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// The used bytes of the shared page as they were before the client announced itself: as the
    /// client found them, or as the server published them. The head and the list of grants.
    pub fn first_page(&self) -> &[u8] {
        &self.0.first_page
    }

    /// The used bytes of the shared page as they are now: its head and the list of grants. Empty
    /// once closed.
    pub fn page(&self) -> Vec<u8> {
        self.0.head()
    }

    /// True if both ends announce the end of their output ([`Writer::finish`]), so that each
    /// direction ends on its own. A peer of libxenvchan does not.
    pub fn can_half_close(&self) -> bool {
        self.0.can_half_close()
    }

    /// Returns the status that the server left when it closed ([`Connection::close_with_status`]).
    pub fn peer_status(&self) -> Option<u8> {
        self.0.status()
    }

    /// Passes the size of the client's terminal to the server. It has no effect at a server, and
    /// with one that cannot half-close. The first size goes with the connection:
    /// [`ClientConfig::window`](crate::ClientConfig::window).
    pub fn set_window(&self, size: WindowSize) {
        self.0.set_window(size);
    }

    /// Returns the size of the client's terminal, at its server: the latest one that the client has
    /// passed. A size that cannot be counts as none.
    pub fn peer_window(&self) -> Option<WindowSize> {
        self.0.peer_window()
    }

    /// Waits, at a server, until the client has passed a size of its terminal other than `known`.
    /// Stays pending once the connection is over.
    pub async fn peer_window_changed(&self, known: Option<WindowSize>) -> WindowSize {
        self.0.window_changed(known).await
    }

    /// Decides, at a server, what it means that the client leaves ([`Departure::Ends`] at first).
    /// The other two are for servers of libxenvchan's kind, whose clients come one after another to
    /// the same pages; with half-close they make no sense.
    pub fn on_departure(&self, departure: Departure) {
        self.0.set_departure(departure);
    }

    /// Returns true once the client has come; always true at the client.
    pub fn has_met(&self) -> bool {
        self.0.has_met()
    }

    /// Returns the state as the page and earlier looks have it, without asking the hypervisor.
    pub fn known_state(&self) -> Live {
        self.0.known_state()
    }

    /// Returns what was decided by [`Connection::on_departure`].
    pub fn departure(&self) -> Departure {
        self.0.departure()
    }

    /// Returns a task that looks out for the end of the peer, also while nothing else waits for it,
    /// until the connection has ended for good. For programs that only ever use what does not wait.
    pub fn watcher(&self) -> impl Future<Output = ()> + use<P> {
        let link = self.0.clone();
        async move { link.watch().await }
    }

    /// Returns the number of events of the peer so far, modulo 2^32.
    pub fn events(&self) -> u32 {
        self.0.seen()
    }

    /// Returns this end of the event channel.
    pub fn channel(&self) -> &P::Channel {
        self.0.channel()
    }

    /// Returns the addresses of the shared pages in this program, for interfaces that show them;
    /// `None` once they were given back.
    pub fn places(&self) -> Option<Places> {
        self.0.places()
    }

    /// Waits until the peer has left or died, or this end has closed the connection.
    pub async fn over(&self) {
        self.0.until_over(&mut self.0.seen()).await
    }

    /// Returns the state of the connection.
    pub fn state(&self) -> Live {
        self.0.state()
    }

    /// Sets the [busy-poll window](xen_platform::BusyPoll) of waiting functions to `looks` looks
    /// ([`BusyPoll::LOOKS`](xen_platform::BusyPoll::LOOKS) at first). A peer that answers within
    /// the window sends no event and no task is woken, which saves most of a round trip. Each look
    /// costs about a hypercall. The window grows up to 32 times while sleeps after it are shorter
    /// than 100 µs.
    pub fn busy_poll(&self, looks: u32) {
        self.0.busy_poll_looks.set(looks);
    }

    /// Has the event for what is read wait for the next write, to be sent once for both, or for the
    /// next wait, if that comes first. It is for those who answer all that they read at once, as an
    /// echo does: a peer that waits for space is woken half as often. A caller that does something
    /// else before it writes or waits must leave it off, as it is at first: the peer would sleep
    /// meanwhile.
    pub fn hold_events(&self, hold: bool) {
        self.0.holds_events.set(hold);
    }

    /// Waits until there is something to read, and returns the number of bytes; 0 at the end of the
    /// peer's output, as [`Read::read`] does.
    pub async fn readable(&self) -> Result<usize, Error<P::Error>> {
        self.0.until(&mut self.0.seen(), WaitFor::Data, |link| link.try_readable()).await
    }

    /// Sends back what has come, up to `most` bytes of it: waits until there is space for some of
    /// it, and returns the number of bytes; 0 if nothing has come ([`Connection::readable`] waits
    /// for it). `mover` moves them from ring to ring, in one piece or a few; what it leaves out
    /// reaches the peer as whatever was there before. Dropping the future loses nothing.
    pub async fn echo(
        &self,
        most: usize,
        mut mover: impl FnMut(Piece<'_>),
    ) -> Result<usize, Error<P::Error>> {
        let echo = |link: &Link<P>| link.try_echo(most, &mut mover);
        self.0.until(&mut self.0.seen(), WaitFor::Space, echo).await
    }

    /// The two directions, which may go to different tasks. Called again, it gives others of the
    /// same streams: the first reader gets the bytes.
    pub fn split(&self) -> (Reader<P>, Writer<P>) {
        let seen = self.0.seen();
        (Reader { link: self.0.clone(), seen }, Writer { link: self.0.clone(), seen })
    }

    /// Ends the connection in good order: tells the peer that the output is complete, and gives the
    /// pages back; a server also removes its keys. Readers and writers that wait, or are used
    /// later, get [`Error::Closed`].
    ///
    /// A connection that is dropped instead ends as by [`Connection::abort`].
    ///
    /// The peer can still read what was written before; [`Writer::drained`] waits until it has.
    /// Fails if xenstore does not let the keys be removed; the connection is closed all the same.
    pub async fn close(self) -> Result<(), Error<P::Error>> {
        self.0.close(None).await
    }

    /// Ends the connection without announcing the end of the output: a peer that can half-close
    /// gets [`Error::Died`] behind what was written, unless [`Writer::finish`] came before. A
    /// server also removes its keys.
    pub async fn abort(self) -> Result<(), Error<P::Error>> {
        self.0.abort().await
    }

    /// Ends the connection as [`Connection::close`] does, and leaves a status for the client, which
    /// [`Connection::peer_status`] returns there if both ends can half-close.
    pub async fn close_with_status(self, status: u8) -> Result<(), Error<P::Error>> {
        self.0.close(Some(status)).await
    }
}

/// The bytes that come from the peer.
pub struct Reader<P: Platform> {
    link: Rc<Link<P>>,
    seen: u32,
}

impl<P: Platform> Reader<P> {
    /// Reads without waiting: `None` if the ring is empty, `Some(0)` if the peer's output has ended
    /// and everything was read (or `to` is empty).
    #[inline]
    pub fn try_read(&mut self, to: &mut [u8]) -> Result<Option<usize>, Error<P::Error>> {
        self.link.try_read(to)
    }

    /// Reads a packet: waits until as many bytes are there as `to` holds, and reads them. A vchan
    /// knows no borders between packets; both ends must agree on the size, or send it first.
    ///
    /// Fails with [`ConfigError::PacketTooLarge`](crate::ConfigError::PacketTooLarge) if the ring
    /// never holds so much; with [`Error::Closed`] or [`Error::Died`] if the peer has ended and
    /// less is left, which [`Read::read`] still gives. Dropping the future loses nothing.
    pub async fn recv(&mut self, to: &mut [u8]) -> Result<(), Error<P::Error>> {
        self.link.until(&mut self.seen, WaitFor::Data, |link| link.try_recv(to)).await
    }

    /// As [`Reader::recv`], without waiting: `None`, and nothing was read, if not all of it is
    /// there yet.
    #[inline]
    pub fn try_recv(&mut self, to: &mut [u8]) -> Result<Option<()>, Error<P::Error>> {
        self.link.try_recv(to)
    }

    /// Returns the number of bytes to read now, and asks the peer for an event when it writes more:
    /// see [`Reader::next_event`].
    pub fn data_ready(&mut self) -> Result<usize, Error<P::Error>> {
        self.seen = self.link.seen();
        self.link.data_ready()
    }

    /// Waits for an event of the peer since the last wait or [`Reader::data_ready`], or for the end
    /// of the connection. May come without cause, so look again.
    ///
    /// The peer sends an event only if it was asked for one, as [`Reader::data_ready`] does: first
    /// ask and look, then wait.
    pub async fn next_event(&mut self) {
        self.link.next_event(&mut self.seen).await
    }
}

impl<P: Platform> ErrorType for Reader<P> {
    type Error = Error<P::Error>;
}

impl<P: Platform> Read for Reader<P> {
    /// Waits until there is something to read. 0 means that the peer has finished its output or
    /// closed the connection, and everything it wrote was read. A peer that died without closing it
    /// is [`Error::Died`], after everything it wrote. Dropping the future loses nothing.
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Self::Error> {
        self.link.until(&mut self.seen, WaitFor::Data, |link| link.try_read(to)).await
    }
}

/// The bytes that go to the peer.
pub struct Writer<P: Platform> {
    link: Rc<Link<P>>,
    seen: u32,
}

impl<P: Platform> Writer<P> {
    /// Writes as much as there is space for, without waiting; `None` if there is none.
    #[inline]
    pub fn try_write(&mut self, from: &[u8]) -> Result<Option<usize>, Error<P::Error>> {
        self.link.try_write(from)
    }

    /// Writes a packet: waits until there is space for all of it, and writes it at once, so that
    /// the peer never finds a part of it.
    ///
    /// Fails with [`ConfigError::PacketTooLarge`](crate::ConfigError::PacketTooLarge) if the ring
    /// never holds so much. Dropping the future before it is ready has written nothing.
    pub async fn send(&mut self, from: &[u8]) -> Result<(), Error<P::Error>> {
        self.link.until(&mut self.seen, WaitFor::Space, |link| link.try_send(from)).await
    }

    /// As [`Writer::send`], without waiting: `None`, and nothing was written, if there is no space
    /// for all of it.
    #[inline]
    pub fn try_send(&mut self, from: &[u8]) -> Result<Option<()>, Error<P::Error>> {
        self.link.try_send(from)
    }

    /// Returns the number of bytes of space now, and asks the peer for an event when it reads some:
    /// see [`Writer::next_event`].
    pub fn space(&mut self) -> Result<usize, Error<P::Error>> {
        self.seen = self.link.seen();
        self.link.space()
    }

    /// Waits for an event of the peer, as [`Reader::next_event`] does; [`Writer::space`] asks for
    /// it.
    pub async fn next_event(&mut self) {
        self.link.next_event(&mut self.seen).await
    }

    /// Announces that the output is complete: the peer's reads return 0 once it has read
    /// everything. Later writes fail with [`Error::Closed`]; this end can go on reading. A peer
    /// that cannot half-close ([`Connection::can_half_close`]) learns of it only by the close.
    pub fn finish(&mut self) -> Result<(), Error<P::Error>> {
        self.link.finish()
    }

    /// Waits until the peer has read everything, and has seen the end of the output where
    /// [`Writer::finish`] announced it. Fails if the peer leaves or dies before that.
    pub async fn drained(&mut self) -> Result<(), Error<P::Error>> {
        self.link.until(&mut self.seen, WaitFor::Space, |link| link.try_drained()).await
    }

    /// Waits until the peer has read everything *and* has waited for more since then. Of a peer
    /// that looks for more only when it is done with what it has read, as a loop of `read`, work
    /// and `write` does, this says that it is done: what it had to answer is in the ring by then.
    /// Somebody must read the answers meanwhile, or the peer never gets there.
    ///
    /// It takes at least the time of one pause, 1 ms. Fails if the peer leaves or dies before it
    /// waits. What another writer of the same connection writes meanwhile may be waited for or not.
    pub async fn settled(&mut self) -> Result<(), Error<P::Error>> {
        self.link.settled(&mut self.seen).await
    }

    /// Returns the number of bytes that the peer has not read, also once it has left.
    pub fn unread(&mut self) -> Result<usize, Error<P::Error>> {
        self.link.unread()
    }

    /// Returns true if the peer has read everything and has asked for more. It may have asked
    /// before it read, and still be at work: see [`Writer::settled`].
    pub fn idle(&mut self) -> Result<bool, Error<P::Error>> {
        self.link.is_idle()
    }
}

impl<P: Platform> ErrorType for Writer<P> {
    type Error = Error<P::Error>;
}

impl<P: Platform> Write for Writer<P> {
    /// Waits until there is space for at least one byte, and writes as many as there is space for.
    /// Dropping the future before it is ready has written nothing.
    async fn write(&mut self, from: &[u8]) -> Result<usize, Self::Error> {
        self.link.until(&mut self.seen, WaitFor::Space, |link| link.try_write(from)).await
    }

    /// Does nothing: what was written is in the ring already, and the peer knows. See
    /// [`Writer::drained`].
    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
