//! `vchan connect --raw`: keys, sizes, and the way out; and `vchan exec --pty` behind it.

mod common;

use common::{Bench, DOM0, GUEST, Input, Output, Step, args, program, streams};
use embedded_io_async::Read;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use vchan::{Child, Client, Escape, ExecArguments, Failure, Program, RingSizes, Stop, Terminal};
use xen_platform::{Clock, deadline, sleep};
use xen_sim::{Domain, Task};
use xen_vchan::{Connection, Offer, ServerConfig, WindowSize};

/// Ctrl-].
const ESCAPE: &[u8] = b"\x1d";

fn size(columns: u16, rows: u16) -> WindowSize {
    WindowSize::new(columns, rows).unwrap()
}

/// A terminal whose window grows by a column and a row each second, five times.
struct Growing {
    clock: Domain,
    grown: Cell<u16>,
    is_raw: Rc<Cell<bool>>,
}

impl Growing {
    fn new(clock: &Domain) -> Self {
        Growing { clock: clock.clone(), grown: Cell::new(0), is_raw: Rc::default() }
    }
}

/// The raw mode of that terminal.
struct Raw(Rc<Cell<bool>>);

impl Drop for Raw {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Terminal for Growing {
    type Raw = Raw;

    fn make_raw(&self) -> Result<Raw, Failure> {
        self.is_raw.set(true);
        Ok(Raw(self.is_raw.clone()))
    }

    fn size(&self) -> Option<WindowSize> {
        Some(size(80 + self.grown.get(), 24 + self.grown.get()))
    }

    async fn resized(&self) {
        if self.grown.get() == 5 {
            return std::future::pending().await;
        }
        sleep(&self.clock, Duration::from_secs(1)).await;
        self.grown.set(self.grown.get() + 1);
    }
}

/// Serves one client in the guest with `work`.
fn serve<T: 'static>(
    bench: &Bench,
    work: impl AsyncFnOnce(Domain, Connection<Domain>) -> T + 'static,
) -> Task<T> {
    let (guest, store) = bench.host(GUEST);
    bench.sim.spawn(&guest.clone(), async move {
        let config = ServerConfig::new(DOM0, "data/vchan");
        let offer = Offer::publish(&guest, &store, &config).await.unwrap();
        let connection = offer.accept().await.unwrap();
        work(guest, connection).await
    })
}

/// Runs `vchan connect --raw` to its end; returns its result, its output and its time.
fn connect(bench: &mut Bench, steps: Vec<Step>) -> (Result<(), Failure>, Vec<u8>, Duration) {
    let (dom0, store) = bench.host(DOM0);
    let (input, output): (Input, Output) = streams(&dom0, steps);
    let bytes = output.bytes.clone();
    let (terminal, stop) = (Growing::new(&dom0), Stop::new());
    let is_raw = terminal.is_raw.clone();
    let args = vchan::ConnectArguments { raw: true, escape: Escape(Some(0x1d)), ..args() };
    let (result, took) = bench.sim.run(async move {
        let start = dom0.now();
        let session = common::quiet(&dom0, &store, &stop);
        let work = vchan::connect_raw(session, &args, &terminal, input, output);
        let result = deadline(&dom0, Some(start + Duration::from_secs(3600)), work).await;
        (result.expect("it hangs"), dom0.now().since(start))
    });
    assert!(!is_raw.get(), "the terminal stays raw");
    (result, bytes.take(), took)
}

#[test]
fn every_size_reaches_the_server() {
    let mut bench = Bench::new();
    let server = serve(&bench, async |_, connection| {
        let mut sizes = vec![connection.peer_window()];
        while sizes.len() < 6 {
            sizes.push(Some(connection.peer_window_changed(sizes[sizes.len() - 1]).await));
        }
        connection.close_with_status(7).await.unwrap();
        sizes
    });
    let (result, _, took) = connect(&mut bench, vec![Step::Forever]);
    assert_eq!(result.unwrap_err().code.number(), 7);
    let sizes = bench.sim.run(server.join());
    assert_eq!(sizes, (0..6).map(|n| Some(size(80 + n, 24 + n))).collect::<Vec<_>>());
    assert!(took < Duration::from_secs(6), "changes wait for a timer: {took:?}");
}

/// The server takes nothing: more than fits the ring waits, and the escape key is seen all the
/// same.
#[test]
fn escape_leaves_a_server_that_hangs() {
    let mut bench = Bench::new();
    let server = serve(&bench, async |_, connection| {
        connection.over().await;
        connection.state()
    });
    let steps = vec![
        Step::Bytes(vec![b'x'; 30_000]),
        Step::Pause(Duration::from_secs(2)),
        Step::Bytes(ESCAPE.to_vec()),
        Step::Forever,
    ];
    let (result, _, took) = connect(&mut bench, steps);
    assert_eq!(result, Ok(()));
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(bench.sim.run(server.join()), xen_vchan::Live::Died);
}

#[test]
fn keys_arrive_in_order_with_the_end_of_input() {
    let mut bench = Bench::new();
    let server = serve(&bench, async |_, connection| {
        let (mut reader, _) = connection.split();
        let (mut got, mut chunk) = (Vec::new(), [0; 100]);
        while let count @ 1.. = reader.read(&mut chunk).await.unwrap() {
            got.extend_from_slice(&chunk[..count]);
        }
        connection.close().await.unwrap();
        got
    });
    let typed = common::letters(100_000);
    let pieces = typed.chunks(777).map(|piece| Step::Bytes(piece.to_vec())).collect();
    let (result, ..) = connect(&mut bench, pieces);
    assert_eq!(result, Ok(()));
    assert!(bench.sim.run(server.join()) == typed);
}

/// A program on a terminal, which notes its sizes.
struct Sized(Rc<RefCell<Vec<WindowSize>>>);

impl Child for Sized {
    async fn wait(&mut self) -> Result<u8, Failure> {
        Ok(0)
    }
    fn terminate(&mut self) {}
    fn kill(&mut self) {}
    fn resizer(&self) -> Option<Box<dyn Fn(WindowSize)>> {
        let sizes = self.0.clone();
        Some(Box::new(move |size| sizes.borrow_mut().push(size)))
    }
}

#[test]
fn program_of_exec_starts_with_the_size_and_follows_it() {
    let mut bench = Bench::new();
    let (guest, store) = bench.host(GUEST);
    let args = ExecArguments {
        place: common::server_place(DOM0),
        sizes: RingSizes { left: 4096, right: 4096 },
        once: true,
        timeout: None,
        pty: true,
        grace: 5,
        clients: 64,
        verbose: false,
        command: Vec::new(),
    };
    let serving = bench.sim.spawn(&guest.clone(), async move {
        let (sizes, first) = (Rc::default(), Cell::new(None));
        let start = async |client: &Client| {
            first.set(client.window);
            let (output, input) = program(8);
            Ok(Program { output, input, child: Sized(Rc::clone(&sizes)) })
        };
        let stop = Stop::new();
        let result = vchan::exec(common::quiet(&guest, &store, &stop), &args, start).await;
        assert_eq!(result, Ok(()));
        (first.get(), sizes.take())
    });
    let keys = |text: &str| Step::Bytes(text.as_bytes().to_vec());
    let pause = Step::Pause(Duration::from_millis(2500));
    let (result, shown, _) =
        connect(&mut bench, vec![keys("typed"), pause, keys("end"), Step::Forever]);
    assert_eq!((result, &*shown), (Ok(()), &b"TYPEDEND"[..]));
    let (first, sizes) = bench.sim.run(serving.join());
    assert_eq!(first, Some(size(80, 24)));
    assert_eq!(sizes, [size(80, 24), size(81, 25), size(82, 26)]);
}
