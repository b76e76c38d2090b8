//! Peers that are there and do nothing: what waits for them, and for how long.

mod common;

use common::{Bench, DOM0, GUEST, Step, args, letters, place};
use embedded_io_async::{ErrorType, Read, Write};
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;
use vchan::{
    Child, Code, DumpArguments, ExecArguments, Failure, ListArguments, ListenArguments, Program,
    RingSizes, Stop,
};
use xen_platform::{Clock, sleep};
use xen_sim::Domain;
use xen_store::Store;
use xen_vchan::ClientConfig;

const SECOND: Duration = Duration::from_secs(1);

/// It has published its channel, let its client in, and hangs.
#[test]
fn a_server_that_does_nothing_is_given_up_at_the_timeout() {
    for (steps, timeout) in [
        (vec![], 10),
        (vec![Step::Bytes(letters(5))], 10),
        (vec![Step::Bytes(letters(4096))], 3),
        (vec![Step::Bytes(letters(4097)), Step::Forever], 3),
        (vec![Step::Pause(60 * SECOND), Step::Bytes(letters(100_000))], 10),
    ] {
        let mut bench = Bench::new();
        bench.serve(Duration::ZERO, |_, _, _| pending());
        let mut args = args();
        args.dial.timeout = timeout;
        let ended = bench.connect(args, steps);
        let failure = ended.result.unwrap_err();
        assert_eq!(failure.code, Code::Missing, "{failure}");
        assert!(failure.text.contains(&format!("no sign of life for {timeout}s")), "{failure}");
        let pause = ended.took.saturating_sub(60 * SECOND);
        assert!(
            pause.min(ended.took) <= Duration::from_secs(timeout) + 2 * SECOND,
            "{:?}",
            ended.took
        );
        bench.sim.world().destroy(GUEST);
    }
}

/// One byte taken, or one sent, within the timeout: it is at work, and may take as long as it
/// likes.
#[test]
fn a_server_that_has_begun_is_waited_for() {
    for reads in [true, false] {
        for steps in [vec![Step::Bytes(letters(4096))], vec![Step::Bytes(letters(20_000))]] {
            let mut bench = Bench::new();
            let sent: usize = steps
                .iter()
                .map(|step| if let Step::Bytes(bytes) = step { bytes.len() } else { 0 })
                .sum();
            bench.serve(Duration::ZERO, move |domain, mut reader, mut writer| async move {
                sleep(&domain, 9 * SECOND).await;
                let mut left = sent;
                if reads {
                    left -= reader.read(&mut [0; 1]).await.unwrap();
                } else {
                    writer.write_all(b"x").await.unwrap();
                }
                sleep(&domain, 500 * SECOND).await;
                reader.read_exact(&mut vec![0; left]).await.unwrap();
                writer.write_all(b"done").await.unwrap();
                assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
            });
            let ended = bench.connect(args(), steps);
            assert_eq!(ended.result, Ok(()));
            assert!(
                ended.output.ends_with(b"done") && ended.took >= 509 * SECOND,
                "{:?}",
                ended.took
            );
        }
    }
}

/// A person at the keyboard decides when it has been long enough.
#[test]
fn a_user_at_a_terminal_is_not_sent_away() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, mut reader, mut writer| async move {
        sleep(&domain, 100 * SECOND).await;
        let mut line = [0; 5];
        reader.read_exact(&mut line).await.unwrap();
        writer.write_all(&line.to_ascii_uppercase()).await.unwrap();
    });
    let ended = bench.connect(args(), vec![Step::Bytes(b"line\n".into()), Step::Forever]);
    assert_eq!((ended.result, ended.output), (Ok(()), b"LINE\n".to_vec()));
}

/// Runs `command` in dom0, whose xenstore stops answering after `delay`.
fn with_a_xenstore_that_hangs(
    delay: Duration,
    command: impl AsyncFnOnce(Domain, Store, Stop) -> Result<(), Failure> + 'static,
) {
    let mut bench = Bench::new();
    let (dom0, store) = bench.host(DOM0);
    let (clock, xs, stop) = (dom0.clone(), bench.xs.clone(), Stop::new());
    let request = stop.clone();
    bench.sim.spawn(&dom0, async move {
        sleep(&clock, delay).await;
        xs.hold_replies(DOM0);
        request.request();
    });
    let (result, took) = bench.sim.run(async move {
        let start = dom0.now();
        sleep(&dom0, SECOND / 2).await;
        (command(dom0.clone(), store, stop).await, dom0.now().since(start))
    });
    let failure = result.unwrap_err();
    assert_eq!(
        (failure.code, &*failure.text),
        (Code::Other, "xenstore does not answer: is xenstored running?")
    );
    assert!(took < delay + 11 * SECOND, "{took:?}");
}

#[test]
fn a_xenstore_that_hangs_is_not_waited_for_for_ever() {
    with_a_xenstore_that_hangs(Duration::ZERO, async |dom0, store, _| {
        vchan::list(&dom0, &store, &ListArguments { json: false }).await.map(drop)
    });
    with_a_xenstore_that_hangs(Duration::ZERO, async |dom0, store, _| {
        vchan::dump(&dom0, &store, &DumpArguments { place: place(), json: false }).await.map(drop)
    });
    with_a_xenstore_that_hangs(Duration::ZERO, async |dom0, store, stop| {
        let streams = common::streams(&dom0, vec![]);
        vchan::listen(common::quiet(&dom0, &store, &stop), &listen_args(), streams).await
    });
    // Only once it is to remove its keys.
    with_a_xenstore_that_hangs(5 * SECOND, async |dom0, store, stop| {
        let streams = common::streams(&dom0, vec![]);
        vchan::listen(common::quiet(&dom0, &store, &stop), &listen_args(), streams).await
    });
}

fn listen_args() -> ListenArguments {
    let sizes = RingSizes { left: 4096, right: 4096 };
    ListenArguments {
        place: common::server_place(GUEST),
        sizes,
        once: false,
        keep: false,
        linger: None,
        timeout: None,
        verbose: false,
    }
}

/// The input of a program that takes only so much, and no end of output.
struct Full(usize);

impl ErrorType for Full {
    type Error = Infallible;
}

impl Write for Full {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        if self.0 == 0 {
            pending().await
        }
        let count = from.len().min(self.0);
        self.0 -= count;
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Read for Full {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Infallible> {
        pending().await
    }
}

/// A program that ends only when it is killed.
struct Stubborn(bool);

impl Child for Stubborn {
    async fn wait(&mut self) -> Result<u8, Failure> {
        if self.0 { Ok(128 + 9) } else { pending().await }
    }
    fn terminate(&mut self) {}
    fn kill(&mut self) {
        self.0 = true;
    }
}

#[test]
fn a_program_that_reads_no_more_is_not_waited_for_once_its_client_is_gone() {
    for dies in [false, true] {
        let mut bench = Bench::new();
        let (domain, store) = bench.host(GUEST);
        let process = domain.clone();
        bench.sim.spawn(&process.clone(), async move {
            let config = ClientConfig::new(DOM0, "data/vchan");
            let connection = xen_vchan::connect(&domain, &store, &config).await.unwrap();
            let (_, mut writer) = connection.split();
            writer.write_all(&letters(4000)).await.unwrap();
            sleep(&domain, 100 * SECOND).await;
            if dies {
                process.kill_process();
            } else {
                connection.close().await.unwrap();
            }
        });
        let (dom0, store) = bench.host(DOM0);
        let args = ExecArguments {
            place: common::server_place(GUEST),
            sizes: RingSizes { left: 4096, right: 4096 },
            once: true,
            timeout: None,
            pty: false,
            grace: 5,
            clients: 64,
            verbose: false,
            command: Vec::new(),
        };
        let (result, took) = bench.sim.run(async move {
            let start = dom0.now();
            let stop = Stop::new();
            let program = async |_: &_| {
                Ok(Program { output: Full(0), input: Full(10), child: Stubborn(false) })
            };
            let result = vchan::exec(common::quiet(&dom0, &store, &stop), &args, program).await;
            (result, dom0.now().since(start))
        });
        let failure = result.unwrap_err().text;
        assert!(
            failure
                .starts_with("the command has not taken the next of the client's bytes within 5s"),
            "{failure}"
        );
        assert!(took > 104 * SECOND && took < 120 * SECOND, "{took:?}");
    }
}
