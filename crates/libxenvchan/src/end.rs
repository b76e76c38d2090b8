//! One end of a channel as libxenvchan's functions see it. Nothing here waits.

use xen_exec::{Executor, Turn};
use xen_platform::{Platform, deadline};
use xen_vchan::{Connection, Departure, Error, Live, Reader, Role, Writer};

/// Rounds of tasks after each look at the platform: more than the tasks of one connection need.
const ROUNDS: usize = 16;

/// Time limit for xenstore to remove the keys.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

type Outcome<P, T> = Result<T, Error<<P as Platform>::Error>>;

/// An end, and the tasks that look after it.
pub struct End<P: Platform> {
    platform: P,
    executor: Executor,
    connection: Connection<P>,
    reader: Reader<P>,
    writer: Writer<P>,
    /// The count of events at the last wait.
    waited: u32,
    dispatch: Box<dyn FnMut()>,
    yields: Box<dyn FnMut()>,
}

impl<P: Platform> End<P> {
    /// Makes an end of a connection. `executor` has the task of its xenstore; `dispatch` hands out
    /// events without waiting, and `yields` lets others have the processor.
    pub fn new(
        platform: P,
        executor: Executor,
        connection: Connection<P>,
        dispatch: impl FnMut() + 'static,
        yields: impl FnMut() + 'static,
    ) -> Self {
        let (reader, writer) = connection.split();
        // Xen's library serves the next client with the same pages.
        connection.on_departure(Departure::Pauses);
        let (watched, waited) = (connection.watcher(), connection.events());
        executor.spawner().spawn(watched);
        let (dispatch, yields) = (Box::new(dispatch), Box::new(yields));
        let mut end =
            End { platform, executor, connection, reader, writer, waited, dispatch, yields };
        end.executor.run_ready(ROUNDS);
        end
    }

    /// Returns the connection.
    pub fn connection(&self) -> &Connection<P> {
        &self.connection
    }

    /// Returns the platform.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Decides, at a server, whether it stays open while it has no client (`server_persist`).
    pub fn persist(&self, persist: bool) {
        if self.connection.info().role == Role::Server {
            let seen = if persist { Departure::Unseen } else { Departure::Pauses };
            self.connection.on_departure(seen);
        }
    }

    /// Hands out events, without waiting, and runs the tasks that they wake.
    pub fn step(&mut self) {
        (self.dispatch)();
        self.executor.run_ready(ROUNDS);
    }

    /// Lets others have the processor.
    pub fn yield_processor(&mut self) {
        (self.yields)()
    }

    /// Returns true if events have come since this was last called.
    pub fn take_events(&mut self) -> bool {
        let events = self.connection.events();
        std::mem::replace(&mut self.waited, events) != events
    }

    /// Reads what there is; `None` if that is nothing. With `arm`, as in all that follows, the peer
    /// is asked for an event if less is there than asked for.
    pub fn read(&mut self, to: &mut [u8], arm: bool) -> Outcome<P, Option<usize>> {
        let first = self.take(to)?;
        let n = first.unwrap_or(0);
        if n == to.len() || !arm {
            return Ok(first);
        }
        if self.reader.data_ready()? == 0 {
            return Ok(first);
        }
        // It came before the peer could see that an event is wanted.
        let more = self.take(&mut to[n..])?.unwrap_or(0);
        Ok(first.or((more > 0).then_some(0)).map(|n| n + more))
    }

    fn take(&mut self, to: &mut [u8]) -> Outcome<P, Option<usize>> {
        match self.reader.try_read(to)? {
            Some(0) if !to.is_empty() => Err(Error::Closed),
            n => Ok(n),
        }
    }

    /// Fills `to`, or reads nothing.
    pub fn recv(&mut self, to: &mut [u8], arm: bool) -> Outcome<P, Option<usize>> {
        let mut done = self.reader.try_recv(to)?;
        if done.is_none() && arm && self.reader.data_ready()? >= to.len() {
            done = self.reader.try_recv(to)?;
        }
        Ok(done.map(|()| to.len()))
    }

    /// Writes as much as there is space for; `None` if there is none.
    pub fn write(&mut self, from: &[u8], arm: bool) -> Outcome<P, Option<usize>> {
        let first = self.writer.try_write(from)?;
        let n = first.unwrap_or(0);
        if n == from.len() || !arm || self.writer.space()? == 0 {
            return Ok(first);
        }
        let more = self.writer.try_write(&from[n..])?.unwrap_or(0);
        Ok(first.or((more > 0).then_some(0)).map(|n| n + more))
    }

    /// Writes all of `from`, or nothing.
    pub fn send(&mut self, from: &[u8], arm: bool) -> Outcome<P, Option<usize>> {
        let mut done = self.writer.try_send(from)?;
        if done.is_none() && arm && self.writer.space()? >= from.len() {
            done = self.writer.try_send(from)?;
        }
        Ok(done.map(|()| from.len()))
    }

    /// Returns the number of bytes to read, and asks for an event when more come.
    pub fn data_ready(&mut self) -> Outcome<P, usize> {
        match self.reader.data_ready() {
            Err(Error::Closed) => Ok(0),
            ready => ready,
        }
    }

    /// Returns the number of bytes of space, and asks for an event when there is more.
    pub fn buffer_space(&mut self) -> Outcome<P, usize> {
        match self.writer.space() {
            // What is written is lost, which the next write says.
            Err(Error::Closed | Error::Died(_)) => {
                Ok(self.write_size().saturating_sub(self.writer.unread().unwrap_or(0)))
            }
            space => space,
        }
    }

    fn write_size(&self) -> usize {
        let info = self.connection.info();
        let order = match info.role {
            Role::Server => info.orders.right(),
            Role::Client => info.orders.left(),
        };
        order.bytes() as usize
    }

    /// Returns 0 if the connection is over, 1 if both ends are there, and 2 before the client has
    /// come; of a persistent server 1 for as long as a client can come.
    pub fn is_open(&self) -> i32 {
        match self.connection.known_state() {
            Live::Connected if self.connection.has_met() || self.is_persistent() => 1,
            Live::Connected => 2,
            _ => 0,
        }
    }

    fn is_persistent(&self) -> bool {
        self.connection.departure() == Departure::Unseen
    }

    /// Returns true if nothing that waits can ever end well: the peer is gone and cannot come
    /// again.
    pub fn is_over(&self) -> bool {
        match self.connection.known_state() {
            Live::Connected => false,
            Live::Left => self.connection.info().role == Role::Client,
            Live::Died | Live::Broken | Live::Closed => true,
        }
    }

    /// Returns why the connection is over.
    pub fn why_over(&mut self) -> Error<P::Error> {
        match (self.connection.known_state(), self.reader.data_ready()) {
            (_, Err(error)) => error,
            (Live::Died, _) => Error::Died(self.connection.info().peer),
            _ => Error::Closed,
        }
    }

    /// Closes the connection: the peer is told, and a server's keys are removed. `wait` is the
    /// platform's turn.
    pub fn close(mut self, wait: impl FnMut(Turn)) -> Outcome<P, ()> {
        let (platform, connection) = (self.platform.clone(), self.connection);
        let until = Some(platform.now() + TIMEOUT);
        let closing = async move { deadline(&platform, until, connection.close()).await };
        self.executor.run(closing, wait).unwrap_or(Err(Error::Timeout))
    }
}
