//! The handshake of xenbus, as one table for each side: the next step, from the states of both
//! ends.
//!
//! Both ends write their state into xenstore and watch the other's. Events coalesce and states are
//! skipped: frontends jump from `Initialising` to `Connected`, backends vanish without a word. So a
//! step depends on nothing but the two states as they are now.

use xen_abi::xenbus::State;

/// Next step of a frontend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrontStep {
    /// Waits for the backend's state to change.
    Wait,
    /// Makes rings, publishes them, and writes `Initialised`.
    Publish,
    /// Reads the backend's offer, and writes `Connected`.
    Connect,
    /// Reads the disk's size and mode anew: the backend wrote `Connected` again.
    Refresh,
    /// Finishes the requests in flight, and writes `Closing`, then `Closed`: the backend closes.
    Close,
    /// Gives the rings up, and writes `Initialising`: they were made for another backend.
    Restart,
    /// Writes `Closing`, then `Closed`, so that the backend lets go of the rings of an earlier
    /// frontend.
    Reset,
    /// Fails the requests in flight: the backend is gone.
    Lost,
}

/// Returns the frontend's next step. `mine` is the state that it wrote last, whatever xenstore
/// says; `theirs` is [`State::UNKNOWN`] if the key is missing.
pub fn front(mine: State, theirs: State) -> FrontStep {
    use FrontStep::*;
    match (mine, theirs) {
        (State::INITIALISING, State::INIT_WAIT) => Publish,
        // The backend of a frontend that died without closing, for instance before a kernel was
        // started anew.
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
        // A backend that was started anew, or had decided to let an earlier connection go before it
        // saw this one.
        (
            State::CONNECTED,
            State::INITIALISING | State::INIT_WAIT | State::INITIALISED | State::CLOSED,
        ) => Restart,
        (State::CONNECTED, _) => Wait,

        // On the way down, only the backend's end is waited for; once there, a new beginning.
        (State::CLOSING, _) => Wait,
        (State::CLOSED, State::CLOSED | State::INITIALISING | State::INIT_WAIT) => Restart,
        (State::CLOSED, _) => Wait,

        (_, _) => Wait,
    }
}

/// Next step of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BackStep {
    /// Waits for the frontend's state to change.
    Wait,
    /// Publishes its offer, and writes `InitWait`.
    Offer,
    /// Maps the frontend's rings, writes the disk's size, and writes `Connected`.
    Connect,
    /// Completes the requests that it has taken, lets the rings go, and writes `Closing`.
    Close,
    /// Lets the rings go, if it has any, and writes `Closed`.
    Closed,
    /// Lets go and removes its keys: the frontend is gone for good.
    Gone,
}

/// Returns the backend's next step. `mine` is the state that it wrote last; `theirs` is
/// [`State::UNKNOWN`] if the key is missing.
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
