//! Disks in memory by their names: kept until the domain ends, in use or not.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use xen_blk::back::Ram;
use xen_rt::memory::HEAP;

/// Most memory that serving a disk takes beside the disk's own: buffers, rings, persistent grants.
/// It is kept free for each disk that is served, so that no frontend can use up that of another.
pub const SERVING: u64 = 2 << 20;

/// All disks, of one length.
pub struct Images {
    bytes: u64,
    list: RefCell<Vec<Image>>,
}

struct Image {
    name: String,
    ram: Rc<Ram>,
    /// Number of frontends that have it; one alone if it can write.
    users: u64,
    written: bool,
}

/// The reason why a frontend gets no disk.
pub enum Refused {
    /// Another frontend has it.
    InUse,
    /// There is not so much memory.
    NoMemory { bytes: u64, free: u64 },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::InUse => {
                write!(f, "another guest has this disk, and one of the two could write: detach it")
            }
            Refused::NoMemory { bytes, free } => write!(
                f,
                "{} KiB for the disk and its buffers do not fit into {} KiB of free memory: give \
                 this domain more, or make disks smaller",
                bytes >> 10,
                free >> 10
            ),
        }
    }
}

impl Images {
    /// Creates the list, empty. Fails if not even one disk of `bytes` bytes would fit.
    pub fn new(bytes: u64) -> Result<Rc<Images>, Refused> {
        let images = Images { bytes, list: RefCell::default() };
        images.check(bytes)?;
        Ok(Rc::new(images))
    }

    /// Gives a frontend the disk called `name`, which is made now if it is new.
    pub fn open(self: &Rc<Self>, name: &str, read_only: bool) -> Result<Lease, Refused> {
        let known = self.list.borrow().iter().position(|image| image.name == name);
        self.check(if known.is_none() { self.bytes } else { 0 })?;
        let mut list = self.list.borrow_mut();
        let number = match known {
            Some(number) => number,
            None => {
                let none = |_| Refused::NoMemory { bytes: self.bytes, free: free() };
                let ram = Rc::new(Ram::try_with_sectors(self.bytes / 512).map_err(none)?);
                list.push(Image { name: name.into(), ram, users: 0, written: false });
                list.len() - 1
            }
        };
        let image = &mut list[number];
        if image.users > 0 && (image.written || !read_only) {
            return Err(Refused::InUse);
        }
        image.users += 1;
        image.written = !read_only;
        Ok(Lease { images: self.clone(), number, ram: image.ram.clone() })
    }

    /// Makes sure that there is memory for `bytes` more, for all disks that are served, and for
    /// one more.
    fn check(&self, bytes: u64) -> Result<(), Refused> {
        let served: u64 = self.list.borrow().iter().map(|image| image.users).sum();
        let (bytes, free) = (bytes.saturating_add((served + 1) * SERVING), free());
        if bytes <= free { Ok(()) } else { Err(Refused::NoMemory { bytes, free }) }
    }
}

/// Returns the number of bytes that nobody has.
pub fn free() -> u64 {
    let (used, claimed, unclaimed) = HEAP.usage();
    (claimed - used + unclaimed) as u64
}

/// A disk that a frontend has, given back when it is dropped.
pub struct Lease {
    images: Rc<Images>,
    number: usize,
    pub ram: Rc<Ram>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.images.list.borrow_mut()[self.number].users -= 1;
    }
}
