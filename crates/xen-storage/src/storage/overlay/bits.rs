//! The bits of the clusters that are kept: in memory, and as far as the file has them.

use super::Backing;
use super::header::BITS_AT;
use std::io;

/// Bytes of bits that are written at a time.
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

    /// Takes in the pending bits at `at`, which were written without a sync.
    pub fn add_pending(&mut self, file: &impl Backing, at: u64) -> io::Result<()> {
        let mut pending = vec![0; self.bytes.len()];
        file.read_at(at, &mut pending)?;
        for (n, (byte, more)) in self.bytes.iter_mut().zip(pending).enumerate() {
            if more & !*byte != 0 {
                *byte |= more;
                self.dirty[n / BLOCK] = true;
            }
        }
        self.cut();
        Ok(())
    }

    /// Writes the byte that has the bit of `cluster` to the pending bits at `at`.
    pub fn write_pending(&self, file: &impl Backing, at: u64, cluster: u64) -> io::Result<()> {
        let byte = (cluster / 8) as usize;
        file.write_at(at + byte as u64, &self.bytes[byte..=byte])
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

    /// Returns true if a cluster is kept; one that is not there is not.
    pub fn has(&self, cluster: u64) -> bool {
        self.bytes.get((cluster / 8) as usize).is_some_and(|byte| byte & 1 << (cluster % 8) != 0)
    }

    /// Returns the first run of kept clusters at or after `cluster`, as its first and its end.
    pub fn next(&self, cluster: u64) -> Option<(u64, u64)> {
        let first_byte = self.bytes.iter().skip((cluster / 8) as usize).position(|b| *b != 0)?;
        let from = cluster.max((cluster / 8 + first_byte as u64) * 8);
        let first = (from..self.clusters).find(|cluster| self.has(*cluster))?;
        let end = (first..self.clusters).find(|cluster| !self.has(*cluster));
        Some((first, end.unwrap_or(self.clusters)))
    }

    pub fn add(&mut self, cluster: u64) {
        let byte = (cluster / 8) as usize;
        if !self.has(cluster) {
            self.bytes[byte] |= 1 << (cluster % 8);
            self.dirty[byte / BLOCK] = true;
        }
    }

    /// Returns the clusters that are kept.
    pub fn set(&self) -> impl Iterator<Item = u64> {
        (0..self.clusters).filter(|cluster| self.has(*cluster))
    }

    /// Takes the blocks that the file does not have, with their numbers.
    pub fn take_new(&mut self) -> Vec<(usize, Vec<u8>)> {
        let Bits { bytes, dirty, .. } = self;
        let block = |n: usize| bytes[n * BLOCK..((n + 1) * BLOCK).min(bytes.len())].to_vec();
        let dirty = dirty.iter_mut().enumerate();
        dirty.filter_map(|(n, dirty)| std::mem::take(dirty).then(|| (n, block(n)))).collect()
    }

    /// Notes that blocks that were taken could not be written.
    pub fn give_back(&mut self, blocks: &[(usize, Vec<u8>)]) {
        let known = self.dirty.len();
        blocks.iter().filter(|(n, _)| *n < known).for_each(|(n, _)| self.dirty[*n] = true);
    }

    /// Writes all from that of `cluster` on, to the bits at `at`.
    pub fn write_from(&self, file: &impl Backing, at: u64, cluster: u64) -> io::Result<()> {
        let first = (cluster / 8) as usize;
        file.write_at(at + first as u64, &self.bytes[first..])
    }
}

/// Writes blocks that were taken.
pub fn write(file: &impl Backing, blocks: &[(usize, Vec<u8>)]) -> io::Result<()> {
    blocks.iter().try_for_each(|(n, block)| file.write_at(BITS_AT + (n * BLOCK) as u64, block))
}
