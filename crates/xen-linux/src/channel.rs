//! Event channels over `/dev/xen/evtchn`.

use crate::liveness::Liveness;
use crate::reactor::Source;
use crate::{Error, Linux, error, sys};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use xen_platform::{Channel, DomId, EventCounter, GrantRef, Port};

/// One port, alone on a descriptor of its own: closing that closes the port.
///
/// [`Channel::is_bound`] tells that only to a program that may make hypercalls
/// (`/dev/xen/privcmd`), as root may in dom0. To others it tells whether the peer's domain is
/// there.
pub struct LinuxChannel {
    linux: Linux,
    peer: DomId,
    /// A page of the peer's that goes when it goes.
    page: Cell<Option<GrantRef>>,
    bound: Rc<Bound>,
}

struct Bound {
    fd: OwnedFd,
    port: Port,
    events: EventCounter,
    /// It fired, and is silent until it is written back to the device.
    masked: Cell<bool>,
}

impl Bound {
    fn new(fd: OwnedFd, port: Port) -> Rc<Self> {
        Rc::new(Bound { fd, port, events: EventCounter::new(), masked: Cell::new(false) })
    }
}

impl LinuxChannel {
    /// Opens a port that only `peer` may bind to.
    pub(crate) fn listen(linux: &Linux, peer: DomId) -> Result<Self, Error> {
        Self::bind(linux, peer, |fd| {
            sys::bind_unbound(fd, peer).map_err(|reason| error::listen(peer, reason))
        })
    }

    /// Binds to the port `remote` of `peer`.
    pub(crate) fn connect(linux: &Linux, peer: DomId, remote: Port) -> Result<Self, Error> {
        Self::bind(linux, peer, |fd| {
            sys::bind_interdomain(fd, peer, remote)
                .map_err(|reason| error::connect(peer, remote, reason))
        })
    }

    fn bind(
        linux: &Linux,
        peer: DomId,
        bind: impl FnOnce(&OwnedFd) -> Result<Port, Error>,
    ) -> Result<Self, Error> {
        let fd = linux.open("evtchn", "xen-evtchn")?;
        let port = bind(&fd)?;
        // A program that comes by the descriptor reaches no other domain with it; where that is not
        // possible it works as well.
        let _ = sys::restrict(&fd, peer);
        Ok(Self::watched(linux, peer, Bound::new(fd, port)))
    }

    fn watched(linux: &Linux, peer: DomId, bound: Rc<Bound>) -> Self {
        let source: Weak<dyn Source> = Rc::downgrade(&(bound.clone() as Rc<dyn Source>));
        linux.reactor().watch(source);
        LinuxChannel { linux: linux.clone(), peer, page: Cell::default(), bound }
    }

    /// The peer's end is there for as long as this page of the peer's is.
    pub(crate) fn depends_on(&self, page: GrantRef) {
        self.page.set(Some(page));
    }
}

impl std::os::fd::AsFd for LinuxChannel {
    /// The descriptor of `/dev/xen/evtchn` that has this port alone, to send events by or to copy.
    /// Events that come are for the platform to read.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        sys::borrowed(&self.bound.fd)
    }
}

impl Source for Bound {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes the port back, if it fired, which unmasks it: only when somebody is going to wait for
    /// it. What the peer sent meanwhile is one event then, where each would have interrupted this
    /// domain.
    fn arm(&self) {
        if self.masked.take() {
            let unmasked = sys::write(&self.fd, &self.port.0.to_ne_bytes());
            assert!(unmasked == Ok(size_of::<u32>()), "unmasking port {}: {unmasked:?}", self.port);
        }
    }

    /// Takes the ports that fired (there is only one) out of the device, and counts. Xen's pending
    /// bit is long cleared then, so that an event that comes before the tasks look is a new one.
    fn ready(&self) {
        match sys::read(&self.fd, &mut [0u8; 64]) {
            Ok(_) => {}
            // It is ready at the next look, too.
            Err(Errno::AGAIN | Errno::INTR) => return,
            // Only a full buffer, which one port cannot bring about, makes the device fail.
            Err(errno) => panic!("reading events of port {}: {errno}", self.port),
        }
        self.masked.set(true);
        self.events.signal();
    }
}

impl Channel for LinuxChannel {
    fn port(&self) -> Port {
        self.bound.port
    }

    fn notify(&self) {
        // The request fails only for a port that is not this descriptor's; a peer that is gone is
        // no error.
        let sent = sys::notify(&self.bound.fd, self.bound.port);
        debug_assert!(sent.is_ok(), "notify of port {}: {sent:?}", self.bound.port);
    }

    fn seen(&self) -> u32 {
        self.bound.events.count()
    }

    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.bound.events.poll_after(seen, cx)
    }

    fn is_bound(&self) -> bool {
        let liveness = Liveness { peer: self.peer, page: self.page.get() };
        liveness.is_there(&self.linux, self.bound.port, &self.bound.fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use xen_exec::Turn;

    /// A channel on one end of a socket pair, whose other end plays the device.
    fn on_a_socket(linux: &Linux) -> (LinuxChannel, UnixStream) {
        let (ours, device) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (LinuxChannel::watched(linux, DomId(2), Bound::new(sys::owned(ours), Port(71))), device)
    }

    #[test]
    fn events_are_counted_and_their_port_is_written_back_before_the_next_wait() {
        let linux = Linux::new();
        let (channel, mut device) = on_a_socket(&linux);
        device.write_all(&71u32.to_ne_bytes()).unwrap();
        linux.reactor().turn(Turn::Busy);
        assert_eq!(channel.seen(), 0, "a task that can move is not held up by a look");
        linux.reactor().turn(Turn::Idle);
        assert_eq!(channel.seen(), 1);
        let mut unmasked = [0; 4];
        device.set_nonblocking(true).unwrap();
        assert!(device.read(&mut unmasked).is_err());
        device.set_nonblocking(false).unwrap();
        // In the end busy tasks hear of events, too.
        (0..16).for_each(|_| linux.reactor().turn(Turn::Busy));
        device.read_exact(&mut unmasked).unwrap();
        assert_eq!(u32::from_ne_bytes(unmasked), 71);
    }

    #[test]
    fn two_tasks_are_both_woken_by_one_event() {
        let linux = Linux::new();
        let (channel, mut device) = on_a_socket(&linux);
        let channel = Rc::new(channel);
        let other = channel.clone();
        linux.run(|spawner| async move {
            let waiting = spawner
                .spawn(async move { xen_platform::ReadySince::now(&other).wait(&other).await });
            xen_exec::yield_now().await;
            device.write_all(&71u32.to_ne_bytes()).unwrap();
            xen_platform::ReadySince::now(&channel).wait(&channel).await;
            waiting.join().await;
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_closed_channel_is_not_polled_any_more() {
        let linux = Linux::new();
        drop(on_a_socket(&linux));
        linux.reactor().turn(Turn::Idle);
    }

    /// The pattern of an echo: an event says that a ring's worth of bytes is there, which goes to
    /// standard output while the next is sent. What Xen needs is beside that: one notification for
    /// each direction.
    #[test]
    fn a_ring_full_of_bytes_costs_few_system_calls() {
        const ROUNDS: usize = 100;
        const RING: usize = 8 * 1024;
        let linux = Linux::new();
        let (channel, mut device) = on_a_socket(&linux);
        let mut input =
            crate::Input::new(&linux, std::fs::File::open("/dev/zero").unwrap()).unwrap();
        let mut output =
            crate::Output::new(&linux, std::fs::File::create("/dev/null").unwrap()).unwrap();
        let before = sys::calls();
        linux.run(|_| async move {
            let mut events = xen_platform::ReadySince::now(&channel);
            let mut chunk = vec![0; 64 * 1024];
            let mut at = chunk.len();
            for _ in 0..ROUNDS {
                device.write_all(&71u32.to_ne_bytes()).unwrap();
                events.wait(&channel).await;
                if at == chunk.len() {
                    at = 0;
                    embedded_io_async::Read::read_exact(&mut input, &mut chunk).await.unwrap();
                }
                embedded_io_async::Write::write_all(&mut output, &chunk[at..at + RING])
                    .await
                    .unwrap();
                at += RING;
                // As the relay does after each piece, and each of its two directions before it
                // sleeps.
                xen_exec::yield_now().await;
                xen_exec::yield_now().await;
            }
        });
        // poll, read and write back of the port, one write, and a read for each eight rings.
        let calls = sys::calls() - before;
        assert!(
            calls <= ROUNDS * 4 + ROUNDS / 8 + ROUNDS / 4,
            "{calls} system calls in {ROUNDS} rounds"
        );
    }
}
