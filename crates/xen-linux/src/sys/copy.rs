//! Copying from and to a peer's pages: `IOCTL_GNTDEV_GRANT_COPY` of xen/sys/gntdev.h.

use super::ioctl::{call, code};
use core::mem::{offset_of, size_of};
use rustix::fd::AsFd;
use rustix::ioctl::Opcode;
use std::io;
use xen_platform::{CopyBuffer, CopySegment, DomId};

/// `struct ioctl_gntdev_grant_copy`.
#[repr(C)]
struct GrantCopy {
    count: u32,
    pad: u32,
    segments: *mut Segment,
}
const _: () = assert!(size_of::<GrantCopy>() == 16 && offset_of!(GrantCopy, segments) == 8);

/// `struct ioctl_gntdev_grant_copy_segment`, whose two ends are eight bytes each: an address here,
/// or [`foreign`].
#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    source: u64,
    dest: u64,
    len: u16,
    flags: u16,
    status: i16,
    pad: u16,
}
const _: () = assert!(
    size_of::<Segment>() == 24 && offset_of!(Segment, dest) == 8 && offset_of!(Segment, len) == 16
);
const _: () = assert!(offset_of!(Segment, flags) == 18 && offset_of!(Segment, status) == 20);

const GNTDEV_GRANT_COPY: Opcode = code(b'G', 8, size_of::<GrantCopy>());

/// `GNTCOPY_source_gref` and `GNTCOPY_dest_gref` (xen/grant_table.h).
const SOURCE_GREF: u16 = 1;
const DEST_GREF: u16 = 2;
/// `GNTST_eagain` (xen/grant_table.h).
const EAGAIN: i16 = -12;

/// Number of retries of a segment whose page is not there yet: the kernel has waited for a while
/// each time.
const ATTEMPTS: usize = 8;

/// The other domain's end: `ref`, `offset` and `domid` of the structure's union, on x86-64.
fn foreign(peer: DomId, piece: &CopySegment<'_>) -> u64 {
    u64::from(piece.gref().0) | (piece.at() as u64) << 32 | u64::from(peer.0) << 48
}

fn segment(peer: DomId, piece: &mut CopySegment<'_>) -> Segment {
    let theirs = foreign(peer, piece);
    let len = piece.len() as u16;
    let (source, dest, flags) = match piece.buffer() {
        CopyBuffer::FromPeer(to) => (theirs, to.as_mut_ptr() as u64, SOURCE_GREF),
        CopyBuffer::ToPeer(from) => (from.as_ptr() as u64, theirs, DEST_GREF),
    };
    Segment { source, dest, len, flags, status: -1, pad: 0 }
}

/// Copies all pieces in one call, and those again whose page was not there yet. The call succeeds
/// whatever becomes of the single pieces.
pub(crate) fn copy_segments(
    gntdev: impl AsFd,
    peer: DomId,
    pieces: &mut [CopySegment<'_>],
) -> io::Result<()> {
    // A piece without bytes is copied before the kernel is asked.
    let mut left: Vec<usize> = Vec::with_capacity(pieces.len());
    for (number, piece) in pieces.iter_mut().enumerate() {
        match piece.is_empty() {
            true => piece.set_status(0),
            false => left.push(number),
        }
    }
    for _ in 0..ATTEMPTS {
        if left.is_empty() {
            break;
        }
        let mut segments: Vec<Segment> =
            left.iter().map(|&number| segment(peer, &mut pieces[number])).collect();
        let count =
            u32::try_from(segments.len()).expect("fewer pieces than a grant table has entries");
        // The addresses in the segments are those of the slices that the pieces borrow, with their
        // lengths.
        call(
            &gntdev,
            GNTDEV_GRANT_COPY,
            &mut [GrantCopy { count, pad: 0, segments: segments.as_mut_ptr() }],
        )?;
        left.iter()
            .zip(&segments)
            .for_each(|(&number, segment)| pieces[number].set_status(segment.status));
        left.retain(|&number| pieces[number].status() == EAGAIN);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_platform::GrantRef;

    #[test]
    fn a_piece_becomes_the_structure_of_the_header() {
        assert_eq!(GNTDEV_GRANT_COPY, 0x0010_4708);
        let mut bytes = [0; 512];
        let address = bytes.as_ptr() as u64;
        let piece = segment(
            DomId(7),
            &mut CopySegment::from_peer(GrantRef(0x1234_5678), 0xe00, &mut bytes),
        );
        assert_eq!((piece.source, piece.dest), (0x0007_0e00_1234_5678, address));
        assert_eq!((piece.len, piece.flags), (512, SOURCE_GREF));
        let piece = segment(DomId(7), &mut CopySegment::to_peer(GrantRef(8), 1, &bytes[..3]));
        assert_eq!((piece.source, piece.dest), (address, 0x0007_0001_0000_0008));
        assert_eq!((piece.len, piece.flags), (3, DEST_GREF));
    }

    #[test]
    fn nothing_to_copy_needs_no_call_and_another_device_is_an_error() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = crate::sys::owned(one);
        let mut empty = [CopySegment::to_peer(GrantRef(8), 4096, &[])];
        copy_segments(&fd, DomId(1), &mut empty).unwrap();
        assert!(empty[0].is_copied());
        let mut piece = [CopySegment::to_peer(GrantRef(8), 0, b"x")];
        assert_eq!(copy_segments(&fd, DomId(1), &mut piece).unwrap_err().raw_os_error(), Some(25));
        assert!(!piece[0].is_copied());
    }
}
