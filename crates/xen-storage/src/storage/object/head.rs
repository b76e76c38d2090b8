//! The head of a disk: what is kept under its name.
//!
//! It is text, so that people can read it: a line of JSON, and a line with its checksum. All that
//! it refers to never changes; to change the disk is to put another head in its place, on the
//! condition that it is still the one that was read.

use super::blob::{Id, damaged};
use super::codec::{Codec, KEY};
use super::old::Manifest;
use super::place::MAX_PIECE;
use super::{DISKS, Objects, unique};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of the format.
const FORMAT: u32 = 2;

/// A disk, without its contents.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The version of the format.
    pub format: u32,
    /// Names the disk's log: no other disk ever has it.
    pub id: String,
    /// Length in bytes, at the checkpoint.
    pub bytes: u64,
    /// Bytes of the largest piece.
    pub chunk: u32,
    /// Seconds from 1970 to when it was made.
    pub made: u64,
    /// Number of times that it was taken by a program to write it.
    pub epoch: u64,
    /// The root of its map at the checkpoint; without, all is zero.
    #[serde(with = "hex")]
    pub root: Option<Id>,
    /// Number of the last record of the log that the map has.
    pub record: u64,
    /// Number of the last record that changed something, of those.
    pub changed: u64,
    /// Level of compression.
    pub zstd: Option<i32>,
    /// For an encrypted disk, what its key makes of nothing.
    pub sealed: Option<String>,
    /// Set if it never changes.
    pub snapshot: bool,
    /// The program that has it.
    pub lease: Option<Lease>,
}

/// A program that has a disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Another for each opening.
    pub token: String,
    /// The program, for people.
    pub holder: String,
    /// Another for each start of a machine and each space of process numbers.
    pub machine: String,
    /// Its process, by number and time of its start.
    pub process: String,
    /// Number of times that it was renewed.
    pub renewed: u64,
}

mod hex {
    use super::Id;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(id: &Option<Id>, to: S) -> Result<S::Ok, S::Error> {
        id.map(|id| blake3::Hash::from(id).to_hex().to_string()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Id>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        blake3::Hash::from_hex(text).map(|hash| Some(hash.into())).map_err(D::Error::custom)
    }
}

/// Properties of a disk that is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Make {
    /// Length in bytes.
    pub bytes: u64,
    /// Bytes of the largest piece, a power of two.
    pub chunk: u32,
    /// Level of compression, if it is to be compressed.
    pub zstd: Option<i32>,
    /// The key, if it is to be encrypted.
    pub key: Option<[u8; KEY]>,
}

impl Make {
    /// A disk of `bytes`, as it is made if nothing else is said.
    pub fn new(bytes: u64) -> Self {
        Make { bytes, chunk: super::CHUNK, zstd: None, key: None }
    }
}

impl Head {
    /// A disk of zeros.
    pub fn new(make: &Make) -> io::Result<Self> {
        super::super::file::whole_sectors(make.bytes, 512)?;
        let Make { bytes, chunk, .. } = *make;
        if !chunk.is_power_of_two() || !(4096..=MAX_PIECE).contains(&chunk.into()) {
            return Err(damaged(format!(
                "chunks of {chunk} bytes: a power of two from 4 KiB to 64 MiB is possible"
            )));
        }
        if bytes > MAX_BYTES {
            return Err(damaged(format!("{bytes} bytes are too many: {MAX_BYTES} are the most")));
        }
        let codec = Codec::new(None, make.key.as_ref());
        Ok(Head {
            format: FORMAT,
            id: unique(),
            bytes,
            chunk,
            made: since_1970(),
            epoch: 0,
            root: None,
            record: 0,
            changed: 0,
            zstd: make.zstd,
            sealed: make.key.is_some().then(|| mark(&codec)).transpose()?,
            snapshot: false,
            lease: None,
        })
    }

    /// The head of a disk that was kept in the first format, without its map.
    pub fn of_old(old: &Manifest) -> io::Result<Self> {
        Head::new(&Make { bytes: old.bytes, chunk: old.chunk, zstd: None, key: None })
    }

    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("it has only text and numbers");
        format!("{json}\n{:08x}\n", crc32fast::hash(json.as_bytes())).into_bytes()
    }

    /// Decodes it.
    pub fn decode(raw: &[u8]) -> io::Result<Self> {
        let wrong = || damaged("it is no disk, or damaged, or of a later version of xen-disk");
        let text = std::str::from_utf8(raw).map_err(|_| wrong())?;
        let (json, rest) = text.split_once('\n').ok_or_else(wrong)?;
        let head: Head = serde_json::from_str(json).map_err(|_| wrong())?;
        let sum = format!("{:08x}\n", crc32fast::hash(json.as_bytes()));
        let sane = head.bytes <= MAX_BYTES && head.chunk.is_power_of_two();
        match sane && head.format == FORMAT && sum == rest && u64::from(head.chunk) <= MAX_PIECE {
            true => Ok(head),
            false => Err(wrong()),
        }
    }

    /// Returns the codec of the disk, if `key` is the one that it needs.
    pub fn codec(&self, key: Option<&[u8; KEY]>) -> io::Result<Codec> {
        let codec = Codec::new(self.zstd, key);
        let text = match (&self.sealed, key) {
            (None, None) => return Ok(codec),
            (Some(sealed), Some(_)) if *sealed == mark(&codec)? => return Ok(codec),
            (Some(_), Some(_)) => "the key is not that of this disk",
            (Some(_), None) => "it is encrypted: key=FILE or keycommand=COMMAND is needed",
            (None, Some(_)) => "a key was given, and the disk is not encrypted: leave it out",
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// Encrypts nothing: the result tells keys apart.
fn mark(codec: &Codec) -> io::Result<String> {
    let sealed = codec.seal(b"ringside disk", Vec::new())?;
    Ok(sealed.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The longest disk: 64 TiB.
pub const MAX_BYTES: u64 = 64 << 40;

/// Returns the seconds since 1970.
pub fn since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns the key of a disk's head.
pub fn head_key(name: &str) -> String {
    format!("{DISKS}{name}")
}

/// The object under a disk's name.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Found {
    /// A disk, and the version of its head.
    Disk(Head, String),
    /// One in the first format, and its version.
    Old(Manifest, String),
}

/// Reads the head of a disk; `None` if there is no such disk.
pub fn find(objects: &impl Objects, name: &str) -> io::Result<Option<Found>> {
    let Some((raw, version)) = objects.get(&head_key(name))? else { return Ok(None) };
    let found = if Manifest::is_one(&raw) {
        Manifest::decode(&raw).map(|old| Found::Old(old, version))
    } else {
        Head::decode(&raw).map(|head| Found::Disk(head, version))
    };
    found.map(Some).map_err(|error| io::Error::new(error.kind(), format!("disk {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn head_that_is_damaged_is_refused() {
        let key = [3; KEY];
        let make = Make { zstd: Some(3), key: Some(key), ..Make::new(1 << 30) };
        let mut head = Head::new(&make).unwrap();
        head.root = Some([7; 32]);
        let raw = head.encode();
        assert_eq!(Head::decode(&raw).unwrap(), head);
        for at in 0..raw.len() {
            let mut damaged = raw.clone();
            damaged[at] ^= 1;
            assert!(Head::decode(&damaged).is_err(), "{at}");
            assert!(Head::decode(&raw[..at]).is_err(), "{at}");
        }
        assert!(head.codec(Some(&key)).is_ok());
        assert!(head.codec(None).is_err() && head.codec(Some(&[4; KEY])).is_err());
        assert!(Head::new(&Make::new(1 << 20)).unwrap().codec(Some(&key)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..99)) {
            prop_assert!(Head::decode(&raw).is_err());
        }
    }
}
