//! Which clusters are kept: in memory, and as far as the file has it.

use super::Backing;
use super::header::BITS_AT;
use std::io;

/// Bits are written in blocks of so many bytes.
const BLOCK: usize = 4096;

/// One bit for each cluster.
pub struct Bits {
    clusters: u64,
    bytes: Vec<u8>,
    /// Blocks with bits that the file does not have.
    dirty: Vec<bool>,
}

impl Bits {
    pub fn none(clusters: u64) -> Self {
        let bytes = vec![0; clusters.div_ceil(8) as usize];
        let dirty = vec![false; bytes.len().div_ceil(BLOCK)];
        Bits { clusters, bytes, dirty }
    }

    pub fn read(file: &impl Backing, clusters: u64) -> io::Result<Self> {
        let mut bits = Self::none(clusters);
        file.read_at(BITS_AT, &mut bits.bytes)?;
        bits.cut();
        Ok(bits)
    }

    /// Bits behind the last cluster can be left from when there were more.
    fn cut(&mut self) {
        if let (Some(last), rest @ 1..) = (self.bytes.last_mut(), self.clusters % 8) {
            *last &= (1 << rest) - 1;
        }
    }

    /// Another number of clusters; new ones are not kept.
    pub fn resize(&mut self, clusters: u64) {
        self.clusters = clusters;
        self.bytes.resize(clusters.div_ceil(8) as usize, 0);
        self.dirty.resize(self.bytes.len().div_ceil(BLOCK), false);
        self.cut();
    }

    /// Whether a cluster is kept; one that is not there is not.
    pub fn has(&self, cluster: u64) -> bool {
        self.bytes.get((cluster / 8) as usize).is_some_and(|byte| byte & 1 << (cluster % 8) != 0)
    }

    pub fn add(&mut self, cluster: u64) {
        let byte = (cluster / 8) as usize;
        if !self.has(cluster) {
            self.bytes[byte] |= 1 << (cluster % 8);
            self.dirty[byte / BLOCK] = true;
        }
    }

    /// The clusters that are kept.
    pub fn set(&self) -> impl Iterator<Item = u64> {
        (0..self.clusters).filter(|cluster| self.has(*cluster))
    }

    /// Writes the blocks that the file does not have, and says whether there were any. They count as written only once
    /// [`kept`](Self::kept) says so: what fails is tried again at the next flush.
    pub fn write_new(&self, file: &impl Backing) -> io::Result<bool> {
        for (n, _) in self.dirty.iter().enumerate().filter(|(_, dirty)| **dirty) {
            let block = &self.bytes[n * BLOCK..((n + 1) * BLOCK).min(self.bytes.len())];
            file.write_at(BITS_AT + (n * BLOCK) as u64, block)?;
        }
        Ok(self.dirty.contains(&true))
    }

    /// The file has all of them.
    pub fn kept(&mut self) {
        self.dirty.fill(false);
    }

    /// Writes all that are there from that of `cluster` on.
    pub fn write_from(&self, file: &impl Backing, cluster: u64) -> io::Result<()> {
        let first = (cluster / 8) as usize;
        file.write_at(BITS_AT + first as u64, &self.bytes[first..])
    }
}
