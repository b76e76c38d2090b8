//! The running domain, as its program sees it.

use crate::Reason;
use crate::console;
use crate::xen::death;
use crate::xen::events::EventChannel;
use crate::xen::rings::Ring;
use crate::xen::{Outcome, Rings, Xen};
use crate::xenstore;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use core::fmt;
use core::future::Future;
use core::time::Duration;
use log::{LevelFilter, info};
use xen_exec::{Handle, Spawner};
use xen_platform::{Clock, DomId, EventCounter, Platform, ReadySince, deadline, sleep};
use xen_store::{Connection, Store};

/// Grace period for the console's reader before the domain ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for xenstored to answer what is under way, before a suspend is refused.
const QUIET_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to the domain that the program runs in: clones refer to the same one.
#[derive(Clone)]
pub struct Domain(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub xen: Xen,
    store: Store,
    pub connection: Connection,
    spawner: Spawner,
    pub rings: Cell<Rings>,
    console_channel: Rc<EventChannel>,
    pub store_channel: Rc<EventChannel>,
    /// Counts the orders to begin the connection to xenstore anew.
    pub store_given_up: EventCounter,
    command_line: String,
}

impl Domain {
    /// Connects to xenstore and starts the console.
    pub(crate) fn new(xen: Xen, spawner: Spawner, console: Ring, command_line: String) -> Self {
        let level = crate::options::log_level(&command_line).unwrap_or_else(|why| panic!("{why}"));
        log::set_max_level(level.unwrap_or(LevelFilter::Info));
        let xenstore = Ring::xenstore().unwrap_or_else(|why| panic!("{why}"));
        let (console_channel, store_channel) = (console.channel(), xenstore.channel());
        info!("xenstore: ring at {:#x}, event channel {}", xenstore.page.address(), xenstore.port);
        let (store, connection) = Connection::new();
        let domain = Domain(Rc::new(Inner {
            xen,
            store,
            connection,
            spawner,
            rings: Cell::new(Rings { console, xenstore }),
            console_channel,
            store_channel,
            store_given_up: EventCounter::new(),
            command_line,
        }));
        domain.spawn(pump(domain.0.console_channel.clone()));
        domain.spawn(xenstore::drive(domain.clone()));
        domain
    }

    /// Returns the hypervisor as a platform for protocols.
    pub fn xen(&self) -> &Xen {
        &self.0.xen
    }

    /// Returns the domain's number, where Xen tells. A restored domain has another one.
    pub fn id(&self) -> Option<DomId> {
        self.0.xen.domid()
    }

    /// Returns the connection to xenstore.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Has the connection to xenstore begun anew, as it is when xenstored has given it up: all
    /// watches are set again, and what is under way is made again. Returns false if xenstored
    /// offers no reconnection.
    pub fn reconnect_store(&self) -> bool {
        let offered = xenstore::can_reconnect(&self.0);
        if offered {
            self.0.store_given_up.signal();
        }
        offered
    }

    /// Returns the handle that starts tasks.
    pub fn spawner(&self) -> &Spawner {
        &self.0.spawner
    }

    /// Runs `task` beside the others; see [`Spawner::spawn`].
    pub fn spawn<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> Handle<T> {
        self.0.spawner.spawn(task)
    }

    /// Returns the command line, `extra=` in the xl file.
    pub fn command_line(&self) -> &str {
        &self.0.command_line
    }

    /// Returns the console's ring and its channel, for a reader of its input.
    pub(crate) fn console(&self) -> (Ring, Rc<EventChannel>) {
        (self.0.rings.get().console, self.0.console_channel.clone())
    }

    /// Suspends the domain, for the toolstack to save it, and returns once it goes on.
    ///
    /// After [`Outcome::Restored`] the domain may have another number, xenstore and the console go
    /// on by themselves, and all grants, mappings and channels from before are gone
    /// ([`Platform::resumes`] counts up).
    pub async fn suspend(&self) -> Result<Outcome, NotSuspended> {
        let Inner { xen, connection, rings, console_channel, store_channel, .. } = &*self.0;
        if deadline(xen, Some(xen.now() + QUIET_TIMEOUT), connection.pause()).await.is_err() {
            connection.unpause();
            return Err(NotSuspended::Xenstore);
        }
        let outcome = xen.suspend(rings.get(), |again| {
            rings.set(again);
            console_channel.rebind(again.console.port);
            store_channel.rebind(again.xenstore.port);
            if let Err(why) = console::attach(again.console.page, again.console.port) {
                // Nobody could read it.
                panic!("the console ring of the restored domain is unusable: {why}");
            }
        });
        // A restored domain's driver lets requests go on, over the new ring.
        if outcome != Ok(Outcome::Restored) {
            connection.unpause();
        }
        outcome.map_err(NotSuspended::Xen)
    }
}

/// The reason why a domain was not suspended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotSuspended {
    /// xenstored owes an answer, which would be lost.
    Xenstore,
    /// Xen refused.
    Xen(xen_hypercall::Error),
}

impl fmt::Display for NotSuspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotSuspended::Xenstore => write!(
                f,
                "xenstored has not answered for {} s; see to it in dom0, and save again",
                QUIET_TIMEOUT.as_secs()
            ),
            NotSuspended::Xen(why) => write!(f, "Xen refuses: {why}"),
        }
    }
}

impl core::error::Error for NotSuspended {}

/// Runs the program, tells the peers when it has ended, and lets the console's reader catch up.
pub(crate) async fn run(domain: Domain, main: impl Future<Output = Reason>) -> Reason {
    let reason = main.await;
    info!("the domain ends: {reason:?}");
    death::announce();
    let xen = domain.xen();
    let until = xen.now() + FLUSH_TIMEOUT;
    while !console::is_flushed() && xen.now() < until {
        console::pump();
        sleep(xen, Duration::from_millis(10)).await;
    }
    // No round of the executor follows that would.
    console::announce();
    reason
}

/// Writes the console's backlog to the ring whenever the other side has read.
async fn pump(channel: Rc<EventChannel>) -> core::convert::Infallible {
    let mut events = ReadySince::now(&channel);
    loop {
        console::pump();
        events.wait(&channel).await;
    }
}
