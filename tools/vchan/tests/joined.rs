//! `vchan connect` joined with `vchan exec` and `vchan listen`: every byte arrives, each direction
//! ends on its own, and the status of the command comes through.

mod common;

use common::{Bench, DOM0, GUEST, Step, args, letters};
use embedded_io_async::{ErrorType, Read, Write};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use vchan::{
    Child, Code, ExecArguments, Failure, ListenArguments, Program, RingSizes, Session, Stop,
};
use xen_platform::{EventCounter, sleep};
use xen_sim::Domain;

/// A program that says nothing before its input has ended, as `sort`, `wc` and `tar` do.
#[derive(Clone)]
struct Sorter {
    clock: Domain,
    bytes: Rc<RefCell<Vec<u8>>>,
    closed: Rc<Cell<bool>>,
    over: Rc<Cell<bool>>,
    said: Rc<Cell<usize>>,
    changes: Rc<EventCounter>,
    /// Time from the end of its input to its output, and from there to its end.
    pauses: (Duration, Duration),
    status: u8,
}

impl Sorter {
    fn start(clock: &Domain, pauses: (u64, u64), status: u8) -> Program<Sorted, Unsorted, Sorter> {
        let pauses = (Duration::from_secs(pauses.0), Duration::from_secs(pauses.1));
        let sorter = Sorter {
            clock: clock.clone(),
            bytes: Rc::default(),
            closed: Rc::default(),
            over: Rc::default(),
            said: Rc::default(),
            changes: Rc::default(),
            pauses,
            status,
        };
        Program { output: Sorted(sorter.clone()), input: Unsorted(sorter.clone()), child: sorter }
    }

    async fn input_ended(&self) {
        while !self.closed.get() {
            let mut seen = self.changes.count();
            std::future::poll_fn(|cx| self.changes.poll_after(&mut seen, cx)).await;
        }
    }
}

impl Child for Sorter {
    async fn wait(&mut self) -> Result<u8, Failure> {
        while !self.over.get() {
            let mut seen = self.changes.count();
            std::future::poll_fn(|cx| self.changes.poll_after(&mut seen, cx)).await;
        }
        sleep(&self.clock, self.pauses.1).await;
        Ok(self.status)
    }
    fn terminate(&mut self) {}
    fn kill(&mut self) {}
}

struct Sorted(Sorter);
struct Unsorted(Sorter);

impl ErrorType for Sorted {
    type Error = Infallible;
}

impl ErrorType for Unsorted {
    type Error = Infallible;
}

impl Read for Sorted {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Infallible> {
        let sorter = &self.0;
        sorter.input_ended().await;
        if sorter.said.get() == 0 {
            sleep(&sorter.clock, sorter.pauses.0).await;
            sorter.bytes.borrow_mut().sort_unstable();
        }
        let bytes = sorter.bytes.borrow();
        let rest = &bytes[sorter.said.get()..];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        sorter.said.set(sorter.said.get() + count);
        if count == 0 {
            sorter.over.set(true);
            sorter.changes.signal();
        }
        Ok(count)
    }
}

impl Write for Unsorted {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        self.0.bytes.borrow_mut().extend_from_slice(from);
        Ok(from.len())
    }
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Drop for Unsorted {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.changes.signal();
    }
}

/// Serves one client in the guest with a sorter.
fn serve_sorter(bench: &Bench, pauses: (u64, u64), status: u8) {
    let (guest, store) = bench.host(GUEST);
    bench.sim.spawn(&guest.clone(), async move {
        let args = ExecArguments {
            place: common::server_place(DOM0),
            sizes: RingSizes { left: 4096, right: 4096 },
            once: true,
            timeout: None,
            pty: false,
            grace: 5,
            clients: 64,
            verbose: false,
            command: Vec::new(),
        };
        let stop = Stop::new();
        let session = common::quiet(&guest, &store, &stop);
        let _ =
            vchan::exec(session, &args, async |_: &_| Ok(Sorter::start(&guest, pauses, status)))
                .await;
    });
}

fn sorted(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.sort_unstable();
    bytes
}

#[test]
fn sort_answers_after_the_end_of_its_input() {
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        serve_sorter(&bench, (0, 0), 0);
        let ended = bench.connect(args(), vec![Step::Bytes(letters(100_000))]);
        assert_eq!(ended.result, Ok(()), "seed {seed}");
        assert!(ended.output == sorted(letters(100_000)), "seed {seed}");
        assert!(ended.took < Duration::from_secs(1), "{:?}", ended.took);
    }
}

#[test]
fn answer_after_a_minute_is_not_lost() {
    let mut bench = Bench::new();
    serve_sorter(&bench, (60, 0), 0);
    let ended = bench.connect(args(), vec![Step::Bytes(b"late".into())]);
    assert_eq!((ended.result, ended.output), (Ok(()), b"aelt".to_vec()));
    assert!(ended.took >= Duration::from_secs(60) && ended.took < Duration::from_secs(61));
}

#[test]
fn status_of_the_command_reaches_the_client() {
    for (status, pause) in [(3, 0), (128 + 9, 0), (7, 100)] {
        let mut bench = Bench::new();
        serve_sorter(&bench, (0, pause), status);
        let ended = bench.connect(args(), vec![Step::Bytes(b"ba".into())]);
        assert_eq!(ended.result.unwrap_err().code, Code::Status(status));
        assert_eq!(ended.output, b"ab");
    }
}

/// A server that is killed in mid-stream is no end of the stream.
#[test]
fn server_that_is_cut_off_is_a_failure() {
    let mut bench = Bench::new();
    let (process, _) = bench.serve(Duration::ZERO, |domain, reader, mut writer| async move {
        writer.write_all(b"part").await.unwrap();
        sleep(&domain, Duration::from_secs(3)).await;
        domain.kill_process();
        drop(reader);
        std::future::pending().await
    });
    let ended = bench.connect(args(), vec![Step::Forever]);
    drop(process);
    assert_eq!(ended.result.unwrap_err().code, Code::Gone);
    assert_eq!(ended.output, b"part");
}

#[test]
fn listen_takes_what_connect_sends_and_both_end() {
    for input in [Vec::new(), vec![Step::Bytes(letters(30_000))]] {
        let mut bench = Bench::new();
        let answers = !input.is_empty();
        let (guest, store) = bench.host(GUEST);
        let (steps, output) = common::streams(&guest, input);
        let bytes = output.bytes.clone();
        let serving = bench.sim.spawn(&guest.clone(), async move {
            let args = ListenArguments {
                place: common::server_place(DOM0),
                sizes: RingSizes { left: 4096, right: 4096 },
                once: false,
                keep: false,
                linger: None,
                timeout: None,
                verbose: true,
            };
            let said = RefCell::new(Vec::new());
            let report = |text: &str| said.borrow_mut().push(text.to_string());
            let stop = Stop::new();
            let session = Session {
                platform: &guest,
                store: &store,
                stop: &stop,
                report: &report,
                offered: &|| (),
            };
            let result = vchan::listen(session, &args, (steps, output)).await;
            (result, said.into_inner().pop().unwrap())
        });
        let ended = bench.connect(args(), vec![Step::Bytes(letters(50_000))]);
        let expected = if answers { letters(30_000) } else { Vec::new() };
        assert_eq!(ended.result, Ok(()));
        assert!(ended.output == expected && *bytes.borrow() == letters(50_000));
        let (result, summary) = bench.sim.run(serving.outcome()).unwrap();
        assert_eq!(result, Ok(()));
        let sent = expected.len();
        let expected = format!(
            "The client of domain 0 has left: {sent} bytes sent, 50000 received; the server \
             closed first"
        );
        assert_eq!(summary, expected);
    }
}
