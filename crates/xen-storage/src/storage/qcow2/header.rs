//! The parts of a qcow2 image's header that say whether the image can be served (QEMU's
//! docs/interop/qcow2.txt).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Longest name of a backing file in bytes.
const MAX_NAME: usize = 1023;

/// Features that a program must know to use the image, by their bits, and the cure where it does
/// not.
const INCOMPATIBLE: [(u64, &str); 4] = [
    (1 << 0, "it was not closed in good order (dirty): qemu-img check -r all repairs it"),
    (1 << 1, "it is damaged, as QEMU noted in it: qemu-img check -r all repairs it"),
    (
        1 << 3,
        "its compression is not zlib but zstd: \
         qemu-img convert -O qcow2 -o compression_type=zlib makes a copy that can be served",
    ),
    (
        1 << 4,
        "it has extended L2 entries: \
         qemu-img convert -O qcow2 -o extended_l2=off makes a copy that can be served",
    ),
];
/// The data are in another file.
const EXTERNAL_DATA: u64 = 1 << 2;

/// The header, as far as it matters here.
pub struct Header {
    pub version: u32,
    crypt_method: u32,
    incompatible: u64,
    /// Name of the image that this one stands on.
    backing: Option<Vec<u8>>,
}

impl Header {
    /// Reads the header of `file`.
    pub fn read(file: &File) -> io::Result<Header> {
        let mut raw = [0; 80];
        let short = |_| invalid("it is no qcow2 image: it is too short");
        file.read_exact_at(&mut raw[..72], 0).map_err(short)?;
        let word = |at: usize| u32::from_be_bytes(raw[at..at + 4].try_into().expect("four bytes"));
        if &raw[..4] != MAGIC {
            return Err(invalid("it is no qcow2 image: it does not begin as one"));
        }
        let (version, name_len) = (word(4), word(16) as usize);
        let name_at = u64::from(word(8)) << 32 | u64::from(word(12));
        let crypt_method = word(32);
        let backing = match name_at {
            0 => None,
            _ if name_len > MAX_NAME => return Err(invalid("the name of its backing file is bad")),
            at => {
                let mut name = vec![0; name_len];
                file.read_exact_at(&mut name, at).map_err(short)?;
                Some(name)
            }
        };
        let mut incompatible = [0; 8];
        if version >= 3 {
            file.read_exact_at(&mut incompatible, 72).map_err(short)?;
        }
        let incompatible = u64::from_be_bytes(incompatible);
        Ok(Header { version, crypt_method, incompatible, backing })
    }

    /// Refuses what cannot be served as it is meant, and names the cure.
    pub fn check(&self, trusted: bool) -> io::Result<()> {
        if !(2..=3).contains(&self.version) {
            return Err(invalid(format!(
                "it is a qcow image of version {}: qemu-img convert -O qcow2 makes one of 3",
                self.version
            )));
        }
        if self.crypt_method != 0 {
            let method = match self.crypt_method {
                1 => "AES",
                2 => "LUKS",
                _ => "an unknown method",
            };
            return Err(invalid(format!(
                "it is encrypted ({method}), and what is written here would not be: \
                 qemu-img convert makes a copy without encryption"
            )));
        }
        if let Some((_, text)) = INCOMPATIBLE.iter().find(|(bit, _)| self.incompatible & bit != 0) {
            return Err(invalid(*text));
        }
        let known = EXTERNAL_DATA;
        if self.incompatible & !known != 0 {
            return Err(invalid(format!(
                "it needs features that are not known here ({:#x}): \
                 qemu-img convert -O qcow2 makes a copy without them",
                self.incompatible & !known
            )));
        }
        if trusted {
            return Ok(());
        }
        if let Some(name) = &self.backing {
            return Err(invalid(format!(
                "it stands on another file, {:?}: with the option trusted that is opened as well",
                String::from_utf8_lossy(name)
            )));
        }
        if self.incompatible & EXTERNAL_DATA != 0 {
            let text = "its data are in another file: with the option trusted that is opened";
            return Err(invalid(text));
        }
        Ok(())
    }
}

/// Checks the images that `header`, of the image at `path`, stands on.
pub fn check_below(path: &Path, header: &Header, depth: u32) -> io::Result<()> {
    let Some(name) = header.backing.as_ref().filter(|_| depth > 0) else { return Ok(()) };
    let folder = path.parent().unwrap_or(Path::new("."));
    let below = folder.join(OsStr::from_bytes(name));
    // What is no file is the crate's to open or to refuse.
    let Ok(file) = File::open(&below) else { return Ok(()) };
    let mut magic = [0; 4];
    if file.read_exact_at(&mut magic, 0).is_err() || &magic != MAGIC {
        return Ok(());
    }
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}, below it: {error}", below.display()))
    };
    let next = Header::read(&file).map_err(named)?;
    next.check(true).map_err(named)?;
    check_below(&below, &next, depth - 1)
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}
