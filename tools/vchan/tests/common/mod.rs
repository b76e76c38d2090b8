//! A world with a guest that serves, and a client with scripted streams.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod program;

pub use program::program;

use embedded_io_async::{ErrorType, Read, Write};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;
use vchan::{
    ConnectArguments, Dial, DomainArgument, Domains, Escape, Failure, Location, Place, ServerPlace,
    Session, Stop,
};
use xen_platform::{Clock, DomId, deadline, sleep};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Task};
use xen_store::Store;
use xen_vchan::{Connection, Offer, Order, Reader, ServerConfig, Writer};

pub const DOM0: DomId = DomId(0);
pub const GUEST: DomId = DomId(1);

/// A world with dom0, a guest named "echo", and a xenstored.
pub struct Bench(xen_sim::Bench);

/// One step of what comes through standard input.
pub enum Step {
    Bytes(Vec<u8>),
    Pause(Duration),
    /// A user who types no more, and does not press Ctrl-D.
    Forever,
}

/// Standard input: the steps, and then its end.
pub struct Input {
    clock: Domain,
    steps: VecDeque<Step>,
}

/// Standard output: what was written, and how slowly it takes that.
#[derive(Clone)]
pub struct Output {
    clock: Domain,
    pub bytes: Rc<RefCell<Vec<u8>>>,
    pub pause: Duration,
    pub most: usize,
}

/// End of `vchan connect`.
pub struct Ended {
    pub result: Result<(), Failure>,
    pub output: Vec<u8>,
    pub said: Vec<String>,
    pub took: Duration,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Sim::new())
    }

    pub fn with_seed(seed: u64) -> Self {
        Self::with(Sim::with_seed(seed))
    }

    fn with(sim: Sim) -> Self {
        let set_up = |xs: &Xenstored| {
            xs.introduce(GUEST);
            xs.set("/local/domain/1/name", "echo");
        };
        Bench(xen_sim::Bench::new(sim, set_up).leaves_keys())
    }

    /// A new process of a domain, connected to xenstore.
    pub fn host(&self, domid: DomId) -> (Domain, Store) {
        let domain = self.sim.domain(domid.0);
        let (from, to) = self.xs.connect(domid);
        let (store, driver) = xen_store::connect(from, to);
        self.sim.spawn(&domain, driver);
        (domain, store)
    }

    /// A process in the guest that, after `delay`, serves one client with `work`, and closes the
    /// channel then.
    pub fn serve<F: Future<Output = ()> + 'static>(
        &self,
        delay: Duration,
        work: impl FnOnce(Domain, Reader<Domain>, Writer<Domain>) -> F + 'static,
    ) -> (Domain, Task<()>) {
        let (domain, store) = self.host(GUEST);
        let process = domain.clone();
        let serving = async move {
            sleep(&domain, delay).await;
            let order = Order::new(12).unwrap();
            let config = ServerConfig::new(DOM0, "data/vchan").rings(order, order);
            let offer = Offer::publish(&domain, &store, &config).await.unwrap();
            let connection: Connection<Domain> = offer.accept().await.unwrap();
            let (reader, writer) = connection.split();
            work(domain, reader, writer).await;
            connection.close().await.unwrap();
        };
        let task = self.sim.spawn(&process, serving);
        (process, task)
    }

    /// Runs `vchan connect` in dom0, to its end.
    pub fn connect(&mut self, args: ConnectArguments, steps: Vec<Step>) -> Ended {
        self.connect_to(args, steps, |_| {})
    }

    /// The same, with a standard output that `slow` has made worse.
    pub fn connect_to(
        &mut self,
        args: ConnectArguments,
        steps: Vec<Step>,
        slow: impl FnOnce(&mut Output),
    ) -> Ended {
        let (dom0, store) = self.host(DOM0);
        let (input, mut output) = streams(&dom0, steps);
        slow(&mut output);
        let bytes = output.bytes.clone();
        let start = dom0.now();
        let clock = dom0.clone();
        dom0.forbid_state_queries();
        let (result, said) = self.sim.run(async move {
            let said = RefCell::new(Vec::new());
            let report = |text: &str| said.borrow_mut().push(text.to_string());
            let stop = Stop::new();
            let session = Session {
                platform: &dom0,
                store: &store,
                stop: &stop,
                report: &report,
                offered: &|| (),
            };
            let work = vchan::connect(session, &args, input, output);
            let result = deadline(&dom0, Some(start + Duration::from_secs(3600)), work)
                .await
                .expect("it hangs");
            (result, said.into_inner())
        });
        Ended { result, output: bytes.take(), said, took: clock.now().since(start) }
    }
}

impl Deref for Bench {
    type Target = xen_sim::Bench;

    fn deref(&self) -> &xen_sim::Bench {
        &self.0
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut xen_sim::Bench {
        &mut self.0
    }
}

/// Standard input that takes these steps, and standard output that takes everything at once.
pub fn streams(clock: &Domain, steps: Vec<Step>) -> (Input, Output) {
    let output = Output {
        clock: clock.clone(),
        bytes: Rc::default(),
        pause: Duration::ZERO,
        most: usize::MAX,
    };
    (Input { clock: clock.clone(), steps: steps.into() }, output)
}

/// Returns the arguments of `vchan connect 1`.
pub fn args() -> ConnectArguments {
    let dial = Dial { place: place(), timeout: 10 };
    let (linger, reconnect, raw, escape) = (None, None, false, Escape(Some(0x1d)));
    ConnectArguments { dial, linger, reconnect, raw, escape, verbose: false }
}

/// The guest, and the channel of the seed's path.
pub fn place() -> Place {
    Place { domain: DomainArgument::Number(GUEST), location: Location::default() }
}

/// The same for a server, whose clients come from `domain`.
pub fn server_place(domain: DomId) -> ServerPlace {
    let domains = Domains::These(vec![DomainArgument::Number(domain)]);
    ServerPlace { domains, location: Location::default() }
}

/// A server that sends everything back in capitals, and takes `thinking` for each piece.
pub async fn capitalize(
    domain: Domain,
    mut reader: Reader<Domain>,
    mut writer: Writer<Domain>,
    thinking: Duration,
) {
    let mut chunk = [0; 3000];
    while let Ok(count @ 1..) = reader.read(&mut chunk).await {
        chunk[..count].make_ascii_uppercase();
        sleep(&domain, thinking).await;
        if writer.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

/// Letters of every kind, in an order that shows a byte that is lost or doubled.
pub fn letters(count: usize) -> Vec<u8> {
    (0..count).map(|n| b'a' + ((n * n / 7 + n) % 26) as u8).collect()
}

impl ErrorType for Input {
    type Error = Infallible;
}

impl Read for Input {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Infallible> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Bytes(mut bytes) => {
                    let count = bytes.len().min(to.len());
                    to[..count].copy_from_slice(&bytes[..count]);
                    if count < bytes.len() {
                        self.steps.push_front(Step::Bytes(bytes.split_off(count)));
                    }
                    return Ok(count);
                }
                Step::Pause(pause) => sleep(&self.clock, pause).await,
                Step::Forever => pending().await,
            }
        }
        Ok(0)
    }
}

impl ErrorType for Output {
    type Error = Infallible;
}

impl Write for Output {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        sleep(&self.clock, self.pause).await;
        let count = from.len().min(self.most);
        self.bytes.borrow_mut().extend_from_slice(&from[..count]);
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A session whose messages nobody reads.
pub fn quiet<'a, P>(platform: &'a P, store: &'a Store, stop: &'a Stop) -> Session<'a, P> {
    Session { platform, store, stop, report: &|_| (), offered: &|| () }
}
