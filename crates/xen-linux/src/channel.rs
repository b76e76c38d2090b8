//! Event channels over `/dev/xen/evtchn`.

use crate::reactor::Source;
use crate::{Error, Linux, error, sys};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use xen_platform::{Channel, DomId, EventCounter, Port};

/// One port, alone on a descriptor of its own: closing that closes the port.
///
/// [`Channel::is_bound`] is always true here: the device has no request that tells, and a peer that is gone is known
/// from xenstore (`@releaseDomain`) and from what it left in shared memory.
pub struct LinuxChannel(Rc<Bound>);

struct Bound {
    fd: OwnedFd,
    port: Port,
    events: EventCounter,
}

impl LinuxChannel {
    /// Opens a port that only `peer` may bind to.
    pub(crate) fn listen(linux: &Linux, peer: DomId) -> Result<Self, Error> {
        Self::bind(linux, |fd| sys::bind_unbound(fd, peer).map_err(|reason| error::listen(peer, reason)))
    }

    /// Binds to the port `remote` of `peer`.
    pub(crate) fn connect(linux: &Linux, peer: DomId, remote: Port) -> Result<Self, Error> {
        Self::bind(linux, |fd| {
            sys::bind_interdomain(fd, peer, remote).map_err(|reason| error::connect(peer, remote, reason))
        })
    }

    fn bind(linux: &Linux, bind: impl FnOnce(&OwnedFd) -> Result<Port, Error>) -> Result<Self, Error> {
        let fd = linux.open("evtchn", "xen-evtchn")?;
        let port = bind(&fd)?;
        let bound = Rc::new(Bound { fd, port, events: EventCounter::new() });
        let source: Weak<dyn Source> = Rc::downgrade(&(bound.clone() as Rc<dyn Source>));
        linux.reactor().watch(source);
        Ok(LinuxChannel(bound))
    }
}

impl Source for Bound {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes the ports that fired (there is only one) out of the device, counts, and writes them back, which unmasks
    /// them. Xen's pending bit is long cleared then, so that an event that comes before the tasks look is a new one.
    fn ready(&self) {
        let mut ports = [0u8; 64];
        let bytes = loop {
            match rustix::io::read(&self.fd, &mut ports) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Ok(bytes) => break bytes,
                // Only a full buffer, which one port cannot bring about, makes the device fail.
                Err(errno) => panic!("reading events of port {}: {errno}", self.port),
            }
        };
        self.events.signal();
        let unmasked = rustix::io::write(&self.fd, &ports[..bytes]);
        assert!(unmasked == Ok(bytes), "unmasking port {}: {unmasked:?}", self.port);
    }
}

impl Channel for LinuxChannel {
    fn port(&self) -> Port {
        self.0.port
    }

    fn notify(&self) {
        // The request fails only for a port that is not this descriptor's; a peer that is gone is no error.
        let sent = sys::notify(&self.0.fd, self.0.port);
        debug_assert!(sent.is_ok(), "notify of port {}: {sent:?}", self.0.port);
    }

    fn seen(&self) -> u32 {
        self.0.events.count()
    }

    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.0.events.poll_after(seen, cx)
    }

    fn is_bound(&self) -> bool {
        true
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
        let bound = Rc::new(Bound { fd: sys::owned(ours), port: Port(71), events: EventCounter::new() });
        let source: Rc<dyn Source> = bound.clone();
        linux.reactor().watch(Rc::downgrade(&source));
        (LinuxChannel(bound), device)
    }

    #[test]
    fn events_are_counted_and_their_port_is_written_back() {
        let linux = Linux::new();
        let (channel, mut device) = on_a_socket(&linux);
        linux.reactor().turn(Turn::Busy);
        assert_eq!(channel.seen(), 0);
        device.write_all(&71u32.to_ne_bytes()).unwrap();
        linux.reactor().turn(Turn::Idle);
        assert_eq!(channel.seen(), 1);
        let mut unmasked = [0; 4];
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
            let waiting = spawner.spawn(async move { xen_platform::ReadySince::now(&other).wait(&other).await });
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
}
