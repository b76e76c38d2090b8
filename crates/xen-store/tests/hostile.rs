//! A xenstored that breaks the protocol, and clients that do.

mod common;

use common::{Host, ONE, poll_once, settle};
use embedded_io_async::{ErrorType, Read, Write};
use proptest::prelude::*;
use std::convert::Infallible;
use std::pin::pin;
use std::task::Poll;
use xen_abi::xs_wire::MessageType;
use xen_exec::Executor;
use xen_store::{Error, Flaw, Malformed, TransportError};

/// A message with a header that fits it.
fn message(kind: u32, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let words = [kind, req_id, 0, payload.len() as u32];
    let header = words.iter().flat_map(|word| word.to_ne_bytes());
    header.chain(payload.iter().copied()).collect()
}

/// A peer that takes everything and sends what was made up before, then ends.
struct Script(Vec<u8>);
struct Sink;

impl ErrorType for Script {
    type Error = Infallible;
}

impl ErrorType for Sink {
    type Error = Infallible;
}

impl Read for Script {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Infallible> {
        // The tasks that ask get to do so first.
        xen_exec::yield_now().await;
        let count = to.len().min(self.0.len());
        to[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        Ok(count)
    }
}

impl Write for Sink {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(bytes.len())
    }
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Lets a client ask for everything at once of a peer that sends `script`. Returns why the
/// connection ended, and the outcome of each request. Nobody may wait for ever: that would be a
/// turn with nothing to do.
fn face(script: Vec<u8>) -> (TransportError, Vec<Result<(), Error>>) {
    let (store, driver) = xen_store::connect(Script(script), Sink);
    let mut exec = Executor::new();
    let spawner = exec.spawner();
    macro_rules! ask {
        ($store:ident => $($work:expr),* $(,)?) => {
            [$({
                let $store = store.clone();
                spawner.spawn(async move { $work.await.map(drop) })
            }),*]
        };
    }
    let requests = ask!(store =>
        store.read("a"),
        store.directory("a"),
        store.permissions("a"),
        async { store.watch("a").await?.next().await },
        store.transaction(async |tx| tx.write("a", b"").await),
        store.is_domain_introduced(ONE),
        store.domain_path(ONE),
        store.write("a", b""),
    );
    let work = async move {
        let end = driver.await;
        let mut outcomes = Vec::new();
        for request in requests {
            outcomes.push(request.join().await);
        }
        (end, outcomes)
    };
    exec.run(work, |turn| assert_eq!(turn, xen_exec::Turn::Busy, "everybody waits"))
}

#[test]
fn each_flaw_is_named_and_ends_the_connection() {
    use Flaw::*;
    // Requests have these numbers: 1 READ, 2 DIRECTORY, 3 GET_PERMS, 4 WATCH, 5 TRANSACTION_START,
    // 6 IS_DOMAIN_INTRODUCED, 7 GET_DOMAIN_PATH, 8 WRITE.
    let text = |text: &str| text.to_string();
    let cases: Vec<(u32, u32, &[u8], Flaw)> = vec![
        (2, 99, b"", UnknownRequest),
        (2, 0, b"", UnknownRequest),
        (1, 1, b"", WrongType(MessageType::READ)),
        (0x1234_5678, 1, b"", WrongType(MessageType::READ)),
        (16, 1, b"ENOENT", NoNul),
        (16, 1, b"", Strings { found: 0, expected: 1 }),
        (16, 1, b"ENOENT\0ENOENT\0", Strings { found: 2, expected: 1 }),
        (16, 1, b"no\0", Text(text("no"))),
        (16, 1, b"E\xff\0", NotText),
        (1, 2, b"a\0b", NoNul),
        (1, 2, b"a\0\0", Name(text(""))),
        (1, 2, b"a/b\0", Name(text("a/b"))),
        (1, 2, b"\xc3\x28\0", NotText),
        (3, 3, b"", NoStrings),
        (3, 3, b"n0\0q1\0", Permission(text("q1"))),
        (4, 4, b"OK", NoNul),
        (4, 4, b"KO\0", Text(text("KO"))),
        (6, 5, b"0\0", Text(text("0"))),
        (6, 5, b"4294967296\0", Text(text("4294967296"))),
        (17, 6, b"true\0", Text(text("true"))),
        (10, 7, b"/local/domain/\0", Name(text("/local/domain/"))),
        (15, 0, b"a\0", Strings { found: 1, expected: 2 }),
        (15, 0, b"a\0x\0", UnknownToken(text("x"))),
        (15, 0, b"a\x002\0", UnknownToken(text("2"))),
        (15, 0, b"ab\x001\0", Stray(text("ab"))),
    ];
    for (kind, req_id, payload, flaw) in cases {
        let (end, outcomes) = face(message(kind, req_id, payload));
        let expected: TransportError = Malformed { kind: MessageType(kind), req_id, flaw }.into();
        assert_eq!(end, expected);
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().kind, expected.clone().into());
        }
    }
}

#[test]
fn too_long_and_too_short_messages_end_the_connection() {
    let mut long = message(2, 1, b"");
    long[12..16].copy_from_slice(&4097u32.to_ne_bytes());
    let flaw = Flaw::Length(4097);
    assert_eq!(face(long).0, Malformed { kind: MessageType::READ, req_id: 1, flaw }.into());

    let whole = message(2, 1, &[b'x'; 4096]);
    assert_eq!(face(whole.clone()).0, TransportError::Ended);
    for len in [1, 15, 16, 17, 4111] {
        assert_eq!(face(whole[..len].to_vec()).0, TransportError::Truncated, "{len} bytes");
    }
    assert_eq!(face(Vec::new()).0, TransportError::Ended);
}

#[test]
fn an_answer_cannot_come_twice() {
    let twice = [message(2, 1, b"x"), message(2, 1, b"y")].concat();
    let (end, outcomes) = face(twice);
    let flaw = Flaw::UnknownRequest;
    assert_eq!(end, Malformed { kind: MessageType::READ, req_id: 1, flaw }.into());
    assert!(outcomes[0].is_ok());
}

#[test]
fn linux_may_leave_the_numbers_of_an_event_unset() {
    let mut event = message(15, 0xdead_beef, b"a\x001\0");
    event[8..12].copy_from_slice(&0x5555_5555u32.to_ne_bytes());
    let (end, outcomes) = face([message(4, 4, b"OK\0"), event].concat());
    assert_eq!(end, TransportError::Ended);
    assert!(outcomes[3].is_ok());
}

#[test]
fn garbage_behind_good_answers_ends_a_live_connection() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        assert_eq!(store.read("domid").await.unwrap(), b"1");
        daemon.inject(ONE, &[0xff; 16]);
        settle().await;
        let error = store.read("domid").await.unwrap_err();
        let expected = Malformed { kind: MessageType(!0), req_id: !0, flaw: Flaw::Length(!0) };
        assert_eq!(error.kind, TransportError::from(expected).into());
    });
}

#[test]
fn a_client_that_announces_too_much_is_cut_off() {
    let host = Host::new();
    let (mut reader, mut writer) = host.daemon.connect(ONE);
    let header: Vec<u8> = [2u32, 1, 0, 4097].iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(poll_once(pin!(writer.write(&header))), Poll::Ready(Ok(16)));
    assert!(matches!(poll_once(pin!(writer.write(&header))), Poll::Ready(Err(_))));
    assert_eq!(poll_once(pin!(reader.read(&mut [0; 16]))), Poll::Ready(Ok(0)));
}

#[test]
fn a_client_that_does_not_read_is_not_read_either() {
    let host = Host::new();
    let (mut reader, mut writer) = host.daemon.connect(ONE);
    let read = message(2, 1, b"domid\0");
    let sent = (0..1000).take_while(|_| poll_once(pin!(writer.write(&read))).is_ready()).count();
    // Each answer has 17 bytes; the ring would take 1024.
    assert_eq!(sent, 1024usize.div_ceil(17));
    assert_eq!(poll_once(pin!(reader.read(&mut [0; 17]))), Poll::Ready(Ok(17)));
    assert!(poll_once(pin!(writer.write(&read))).is_ready());
}

/// Bytes that come close to what payloads are made of.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[a-zA-Z0-9/@_-]{0,6}\0?".prop_map(String::into_bytes),
        "[nrwb][0-9]{1,5}\0".prop_map(String::into_bytes),
        "(OK|T|F|1|2|EAGAIN|ENOENT|E2BIG|data|domid|/)\0".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let any_message =
        (prop_oneof![0..24u32, any::<u32>()], prop_oneof![0..12u32, any::<u32>()], payload());
    let bytes = any_message.prop_map(|(kind, req_id, payload)| message(kind, req_id, &payload));
    let piece = prop_oneof![6 => bytes, 1 => proptest::collection::vec(any::<u8>(), 0..40)];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Answers of the right type to the requests of [`face`], so that payloads get looked at.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [2, 1, 3, 4, 6, 17, 10, 11];
    let answer = (0..kinds.len(), payload(), any::<bool>());
    let bytes = answer.prop_map(move |(index, payload, refuse)| {
        message(if refuse { 16 } else { kinds[index] }, index as u32 + 1, &payload)
    });
    proptest::collection::vec(bytes, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_comes_the_client_ends_with_an_error(script in prop_oneof![messages(), answers()]) {
        face(script);
    }

    #[test]
    fn whatever_comes_the_daemon_goes_on(script in messages(), pieces in 1..50usize) {
        let mut host = Host::new();
        host.daemon.limit_transfer(pieces);
        let (mut reader, mut writer) = host.daemon.connect(ONE);
        let (other, daemon) = (host.client(ONE), host.daemon.clone());
        let process = host.sim.domain(1);
        host.sim.spawn(&process, async move { writer.write_all(&script).await });
        host.sim.spawn(&process, async move {
            while let Ok(1..) = reader.read(&mut [0; 64]).await {}
        });
        host.run(async move {
            settle().await;
            daemon.set("/local/domain/1/domid", "1");
            assert_eq!(other.read("/local/domain/1/domid").await.unwrap(), b"1");
        });
    }
}
