//! The handle on a disk.

use super::bus::{Bus, Connected};
use super::device::Device;
use super::transfer::{Data, Part, Transfer};
use super::{Buffer, Error, Info, Op, Stats, Why, Wishes, driver};
use alloc::rc::Rc;
use core::future::{Future, poll_fn};
use core::ops::Range;
use core::task::Poll;
use xen_platform::Platform;
use xen_store::Store;

/// A disk. Clones are the same disk; when the last is dropped, it is closed as with [`Disk::close`].
///
/// Any number of tasks can use it at once, and each gets its share. Sectors are of 512 bytes; what is read and written
/// begins and ends with whole sectors of the disk ([`Info::sector_size`]).
pub struct Disk<P: Platform>(Rc<Handle<P>>);

struct Handle<P: Platform>(Rc<Device<P>>);

/// How a disk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It was closed here.
    Closed,
    /// The toolstack or the backend closed it.
    Unplugged,
    /// The backend's keys are gone without its having closed.
    Lost,
}

/// Connects to the disk with the number `vdev` (see [`super::vdev`]).
///
/// Gives the disk and its driver, a future that must be spawned or polled beside the disk's use. It runs until the disk
/// is closed or gone, and fails if the backend broke the protocol or could not be connected to again.
pub async fn attach<P: Platform>(
    platform: &P,
    store: &Store,
    vdev: u32,
    wishes: &Wishes,
) -> Result<(Disk<P>, impl Future<Output = Result<End, Error<P::Error>>> + use<P>), Error<P::Error>> {
    let mut bus = Bus::find(store, vdev).await?;
    bus.begin().await?;
    let connected: Connected<P> = match bus.connect(platform, wishes, wishes.connect_timeout).await {
        Ok(connected) => connected,
        Err(error) => {
            bus.close(platform, wishes.connect_timeout).await;
            return Err(error);
        }
    };
    let device = Rc::new(Device::new(platform, wishes, vdev, &bus, connected));
    let driver = driver::drive(device.clone(), bus);
    Ok((Disk(Rc::new(Handle(device))), driver))
}

impl<P: Platform> Disk<P> {
    /// Reads from `sector` on, until `to` is full.
    pub fn read<'a>(&'a self, sector: u64, to: &'a mut [u8]) -> Transfer<'a, P> {
        self.transfer(Op::Read, sector, to.len(), Data::In(to))
    }

    /// Writes `from` from `sector` on. It is on the disk for good once a flush after it is done.
    pub fn write<'a>(&'a self, sector: u64, from: &'a [u8]) -> Transfer<'a, P> {
        self.transfer(Op::Write, sector, from.len(), Data::Out(from))
    }

    /// Writes `from` from `sector` on, after everything that was written before and before everything after it; an empty
    /// one only keeps the two apart.
    pub fn barrier<'a>(&'a self, sector: u64, from: &'a [u8]) -> Transfer<'a, P> {
        match (self.0.0.with(|state| state.info.barrier), from) {
            (false, _) => self.wrong(Error::Unsupported(Op::Barrier)),
            (true, []) => self.bare(Op::Barrier, 0, 0),
            (true, _) => self.transfer(Op::Barrier, sector, from.len(), Data::Out(from)),
        }
    }

    /// Sees to it that everything written before is on the disk for good, by a flush or, if the backend has none, a
    /// barrier.
    pub async fn flush(&self) -> Result<(), Error<P::Error>> {
        if self.0.0.with(|state| state.info.flush) {
            match self.bare(Op::Flush, 0, 0).await {
                Err(Error::Unsupported(_)) => {}
                result => return result,
            }
        }
        match self.barrier(0, &[]).await {
            Err(Error::Unsupported(_)) => Err(Error::Unsupported(Op::Flush)),
            result => result,
        }
    }

    /// Tells the disk that the `count` sectors from `sector` on are not needed any more; what they hold then is not
    /// known. With `secure`, it must not be possible to read it again by any means.
    pub fn discard(&self, sector: u64, count: u64, secure: bool) -> Transfer<'_, P> {
        let op = if secure { Op::SecureDiscard } else { Op::Discard };
        let checked = self.0.0.with(|state| match state.info.discard {
            Some(discard) if discard.secure || !secure => check(&state.info, op, sector, count.checked_mul(512)),
            _ => Err(Error::Unsupported(op)),
        });
        self.begin(checked.map(|()| Part { op, sector, sectors: count, at: 0, ticket: None }), Data::None)
    }

    /// Pages for data that the backend reads and writes itself, without a copy: see [`Disk::read_into`]. Whoever has them
    /// takes them from the same store as the rings, so they should be kept and used again.
    pub fn buffer(&self, pages: usize) -> Result<Buffer<P>, Error<P::Error>> {
        let backend = self.0.0.with(|state| state.info.backend);
        self.0.0.platform.share(backend, pages).map(Buffer::new).map_err(Error::Platform)
    }

    /// Reads from `sector` on into these bytes of `to`, which begin at a multiple of 512 (of the disk's sectors, if the
    /// backend counts in them).
    pub fn read_into(&self, sector: u64, to: &Buffer<P>, range: Range<usize>) -> Transfer<'_, P> {
        self.move_shared(Op::Read, sector, to, range)
    }

    /// Writes these bytes of `from`, as [`Disk::read_into`]. What changes in them meanwhile may or may not be written.
    pub fn write_from(&self, sector: u64, from: &Buffer<P>, range: Range<usize>) -> Transfer<'_, P> {
        self.move_shared(Op::Write, sector, from, range)
    }

    fn move_shared(&self, op: Op, sector: u64, buffer: &Buffer<P>, range: Range<usize>) -> Transfer<'_, P> {
        let unit = self.0.0.with(|state| state.limits.segment_unit);
        let whole = range.start.is_multiple_of(unit as usize);
        assert!(
            whole && range.end <= buffer.len(),
            "bytes {range:?} of a buffer of {} in units of {unit}",
            buffer.len()
        );
        self.transfer(op, sector, range.len(), Data::Shared(buffer.grant(), range.start))
    }

    /// What is known of the disk now.
    pub fn info(&self) -> Info {
        self.0.0.with(|state| state.info.clone())
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.0.0.with(|state| state.stats)
    }

    /// Waits until [`Disk::info`] changes, or the disk is gone. `seen` counts the changes, and is brought up to date; one
    /// that is not the present count gives an answer at once.
    pub async fn changed(&self, seen: &mut u32) {
        poll_fn(|cx| self.0.0.changes.poll_after(seen, cx)).await
    }

    /// Closes the disk: what is under way is finished, new requests are refused, and the driver ends once the backend has
    /// let go. Waits for that.
    pub async fn close(&self) {
        self.0.begin_to_close();
        let device = &self.0.0;
        let mut seen = device.changes.count();
        // The end is a change, too.
        poll_fn(|cx| {
            loop {
                if device.with(|state| state.ended) {
                    return Poll::Ready(());
                }
                if device.changes.poll_after(&mut seen, cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn transfer<'a>(&'a self, op: Op, sector: u64, len: usize, data: Data<'a, P>) -> Transfer<'a, P> {
        let checked = self.0.0.with(|state| check(&state.info, op, sector, Some(len as u64)));
        let part = checked.map(|()| Part { op, sector, sectors: len as u64 / 512, at: 0, ticket: None });
        self.begin(part, data)
    }

    /// A request without data.
    fn bare(&self, op: Op, sector: u64, sectors: u64) -> Transfer<'_, P> {
        self.begin(Ok(Part { op, sector, sectors, at: 0, ticket: None }), Data::None)
    }

    fn wrong(&self, wrong: Error<P::Error>) -> Transfer<'_, P> {
        self.begin(Err(wrong), Data::None)
    }

    fn begin<'a>(&'a self, part: Result<Part, Error<P::Error>>, data: Data<'a, P>) -> Transfer<'a, P> {
        let part = match self.0.0.with(|state| state.closing) {
            Some(why) => Err(Error::Gone(why)),
            None => part,
        };
        Transfer::new(&self.0.0, part, data)
    }
}

/// Whether a request can be: whole sectors of the disk, at least one, that it has and that may be written.
fn check<E>(info: &Info, op: Op, sector: u64, len: Option<u64>) -> Result<(), Error<E>> {
    let Info { sectors, sector_size, .. } = *info;
    let unit = u64::from(sector_size);
    let Some(len) = len.filter(|len| *len < 1 << 63) else {
        return Err(Error::OutOfRange { op, sector, count: u64::MAX, sectors });
    };
    if len == 0 || !len.is_multiple_of(unit) || !sector.is_multiple_of(unit / 512) {
        return Err(Error::Unaligned { op, sector, len, sector_size });
    }
    let count = len / 512;
    if sector.checked_add(count).is_none_or(|end| end > sectors) {
        return Err(Error::OutOfRange { op, sector, count, sectors });
    }
    match info.read_only && op != Op::Read {
        true => Err(Error::ReadOnly(op)),
        false => Ok(()),
    }
}

impl<P: Platform> Clone for Disk<P> {
    fn clone(&self) -> Self {
        Disk(self.0.clone())
    }
}

impl<P: Platform> Handle<P> {
    fn begin_to_close(&self) {
        self.0.with(|state| {
            state.closing.get_or_insert(Why::Closed);
            state.wake_driver();
        });
    }
}

impl<P: Platform> Drop for Handle<P> {
    fn drop(&mut self) {
        self.begin_to_close();
    }
}
