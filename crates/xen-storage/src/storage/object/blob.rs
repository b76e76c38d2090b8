//! Metadata as they are kept: the objects that they name in the clear, so that garbage can be told
//! without a key, and a body that is encrypted if the disk is.
//!
//! ```text
//! magic 8 | kind 1 | sealed 1 | 0 (2) | refs 4 | open 4 | body 4 | blocks 8
//! refs (32 each) | open | body | BLAKE3 16
//! ```
//! Numbers are little-endian. The hash is that of all before it.

use super::codec::Codec;
use std::io;

/// The name of an object below `chunks/`.
pub type Id = [u8; 32];
/// A hash, cut to what is enough to find damage.
pub type Sum = [u8; 16];

const MAGIC: &[u8; 8] = b"RSblob02";
const HEAD: usize = 32;
const SUM: usize = 16;

/// Kinds of metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The places of a region's blocks.
    Leaf = 1,
    /// The places of a disk's leaves.
    Root = 2,
    /// One flush.
    Record = 3,
}

/// Metadata, taken apart.
#[derive(Debug, PartialEq)]
pub struct Blob {
    /// Names of objects that the body refers to by their place here.
    pub refs: Vec<Id>,
    /// Number of blocks that it has places for.
    pub blocks: u64,
    /// Further bytes that are told without a key.
    pub open: Vec<u8>,
    /// The rest.
    pub body: Vec<u8>,
}

/// Returns the hash of bytes as it is kept beside their place.
pub fn sum(bytes: &[u8]) -> Sum {
    blake3::hash(bytes).as_bytes()[..SUM].try_into().expect("a hash is longer")
}

impl Blob {
    /// Encodes it, encrypted if there is a key.
    pub fn encode(self, kind: Kind, codec: &Codec) -> io::Result<Vec<u8>> {
        let mut raw = Vec::with_capacity(HEAD + 32 * self.refs.len() + self.body.len() + 64);
        raw.extend_from_slice(MAGIC);
        raw.extend_from_slice(&[kind as u8, codec.is_encrypted().into(), 0, 0]);
        raw.extend_from_slice(&(self.refs.len() as u32).to_le_bytes());
        let extra = if codec.is_encrypted() { 24 + 16 } else { 0 };
        raw.extend_from_slice(&(self.open.len() as u32).to_le_bytes());
        raw.extend_from_slice(&((self.body.len() + extra) as u32).to_le_bytes());
        raw.extend_from_slice(&self.blocks.to_le_bytes());
        self.refs.iter().for_each(|id| raw.extend_from_slice(id));
        raw.extend_from_slice(&self.open);
        let body = codec.seal(&raw, self.body)?;
        raw.extend_from_slice(&body);
        let sum = sum(&raw);
        raw.extend_from_slice(&sum);
        Ok(raw)
    }

    /// Decodes one with its body, and returns what follows it.
    pub fn decode<'a>(raw: &'a [u8], kind: Kind, codec: &Codec) -> io::Result<(Self, &'a [u8])> {
        let (mut blob, clear, sealed, rest) = Blob::parse(raw, kind)?;
        if sealed != codec.is_encrypted() {
            return Err(match sealed {
                true => damaged("the disk is encrypted: key=FILE or keycommand=COMMAND is needed"),
                false => damaged("a key was given, and this is not encrypted"),
            });
        }
        blob.body = codec.unseal(clear, blob.body)?;
        Ok((blob, rest))
    }

    /// Decodes what needs no key: the body is as it is kept.
    pub fn decode_clear(raw: &[u8], kind: Kind) -> io::Result<Self> {
        Ok(Blob::parse(raw, kind)?.0)
    }

    fn parse(raw: &[u8], kind: Kind) -> io::Result<(Self, &[u8], bool, &[u8])> {
        let mut reader = Reader(raw);
        if reader.take(8)? != MAGIC {
            return Err(damaged("it is no metadata of a disk, or of a later version"));
        }
        let [found, sealed, ..] = reader.array::<4>()?;
        let [refs, open, body] = [reader.u32()?, reader.u32()?, reader.u32()?].map(|n| n as usize);
        let blocks = reader.u64()?;
        let names = reader.take(refs.saturating_mul(32))?;
        let open = reader.take(open)?.to_vec();
        let clear = &raw[..HEAD + names.len() + open.len()];
        let body = reader.take(body)?.to_vec();
        let all = &raw[..clear.len() + body.len()];
        if reader.array::<SUM>()? != sum(all) {
            return Err(damaged("metadata are damaged: their hash is wrong"));
        }
        if found != kind as u8 || sealed > 1 {
            return Err(damaged("metadata are of another kind than they should be"));
        }
        let refs = names.as_chunks::<32>().0.to_vec();
        Ok((Blob { refs, blocks, open, body }, clear, sealed == 1, reader.0))
    }
}

/// Numbers and bytes, one after the other.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Returns the next `len` bytes.
    pub fn take(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or_else(|| damaged("metadata end too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Returns the next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("that many were taken"))
    }

    /// Returns the next byte.
    pub fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Returns the next number of 32 bits.
    pub fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Returns the next number of 64 bits.
    pub fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Returns the number of things that follow, each at least `bytes` long.
    pub fn count(&mut self, bytes: usize) -> io::Result<usize> {
        let count = self.u32()? as usize;
        match count.checked_mul(bytes).is_some_and(|len| len <= self.0.len()) {
            true => Ok(count),
            false => Err(damaged("metadata say that they are longer than they are")),
        }
    }

    /// Fails if something is left.
    pub fn end(&self) -> io::Result<()> {
        match self.0 {
            [] => Ok(()),
            _ => Err(damaged("metadata go on after their end")),
        }
    }
}

/// Returns the error that something in the store is not what was put there.
pub fn damaged(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blob_damaged_anywhere_is_refused(
            refs in proptest::collection::vec(any::<[u8; 32]>(), 0..4),
            open in proptest::collection::vec(any::<u8>(), 0..9),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            key: Option<[u8; 32]>, blocks: u64, bit: usize,
        ) {
            let codec = Codec::new(None, key.as_ref());
            let blob = || Blob {
                refs: refs.clone(), blocks, open: open.clone(), body: body.clone(),
            };
            let raw = blob().encode(Kind::Leaf, &codec).unwrap();
            let mut longer = raw.clone();
            longer.extend_from_slice(b"rest");
            let (decoded, rest) = Blob::decode(&longer, Kind::Leaf, &codec).unwrap();
            prop_assert_eq!((decoded, rest), (blob(), &b"rest"[..]));
            prop_assert_eq!(Blob::decode_clear(&raw, Kind::Leaf).unwrap().refs, refs);
            prop_assert!(Blob::decode(&raw, Kind::Root, &codec).is_err());
            let mut damaged = raw.clone();
            let at = bit % (raw.len() * 8);
            damaged[at / 8] ^= 1 << (at % 8);
            prop_assert!(Blob::decode(&damaged, Kind::Leaf, &codec).is_err());
            prop_assert!(Blob::decode(&raw[..at / 8], Kind::Leaf, &codec).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut raw = raw;
            let _ = Blob::decode(&raw, Kind::Leaf, &Codec::default());
            raw.splice(0..raw.len().min(8), *MAGIC);
            let _ = Blob::decode(&raw, Kind::Leaf, &Codec::default());
        }
    }
}
