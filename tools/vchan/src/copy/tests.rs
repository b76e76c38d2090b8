//! A server of copies with clients that keep to no rules.

use super::server::FileServer;
use super::wire::{Message, Peer, VERSION};
use crate::{Failure, RingSizes};
use embedded_io_async::{ErrorType, Read, Write};
use proptest::prelude::*;
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

/// A folder `served`, beside a file that is nobody's business; it goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vchan-copy-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("served")).unwrap();
        fs::write(path.join("secret"), "secret").unwrap();
        symlink("..", path.join("served/up")).unwrap();
        symlink("../secret", path.join("served/link")).unwrap();
        Folder(path)
    }

    /// Has a server take what a client sends, and returns its end and its answers.
    fn serve(&self, sent: &[u8], read_only: bool) -> (Result<String, Failure>, Vec<u8>) {
        let sizes = RingSizes { left: 4096, right: 4096 };
        let server = FileServer::open(&self.0.join("served"), read_only, 1, sizes, false).unwrap();
        let mut answers = Answers(Vec::new());
        let mut peer = Peer::new((Sent(sent), &mut answers));
        let result = block_on(server.copy(&mut peer));
        drop(peer);
        (result, answers.0)
    }

    /// Returns the names in the served folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("served")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn has_kept_its_secret(&self) -> bool {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names == ["secret", "served"] && fs::read(self.0.join("secret")).unwrap() == b"secret"
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Bytes that a client has sent.
struct Sent<'a>(&'a [u8]);

impl ErrorType for Sent<'_> {
    type Error = Infallible;
}

impl Read for Sent<'_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Infallible> {
        let count = self.0.len().min(to.len());
        to[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// Answers that nobody reads.
struct Answers(Vec<u8>);

impl ErrorType for Answers {
    type Error = Infallible;
}

impl Write for Answers {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        self.0.extend_from_slice(from);
        Ok(from.len())
    }
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Runs work that waits for nothing but its turn.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

/// Returns messages as they travel.
fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut sent = Answers(Vec::new());
    let mut peer = Peer::new((Sent(&[]), &mut sent));
    messages.iter().for_each(|message| block_on(peer.send(message)).unwrap());
    drop(peer);
    sent.0
}

fn put(path: &str, name: &str) -> Message {
    Message::Put { version: VERSION, path: path.into(), name: name.into() }
}

fn file(path: &str, size: u64) -> Message {
    Message::File { path: path.into(), mode: 0o7777, size }
}

#[test]
fn path_that_leads_out_is_refused() {
    for messages in [
        vec![put("../x", "a")],
        vec![put("/tmp/x", "a")],
        vec![put("up/x", "a"), file("", 0)],
        vec![put("", ".."), file("", 0)],
        vec![put("", "a/../../b"), file("", 0)],
        vec![put("", "d"), Message::Folder { path: "../e".into() }],
        vec![put("", "d"), Message::Folder { path: "".into() }, file("../../secret", 6)],
        vec![put("", "up"), Message::Folder { path: "new".into() }],
        vec![put("", "up"), file("secret", 6)],
        vec![put("link", ""), file("x", 0)],
        vec![Message::Get { version: VERSION, path: "../secret".into() }],
        vec![Message::Get { version: VERSION, path: "up/secret".into() }],
        vec![Message::Get { version: VERSION, path: "/etc/passwd".into() }],
    ] {
        let folder = Folder::new();
        let (result, answers) = folder.serve(&encoded(&messages), false);
        assert!(result.is_err(), "{messages:?}");
        assert!(folder.has_kept_its_secret(), "{messages:?}");
        let told = String::from_utf8_lossy(&answers).contains("root:");
        assert!(!told, "{messages:?}");
    }
}

/// A link is not followed: its target is not sent in its place.
#[test]
fn links_are_left_out() {
    let folder = Folder::new();
    let get = encoded(&[Message::Get { version: VERSION, path: Vec::new() }]);
    let (_, answers) = folder.serve(&get, false);
    let text = String::from_utf8_lossy(&answers).into_owned();
    assert!(text.contains("link") && text.contains("up") && !text.contains("secret"), "{text}");
}

#[test]
fn client_of_a_read_only_folder_leaves_nothing() {
    let folder = Folder::new();
    let before = folder.names();
    let (result, _) = folder.serve(&encoded(&[put("", "a"), file("", 0)]), true);
    assert_eq!(result.unwrap_err().text, "this folder is read-only");
    assert_eq!(folder.names(), before);
}

/// A file that is not what its hash says never gets its name.
#[test]
fn file_with_a_wrong_hash_is_not_stored() {
    let folder = Folder::new();
    let before = folder.names();
    let done = Message::Done { hash: [7; 32] };
    let messages = [put("", "a"), file("", 0), Message::From { at: 0 }, done];
    let (result, _) = folder.serve(&encoded(&messages), false);
    assert!(result.unwrap_err().text.contains("another checksum"));
    assert_eq!(folder.names(), before);
}

#[test]
fn messages_out_of_turn_are_refused() {
    for messages in [
        vec![Message::End],
        vec![Message::Put { version: 9, path: Vec::new(), name: b"a".to_vec() }],
        vec![put("", "a"), Message::Ended],
        vec![put("", "a"), file("", 5), Message::From { at: 3 }],
        vec![put("", "a"), file("", 5), Message::From { at: 0 }, Message::End],
        vec![put("", ""), file("", 5)],
        vec![put("", "a"), file(".b.vchan-part", 5)],
    ] {
        let folder = Folder::new();
        assert!(folder.serve(&encoded(&messages), false).0.is_err(), "{messages:?}");
        assert!(folder.has_kept_its_secret());
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let path = || "(\\.\\.|up|link|a|b|/){0,5}".prop_map(String::into_bytes);
    prop_oneof![
        (path(), path()).prop_map(|(path, name)| Message::Put { version: VERSION, path, name }),
        path().prop_map(|path| Message::Get { version: VERSION, path }),
        path().prop_map(|path| Message::Folder { path }),
        (path(), 0..3u64).prop_map(|(path, size)| Message::File { path, mode: 0o644, size }),
        (0..3u64).prop_map(|at| Message::From { at }),
        Just(Message::Done { hash: *blake3::hash(b"").as_bytes() }),
        Just(Message::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_messages_reach_beyond_the_folder(
        first in "(\\.\\.|up|link|a|b|/){0,5}",
        mut rest in prop::collection::vec(messages(), 0..8),
        bytes: Vec<u8>,
    ) {
        let folder = Folder::new();
        rest.insert(0, put(&first, "a"));
        let sent = [encoded(&rest), bytes].concat();
        let _ = folder.serve(&sent, false);
        prop_assert!(folder.has_kept_its_secret());
        prop_assert!(Path::new(&folder.0).join("served/up").is_symlink());
    }
}
