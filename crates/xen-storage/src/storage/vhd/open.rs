//! Opening an image: its footer is looked for, and its table of blocks checked.

use super::blocks::Blocks;
use super::layout::{self, FOOTER_LEN, Footer, Kind, SECTOR};
use super::{Backing, Guarded, Vhd};
use std::io;

/// Old versions of Virtual PC write a footer that lacks its last byte, which is zero.
const SHORT_FOOTER: u64 = 511;
/// Longest run of zeros behind a footer that is not at the end, in bytes: a file that was made
/// longer when the power failed.
const MAX_TAIL: u64 = 80 << 20;
/// Bytes that are looked through at a time.
const PIECE: u64 = 1 << 20;

impl<B: Backing> Vhd<B> {
    /// Opens the image.
    pub fn open(file: B, writable: bool) -> io::Result<Self> {
        let file = Guarded::new(file);
        let size = file.size()?;
        let (footer, data_end) = find_footer(&file, size)?;
        let blocks = match footer.kind {
            Kind::Fixed if footer.bytes > data_end => {
                return Err(layout::invalid(format!(
                    "the image is shorter than its disk: {data_end} bytes of {}",
                    footer.bytes
                )));
            }
            Kind::Fixed => None,
            Kind::Dynamic => Some(Blocks::load(&file, &footer, data_end, size)?),
        };
        Ok(Vhd { file, footer, writable, blocks })
    }
}

/// Returns the footer, and where the data end before it. Only the end is believed: the beginning of
/// a fixed image is the guest's.
fn find_footer(file: &impl Backing, size: u64) -> io::Result<(Footer, u64)> {
    if size < SHORT_FOOTER {
        return Err(layout::invalid("it is too short for a VHD image"));
    }
    let at_end = match size.checked_sub(FOOTER_LEN as u64) {
        Some(at) => footer_at(file, at, FOOTER_LEN).map(|footer| (footer, at)),
        None => Err(layout::invalid("it is too short for a VHD image")),
    };
    let missing = match at_end {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let short = size - SHORT_FOOTER;
    if let Ok(footer) = footer_at(file, short, SHORT_FOOTER as usize) {
        return Ok((footer, short));
    }
    // A footer at the end that is damaged is not searched for elsewhere.
    let Ok(copy) = footer_at(file, 0, FOOTER_LEN) else { return Err(missing) };
    match last_footer(file, size)? {
        Some(footer) if copy.kind == Kind::Dynamic && footer == copy => Ok((footer, size)),
        _ => Err(layout::invalid(
            "there is no footer at its end: if it is a dynamic image whose writer was killed, \
             qemu-img convert -f vpc makes a whole one of it; a fixed one was cut or made longer",
        )),
    }
}

/// Returns the footer in the last sectors that are not zero, if one is there.
fn last_footer(file: &impl Backing, size: u64) -> io::Result<Option<Footer>> {
    // It begins at a whole sector, and the end may lie within one.
    let mut piece = vec![0; (PIECE + SECTOR) as usize];
    let (mut end, least) = (size, size.saturating_sub(MAX_TAIL));
    while end > least {
        let start = end.saturating_sub(PIECE) / SECTOR * SECTOR;
        let bytes = &mut piece[..(end - start) as usize];
        file.read_at(start, bytes)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            let sector = (start + last as u64) / SECTOR * SECTOR;
            return Ok(footer_at(file, sector, FOOTER_LEN).ok());
        }
        end = start;
    }
    Ok(None)
}

fn footer_at(file: &impl Backing, at: u64, len: usize) -> io::Result<Footer> {
    let mut bytes = [0; FOOTER_LEN];
    file.read_at(at, &mut bytes[..len])?;
    Footer::decode(&bytes)
}
