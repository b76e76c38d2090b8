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
    request_after(stream, header)
}

fn request_after(
    stream: &mut UnixStream,
    header: [u8; 16],
) -> std::io::Result<([u8; 16], Vec<u8>)> {
    let mut payload = vec![0; usize::from(header[12])];
    stream.read_exact(&mut payload)?;
    Ok((header, payload))
}

/// Answers until the client leaves: DIRECTORY (1) and READ (2), of which dom0 has nothing,
/// GET_DOMAIN_PATH (10) and IS_DOMAIN_INTRODUCED (17), which only dom0 is.
fn serve(mut stream: UnixStream) {
    let first = request(&mut stream);
    serve_from(stream, first);
}

/// The same, if the first byte was read already.
fn serve_after(mut stream: UnixStream, first: u8) {
    let mut header = [first; 16];
    let first =
        stream.read_exact(&mut header[1..]).and_then(|()| request_after(&mut stream, header));
    serve_from(stream, first);
}

fn serve_from(mut stream: UnixStream, first: std::io::Result<([u8; 16], Vec<u8>)>) {
    let mut next = first;
    while let Ok((mut header, payload)) = next {
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
        next = request(&mut stream);
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
    let run =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_vchan")).args(args).output().unwrap();
    assert_eq!(run(&["connect"]).status.code(), Some(2));
    assert_eq!(run(&["connect", "2", "--timeout", "soon"]).status.code(), Some(2));
    let help = run(&["connect", "--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success() && text.contains("Exit codes:") && text.contains("vchan connect 2"),
        "{text}"
    );
}

#[test]
fn signals_end_it_with_their_exit_codes() {
    for (signal, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
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

/// With any number of descriptors it does its work, or says at once that they are too few.
#[test]
fn too_few_descriptors_are_told_with_the_cure() {
    let socket = Socket::new("few");
    let listener = socket.1.try_clone().unwrap();
    let daemon = thread::spawn(move || {
        // A connection of this byte ends it.
        while let Ok((mut stream, _)) = listener.accept() {
            let mut first = [0];
            match stream.read_exact(&mut first) {
                Ok(()) if first == [0xff] => return,
                // The program's own requests, from their first byte on.
                Ok(()) => serve_after(stream, first[0]),
                Err(_) => {}
            }
        }
    });
    let mut limited = 0;
    for count in 4..=16 {
        let script = format!("ulimit -n {count}; exec {} ls", env!("CARGO_BIN_EXE_vchan"));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("XENSTORED_PATH", &socket.0).stdin(Stdio::null());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(1) if errors.contains("ulimit -n") => limited += 1,
            code => panic!("{count} descriptors: {code:?}, {errors}"),
        }
    }
    assert!(limited > 0 && limited < 13, "{limited} of 13 limits were too low");
    UnixStream::connect(&socket.0).unwrap().write_all(&[0xff]).unwrap();
    daemon.join().unwrap();
}

#[test]
fn a_host_without_channels_has_an_empty_list() {
    let (code, text, _) = run_whole("ls", &["ls"]);
    assert_eq!(
        (code, &*text),
        (Some(0), "SERVER  CLIENT  PATH  RING-REF  PORT  STATE  LEFT  RIGHT\n")
    );
    assert_eq!(run_whole("ls-json", &["ls", "--json"]).1, "[]\n");
}

#[test]
fn every_command_finds_out_that_a_domain_is_missing() {
    let commands = [
        &["listen", "7"][..],
        &["exec", "7", "--", "cat"],
        &["dump", "7"],
        &["ping", "7"],
        &["bench", "7"],
    ];
    for command in commands {
        let (code, text) = run(command[0], command);
        assert_eq!(
            (code, &*text),
            (Some(3), "vchan: there is no domain 7: see xl list\n"),
            "{command:?}"
        );
    }
}

#[test]
fn manual_pages_and_completions_are_generated() {
    let dir = std::env::temp_dir().join(format!("vchan-generated-{}", std::process::id()));
    let generate =
        || Command::new(env!("CARGO_BIN_EXE_vchan")).arg("generate").arg(&dir).output().unwrap();
    let missing = generate();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("cannot write to the folder"));
    std::fs::create_dir(&dir).unwrap();
    assert!(generate().status.success());
    let read = |name: &str| {
        std::fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(
        read("vchan.8").contains("vchan\\-connect(8)")
            && read("vchan-bench.8").contains("vchan\\-bench \\- measures")
    );
    for name in ["connect", "listen", "exec", "proxy", "ls", "dump", "ping", "bench"] {
        let page = read(&format!("vchan-{name}.8"));
        for part in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"] {
            assert!(page.contains(part), "{name}: {part}");
        }
        assert!(!page.contains("EXTRA"), "{name}");
    }
    assert!(
        ["vchan.bash", "_vchan", "vchan.fish"].iter().all(|name| read(name).contains("timeout"))
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn machine_without_xen_is_told_at_once() {
    if ["/proc/xen", "/run/xenstored/socket"].map(std::path::Path::new).iter().any(|p| p.exists()) {
        return; // A Xen domain.
    }
    for args in [
        &["connect", "2"][..],
        &["listen", "2"],
        &["exec", "2", "--", "cat"],
        &["ping", "echo"],
        &["bench", "2"],
        &["dump", "2"],
        &["ls"],
        &["proxy", "2", "--pty"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vchan"));
        command.args(args).env_remove("XENSTORED_PATH").env_remove("XENSTORED_RUNDIR");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = "vchan: this is no Xen domain: there is no /proc/xen; \
                    `make run` boots an emulated one\n";
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.ends_with(text), "{args:?}: {errors}");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn version_is_that_of_the_package() {
    let output = Command::new(env!("CARGO_BIN_EXE_vchan")).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.split_whitespace().nth(1), Some(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn wrong_arguments_are_told_before_xen_is_looked_for() {
    for (args, code, part) in [
        (&["connect", "2", "--path", "a b"][..], 2, "has the character \" \""),
        (&["ping", "2", "--port", "a/b"], 2, "\"/\""),
        (&["dump", "2", "--layout", "std"], 2, "--port NAME"),
        (&["listen", "2", "--path", "a//b"], 2, "an empty part"),
        (&["exec", "2", "--path", "a//b", "--", "cat"], 2, "an empty part"),
        (&["proxy", "2", "--tcp", "192.0.2.1:80"], 2, "must be on a loopback address"),
        (&["connect", "2", "--raw"], 2, "standard input is none"),
        (&["exec", "2", "--", "/no/such/program"], 1, "there is no such program"),
        (&["exec", "2", "--", "no-such-program-anywhere"], 1, "there is no such program"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vchan"));
        let output = command.args(args).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && errors.contains(part), "{args:?}: {errors}");
    }
}
