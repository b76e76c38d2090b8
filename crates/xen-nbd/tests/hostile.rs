//! Peers that send anything at all.

mod common;

use common::{Memory, connect};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use xen_nbd::client::{Connection, Failure};
use xen_nbd::handshake::{self, Export, Offer};
use xen_nbd::server::Server;
use xen_nbd::wire::{self, CommandFlags, ExportFlags, ReplyHeader, Request, chunk, opt, rep};
use xen_nbd::{Socket, Uri};

/// A peer that has said all that it says.
struct Script {
    says: io::Cursor<Vec<u8>>,
}

impl Read for Script {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.says.read(to)
    }
}

impl Write for Script {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(from.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn greeting() -> Vec<u8> {
    [&wire::MAGIC.to_be_bytes()[..], &wire::OPTION_MAGIC.to_be_bytes(), &[0, 3]].concat()
}

/// Bytes that look like messages more often than chance has it.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![Just(1u32), Just(3), Just(7), Just(8), Just(10), any::<u32>()];
    let kind = prop_oneof![Just(1u32), Just(3), Just(4), Just(rep::ERR_UNSUP), any::<u32>()];
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    let reply = (option.clone(), kind, data.clone())
        .prop_map(|(option, kind, data)| wire::encode_reply(option, kind, &data));
    let request =
        (option, data.clone()).prop_map(|(option, data)| wire::encode_option(option, &data));
    let piece = prop_oneof![reply, request, data];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn client_takes_any_bytes_of_a_server(greet in any::<bool>(), rest in messages()) {
        let mut says = if greet { greeting() } else { Vec::new() };
        says.extend(rest);
        let _ = handshake::negotiate(&mut Script { says: io::Cursor::new(says) }, "disk");
    }

    #[test]
    fn server_takes_any_bytes_of_a_client(flags in 0u32..5, rest in messages()) {
        let offer = Offer {
            name: "disk".into(),
            bytes: 1 << 20,
            flags: ExportFlags::HAS_FLAGS,
            min_block: 512,
            preferred_block: 4096,
        };
        let mut says = flags.to_be_bytes().to_vec();
        says.extend(rest);
        let _ = handshake::answer(&mut Script { says: io::Cursor::new(says) }, &offer);
    }

    #[test]
    fn parsers_take_any_bytes(data in proptest::collection::vec(any::<u8>(), 0..64), kind in any::<u16>()) {
        let _ = wire::parse_go(&data);
        let _ = wire::parse_meta(&data);
        let _ = wire::parse_meta_reply(&data);
        let _ = wire::parse_info(&data);
        let _ = wire::parse_error(kind, &data);
        let _ = wire::parse_status(&data);
        if let Some(header) = data.first_chunk::<{ wire::REQUEST_LEN }>()
            && let Ok(request) = Request::decode(header)
        {
            prop_assert_eq!(&request.encode(), header);
        }
        if data.len() >= wire::CHUNK_LEN
            && let Ok(header) = ReplyHeader::decode(&data)
        {
            let mut again = Vec::new();
            header.encode(&mut again);
            prop_assert_eq!(&data[..again.len()], &again[..]);
        }
    }

    #[test]
    fn messages_are_the_same_when_read_again(
        flags in any::<u16>(), command in any::<u16>(), cookie in any::<u64>(), at in any::<u64>(),
        len in any::<u32>(), number in 1u32.., text in ".{0,80}", name in "[^\\x00]{0,30}",
    ) {
        let flags_of = CommandFlags::from_bits_retain(flags);
        let request = Request { flags: flags_of, command, cookie, at, len };
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
        let mut error = Vec::new();
        wire::encode_error(cookie, number, &text, Some(at), &mut error);
        prop_assert_eq!(
            wire::parse_error(chunk::ERROR_AT, &error[wire::CHUNK_LEN..]),
            Ok((number, text))
        );
        prop_assert_eq!(wire::parse_go(&wire::encode_go(&name)), Some((name.clone(), true)));
        let meta = wire::encode_meta(&name, "base:allocation");
        prop_assert_eq!(wire::parse_meta(&meta), Some((name, vec!["base:allocation".to_string()])));
    }

    #[test]
    fn server_survives_any_requests_and_serves_the_next_client(
        requests in proptest::collection::vec((0u16..10, 0u16..40, any::<u64>(), any::<u32>()), 0..8),
        rest in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let server = Server::new(Arc::new(Memory::new(1 << 20)), "disk", |_| ());
        let (ours, theirs) = UnixStream::pair().unwrap();
        server.accept(Socket::Unix(theirs)).unwrap();
        let hostile = Socket::Unix(ours);
        handshake::negotiate(&mut &hostile, "").unwrap();
        for (command, flags, at, len) in requests {
            let flags = CommandFlags::from_bits_retain(flags);
            let request = Request { flags, command, cookie: 1, at: at % (2 << 20), len };
            let _ = hostile.send(&request.encode(), &[]);
        }
        let _ = hostile.send(&rest, &[]);
        hostile.drain(Duration::from_secs(10));
        let next = connect(&server);
        next.read(0, &mut [0; 512]).unwrap();
    }
}

/// Asks a server for 4096 bytes at 8192 that answers with what `answer` makes of the cookie.
fn ask(answer: impl FnOnce(u64) -> Vec<u8> + Send + 'static) -> Result<Vec<u8>, Failure> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let export = Export {
        bytes: 1 << 20,
        flags: ExportFlags::HAS_FLAGS,
        min_block: 1,
        preferred_block: 4096,
        max_payload: 1 << 20,
        structured: true,
        allocation: Some(7),
    };
    let timeout = Duration::from_millis(300);
    let connection = Connection::new(Socket::Unix(ours), export, timeout).unwrap();
    std::thread::spawn(move || {
        let mut theirs = theirs;
        let mut request = [0; wire::REQUEST_LEN];
        theirs.read_exact(&mut request).unwrap();
        let _ = theirs.write_all(&answer(Request::decode(&request).unwrap().cookie));
        // Silent from here on, until the client is gone.
        let _ = theirs.read(&mut [0; 1]);
    });
    let mut to = vec![1; 4096];
    connection.read(8192, &mut to).map(|()| to)
}

fn chunk_of(cookie: u64, flags: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    ReplyHeader::Chunk { flags, kind, cookie, len: payload.len() as u32 }.encode(&mut to);
    to.extend(payload);
    to
}

fn data(at: u64, len: usize) -> Vec<u8> {
    [&at.to_be_bytes()[..], &vec![5; len]].concat()
}

fn hole(at: u64, len: u32) -> Vec<u8> {
    [&at.to_be_bytes()[..], &len.to_be_bytes()].concat()
}

#[test]
fn reply_in_parts_and_in_any_order_is_put_together() {
    let read = ask(|cookie| {
        [
            chunk_of(cookie, 0, chunk::DATA, &data(8192 + 1024, 3072)),
            chunk_of(cookie, 0, chunk::HOLE, &hole(8192, 1000)),
            chunk_of(cookie, 0, chunk::DATA, &data(9192, 24)),
            chunk_of(cookie, chunk::DONE, chunk::NONE, &[]),
        ]
        .concat()
    })
    .unwrap();
    assert!(read[..1000].iter().all(|byte| *byte == 0));
    assert!(read[1000..].iter().all(|byte| *byte == 5));
}

#[test]
fn reply_that_breaks_the_protocol_ends_the_connection_with_its_fault() {
    type Answer = fn(u64) -> Vec<u8>;
    let done = chunk::DONE;
    assert_eq!(done, 1);
    let cases: [(&str, Answer); 12] = [
        ("a reply begins with", |_| vec![9; 40]),
        ("a reply to no request", |cookie| chunk_of(cookie + 256, 1, chunk::NONE, &[])),
        ("a reply to no request", |cookie| chunk_of(cookie | 0xff, 1, chunk::NONE, &[])),
        ("lacks a part", |cookie| chunk_of(cookie, 1, chunk::DATA, &data(8192, 4095))),
        ("data at 8191", |cookie| chunk_of(cookie, 1, chunk::DATA, &data(8191, 4096))),
        ("data at 8192, 4097", |cookie| chunk_of(cookie, 1, chunk::DATA, &data(8192, 4097))),
        ("data at 18446744073709551615", |cookie| {
            chunk_of(cookie, 1, chunk::HOLE, &hole(u64::MAX, 2))
        }),
        ("data that came already", |cookie| {
            let twice = chunk_of(cookie, 0, chunk::DATA, &data(8192, 1));
            [twice.clone(), twice].concat()
        }),
        ("a chunk of the kind", |cookie| chunk_of(cookie, 1, chunk::STATUS, &[0; 12])),
        ("a simple reply", |cookie| {
            let mut to = Vec::new();
            ReplyHeader::Simple { error: 0, cookie }.encode(&mut to);
            to
        }),
        ("answers nothing any more", |_| Vec::new()),
        ("an error chunk", |cookie| chunk_of(cookie, 1, chunk::ERROR, &[0; 6])),
    ];
    for (fault, answer) in cases {
        let Err(Failure::Lost(reason)) = ask(answer) else { panic!("{fault}: not lost") };
        assert!(reason.contains(fault), "{fault}: {reason}");
    }
}

#[test]
fn error_of_a_server_reaches_the_caller() {
    let error = ask(|cookie| {
        let mut to = Vec::new();
        wire::encode_error(cookie, 28, "the disk is full", None, &mut to);
        to
    });
    let Err(Failure::Refused(error)) = error else { panic!("{error:?}") };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn server_that_accepts_nobody_is_given_up() {
    let folder = std::env::temp_dir().join(format!("xen-nbd-backlog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let uri: Uri = format!("nbd+unix:///?socket={}", path.display()).parse().unwrap();
    // It takes a connection into its queue, and says nothing.
    let error =
        Connection::open(&uri, Duration::from_millis(200), Duration::from_secs(9)).err().unwrap();
    assert!(error.to_string().contains("silent in the handshake"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn server_with_options_that_make_no_sense_is_refused() {
    let says = |parts: &[Vec<u8>]| {
        let mut says = greeting();
        parts.iter().for_each(|part| says.extend(part));
        let script = &mut Script { says: io::Cursor::new(says) };
        handshake::negotiate(script, "disk").unwrap_err().to_string()
    };
    let plain = wire::encode_reply(opt::STRUCTURED_REPLY, rep::ERR_UNSUP, &[]);
    let go = |reply, data: &[u8]| wire::encode_reply(opt::GO, reply, data);
    for (fault, reply) in [
        ("there is no such export", go(rep::ERR_UNKNOWN, b"")),
        ("it wants TLS", go(rep::ERR_TLS_REQD, b"")),
        ("does not tell its length", go(rep::ACK, b"")),
        ("an export of 18446744073709551615", go(rep::INFO, &wire::encode_info(u64::MAX, 1))),
        ("with the flags", go(rep::INFO, &wire::encode_info(512, 0))),
        ("blocks of 3", go(rep::INFO, &wire::encode_block_size(3, 4096, 4096))),
        ("blocks of 512, 256", go(rep::INFO, &wire::encode_block_size(512, 256, 4096))),
        ("a reply to option 3", wire::encode_reply(3, rep::ACK, b"")),
    ] {
        let error = says(&[plain.clone(), reply]);
        assert!(error.contains(fault), "{fault}: {error}");
    }
}
