//! `qcow2` and `vmdk`: images of other virtual machines, through the crate `imago`.

use super::file::lock;
use super::{Discard, Info, Storage, read_only};
use imago::file::File as ImageFile;
use imago::format::PreallocateMode;
use imago::format::gate::ImplicitOpenGate;
use imago::qcow2::Qcow2;
use imago::vmdk::Vmdk;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::RwLock;

/// What kind of image it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// QEMU's, versions 2 and 3.
    Qcow2,
    /// VMware's; it is only read.
    Vmdk,
}

/// So many images may stand on each other. Two that each name the other would never end.
const DEEPEST: u32 = 64;

/// Opens what an image stands on, so many images below the first.
struct Deep(u32);

impl ImplicitOpenGate<ImageFile> for Deep {
    fn open_format<F: FormatDriverBuilder<ImageFile>>(&mut self, image: F) -> io::Result<FormatAccess<ImageFile>> {
        if self.0 == DEEPEST {
            let text = format!("it stands on more than {DEEPEST} other images, or on itself");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(FormatAccess::new(image.open(Deep(self.0 + 1))?))
    }

    fn open_storage(&mut self, file: StorageOpenOptions) -> io::Result<ImageFile> {
        imago::Storage::open(file)
    }
}

/// A disk in an image with a format.
pub struct Image {
    access: RwLock<FormatAccess<ImageFile>>,
    writable: bool,
    format: Format,
    /// Version 2 of QEMU's cannot say of a cluster that it is zero.
    discards: bool,
    /// Keeps the lock where the image is opened once more by its path.
    _locked: File,
}

impl Image {
    /// Opens the image, and locks it against other programs that serve it. An image can name other files that it stands
    /// on, any that this program can open; so `trusted` says whether it may.
    pub fn open(path: &Path, format: Format, writable: bool, trusted: bool) -> io::Result<Self> {
        let writable = writable && format == Format::Qcow2;
        let file = File::options().read(true).write(writable).open(path)?;
        lock(&file, writable)?;
        let locked = file.try_clone()?;
        let mut version = [0; 8];
        file.read_exact_at(&mut version, 0)?;
        let discards = writable && u32::from_be_bytes(version[4..].try_into().expect("four bytes")) >= 3;
        if writable {
            counts_itself(&file)?;
        }
        // An image that names others must be found from where it lies.
        let access = match (format, trusted) {
            (Format::Qcow2, false) => {
                let image = Qcow2::<ImageFile>::builder(ImageFile::try_from(file)?).write(writable);
                FormatAccess::new(image.open(DenyImplicitOpenGate::default())?)
            }
            (Format::Qcow2, true) => {
                let image = Qcow2::<ImageFile>::builder_path(path).write(writable);
                FormatAccess::new(image.open(Deep(0))?)
            }
            (Format::Vmdk, false) => {
                let image = Vmdk::<ImageFile>::builder(ImageFile::try_from(file)?).write(false);
                FormatAccess::new(image.open(DenyImplicitOpenGate::default())?)
            }
            (Format::Vmdk, true) => {
                let image = Vmdk::<ImageFile>::builder_path(path).write(false);
                FormatAccess::new(image.open(Deep(0))?)
            }
        };
        let image = Image { access: RwLock::new(access), writable, format, discards, _locked: locked };
        super::file::whole_sectors(image.info().bytes, 512)?;
        Ok(image)
    }
}

/// Refuses to write a qcow2 image that counts its own first cluster, the header, as free: with that, nothing can be said of
/// any other, and the crate looks for room without end. (QEMU's docs/interop/qcow2.txt has the places.)
fn counts_itself(file: &File) -> io::Result<()> {
    let damaged =
        |_| io::Error::new(io::ErrorKind::InvalidData, "its reference counts are damaged: qemu-img check -r all");
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).map(|()| u64::from_be_bytes(bytes)).map_err(damaged)
    };
    let (table, table_clusters) = (number(48)?, number(56)? >> 32);
    // The lowest bits are reserved, and offsets are those of whole clusters.
    let block = number(table)? & !0x1ff;
    // The first count of a block has at most eight bytes; of less, all that are read belong to the first clusters.
    if table_clusters == 0 || block == 0 || number(block)? == 0 {
        return Err(damaged(io::ErrorKind::InvalidData.into()));
    }
    Ok(())
}

impl Storage for Image {
    fn info(&self) -> Info {
        let bytes = self.access.read().expect("no holder panics").size();
        let discard = self.discards.then_some(Discard { granularity: 64 * 1024, secure: false });
        Info { read_only: !self.writable, physical_sector_size: 4096, discard, ..Info::new(bytes) }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        self.access.read().expect("no holder panics").read(to, at)
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        if !self.writable {
            return Err(read_only());
        }
        self.info().range(at, from.len() as u64)?;
        self.access.read().expect("no holder panics").write(from, at)
    }

    fn flush(&self) -> io::Result<()> {
        let access = self.access.read().expect("no holder panics");
        match self.writable {
            true => access.flush().and_then(|()| access.sync()),
            false => Ok(()),
        }
    }

    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        self.info().range(at, len)?;
        if secure || !self.discards {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if len == 0 {
            return Ok(());
        }
        self.access.write().expect("no holder panics").discard_to_any(at, len)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        super::file::whole_sectors(bytes, 512)?;
        if !self.writable || self.format != Format::Qcow2 {
            return Err(read_only());
        }
        self.access.write().expect("no holder panics").resize(bytes, PreallocateMode::None)
    }
}

/// Makes an empty qcow2 image of so many bytes in a file that does not exist.
pub fn create_qcow2(path: &Path, bytes: u64) -> io::Result<()> {
    use imago::FormatCreateBuilder;
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    Qcow2::<ImageFile>::create_builder(ImageFile::try_from(file)?).size(bytes).create()
}
