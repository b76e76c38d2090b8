//! The objects of a disk that never change: those of pieces, leaves and roots.

use super::blob::{Id, sum};
use super::codec::Codec;
use super::extents::Extents;
use super::parallel::parallel;
use super::pieces::{Bytes, Pieces};
use super::place::{BLOCK, Piece, Place, Stored, Within};
use super::tree::{Leaf, LeafRef, Tree, decode_leaf};
use super::view::{FRESH, View};
use super::{Objects, chunk_key, log_key};
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Bytes of an object of small pieces, or of leaves, about.
const PACK: usize = 1 << 20;
/// Pieces of more bytes than this are objects of their own: the same bytes are kept once.
pub const OWN: u64 = 256 << 10;
/// Names of uploads that are remembered.
const MAX_UPLOADED: usize = 1 << 16;

/// Encoded bytes that are to become a piece of `raw` bytes.
pub struct Draft {
    bytes: Vec<u8>,
    raw: u32,
    kind: u8,
}

impl Draft {
    /// Returns its length as it is kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn place(&self, within: Within, at: usize) -> Stored {
        let Draft { bytes, raw, kind } = self;
        let (len, sum) = (bytes.len() as u32, sum(bytes));
        let piece = Piece { within, at: at as u32, len, raw: *raw, kind: *kind, sum };
        Stored::At(Place { piece: Arc::new(piece), skip: 0 })
    }
}

/// Puts drafts one after the other, and returns their places as if they were in `within`.
pub fn join<'a>(drafts: impl Iterator<Item = &'a Draft>, within: Within) -> (Vec<u8>, Vec<Stored>) {
    let mut bytes = Vec::new();
    let places = drafts.map(|draft| {
        let at = bytes.len();
        bytes.extend_from_slice(&draft.bytes);
        draft.place(within, at)
    });
    let places = places.collect();
    (bytes, places)
}

/// The objects of a disk.
pub struct Chunks<O> {
    /// The store.
    pub objects: O,
    /// The disk's encoding.
    pub codec: Codec,
    /// The disk's log.
    pub id: String,
    /// Blocks of a chunk.
    pub chunk: u64,
    /// Pieces in memory.
    pub pieces: Pieces,
    view: Mutex<Option<View>>,
    /// Names of what was uploaded in a generation of the store.
    uploaded: Mutex<(Option<u64>, HashSet<Id>)>,
}

impl<O: Objects> Chunks<O> {
    /// Those of the disk whose log is `id`, in chunks of `chunk` bytes. Up to `memory` bytes of
    /// pieces are kept in memory.
    pub fn new(objects: O, codec: Codec, id: &str, chunk: u32, memory: u64) -> Self {
        Chunks {
            objects,
            codec,
            id: id.to_string(),
            chunk: u64::from(chunk) / BLOCK,
            pieces: Pieces::new(memory),
            view: Mutex::default(),
            uploaded: Mutex::default(),
        }
    }

    /// Returns the state of the store, read not long ago.
    pub fn view(&self) -> io::Result<View> {
        let view = self.view.lock().expect("no holder panics").clone();
        match view.filter(|view| view.age() < FRESH) {
            Some(view) => Ok(view),
            None => self.look(),
        }
    }

    /// Reads the state of the store.
    pub fn look(&self) -> io::Result<View> {
        let view = View::read(&self.objects)?;
        let mut uploaded = self.uploaded.lock().expect("no holder panics");
        if uploaded.0 != view.idle() || uploaded.1.len() > MAX_UPLOADED {
            *uploaded = (view.idle(), HashSet::new());
        }
        *self.view.lock().expect("no holder panics") = Some(view.clone());
        Ok(view)
    }

    /// Puts an object, unless it was put already.
    pub fn put(&self, view: &View, bytes: &[u8]) -> io::Result<Id> {
        let id = view.name(bytes)?;
        let known = |uploaded: &(Option<u64>, HashSet<Id>)| {
            view.idle().is_some() && uploaded.0 == view.idle()
        };
        {
            let uploaded = self.uploaded.lock().expect("no holder panics");
            if known(&uploaded) && uploaded.1.contains(&id) {
                return Ok(id);
            }
        }
        self.objects.put(&chunk_key(&id), bytes)?;
        let mut uploaded = self.uploaded.lock().expect("no holder panics");
        if known(&uploaded) {
            uploaded.1.insert(id);
        }
        Ok(id)
    }

    /// Encodes the bytes of a piece.
    pub fn draft(&self, raw: &[u8]) -> io::Result<Draft> {
        let encoded = self.codec.encode(raw)?;
        Ok(Draft { bytes: encoded.bytes, raw: raw.len() as u32, kind: encoded.kind })
    }

    /// Puts a piece that is an object of its own.
    pub fn put_own(&self, view: &View, draft: &Draft) -> io::Result<Stored> {
        Ok(draft.place(Within::Chunk(self.put(view, &draft.bytes)?), 0))
    }

    /// Puts small pieces, several in each object, and returns their places in order.
    pub fn put_packed(&self, view: &View, drafts: Vec<Draft>) -> io::Result<Vec<Stored>> {
        let packs = packs(drafts, Draft::len);
        let places = parallel(packs, |drafts| {
            let (bytes, _) = join(drafts.iter(), Within::Log(0));
            let id = self.put(view, &bytes)?;
            Ok(join(drafts.iter(), Within::Chunk(id)).1)
        })?;
        Ok(places.into_iter().flatten().collect())
    }

    /// Puts encoded leaves, several in each object, and returns their places in order.
    pub fn put_leaves(&self, view: &View, leaves: Vec<Vec<u8>>) -> io::Result<Vec<LeafRef>> {
        let refs = parallel(packs(leaves, Vec::len), |leaves| {
            let object = self.put(view, &leaves.concat())?;
            let mut at = 0;
            let refs = leaves.iter().map(|leaf| {
                let (start, len) = (at, leaf.len() as u32);
                at += len;
                LeafRef { object, at: start, len, sum: sum(leaf) }
            });
            Ok(refs.collect::<Vec<_>>())
        })?;
        Ok(refs.into_iter().flatten().collect())
    }

    /// Returns the blocks of a piece.
    pub fn piece(&self, piece: &Piece) -> io::Result<Bytes> {
        self.pieces.get((piece.within, piece.at), || self.fetch(piece))
    }

    fn fetch(&self, piece: &Piece) -> io::Result<Vec<u8>> {
        let key = match piece.within {
            Within::Chunk(id) => chunk_key(&id),
            Within::Log(number) => log_key(&self.id, number),
        };
        let (at, len) = (u64::from(piece.at), u64::from(piece.len));
        let bytes = self.objects.get_range(&key, at..at + len)?.ok_or_else(|| missing(&key))?;
        if bytes.len() as u64 != len || sum(&bytes) != piece.sum {
            return Err(damaged(&key));
        }
        let mut raw = self.codec.decode(bytes, piece.kind, piece.raw as usize)?;
        // The last chunk of a disk in the first format ends with the disk.
        raw.resize(raw.len().next_multiple_of(BLOCK as usize), 0);
        Ok(raw)
    }

    /// Reads a leaf.
    pub fn leaf(&self, number: u64, of: &LeafRef) -> io::Result<Leaf> {
        let key = chunk_key(&of.object);
        let (at, len) = (u64::from(of.at), u64::from(of.len));
        let raw = self.objects.get_range(&key, at..at + len)?.ok_or_else(|| missing(&key))?;
        if sum(&raw) != of.sum {
            return Err(damaged(&key));
        }
        decode_leaf(&raw, number, &self.codec).map(Arc::new)
    }

    /// Reads a root.
    pub fn root(&self, id: &Id) -> io::Result<(Tree, u64)> {
        let key = chunk_key(id);
        let (raw, _) = self.objects.get(&key)?.ok_or_else(|| missing(&key))?;
        Tree::decode(&raw, &self.codec)
            .map_err(|error| io::Error::new(error.kind(), format!("{key}: {error}")))
    }

    /// Returns the contents of blocks whose places are these; what has none is zero.
    pub fn gather(&self, places: &Extents<Stored>, blocks: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; ((blocks.end - blocks.start) * BLOCK) as usize];
        for (range, stored) in places.within(blocks.clone()) {
            let Stored::At(place) = stored else { continue };
            let piece = self.piece(&place.piece)?;
            let start = ((range.start - blocks.start) * BLOCK) as usize;
            let len = ((range.end - range.start) * BLOCK) as usize;
            let from = u64::from(place.skip) * BLOCK;
            bytes[start..start + len].copy_from_slice(&piece[from as usize..][..len]);
        }
        Ok(bytes)
    }
}

/// Puts things together until each pack has about its size.
fn packs<T>(things: Vec<T>, len: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut packs: Vec<Vec<T>> = Vec::new();
    let mut bytes = PACK;
    for thing in things {
        if bytes + len(&thing) > PACK {
            packs.push(Vec::new());
            bytes = 0;
        }
        bytes += len(&thing);
        packs.last_mut().expect("one was pushed").push(thing);
    }
    packs
}

fn missing(key: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{key} is missing from the store"))
}

fn damaged(key: &str) -> io::Error {
    let text = format!("{key} is damaged: it is not what was put there");
    io::Error::new(io::ErrorKind::InvalidData, text)
}
