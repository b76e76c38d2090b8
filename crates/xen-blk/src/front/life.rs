//! Life cycle of a disk.

use super::error::{Error, GoneReason, PeerError};

/// End of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It was closed here.
    Closed,
    /// The toolstack or the backend closed it.
    Unplugged,
    /// The backend's keys are gone, and it had not closed.
    Lost,
}

/// Reason why a disk takes no more requests.
#[derive(Clone, Debug)]
pub(crate) enum Over {
    Gone(GoneReason),
    Peer(PeerError),
}

impl<E> From<Over> for Error<E> {
    fn from(over: Over) -> Self {
        match over {
            Over::Gone(why) => Error::Gone(why),
            Over::Peer(wrong) => Error::Peer(wrong),
        }
    }
}

/// State of a disk.
///
/// ```text
///   Open --> Closing --> Over --> Ended
///     `-------------------^
/// ```
#[derive(Clone, Debug)]
pub(crate) enum Life {
    /// Takes requests. Between two connections they wait.
    Open,
    /// Finishes what is in flight and takes no more.
    Closing(GoneReason),
    /// Every request fails. The backend may still use the pages of those in flight.
    Over(Over),
    /// Everything that was shared is given back.
    Ended(Over),
}

impl Life {
    /// Returns the reason, once every request fails.
    pub fn over(&self) -> Option<&Over> {
        match self {
            Life::Over(over) | Life::Ended(over) => Some(over),
            Life::Open | Life::Closing(_) => None,
        }
    }

    /// Returns the reason, once new requests are refused.
    pub fn refusal(&self) -> Option<Over> {
        match self {
            Life::Open => None,
            Life::Closing(why) => Some(Over::Gone(*why)),
            Life::Over(over) | Life::Ended(over) => Some(over.clone()),
        }
    }

    pub fn is_closing(&self) -> bool {
        matches!(self, Life::Closing(_))
    }

    pub fn has_ended(&self) -> bool {
        matches!(self, Life::Ended(_))
    }

    /// Begins to close, unless that has begun already.
    pub fn close(&mut self, why: GoneReason) {
        if matches!(self, Life::Open) {
            *self = Life::Closing(why);
        }
    }

    /// Has every request fail. The first reason counts.
    pub fn refuse(&mut self, over: Over) {
        if self.over().is_none() {
            *self = Life::Over(over);
        }
    }

    /// Ends a life that is over.
    pub fn end(&mut self) {
        if let Life::Over(over) = self {
            *self = Life::Ended(over.clone());
        }
    }
}
