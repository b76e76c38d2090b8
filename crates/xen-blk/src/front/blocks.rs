//! A disk as file systems for small machines take it: the trait of the crate `block-device-driver`.
//!
//! The traits of `embedded-storage-async` do not fit: their offsets are 32-bit numbers of bytes,
//! which end at 4 GiB.

use crate::front::disk::Disk;
use crate::front::error::{Error, Op};
use aligned::{A1, Aligned};
use block_device_driver::{BlockDevice, blocks_to_slice, blocks_to_slice_mut};
use xen_platform::Platform;

/// A disk as blocks of `SIZE` bytes, at any alignment.
pub struct Blocks<P: Platform, const SIZE: usize>(Disk<P>);

impl<P: Platform, const SIZE: usize> Blocks<P, SIZE> {
    /// Wraps a disk, if blocks of that size are whole sectors of it.
    pub fn new(disk: &Disk<P>) -> Result<Self, Error<P::Error>> {
        let sector_size = disk.info().sector_size;
        match SIZE > 0 && SIZE % (sector_size as usize) == 0 {
            true => Ok(Blocks(disk.clone())),
            false => {
                Err(Error::Unaligned { op: Op::Read, sector: 0, len: SIZE as u64, sector_size })
            }
        }
    }

    fn sector(block: u32) -> u64 {
        u64::from(block) * (SIZE as u64 / 512)
    }
}

impl<P: Platform, const SIZE: usize> BlockDevice<SIZE> for Blocks<P, SIZE> {
    type Error = Error<P::Error>;
    type Align = A1;

    async fn read(
        &mut self,
        block: u32,
        to: &mut [Aligned<A1, [u8; SIZE]>],
    ) -> Result<(), Self::Error> {
        self.0.read(Self::sector(block), blocks_to_slice_mut(to)).await
    }

    async fn write(
        &mut self,
        block: u32,
        from: &[Aligned<A1, [u8; SIZE]>],
    ) -> Result<(), Self::Error> {
        self.0.write(Self::sector(block), blocks_to_slice(from)).await
    }

    async fn size(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0.info().sectors * 512)
    }
}
