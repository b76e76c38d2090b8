//! The program itself, with a xenstored that knows only dom0.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

/// A socket for a xenstored, in a folder of its own.
struct Socket(PathBuf, UnixListener);

impl Socket {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vchan-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Socket(path.clone(), UnixListener::bind(&path).unwrap())
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vchan"));
        command.args(args).env("XENSTORED_PATH", &self.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Reads a request (io/xs_wire.h): its header, and its payload.
fn request(stream: &mut UnixStream) -> std::io::Result<([u8; 16], Vec<u8>)> {
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    let mut payload = vec![0; usize::from(header[12])];
    stream.read_exact(&mut payload)?;
    Ok((header, payload))
}

/// Answers until the client leaves: GET_DOMAIN_PATH (10) and IS_DOMAIN_INTRODUCED (17), which only dom0 is.
fn serve(mut stream: UnixStream) {
    while let Ok((mut header, payload)) = request(&mut stream) {
        let answer: &[u8] = match header[0] {
            10 => b"/local/domain/0\0",
            17 if payload == b"0\0" => b"T\0",
            17 => b"F\0",
            kind => panic!("unexpected request of type {kind}"),
        };
        header[12] = answer.len() as u8;
        stream.write_all(&[&header, answer].concat()).unwrap();
    }
}

fn run(name: &str, args: &[&str]) -> (Option<i32>, String) {
    let socket = Socket::new(name);
    let child = socket.start(args);
    let listener = socket.1.try_clone().unwrap();
    let daemon = thread::spawn(move || serve(listener.accept().unwrap().0));
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    daemon.join().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_domain_that_is_not_there() {
    let (code, text) = run("missing", &["connect", "7"]);
    assert_eq!((code, &*text), (Some(3), "vchan: there is no domain 7: see xl list\n"));
}

#[test]
fn dom0_does_not_talk_to_itself() {
    let (code, text) = run("itself", &["connect", "0"]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("vchan: domain 0 is this one"), "{text}");
}

#[test]
fn wrong_usage_and_help() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_vchan")).args(args).output().unwrap();
    assert_eq!(run(&["connect"]).status.code(), Some(2));
    assert_eq!(run(&["connect", "2", "--timeout", "soon"]).status.code(), Some(2));
    let help = run(&["connect", "--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && text.contains("Exit codes:") && text.contains("vchan connect 2"), "{text}");
}

#[test]
fn signals_end_it_with_their_exit_codes() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let socket = Socket::new(signal);
        let child = socket.start(&["connect", "2"]);
        // Once its first request is here the program catches signals; no answer comes.
        let (mut stream, _) = socket.1.accept().unwrap();
        request(&mut stream).unwrap();
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), &*ended.stderr), (Some(code), &b""[..]));
    }
}
