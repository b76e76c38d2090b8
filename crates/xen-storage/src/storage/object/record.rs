//! The log of a disk: one record for each flush, and one for each program that took the disk.
//!
//! Records are numbered without a gap. Each is put on the condition that there is none of its
//! number: of two programs that write one disk, one finds the record of the other there. A fence
//! is the record with which a program that takes a disk says so. It is kept after others have gone,
//! so that a program that was asleep finds it, however late.

use super::blob::{Blob, Id, Kind, Reader, damaged};
use super::codec::Codec;
use super::extents::Extents;
use super::head::MAX_BYTES;
use super::place::{self, BLOCK, Piece, Stored, Writer};
use std::io;
use std::sync::Arc;

/// A record.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// Number of times that the disk was taken, when it was written.
    pub epoch: u64,
    /// Which program wrote it.
    pub token: String,
    /// The program, for people.
    pub holder: String,
    /// Set if it changes nothing, and says that the disk was taken.
    pub fence: bool,
    /// Length of the disk in bytes from now on.
    pub bytes: u64,
    /// Changed blocks; none in a fence.
    pub changes: Extents<Stored>,
}

impl Record {
    /// Encodes it. Pieces in the log are those of this record, at offsets in what is to follow the
    /// encoded bytes.
    pub fn encode(&self, disk: &str, codec: &Codec) -> io::Result<Vec<u8>> {
        let mut writer = Writer::default();
        let mut blocks = 0;
        for (range, stored) in self.changes.iter() {
            if matches!(stored, Stored::At(_)) {
                blocks += range.end - range.start;
            }
            writer.add(range, stored);
        }
        let mut body = Vec::new();
        for number in [self.number, self.epoch, self.fence.into(), self.bytes] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for text in [disk, &self.token, &self.holder] {
            body.extend_from_slice(&(text.len() as u32).to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let (refs, body) = writer.finish(body);
        Blob { refs, blocks, open: Vec::new(), body }.encode(Kind::Record, codec)
    }

    /// Decodes the record `number` of `disk`, its pieces at their offsets in `raw`.
    pub fn decode(raw: &[u8], disk: &str, number: u64, codec: &Codec) -> io::Result<Self> {
        let (blob, inline) = Blob::decode(raw, Kind::Record, codec)?;
        let start = raw.len() - inline.len();
        let mut reader = Reader(&blob.body);
        let (found, epoch) = (reader.u64()?, reader.u64()?);
        let (fence, bytes) = (reader.u64()? != 0, reader.u64()?);
        let [of, token, holder] = [text(&mut reader)?, text(&mut reader)?, text(&mut reader)?];
        if (found, &*of) != (number, disk) {
            return Err(damaged("a record of the log is that of another disk or number"));
        }
        // When a disk becomes shorter, what was behind the end is zero.
        let range = 0..MAX_BYTES / BLOCK;
        let changes = place::read(&mut reader, &blob.refs, Some(number), range)?;
        reader.end()?;
        let changes = shift(&changes, number, start as u32, inline.len())?;
        Ok(Record { number, epoch, token, holder, fence, bytes, changes })
    }

    /// Names of the objects that a record refers to, without a key.
    pub fn refs(raw: &[u8]) -> io::Result<(Vec<Id>, u64)> {
        let Blob { refs, blocks, .. } = Blob::decode_clear(raw, Kind::Record)?;
        Ok((refs, blocks))
    }
}

fn text(reader: &mut Reader<'_>) -> io::Result<String> {
    let len = reader.count(1)?;
    let text = std::str::from_utf8(reader.take(len)?);
    text.map(str::to_string).map_err(|_| damaged("a name in the log is no text"))
}

/// Moves pieces of the log by `start` in the record `number`, once that is known. They must lie
/// within the `len` bytes that follow there.
pub fn shift(
    changes: &Extents<Stored>,
    number: u64,
    start: u32,
    len: usize,
) -> io::Result<Extents<Stored>> {
    let mut moved = std::collections::HashMap::new();
    let mut shifted = Extents::default();
    for (blocks, stored) in changes.iter() {
        let mut stored = stored.clone();
        if let Stored::At(place) = &mut stored
            && matches!(place.piece.within, place::Within::Log(_))
        {
            let old = place.piece.clone();
            if old.at as usize + old.len as usize > len {
                return Err(damaged("a piece is beyond the end of its record"));
            }
            let at = old.at.checked_add(start).ok_or_else(|| damaged("a record is too long"))?;
            let within = place::Within::Log(number);
            let new = moved.entry(Arc::as_ptr(&old));
            let new = new.or_insert_with(|| Arc::new(Piece { within, at, ..Piece::clone(&old) }));
            place.piece = new.clone();
        }
        shifted.insert(blocks, stored);
    }
    Ok(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::object::place::{Place, Within};

    #[test]
    fn record_is_of_one_disk_and_number() {
        let codec = Codec::new(None, Some(&[1; 32]));
        let piece =
            Piece { within: Within::Log(7), at: 1, len: 2, raw: 4096, kind: 0, sum: [3; 16] };
        let mut changes = Extents::default();
        changes.insert(1..2, Stored::At(Place { piece: Arc::new(piece), skip: 0 }));
        changes.insert(5..9, Stored::Zero);
        let (token, holder) = ("t".to_string(), "somebody".to_string());
        let record =
            Record { number: 7, epoch: 2, token, holder, fence: false, bytes: 9 << 12, changes };
        let mut raw = record.encode("id", &codec).unwrap();
        let start = raw.len();
        assert!(Record::decode(&raw, "id", 7, &codec).is_err(), "the piece is not there");
        raw.extend_from_slice(b"xyz");
        let read = Record::decode(&raw, "id", 7, &codec).unwrap();
        assert_eq!(read.changes, shift(&record.changes, 7, start as u32, 3).unwrap());
        assert_eq!((read.epoch, &*read.holder, read.bytes), (2, "somebody", 9 << 12));
        assert!(Record::decode(&raw, "id", 8, &codec).is_err());
        assert!(Record::decode(&raw, "other", 7, &codec).is_err());
        assert!(Record::decode(&raw, "id", 7, &Codec::default()).is_err());
    }
}
