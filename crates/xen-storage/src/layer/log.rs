//! `log`: every request in a file, and doing the same requests again.

use super::{Dice, Kind, Layer, Request};
use crate::storage::Storage;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Writes one line for each request, once it has ended.
pub struct Log {
    start: Instant,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Log {
    /// Writes to `out`, whose buffer is emptied at every flush of the disk.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Log { start: Instant::now(), out: Mutex::new(Box::new(out)) }
    }
}

impl Layer for Log {
    fn outlives(&self) -> bool {
        true
    }

    fn handle(&self, mut request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        let kind = request.kind();
        let range = request.range();
        let began = self.start.elapsed();
        let done = match &mut request {
            Request::Read { at, to } => below.read(*at, to),
            Request::Write { at, from } => below.write(*at, from),
            Request::Flush => below.flush(),
            Request::Discard { at, len, secure } => below.discard(*at, *len, *secure),
        };
        let hash = match &request {
            Request::Read { to, .. } => crc32fast::hash(to),
            Request::Write { from, .. } => crc32fast::hash(from),
            Request::Flush | Request::Discard { .. } => 0,
        };
        let took = self.start.elapsed() - began;
        let len = range.end - range.start;
        let record =
            Record { began, took, kind, at: range.start, len, hash, failed: done.is_err() };
        let mut out = self.out.lock().expect("no holder panics");
        writeln!(out, "{record}")?;
        if kind == Kind::Flush {
            out.flush()?;
        }
        done
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.out.get_mut().expect("no holder panics").flush();
    }
}

/// One line of a log: when the request began and how long it took in microseconds, what it was,
/// where and how long in bytes, the CRC-32 of its data, and how it ended. For instance `1200 35
/// write 4096 512 8a3f0021 ok`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Beginning of the request, since the start of the log.
    pub began: Duration,
    /// Duration of the request.
    pub took: Duration,
    /// Kind of the request.
    pub kind: Kind,
    /// Offset in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
    /// The CRC-32 of what was written or read.
    pub hash: u32,
    /// Set if it failed.
    pub failed: bool,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { began, took, kind, at, len, hash, failed } = self;
        let end = if *failed { "failed" } else { "ok" };
        write!(
            f,
            "{} {} {} {at} {len} {hash:08x} {end}",
            began.as_micros(),
            took.as_micros(),
            kind.name()
        )
    }
}

impl FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{line:?} is no line of a log, which looks like \"1200 35 write 4096 512 8a3f0021 ok\""
            )
        };
        let words: Vec<&str> = line.split(' ').collect();
        let [began, took, kind, at, len, hash, end] = words[..] else { return Err(wrong()) };
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        Ok(Record {
            began: Duration::from_micros(number(began)?),
            took: Duration::from_micros(number(took)?),
            kind: Kind::named(kind).ok_or_else(wrong)?,
            at: number(at)?,
            len: number(len)?,
            hash: u32::from_str_radix(hash, 16).map_err(|_| wrong())?,
            failed: match end {
                "ok" => false,
                "failed" => true,
                _ => return Err(wrong()),
            },
        })
    }
}

/// The longest request of a log that is done again, in bytes.
const LONGEST: u64 = 64 << 20;

/// Does the requests of a log again, one after another, and says how many there were. The log has
/// no data, so what is written is made from its hash: the same data again becomes the same.
pub fn replay(log: impl BufRead, disk: &dyn Storage) -> io::Result<u64> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut count = 0;
    for line in log.lines() {
        let Record { kind, at, len, hash, .. } = line?.parse().map_err(invalid)?;
        if len > LONGEST && kind != Kind::Discard {
            return Err(invalid(format!(
                "a {} of {len} bytes is too long: {LONGEST} is the most",
                kind.name()
            )));
        }
        match kind {
            Kind::Read => disk.read(at, &mut vec![0; len as usize])?,
            Kind::Write => disk.write(at, &stand_in(hash, len as usize))?,
            Kind::Flush => disk.flush()?,
            Kind::Discard => disk.discard(at, len, false)?,
        }
        count += 1;
    }
    Ok(count)
}

fn stand_in(hash: u32, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(hash.into());
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| dice.roll().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layered;
    use crate::storage::Ram;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Standard output that can be read.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_can_be_done_again() {
        let out = Shared::default();
        let disk = Layered::new(Log::new(out.clone()), Arc::new(Ram::new(1 << 20, 512)));
        disk.write(512, &[1; 1024]).unwrap();
        disk.read(512, &mut [0; 512]).unwrap();
        disk.discard(0, 512, false).unwrap();
        disk.flush().unwrap();
        let log = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let records: Vec<Record> = log.lines().map(|line| line.parse().unwrap()).collect();
        let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
        assert_eq!(kinds, [Kind::Write, Kind::Read, Kind::Discard, Kind::Flush]);
        assert_eq!(records[0].hash, crc32fast::hash(&[1; 1024]));
        let again = Ram::new(1 << 20, 512);
        assert_eq!(replay(log.as_bytes(), &again).unwrap(), 4);
        let mut bytes = vec![0; 1024];
        again.read(512, &mut bytes).unwrap();
        assert_eq!(bytes, stand_in(records[0].hash, 1024));
    }

    #[test]
    fn what_is_no_log_is_refused() {
        for wrong in
            ["", "1 2 write 0 512 00000000", "1 2 erase 0 512 00000000 ok", "1 2 read 0 512 xyz ok"]
        {
            assert!(
                replay(format!("{wrong}\n").as_bytes(), &Ram::new(4096, 512)).is_err(),
                "{wrong}"
            );
        }
        assert!(
            replay(&b"1 2 read 0 99999999999 00000000 ok\n"[..], &Ram::new(4096, 512)).is_err()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(line in ".{0,60}") {
            let _ = line.parse::<Record>();
        }

        #[test]
        fn what_is_written_is_read(began: u32, at: u64, len: u64, hash: u32, failed: bool, kind in 0usize..4) {
            let began = Duration::from_micros(began.into());
            let record = Record { began, took: began, kind: Kind::ALL[kind].0, at, len, hash, failed };
            prop_assert_eq!(record.to_string().parse::<Record>(), Ok(record));
        }
    }
}
