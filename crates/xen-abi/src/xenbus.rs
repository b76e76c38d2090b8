//! The states of the two ends of a device: `io/xenbus.h`.

/// `enum xenbus_state`, as written in decimal to the key `state`. A peer can write any number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State(pub u32);

impl State {
    /// Nothing is known: the key is missing.
    pub const UNKNOWN: State = State(0);
    /// Being set up.
    pub const INITIALISING: State = State(1);
    /// A backend that waits for what the frontend will publish.
    pub const INIT_WAIT: State = State(2);
    /// A frontend that has published its rings and waits for the backend.
    pub const INITIALISED: State = State(3);
    /// At work.
    pub const CONNECTED: State = State(4);
    /// About to close.
    pub const CLOSING: State = State(5);
    /// Closed.
    pub const CLOSED: State = State(6);
    /// Being changed.
    pub const RECONFIGURING: State = State(7);
    /// Changed.
    pub const RECONFIGURED: State = State(8);
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match *self {
            State::UNKNOWN => "Unknown",
            State::INITIALISING => "Initialising",
            State::INIT_WAIT => "InitWait",
            State::INITIALISED => "Initialised",
            State::CONNECTED => "Connected",
            State::CLOSING => "Closing",
            State::CLOSED => "Closed",
            State::RECONFIGURING => "Reconfiguring",
            State::RECONFIGURED => "Reconfigured",
            State(other) => return write!(f, "state {other}"),
        })
    }
}
