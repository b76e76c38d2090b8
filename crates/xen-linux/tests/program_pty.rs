//! A program on a pseudo terminal.

use embedded_io_async::{Read, Write};
use std::process::Command;
use xen_linux::{Linux, ProgramPty};

/// Runs `script` on a terminal of 80 columns and 24 rows, which then gets the size `resized`.
/// `keys` are the whole of its input, typed once it has said something. Returns what the terminal
/// showed and the exit status.
fn run(
    script: &'static str,
    keys: Option<&'static str>,
    resized: Option<(u16, u16)>,
) -> (String, Option<i32>) {
    let linux = Linux::new();
    let host = linux.clone();
    linux.run(move |_| async move {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let (mut child, pty) = ProgramPty::spawn(&host, &mut command, Some((80, 24))).unwrap();
        let (mut output, mut input) = pty.streams();
        let (mut shown, mut chunk) = (Vec::new(), [0; 4096]);
        if let Some(keys) = keys {
            let count = output.read(&mut chunk).await.unwrap();
            shown.extend_from_slice(&chunk[..count]);
            input.write_all(keys.as_bytes()).await.unwrap();
        }
        if let Some((columns, rows)) = resized {
            pty.resize(columns, rows).unwrap();
        }
        drop((pty, input));
        while let count @ 1.. = output.read(&mut chunk).await.unwrap() {
            shown.extend_from_slice(&chunk[..count]);
        }
        let status = child.wait().unwrap().code();
        (String::from_utf8_lossy(&shown).replace("\r\n", "\n"), status)
    })
}

#[test]
fn terminal_controls_the_program_and_has_its_size() {
    let (shown, status) = run("tty -s && stty size </dev/tty; exit 3", None, None);
    assert_eq!((&*shown, status), ("24 80\n", Some(3)));
}

#[test]
fn new_size_reaches_the_program_as_a_signal() {
    let script = "trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.01; done";
    let (shown, status) = run(script, Some("x\n"), Some((132, 50)));
    assert!(shown.ends_with("50 132\n"), "{shown}");
    assert_eq!(status, Some(4));
}

/// The end of the input comes behind all of it, also in the middle of a line.
#[test]
fn end_of_the_input_ends_a_program_that_reads_lines() {
    for keys in ["one\ntwo\n", "one\ntwo"] {
        let (shown, status) = run("echo ready; cat >/dev/null; echo over", Some(keys), None);
        assert!(shown.ends_with("over\n"), "{shown}");
        assert_eq!(status, Some(0));
    }
}

/// Ctrl-C is a signal to the program's process group, not to this one's.
#[test]
fn interrupt_key_ends_the_program() {
    let (shown, status) = run("trap 'exit 130' INT; echo ready; cat", Some("\x03"), None);
    assert!(shown.starts_with("ready\n"), "{shown}");
    assert_eq!(status, Some(130));
}

#[test]
fn program_that_cannot_be_started_is_told() {
    let linux = Linux::new();
    let failed = ProgramPty::spawn(&linux, &mut Command::new("/nowhere/program"), None);
    assert_eq!(failed.err().map(|error| error.kind()), Some(std::io::ErrorKind::NotFound));
}
