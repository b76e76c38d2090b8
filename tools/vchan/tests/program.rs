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

/// Answers until the client leaves: DIRECTORY (1) and READ (2), of which dom0 has nothing, GET_DOMAIN_PATH (10) and
/// IS_DOMAIN_INTRODUCED (17), which only dom0 is.
fn serve(mut stream: UnixStream) {
    while let Ok((mut header, payload)) = request(&mut stream) {
        let answer: &[u8] = match header[0] {
            1 if payload == b"/local/domain\0" => b"0\0",
            1 | 2 => {
                header[0] = 16; // ERROR
                b"ENOENT\0"
            }
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
    let (code, _, stderr) = run_whole(name, args);
    (code, stderr)
}

/// Its exit code, standard output and standard error.
fn run_whole(name: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let socket = Socket::new(name);
    let child = socket.start(args);
    let listener = socket.1.try_clone().unwrap();
    let daemon = thread::spawn(move || serve(listener.accept().unwrap().0));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    daemon.join().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
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

#[test]
fn a_host_without_channels_has_an_empty_list() {
    let (code, text, _) = run_whole("ls", &["ls"]);
    assert_eq!((code, &*text), (Some(0), "SERVER  CLIENT  PATH  RING-REF  PORT  STATE  LEFT  RIGHT\n"));
    assert_eq!(run_whole("ls-json", &["ls", "--json"]).1, "[]\n");
}

#[test]
fn every_command_finds_out_that_a_domain_is_missing() {
    let commands = [&["listen", "7"][..], &["exec", "7", "--", "cat"], &["dump", "7"], &["ping", "7"], &["bench", "7"]];
    for command in commands {
        let (code, text) = run(command[0], command);
        assert_eq!((code, &*text), (Some(3), "vchan: there is no domain 7: see xl list\n"), "{command:?}");
    }
}

#[test]
fn manual_pages_and_completions_are_generated() {
    let dir = std::env::temp_dir().join(format!("vchan-generated-{}", std::process::id()));
    let generate = || Command::new(env!("CARGO_BIN_EXE_vchan")).arg("generate").arg(&dir).output().unwrap();
    let missing = generate();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("cannot write to the folder"));
    std::fs::create_dir(&dir).unwrap();
    assert!(generate().status.success());
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(read("vchan.1").contains("vchan\\-connect(1)") && read("vchan-bench.1").contains("round\\-trips"));
    assert!(["vchan.bash", "_vchan", "vchan.fish"].iter().all(|name| read(name).contains("timeout")));
    std::fs::remove_dir_all(&dir).unwrap();
}
