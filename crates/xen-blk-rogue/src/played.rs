//! The result of an act.

use crate::acts::Demand;
use core::fmt;

/// The frontend's reaction to an act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// It never used the disk.
    Refused,
    /// It ended the connection.
    Closed,
    /// It went on, with this number of requests after the deed.
    WentOn(u32),
    /// It asked nothing more.
    Silent,
    /// It asked nothing at all, so that nothing was done to it.
    Unasked,
    /// Its domain is gone.
    Gone,
}

/// The result of an act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Played {
    /// The frontend's reaction.
    pub reaction: Reaction,
    /// It took an honest disk afterwards.
    pub recovered: bool,
    /// The least that was asked of it.
    pub demand: Demand,
}

impl Played {
    /// Tells if the frontend did all that was asked of it; `None` if its guest did too little with
    /// the disk to tell.
    pub fn passed(&self) -> Option<bool> {
        use Reaction::*;
        match (self.demand, self.reaction) {
            (_, Gone) => Some(false),
            _ if !self.recovered => Some(false),
            (_, Unasked) | (Demand::GoOn, Silent) => None,
            (Demand::Refuse, WentOn(_) | Silent) => Some(false),
            (Demand::GoOn, Refused | Closed) => Some(false),
            _ => Some(true),
        }
    }
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reaction {
            Reaction::Refused => f.write_str("the frontend did not use the disk")?,
            Reaction::Closed => f.write_str("the frontend ended the connection")?,
            Reaction::WentOn(0) => f.write_str("the frontend is connected")?,
            Reaction::WentOn(count) => write!(f, "the frontend went on with {count} requests")?,
            Reaction::Silent => f.write_str("the frontend asked nothing more")?,
            Reaction::Unasked => f.write_str("the guest did not use the disk")?,
            Reaction::Gone => return f.write_str("the domain is gone"),
        }
        f.write_str(match self.recovered {
            true => ", and took an honest disk afterwards",
            false => ", and took no honest disk afterwards",
        })
    }
}
