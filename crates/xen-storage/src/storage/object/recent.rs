//! Chunks that were used lately.

use super::Chunk;
use super::manifest::Hash;
use std::collections::HashMap;

/// Most chunks that are kept; those that were not used for longest are forgotten first.
pub struct Recent {
    most: usize,
    chunks: HashMap<Hash, (u64, Chunk)>,
    uses: u64,
}

impl Recent {
    /// None yet.
    pub fn new(most: usize) -> Self {
        Recent { most, chunks: HashMap::new(), uses: 0 }
    }

    /// A chunk, if it is there.
    pub fn get(&mut self, hash: &Hash) -> Option<Chunk> {
        self.uses += 1;
        let (used, chunk) = self.chunks.get_mut(hash)?;
        *used = self.uses;
        Some(chunk.clone())
    }

    /// Remembers a chunk.
    pub fn add(&mut self, hash: Hash, chunk: Chunk) {
        self.uses += 1;
        self.chunks.insert(hash, (self.uses, chunk));
        if self.chunks.len() > self.most {
            let oldest =
                self.chunks.iter().min_by_key(|(_, (used, _))| *used).map(|(hash, _)| *hash);
            oldest.and_then(|hash| self.chunks.remove(&hash));
        }
    }
}
