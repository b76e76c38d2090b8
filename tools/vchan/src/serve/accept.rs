//! The accept loop of a server, which serves several clients at a time.
//!
//! ```text
//!              ┌── a client has come ──> sessions.push(serve_one)
//!   next() ────┼── a session has ended ─> reported; room for another
//!              ├── nobody came in time ─> the end
//!              └── a request to stop ───> the sessions close their channels, the end
//! ```

use super::listener::Listener;
use super::{Service, SessionEnd};
use crate::relay::Transfer;
use crate::{Code, Failure, Session};
use embassy_futures::select::{Either, select};
use std::future::pending;
use std::time::Duration;
use tools_common::{answered, hexdump, is_gone};
use xen_exec::TaskSet;
use xen_platform::{DomId, Platform, deadline};
use xen_vchan::{Connection, Error};

/// A server with its configuration, and the work that it does for each client.
pub(super) struct Server<'a, P, F> {
    pub session: Session<'a, P>,
    pub service: &'a Service<'a>,
    pub serve_client: &'a F,
}

/// The events that a server waits for.
enum Event<P: Platform> {
    /// A client has come, or could not.
    Arrived(Result<Connection<P>, Error<P::Error>>),
    /// No client came in time.
    TimedOut,
    /// A session has ended.
    Ended(Served),
}

/// A session that has ended.
struct Served {
    peer: DomId,
    /// `None` if it was asked to stop.
    result: Option<Result<(), Failure>>,
    summary: String,
    closed: Result<(), Failure>,
}

impl<P: Platform, F: AsyncFn(&Connection<P>, &Transfer) -> SessionEnd> Server<'_, P, F> {
    /// Accepts clients until the only one has left, or a request to stop comes, or there can be no
    /// more.
    pub async fn run(&self, listener: &mut Listener<P>) -> Result<(), Failure> {
        let mut sessions = TaskSet::new();
        // No channel could be made for one more client: that is tried again once another has left.
        let mut full = false;
        self.report_offer(listener);
        loop {
            let free = !full && sessions.len() < self.limit();
            let event = self.next(free.then_some(&mut *listener), &mut sessions);
            match self.session.stop.or(event).await {
                None => return finish(&mut sessions).await,
                Some(Event::TimedOut) => {
                    return Err(Failure::new(
                        Code::Missing,
                        "no client came in time: see --timeout",
                    ));
                }
                Some(Event::Arrived(Ok(connection))) => {
                    self.session.report_if(self.service.verbose, || arrival(&connection));
                    sessions.push(self.serve_one(connection));
                    self.report_offer(listener);
                }
                Some(Event::Arrived(Err(error))) => {
                    full |= self.survive_arrival(error, sessions.is_empty())?;
                }
                Some(Event::Ended(served)) => {
                    full = false;
                    if let Some(result) = self.session_ended(served).await {
                        return result.and(finish(&mut sessions).await);
                    }
                }
            }
        }
    }

    fn limit(&self) -> usize {
        if self.service.once { 1 } else { self.service.clients }
    }

    fn report_offer(&self, listener: &Listener<P>) {
        if let Some(text) = listener.describe().filter(|_| self.service.verbose) {
            (self.session.report)(&text);
        }
    }

    /// Waits for a session to end; and for a client, if there is room for it.
    async fn next(
        &self,
        listener: Option<&mut Listener<P>>,
        sessions: &mut TaskSet<'_, Served>,
    ) -> Event<P> {
        let seconds = self.service.timeout.filter(|_| sessions.is_empty());
        let until = seconds.map(|secs| self.session.platform.now() + Duration::from_secs(secs));
        let accept = async {
            match listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        match select(sessions.next(), deadline(self.session.platform, until, accept)).await {
            Either::First(served) => Event::Ended(served),
            Either::Second(Ok(arrived)) => Event::Arrived(arrived),
            Either::Second(Err(_)) => Event::TimedOut,
        }
    }

    /// Serves a client from its arrival to its end or a request to stop.
    async fn serve_one(&self, connection: Connection<P>) -> Served {
        let transfer = Transfer::default();
        let SessionEnd { result, status } = (self.serve_client)(&connection, &transfer).await;
        let (peer, summary) = (connection.info().peer, transfer.summary(&connection));
        let platform = self.session.platform;
        let closed = match (&result, status) {
            (_, Some(status)) => answered(platform, connection.close_with_status(status)).await,
            (Some(Ok(())), None) => answered(platform, connection.close()).await,
            // What was sent may not be all: no end is announced for it.
            _ => answered(platform, connection.abort()).await,
        };
        Served { peer, result, summary, closed }
    }

    /// Reports a client that could not come. Returns true if there is no room for another, and
    /// fails if there can be none.
    fn survive_arrival(&self, error: Error<P::Error>, alone: bool) -> Result<bool, Failure> {
        match error {
            Error::Peer(error) if !self.service.once => {
                (self.session.report)(&error.to_string());
                Ok(false)
            }
            error @ Error::Died(_) => Err(error.into()),
            error if alone => Err(error.into()),
            error => {
                (self.session.report)(&format!(
                    "{error}; until a client has left, there is no place for another"
                ));
                Ok(true)
            }
        }
    }

    /// Reports the end of a session. Returns the result of the server if it is over with it.
    async fn session_ended(&self, served: Served) -> Option<Result<(), Failure>> {
        let Served { peer, result, summary, closed } = served;
        self.session.report_if(self.service.verbose, || {
            format!("The client of domain {peer} has left: {summary}")
        });
        let Some(result) = result else { return Some(closed) };
        if self.service.once {
            return Some(result.and(closed));
        }
        // The keys of a channel that was taken are gone already, so nothing depends on this.
        if let Err(failure) = closed {
            (self.session.report)(&failure.to_string());
        }
        let failure = result.err()?;
        let gone = failure.code == Code::Gone
            && answered(self.session.platform, is_gone(self.session.store, peer))
                .await
                .unwrap_or(false);
        if gone {
            return Some(Err(failure));
        }
        if !failure.text.is_empty() {
            (self.session.report)(&failure.to_string());
        }
        None
    }
}

fn arrival<P: Platform>(connection: &Connection<P>) -> String {
    let (peer, page) = (connection.info().peer, hexdump(connection.first_page()));
    format!("A client of domain {peer} has come. The shared page was:\n\n{page}")
}

/// Waits for all sessions, which were asked to stop, to close their channels.
async fn finish(sessions: &mut TaskSet<'_, Served>) -> Result<(), Failure> {
    let mut closed = Ok(());
    while !sessions.is_empty() {
        closed = closed.and(sessions.next().await.closed);
    }
    closed
}
