//! `qcow2`: QEMU's images, versions 2 and 3, through the crate `imago`.
//!
//! The crate keeps tables in memory. They are given to the kernel before a write returns, so that
//! what was written outlasts this program.

mod header;

use super::file::{open_locked, raw_identity};
use super::lock::LockedFile;
use super::sync_guard::SyncGuard;
use super::{Backing, Discard, Info, Storage, fingerprint, read_only};
use header::Header;
use imago::file::File as ImageFile;
use imago::format::PreallocateMode;
use imago::format::gate::ImplicitOpenGate;
use imago::qcow2::Qcow2 as ImagoQcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, RwLock};

/// Most images that stand on each other. Two that each name the other would never end.
const MAX_DEPTH: u32 = 64;

/// Opens the images below the one that names them; it counts how many lie above.
struct Deep(u32);

impl ImplicitOpenGate<ImageFile> for Deep {
    fn open_format<F: FormatDriverBuilder<ImageFile>>(
        &mut self,
        image: F,
    ) -> io::Result<FormatAccess<ImageFile>> {
        if self.0 == MAX_DEPTH {
            let text = format!("it stands on more than {MAX_DEPTH} other images, or on itself");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(FormatAccess::new(image.open(Deep(self.0 + 1))?))
    }

    fn open_storage(&mut self, file: StorageOpenOptions) -> io::Result<ImageFile> {
        imago::Storage::open(file)
    }
}

/// A disk in a qcow2 image.
pub struct Qcow2 {
    access: RwLock<FormatAccess<ImageFile>>,
    /// Held while tables are given to the kernel: a writer that finds its own under way waits.
    tables: Mutex<()>,
    writable: bool,
    /// Version 2 cannot say of a cluster that it is zero.
    discards: bool,
    /// Other files may belong to it.
    trusted: bool,
    guard: SyncGuard,
    /// Keeps the lock where the image is opened once more by its path.
    file: LockedFile,
}

impl Qcow2 {
    /// Opens the image, and locks it against other programs that use it. An image can name other
    /// files that it stands on, any that this program can open; `trusted` permits that.
    pub fn open(path: &Path, writable: bool, trusted: bool) -> io::Result<Self> {
        let file = open_locked(path, writable)?;
        let header = Header::read(&file)?;
        header.check(trusted)?;
        if trusted {
            header::check_below(path, &header, MAX_DEPTH)?;
        }
        let discards = writable && header.version >= 3;
        if writable {
            counts_itself(&file)?;
        }
        // An image that names others must be found from where it lies.
        let access = match trusted {
            false => {
                let file = ImageFile::try_from(file.try_clone()?)?;
                let image = ImagoQcow2::<ImageFile>::builder(file).write(writable);
                FormatAccess::new(image.open(DenyImplicitOpenGate::default())?)
            }
            true => {
                let image = ImagoQcow2::<ImageFile>::builder_path(path).write(writable);
                FormatAccess::new(image.open(Deep(0))?)
            }
        };
        let image = Qcow2 {
            access: RwLock::new(access),
            tables: Mutex::default(),
            writable,
            discards,
            trusted,
            guard: SyncGuard::default(),
            file,
        };
        super::file::whole_sectors(image.info().bytes, 512)?;
        Ok(image)
    }

    /// Gives all tables to the kernel.
    fn write_tables(&self, access: &FormatAccess<ImageFile>) -> io::Result<()> {
        let _one = self.tables.lock().expect("no holder panics");
        access.flush()
    }
}

/// Refuses to write a qcow2 image that counts its own first cluster, the header, as free: with
/// that, nothing can be said of any other, and the crate looks for room without end. (QEMU's
/// docs/interop/qcow2.txt has the places.)
fn counts_itself(file: &File) -> io::Result<()> {
    let damaged = |_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "its reference counts are damaged: qemu-img check -r all",
        )
    };
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).map(|()| u64::from_be_bytes(bytes)).map_err(damaged)
    };
    let (table, table_clusters) = (number(48)?, number(56)? >> 32);
    // The lowest bits are reserved, and offsets are those of whole clusters.
    let block = number(table)? & !0x1ff;
    // The first count of a block has at most eight bytes; of less, all that are read belong to the
    // first clusters.
    if table_clusters == 0 || block == 0 || number(block)? == 0 {
        return Err(damaged(io::ErrorKind::InvalidData.into()));
    }
    Ok(())
}

impl Storage for Qcow2 {
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
        self.guard.check()?;
        let access = self.access.read().expect("no holder panics");
        access.write(from, at)?;
        self.write_tables(&access)
    }

    fn flush(&self) -> io::Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.guard.check()?;
        let access = self.access.read().expect("no holder panics");
        self.write_tables(&access)?;
        if self.trusted {
            // Its data may be in another file.
            return self.guard.sync(|| access.sync());
        }
        // A discard waits until nobody uses the tables, and all others wait for it: not for a
        // device as well.
        drop(access);
        self.guard.sync(|| self.file.sync_data())
    }

    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        self.info().range(at, len)?;
        if secure || !self.discards {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.guard.check()?;
        if len == 0 {
            return Ok(());
        }
        let mut access = self.access.write().expect("no holder panics");
        access.discard_to_any(at, len)?;
        self.write_tables(&access)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        super::file::whole_sectors(bytes, 512)?;
        if !self.writable {
            return Err(read_only());
        }
        self.guard.check()?;
        let mut access = self.access.write().expect("no holder panics");
        access.resize(bytes, PreallocateMode::None)?;
        self.write_tables(&access)
    }

    fn identity(&self) -> Option<String> {
        Some(format!("qcow2 in {}", raw_identity(&self.file)?))
    }

    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        let contents = |at, to: &mut [u8]| self.read(at, to);
        let mut value = fingerprint::of_contents(self.info().bytes, contents)?;
        value.extend(self.file.stamp());
        Ok(value)
    }

    /// Each write is with the kernel when it returns, and so are the tables that find it.
    fn outlives(&self) -> bool {
        true
    }
}

/// Makes an empty image of `bytes` in a file that does not exist.
pub fn create_qcow2(path: &Path, bytes: u64) -> io::Result<()> {
    use imago::FormatCreateBuilder;
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    ImagoQcow2::<ImageFile>::create_builder(ImageFile::try_from(file)?).size(bytes).create()
}
