//! The end of the control channel that lives in dom0: starts processes and
//! carries their input and output. Also run as a thread, on a machine that is
//! a Xen host itself.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wire::{Decoder, Frame, Message, Request, Status};

mod spawn;

/// Time that a process's output is read on after it ended, in case that a
/// child of its own holds the pipes.
const AFTERMATH: Duration = Duration::from_millis(500);

type Output = Arc<Mutex<Box<dyn Write + Send>>>;
type Table = Arc<Mutex<HashMap<u32, Running>>>;

struct Running {
    pid: Pid,
    input: Sender<Vec<u8>>,
}

/// Serves on `input` and `output` until `input` ends; then kills what still runs.
pub fn serve(mut input: impl Read, output: Box<dyn Write + Send>) -> Result<()> {
    let output: Output = Arc::new(Mutex::new(output));
    let table = Table::default();
    say(&output, 0, Message::Hello);
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = input.read(&mut buffer).context("cannot read the control channel")?;
        if count == 0 {
            break;
        }
        decoder.push(&buffer[..count]);
        while let Some(frame) = decoder.frame()? {
            handle(frame, &output, &table);
        }
    }
    for running in lock(&table).values() {
        let _ = signal(running.pid, Signal::KILL);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(output: &Output, id: u32, message: Message) {
    let mut output = lock(output);
    // When nobody listens any more, the reading side sees the end.
    let _ = output.write_all(&Frame { id, message }.encode()).and_then(|()| output.flush());
}

fn handle(frame: Frame, output: &Output, table: &Table) {
    let id = frame.id;
    match frame.message {
        Message::Exec(request) => {
            if let Err(error) = start(id, &request, output, table) {
                say(output, id, Message::Failed(format!("{error:#}")));
            }
        }
        Message::Stdin(data) => {
            if let Some(running) = lock(table).get(&id) {
                let _ = running.input.send(data);
            }
        }
        // An empty piece stands for the end.
        Message::StdinEnd => {
            if let Some(running) = lock(table).get(&id) {
                let _ = running.input.send(Vec::new());
            }
        }
        Message::Signal(number) => {
            if let (Some(running), Some(number)) =
                (lock(table).get(&id), Signal::from_named_raw(number))
            {
                let _ = signal(running.pid, number);
            }
        }
        _ => {}
    }
}

/// To the process and to all that it started.
fn signal(pid: Pid, number: Signal) -> rustix::io::Result<()> {
    kill_process_group(pid, number).or_else(|_| kill_process(pid, number))
}

fn start(id: u32, request: &Request, output: &Output, table: &Table) -> Result<()> {
    let spawned = spawn::spawn(request)?;
    let pid = Pid::from_child(&spawned.child);
    let (input, pieces) = channel();
    lock(table).insert(id, Running { pid, input });
    let sink = spawned.stdin;
    std::thread::spawn(move || feed(pieces, sink));
    let (done, drained) = channel();
    for (source, wrap) in spawned.outputs {
        let (output, done) = (output.clone(), done.clone());
        std::thread::spawn(move || {
            pump(source, |data| say(&output, id, wrap(data)));
            drop(done);
        });
    }
    drop(done);
    let (output, table) = (output.clone(), table.clone());
    std::thread::spawn(move || finish(id, spawned.child, drained, &output, &table));
    Ok(())
}

fn feed(pieces: Receiver<Vec<u8>>, mut sink: Box<dyn Write + Send>) {
    for piece in pieces {
        if piece.is_empty() || sink.write_all(&piece).is_err() {
            return;
        }
    }
}

fn pump(mut source: Box<dyn Read + Send>, give: impl Fn(Vec<u8>)) {
    let mut buffer = vec![0; 1 << 15];
    // A terminal whose other side is gone gives an error: the end as well.
    while let Ok(count @ 1..) = source.read(&mut buffer) {
        give(buffer[..count].to_vec());
    }
}

fn finish(id: u32, mut child: Child, drained: Receiver<()>, output: &Output, table: &Table) {
    let status = child.wait();
    lock(table).remove(&id);
    // Nothing is ever sent: this returns when both pumps are done.
    let _ = drained.recv_timeout(AFTERMATH);
    let message = match status {
        Ok(status) => Message::Exit(convert(status)),
        Err(error) => Message::Failed(format!("cannot wait for it: {error}")),
    };
    say(output, id, message);
}

fn convert(status: std::process::ExitStatus) -> Status {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code),
        (None, number) => Status::Signal(number.unwrap_or_default()),
    }
}
