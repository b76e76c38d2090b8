//! The handshake of xenbus, as one table for each side: what to do next, from the states of both ends.
//!
//! Both ends write their state into xenstore and watch the other's. Events coalesce and states are skipped: frontends
//! jump from `Initialising` to `Connected`, backends vanish without a word. So a step depends on nothing but the two
//! states as they are now.

use xen_abi::xenbus::State;

/// What a frontend does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrontStep {
    /// Waits for the backend's state to change.
    Wait,
    /// Makes rings, publishes them, and writes `Initialised`.
    Publish,
    /// Reads what the backend offers, and writes `Connected`.
    Connect,
    /// Looks whether the disk's size or the backend's features have changed: it wrote `Connected` again.
    Refresh,
    /// The backend wants to close: finishes what is in flight, and writes `Closing`, then `Closed`.
    Close,
    /// The backend is not the one that the rings were made for: gives them up, and writes `Initialising`.
    Restart,
    /// The backend still holds the rings of an earlier frontend: writes `Closing`, then `Closed`, so that it lets go.
    Reset,
    /// The backend is gone: what is in flight is lost.
    Lost,
}

/// The frontend's side. `mine` is what it has written itself, never what stands in xenstore; `theirs` is
/// [`State::UNKNOWN`] if the key is missing.
pub fn front(mine: State, theirs: State) -> FrontStep {
    use FrontStep::*;
    match (mine, theirs) {
        (State::INITIALISING, State::INIT_WAIT) => Publish,
        // The backend of a frontend that died without closing, for instance before a kernel was started anew.
        (State::INITIALISING, State::CONNECTED | State::INITIALISED | State::CLOSING) => Reset,
        (State::INITIALISING, _) => Wait,

        (State::INITIALISED, State::CONNECTED) => Connect,
        (State::INITIALISED, State::CLOSING) => Close,
        // It had decided to let an earlier connection go before it saw this one.
        (State::INITIALISED, State::CLOSED) => Restart,
        (State::INITIALISED, State::UNKNOWN) => Lost,
        (State::INITIALISED, _) => Wait,

        (State::CONNECTED, State::CONNECTED) => Refresh,
        (State::CONNECTED, State::CLOSING) => Close,
        (State::CONNECTED, State::UNKNOWN) => Lost,
        // A backend that was started anew, or had decided to let an earlier connection go before it saw this one.
        (State::CONNECTED, State::INITIALISING | State::INIT_WAIT | State::INITIALISED | State::CLOSED) => Restart,
        (State::CONNECTED, _) => Wait,

        // On the way down, only the backend's end is waited for; once there, a new beginning.
        (State::CLOSING, _) => Wait,
        (State::CLOSED, State::CLOSED | State::INITIALISING | State::INIT_WAIT) => Restart,
        (State::CLOSED, _) => Wait,

        (_, _) => Wait,
    }
}

/// What a backend does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BackStep {
    /// Waits for the frontend's state to change.
    Wait,
    /// Publishes what it offers, and writes `InitWait`.
    Offer,
    /// Maps the frontend's rings, writes the disk's size, and writes `Connected`.
    Connect,
    /// Answers what it has taken, lets the rings go, and writes `Closing`, if it has not yet.
    Close,
    /// Lets the rings go, if it has any, and writes `Closed`.
    Closed,
    /// The frontend is gone for good: lets go and removes its keys.
    Gone,
}

/// The backend's side. `mine` is what it has written itself; `theirs` is [`State::UNKNOWN`] if the key is missing.
pub fn back(mine: State, theirs: State) -> BackStep {
    use BackStep::*;
    match (mine, theirs) {
        (_, State::UNKNOWN) => Gone,

        // The frontend may still be at the end of an earlier life.
        (State::INITIALISING, State::INITIALISING | State::CLOSED) => Offer,
        // It may have published already, for it need not wait for the offer.
        (State::INITIALISING | State::INIT_WAIT, State::INITIALISED | State::CONNECTED) => Connect,
        (State::INITIALISING | State::INIT_WAIT, State::CLOSING) => Closed,

        (State::CONNECTED, State::CLOSING) => Close,
        (State::CONNECTED, State::CLOSED) => Closed,
        // A frontend that was started anew without having closed.
        (State::CONNECTED, State::INITIALISING) => Closed,

        (State::CLOSING, State::CLOSED) => Closed,
        // The same frontend connects again.
        (State::CLOSED, State::INITIALISING) => Offer,

        (_, _) => Wait,
    }
}
