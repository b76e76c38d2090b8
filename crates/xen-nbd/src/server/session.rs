//! The requests of one client.

use super::input::Input;
use super::output::{Output, SHORT, To};
use super::tempo::Tempo;
use super::workers::Workers;
use super::{Disk, Info, Server};
use crate::error::errno;
use crate::handshake::{ALLOCATION_NUMBER, Session as Chosen};
use crate::wire::{self, Command, CommandFlags, Extent, Request};
use crate::{Error, ProtocolError, Socket};
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// Part of long data that is read and sent at a time, in bytes.
const PIECE: usize = 256 << 10;
/// Most extents of a reply.
const EXTENTS: usize = 4096;

/// Serves a client until it leaves, or the server stops.
pub fn run(server: &Server, socket: Arc<Socket>, info: Info, chosen: Chosen) -> Result<(), Error> {
    let output = Output::new(socket.clone(), chosen.structured);
    let shared =
        Shared { disk: server.disk.clone(), output: Mutex::new(output), socket: socket.clone() };
    let session = Session {
        server,
        info,
        chosen,
        shared: Arc::new(shared),
        input: Input::new(),
        workers: Workers::new(),
        data: Tempo::default(),
        flushes: Tempo::default(),
        others: Tempo::default(),
        piece: Vec::new(),
    };
    session.run()
}

/// The parts that all threads of a client share.
struct Shared {
    disk: Arc<dyn Disk>,
    output: Mutex<Output>,
    socket: Arc<Socket>,
}

impl Shared {
    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().expect("no holder panics")
    }

    /// Sends a reply from a thread that does not collect any. A client that takes none is left.
    fn reply(&self, reply: impl FnOnce(&mut Output) -> io::Result<()>) {
        let mut output = self.output();
        if reply(&mut output).and_then(|()| output.flush()).is_err() {
            // The thread that reads its requests finds that out.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

struct Session<'a> {
    server: &'a Server,
    info: Info,
    chosen: Chosen,
    shared: Arc<Shared>,
    input: Input,
    workers: Workers,
    data: Tempo,
    flushes: Tempo,
    others: Tempo,
    piece: Vec<u8>,
}

/// A call of the disk that changes it, or makes it durable.
enum Change {
    Write(Vec<u8>),
    Flush,
    Trim,
    Zero { may_trim: bool },
}

/// Carries a change out.
fn change(disk: &dyn Disk, to: To, what: &Change, fua: bool) -> io::Result<()> {
    let len = u64::from(to.len);
    match what {
        Change::Write(data) => disk.write(to.at, data)?,
        Change::Flush => disk.flush()?,
        Change::Trim => disk.trim(to.at, len)?,
        Change::Zero { may_trim } => disk.write_zeroes(to.at, len, *may_trim)?,
    }
    if fua { disk.flush() } else { Ok(()) }
}

impl Session<'_> {
    fn run(mut self) -> Result<(), Error> {
        loop {
            if !self.input.has(wire::REQUEST_LEN) {
                self.shared.output().flush()?;
                if !self.input.fill(&self.shared.socket, wire::REQUEST_LEN)? {
                    break;
                }
            }
            if self.server.is_closing() {
                break;
            }
            let header = self.input.take(wire::REQUEST_LEN);
            let request = Request::decode(header.try_into().expect("it has that length"))?;
            if request.command == Command::Disconnect as u16 {
                break;
            }
            self.request(request)?;
        }
        self.shared.output().flush()?;
        // All that was begun is done, and answered, before the connection ends.
        drop(self.workers);
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<(), Error> {
        let command = Command::from_number(request.command);
        let Request { cookie, at, len, flags, .. } = request;
        let with_data = matches!(command, Some(Command::Read | Command::BlockStatus));
        let to = To { cookie, at, len, with_data };
        let wrong = self.check(command, &request);
        if command == Some(Command::Write) {
            return self.write(to, flags, wrong);
        }
        if let Err((number, text)) = wrong {
            return Ok(self.shared.output().error(to, number, text)?);
        }
        let command = command.expect("it was checked");
        self.server.counts.add_request(command, len);
        let fua = flags.contains(CommandFlags::FUA);
        match command {
            Command::Read if len == 0 => self.shared.output().done(to)?,
            Command::Read => self.read(to)?,
            Command::BlockStatus => self.status(to, flags.contains(CommandFlags::REQ_ONE))?,
            Command::Flush => self.change(to, Change::Flush, false)?,
            Command::Trim => self.change(to, Change::Trim, fua)?,
            Command::WriteZeroes => {
                let may_trim = !flags.contains(CommandFlags::NO_HOLE);
                self.change(to, Change::Zero { may_trim }, fua)?;
            }
            Command::Write | Command::Disconnect | Command::Cache => {
                unreachable!("these have been dealt with")
            }
        }
        Ok(())
    }

    /// Checks a request against the export.
    fn check(
        &self,
        command: Option<Command>,
        request: &Request,
    ) -> Result<(), (u32, &'static str)> {
        use Command::*;
        let Some(command) = command.filter(|command| *command != Cache) else {
            return Err((errno::EINVAL, "there is no such request"));
        };
        let Request { flags, at, len, .. } = *request;
        if !command.flags().contains(flags) || flags.contains(CommandFlags::FAST_ZERO) {
            return Err((errno::EINVAL, "the request has a flag that it cannot have"));
        }
        let changes = matches!(command, Write | Trim | WriteZeroes);
        if changes && self.info.read_only {
            return Err((errno::EPERM, "the export is read-only"));
        }
        if command == Flush {
            return Ok(());
        }
        if command == Trim && !self.info.trim {
            return Err((errno::EINVAL, "the export cannot be trimmed"));
        }
        let unit = u64::from(self.info.min_block);
        if !at.is_multiple_of(unit) || !u64::from(len).is_multiple_of(unit) {
            return Err((errno::EINVAL, "offset and length are not multiples of the least block"));
        }
        if at.checked_add(len.into()).is_none_or(|end| end > self.info.bytes) {
            let grows = matches!(command, Write | WriteZeroes);
            let number = if grows { errno::ENOSPC } else { errno::EINVAL };
            return Err((number, "the request goes past the end of the export"));
        }
        if command == Read && len > wire::MAX_PAYLOAD {
            return Err((errno::EINVAL, "the request is longer than the export permits"));
        }
        if command == BlockStatus && (!self.chosen.allocation || len == 0) {
            return Err((errno::EINVAL, "no extents were agreed on, or none are asked for"));
        }
        Ok(())
    }

    fn read(&mut self, to: To) -> Result<(), Error> {
        if to.len as usize > SHORT {
            return self.read_long(to);
        }
        let shared = self.shared.clone();
        let mut output = shared.output();
        if output.fill(to, |data| shared.disk.read_now(to.at, data))? {
            return Ok(());
        }
        if self.data.is_quick() {
            let start = Instant::now();
            output.fill(to, |data| Some(shared.disk.read(to.at, data)))?;
            self.data.took(start.elapsed(), to.len.into());
            return Ok(());
        }
        drop(output);
        self.read_elsewhere(to);
        Ok(())
    }

    fn read_elsewhere(&mut self, to: To) {
        let shared = self.shared.clone();
        self.workers.run(to.len as usize, move || {
            let mut data = vec![0; to.len as usize];
            let read = shared.disk.read(to.at, &mut data);
            shared.reply(|output| match read {
                Ok(()) => output.data(to, &data),
                Err(error) => output.error(to, errno::of(&error), &error.to_string()),
            });
        });
    }

    /// Sends the first pieces while the next are read.
    fn read_long(&mut self, to: To) -> Result<(), Error> {
        let shared = self.shared.clone();
        let disk = &*shared.disk;
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(PIECE, 0);
        let first = PIECE.min(to.len as usize);
        let read = match disk.read_now(to.at, &mut piece[..first]) {
            Some(read) => read,
            None if self.data.is_quick() => {
                let start = Instant::now();
                let read = disk.read(to.at, &mut piece[..first]);
                self.data.took(start.elapsed(), first as u64);
                read
            }
            None => {
                self.piece = piece;
                self.read_elsewhere(to);
                return Ok(());
            }
        };
        let mut output = shared.output();
        if let Err(error) = read {
            self.piece = piece;
            return Ok(output.error(to, errno::of(&error), &error.to_string())?);
        }
        output.begin(to)?;
        output.piece(&piece[..first])?;
        let mut done = first;
        while done < to.len as usize {
            let part = &mut piece[..PIECE.min(to.len as usize - done)];
            let at = to.at + done as u64;
            let read = disk.read_now(at, part).unwrap_or_else(|| disk.read(at, part));
            if let Err(error) = read {
                return Ok(output.fail(to, at, to.len as usize - done, error)?);
            }
            output.piece(part)?;
            done += part.len();
        }
        self.piece = piece;
        Ok(output.end(to)?)
    }

    /// Takes the data of a write, and writes them unless something is `wrong`.
    fn write(
        &mut self,
        to: To,
        flags: CommandFlags,
        wrong: Result<(), (u32, &'static str)>,
    ) -> Result<(), Error> {
        let len = to.len as usize;
        if to.len > wire::MAX_PAYLOAD {
            return Err(ProtocolError::new(format!("a write of {len} bytes")).into());
        }
        if !self.input.has(len) {
            self.shared.output().flush()?;
        }
        let fua = flags.contains(CommandFlags::FUA);
        let socket = self.shared.socket.clone();
        if len == 0 || wrong.is_err() || !Input::fits(len) {
            let mut data = vec![0; len];
            self.input.read_exact(&socket, &mut data)?;
            if let Err((number, text)) = wrong {
                return Ok(self.shared.output().error(to, number, text)?);
            }
            self.server.counts.add_request(Command::Write, to.len);
            return self.change(to, Change::Write(data), fua);
        }
        if !self.input.fill(&socket, len)? {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.server.counts.add_request(Command::Write, to.len);
        let data = self.input.take(len);
        let disk = &*self.shared.disk;
        if fua {
            let data = data.to_vec();
            return self.change(to, Change::Write(data), fua);
        }
        let written = match disk.write_now(to.at, data) {
            Some(written) => written,
            None if self.data.is_quick() => {
                let start = Instant::now();
                let written = disk.write(to.at, data);
                self.data.took(start.elapsed(), len as u64);
                written
            }
            None => {
                let data = data.to_vec();
                self.elsewhere(to, Change::Write(data), fua);
                return Ok(());
            }
        };
        Ok(reply_to(&mut self.shared.output(), to, written)?)
    }

    fn change(&mut self, to: To, what: Change, fua: bool) -> Result<(), Error> {
        let tempo = match (&what, fua) {
            (Change::Flush, _) | (_, true) => &mut self.flushes,
            (Change::Write(_), false) => &mut self.data,
            _ => &mut self.others,
        };
        if !tempo.is_quick() {
            self.elsewhere(to, what, fua);
            return Ok(());
        }
        // Those that came before may wait for no slow call.
        self.shared.output().flush()?;
        let start = Instant::now();
        let done = change(&*self.shared.disk, to, &what, fua);
        let len = if let Change::Write(data) = &what { data.len() } else { 0 };
        tempo.took(start.elapsed(), len as u64);
        Ok(reply_to(&mut self.shared.output(), to, done)?)
    }

    fn elsewhere(&mut self, to: To, what: Change, fua: bool) {
        let shared = self.shared.clone();
        let bytes = if let Change::Write(data) = &what { data.len() } else { 0 };
        self.workers.run(bytes, move || {
            let done = change(&*shared.disk, to, &what, fua);
            shared.reply(|output| reply_to(output, to, done));
        });
    }

    fn status(&mut self, to: To, one: bool) -> Result<(), Error> {
        let most = if one { 1 } else { EXTENTS };
        let found = extents(&*self.shared.disk, to.at, to.len, most);
        let mut output = self.shared.output();
        match found {
            Ok(extents) => output.extents(to, ALLOCATION_NUMBER, &extents)?,
            Err(error) => output.error(to, errno::of(&error), &error.to_string())?,
        }
        Ok(())
    }
}

fn reply_to(output: &mut Output, to: To, done: io::Result<()>) -> io::Result<()> {
    match done {
        Ok(()) => output.done(to),
        Err(error) => output.error(to, errno::of(&error), &error.to_string()),
    }
}

/// Returns at most `most` extents of `len` bytes at `at`.
fn extents(disk: &dyn Disk, at: u64, len: u32, most: usize) -> io::Result<Vec<Extent>> {
    let end = at + u64::from(len);
    let mut extents: Vec<Extent> = Vec::new();
    let mut here = at;
    while here < end && extents.len() < most {
        let data = disk.next_data(here)?.filter(|data| data.start < end);
        let (hole, until) = match data {
            None => (true, end),
            Some(data) if data.start > here => (true, data.start),
            // A storage that says nothing sensible has data.
            Some(data) => (false, if data.end > here { data.end.min(end) } else { end }),
        };
        let part = (until - here) as u32;
        match extents.last_mut() {
            Some(last) if last.hole == hole => last.len += part,
            _ => extents.push(Extent { len: part, hole, zero: hole }),
        }
        here = until;
    }
    Ok(extents)
}
