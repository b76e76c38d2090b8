//! What an end does without waiting: bytes in and out, and looks at how things stand.

use super::{End, Failure, Link};
use crate::info::Role;
use crate::rings::Wish;
use crate::{ConfigError, Error, PeerError};
use xen_abi::vchan;
use xen_platform::Platform;

impl<P: Platform> Link<P> {
    /// Reads what is there: `None` if that is nothing yet, `Some(0)` if the peer has left and nothing will come.
    pub fn try_read(&self, to: &mut [u8]) -> Result<Option<usize>, Failure<P>> {
        let n = self.attempt(|rings| rings.read(to))?;
        if n > 0 || to.is_empty() {
            return Ok(Some(n));
        }
        if self.is_up() {
            return Ok(None);
        }
        self.try_read_last(to)
    }

    /// As [`Link::try_read`], of a ring that was empty, if the peer does not say that it is there.
    #[cold]
    fn try_read_last(&self, to: &mut [u8]) -> Result<Option<usize>, Failure<P>> {
        if self.look().is_none() {
            return Ok(None);
        }
        // What the peer wrote before it ended is to be seen by now.
        match (self.attempt(|rings| rings.read(to))?, self.look()) {
            (0, Some(End::Died)) => Err(Error::Died(self.info.peer)),
            (n, _) => Ok(Some(n)),
        }
    }

    /// Fills `to`, or reads nothing: `None` as long as the peer may still write what is missing.
    pub fn try_recv(&self, to: &mut [u8]) -> Result<Option<()>, Failure<P>> {
        self.check_packet(self.info.role.other(), to.len())?;
        if self.attempt(|rings| rings.recv(to))? {
            return Ok(Some(()));
        }
        if self.look().is_none() {
            return Ok(None);
        }
        // What the peer wrote before it ended is to be seen by now.
        if self.attempt(|rings| rings.recv(to))? {
            return Ok(Some(()));
        }
        self.check_open().map(|()| None)
    }

    /// Writes all of `from`, or nothing: `None` if there is no space for it.
    pub fn try_send(&self, from: &[u8]) -> Result<Option<()>, Failure<P>> {
        self.check_packet(self.info.role, from.len())?;
        self.check_open()?;
        Ok(self.attempt(|rings| rings.send(from))?.then_some(()))
    }

    /// Whether a packet that `by` writes can ever be in its ring as a whole.
    fn check_packet(&self, by: Role, len: usize) -> Result<(), ConfigError> {
        let side = by.writes();
        let max = side.order(self.info.orders).bytes() as usize;
        if len > max { Err(ConfigError::PacketTooLarge { len, side, max }) } else { Ok(()) }
    }

    /// Asks for an event when the peer writes, and says how much is there now.
    pub fn data_ready(&self) -> Result<usize, Failure<P>> {
        self.attempt(|rings| {
            rings.arm(Wish::Data);
            Ok((rings.available()?, None))
        })
    }

    /// Asks for an event when the peer reads, and says how much space there is now.
    pub fn space(&self) -> Result<usize, Failure<P>> {
        self.check_open()?;
        self.attempt(|rings| {
            rings.arm(Wish::Space);
            Ok((rings.space()?, None))
        })
    }

    /// Writes what there is space for; `None` if there is none.
    pub fn try_write(&self, from: &[u8]) -> Result<Option<usize>, Failure<P>> {
        self.check_open()?;
        let n = self.attempt(|rings| rings.write(from))?;
        Ok((n > 0 || from.is_empty()).then_some(n))
    }

    /// Whether the peer has read everything.
    pub fn is_drained(&self) -> Result<bool, Failure<P>> {
        self.attempt(|rings| Ok((rings.is_drained()?, None)))
    }

    /// Ready once the peer has read everything.
    pub fn try_drained(&self) -> Result<Option<()>, Failure<P>> {
        if self.is_drained()? {
            return Ok(Some(()));
        }
        self.check_open()?;
        Ok(None)
    }

    /// Whether the peer has read everything and waits for more.
    pub fn is_idle(&self) -> Result<bool, Failure<P>> {
        self.check_open()?;
        self.attempt(|rings| Ok((rings.is_drained()? && rings.peer_awaits_data(), None)))
    }

    /// Whether a client has come: also one that has left again, since what it wrote is to be read.
    pub fn try_client(&self) -> Result<Option<()>, Failure<P>> {
        let end = self.end.borrow().clone();
        match (self.peer_live(), end) {
            (Some(vchan::Live::CONNECTED | vchan::Live::EXITED), _) => {
                self.met.set(true);
                Ok(Some(()))
            }
            (_, Some(End::Died)) => Err(Error::Died(self.info.peer)),
            (Some(vchan::Live::NOT_YET), _) => Ok(None),
            (Some(vchan::Live(value)), _) => Err(self.blame(PeerError::Live { who: Role::Client, value })),
            (None, _) => Err(self.why_closed()),
        }
    }
}
