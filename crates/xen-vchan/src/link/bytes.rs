//! Moving bytes, without waiting.

use super::{End, Failure, Link};
use crate::info::Role;
use crate::rings::{Rings, WaitFor};
use crate::{ConfigError, Error, PeerError};
use xen_platform::{Channel, Platform};
use xen_ring::Piece;

/// Takes bytes out of a ring, or looks: returns their number, and what the peer got by it.
trait Take<P: Platform>: FnMut(&mut Rings<P>) -> Result<(usize, Option<WaitFor>), PeerError> {}

impl<P: Platform, F> Take<P> for F where
    F: FnMut(&mut Rings<P>) -> Result<(usize, Option<WaitFor>), PeerError>
{
}

impl<P: Platform> Link<P> {
    /// Reads without waiting: `None` if the ring is empty, `Some(0)` if the peer's output has ended
    /// and all of it was read.
    pub fn try_read(&self, to: &mut [u8]) -> Result<Option<usize>, Failure<P>> {
        if to.is_empty() {
            return self.with_rings(|_| Ok((Some(0), None)));
        }
        self.try_take(|rings| rings.read(to))
    }

    /// Returns the number of bytes to read now: `None` if the ring is empty, `Some(0)` if the
    /// peer's output has ended and all of it was read.
    pub fn try_readable(&self) -> Result<Option<usize>, Failure<P>> {
        self.try_take(|rings| Ok((rings.available()?, None)))
    }

    /// Takes bytes from the peer by `take`, which returns 0 if there are none.
    #[inline(always)]
    fn try_take(&self, mut take: impl Take<P>) -> Result<Option<usize>, Failure<P>> {
        let n = self.with_rings(&mut take)?;
        if n > 0 {
            return Ok(Some(n));
        }
        if self.is_up() && !self.peer_finished() {
            return Ok(None);
        }
        self.try_take_last(&mut take)
    }

    /// As [`Link::try_take`], of a ring that was empty, if the peer may write no more.
    #[cold]
    fn try_take_last(&self, take: &mut dyn Take<P>) -> Result<Option<usize>, Failure<P>> {
        let finished = self.peer_finished();
        if self.look().is_none() && !finished {
            return Ok(None);
        }
        // The bytes that the peer wrote before it ended are visible by now.
        let n = self.with_rings(take)?;
        match self.look() {
            _ if n > 0 => Ok(Some(n)),
            Some(End::Died) if !finished => Err(Error::Died(self.info.peer)),
            _ => {
                self.acknowledge_finish()?;
                Ok(Some(0))
            }
        }
    }

    /// Has up to `most` bytes of what has come moved back to the peer by `mover`; `None` if
    /// something has come and there is no space.
    pub fn try_echo(
        &self,
        most: usize,
        mover: &mut dyn FnMut(Piece<'_>),
    ) -> Result<Option<usize>, Failure<P>> {
        self.check_writable()?;
        self.with_rings(|rings| {
            let (n, got) = rings.transfer(most, mover)?;
            if n > 0 {
                // One event stands for both.
                self.owes_event.set(true);
            }
            Ok(((n > 0 || most == 0 || rings.available()? == 0).then_some(n), got))
        })
    }

    /// Fills `to`, or reads nothing: `None` as long as the peer may still write what is missing.
    pub fn try_recv(&self, to: &mut [u8]) -> Result<Option<()>, Failure<P>> {
        self.check_packet(self.info.role.other(), to.len())?;
        if self.with_rings(|rings| rings.recv(to))? {
            return Ok(Some(()));
        }
        let finished = self.peer_finished();
        if self.look().is_none() && !finished {
            return Ok(None);
        }
        // The bytes that the peer wrote before it ended are visible by now.
        if self.with_rings(|rings| rings.recv(to))? {
            return Ok(Some(()));
        }
        self.check_open()?;
        Err(Error::Closed)
    }

    /// Writes as much of `from` as there is space for; `None` if there is none.
    pub fn try_write(&self, from: &[u8]) -> Result<Option<usize>, Failure<P>> {
        self.check_writable()?;
        let n = self.with_rings(|rings| rings.write(from))?;
        Ok((n > 0 || from.is_empty()).then_some(n))
    }

    /// Writes all of `from`, or nothing: `None` if there is no space for it.
    pub fn try_send(&self, from: &[u8]) -> Result<Option<()>, Failure<P>> {
        self.check_packet(self.info.role, from.len())?;
        self.check_writable()?;
        Ok(self.with_rings(|rings| rings.send(from))?.then_some(()))
    }

    /// Announces the end of this end's output, if both ends do so.
    pub fn finish(&self) -> Result<(), Failure<P>> {
        self.check_open()?;
        self.finished.set(true);
        if self.half_close.get() {
            self.with_rings(|rings| Ok(((), Some(rings.finish()))))?;
        }
        Ok(())
    }

    /// Tells the peer that all of its output was taken, its end included.
    fn acknowledge_finish(&self) -> Result<(), Failure<P>> {
        match self.half_close.get() && self.is_up() {
            true => self.with_rings(|rings| Ok(((), rings.acknowledge_finish()))),
            false => Ok(()),
        }
    }

    /// Checks that a packet written by `by` fits its ring.
    fn check_packet(&self, by: Role, len: usize) -> Result<(), ConfigError> {
        let side = by.writes();
        let max = side.order(self.info.orders).bytes() as usize;
        if len > max { Err(ConfigError::PacketTooLarge { len, side, max }) } else { Ok(()) }
    }

    /// Asks for an event when the peer writes, and returns the number of bytes to read now.
    pub fn data_ready(&self) -> Result<usize, Failure<P>> {
        self.with_rings(|rings| {
            rings.arm(WaitFor::Data);
            Ok((rings.available()?, None))
        })
    }

    /// Asks for an event when the peer reads, and returns the number of bytes of space now.
    pub fn space(&self) -> Result<usize, Failure<P>> {
        self.check_writable()?;
        self.with_rings(|rings| {
            rings.arm(WaitFor::Space);
            Ok((rings.space()?, None))
        })
    }

    /// Returns the number of bytes that the peer has not read.
    pub fn unread(&self) -> Result<usize, Failure<P>> {
        let ring = self.info.role.writes().order(self.info.orders).bytes() as usize;
        self.with_rings(|rings| Ok((ring - rings.space()?, None)))
    }

    /// True if the peer has read everything, and has seen the end of the output if it was
    /// announced.
    pub fn is_drained(&self) -> Result<bool, Failure<P>> {
        let announced = self.finished.get() && self.half_close.get();
        self.with_rings(|rings| {
            Ok((rings.is_drained()? && (!announced || rings.peer_saw_finish()), None))
        })
    }

    /// Ready once the peer has read everything.
    pub fn try_drained(&self) -> Result<Option<()>, Failure<P>> {
        if self.is_drained()? {
            return Ok(Some(()));
        }
        self.check_open()?;
        Ok(None)
    }

    /// True if the peer has read everything and waits for more.
    pub fn is_idle(&self) -> Result<bool, Failure<P>> {
        self.check_open()?;
        self.with_rings(|rings| Ok((rings.is_drained()? && rings.peer_awaits_data(), None)))
    }

    /// Does something with the rings. If it returns what the peer got by it, the event is sent that
    /// the peer may have asked for.
    #[inline(always)]
    pub(super) fn with_rings<T>(
        &self,
        action: impl FnOnce(&mut Rings<P>) -> Result<(T, Option<WaitFor>), PeerError>,
    ) -> Result<T, Failure<P>> {
        let mut rings = self.rings.borrow_mut();
        let Some(rings_now) = &mut *rings else { return Err(self.why_closed()) };
        match action(rings_now) {
            Ok((value, None)) => Ok(value),
            Ok((value, Some(WaitFor::Space))) if self.holds_events.get() => {
                self.owes_event.set(true);
                Ok(value)
            }
            Ok((value, Some(got))) => {
                self.notify_peer(rings_now, got.bit());
                Ok(value)
            }
            Err(error) => {
                drop(rings);
                Err(self.blame(error))
            }
        }
    }

    /// Sends the event if the peer asked for one by these bits, or by that of what was read before.
    #[inline(always)]
    fn notify_peer(&self, rings: &Rings<P>, bits: u8) {
        let held = if self.owes_event.take() { WaitFor::Space.bit() } else { 0 };
        if rings.take_peer_request(bits | held) {
            self.channel.notify();
        }
    }

    /// Sends the event that was held back for a write which did not come.
    #[inline(always)]
    pub(super) fn send_held_event(&self) {
        if self.owes_event.get() {
            if let Some(rings) = &*self.rings.borrow() {
                self.notify_peer(rings, 0);
            }
        }
    }
}
