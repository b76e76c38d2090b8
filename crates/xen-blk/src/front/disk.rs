//! The handle of a disk.

use super::buffer::Buffer;
use super::config::Config;
use super::connect::connect;
use super::device::Device;
use super::driver;
use super::error::{Error, GoneReason, Op};
use super::info::{Info, Stats};
use super::io::request::{Data, Request};
use super::io::transfer::Transfer;
use super::life::End;
use alloc::rc::Rc;
use core::future::{Future, poll_fn};
use core::ops::Range;
use core::task::Poll;
use xen_platform::Platform;
use xen_store::Store;

/// A disk. Clones are the same disk; when the last is dropped, it is closed as with
/// [`Disk::close`].
///
/// Any number of tasks can use it at once, and each gets its share. Sectors are of 512 bytes; every
/// read and write begins and ends with a whole sector of the disk ([`Info::sector_size`]).
pub struct Disk<P: Platform>(Rc<Handle<P>>);

struct Handle<P: Platform>(Rc<Device<P>>);

/// Connects to the disk with the number `vdev` (see [`crate::protocol::vdev`]).
///
/// Returns the disk and its driver, a future that must be spawned or polled beside the disk's use.
/// The driver runs until the disk is closed or gone, and fails if the backend broke the protocol or
/// could not be connected to again.
pub async fn attach<P: Platform>(
    platform: &P,
    store: &Store,
    vdev: u32,
    config: &Config,
) -> Result<(Disk<P>, impl Future<Output = Result<End, Error<P::Error>>> + use<P>), Error<P::Error>>
{
    let mut resumes = platform.resumes().count();
    let (xenbus, connected) = connect(platform, store, vdev, config, &mut resumes, false).await?;
    let device = Rc::new(Device::new(platform, config, vdev, &xenbus, connected));
    let driver = driver::drive(device.clone(), xenbus, resumes);
    Ok((Disk(Rc::new(Handle(device))), driver))
}

impl<P: Platform> Disk<P> {
    /// Reads from `sector` on, until `to` is full.
    pub fn read<'a>(&'a self, sector: u64, to: &'a mut [u8]) -> Transfer<'a, P> {
        self.transfer(Op::Read, sector, to.len(), Data::In(to))
    }

    /// Writes `from` from `sector` on. The data is durable once a later flush is done.
    pub fn write<'a>(&'a self, sector: u64, from: &'a [u8]) -> Transfer<'a, P> {
        self.transfer(Op::Write, sector, from.len(), Data::Out(from))
    }

    /// Writes `from` from `sector` on, after all earlier writes and before all later ones. An empty
    /// barrier only keeps the two apart.
    pub fn barrier<'a>(&'a self, sector: u64, from: &'a [u8]) -> Transfer<'a, P> {
        match (self.0.0.with(|state| state.info.barrier), from) {
            (false, _) => self.wrong(Error::Unsupported(Op::Barrier)),
            (true, []) => self.bare(Op::Barrier, 0, 0),
            (true, _) => self.transfer(Op::Barrier, sector, from.len(), Data::Out(from)),
        }
    }

    /// Makes all completed writes durable, by a flush or, if the backend has none, by a barrier.
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

    /// Discards `count` sectors from `sector` on: their contents are undefined until they are
    /// written again. With `secure`, no means must exist to read the old contents.
    pub fn discard(&self, sector: u64, count: u64, secure: bool) -> Transfer<'_, P> {
        let op = if secure { Op::SecureDiscard } else { Op::Discard };
        let checked = self.0.0.with(|state| match state.info.discard {
            Some(discard) if discard.secure || !secure => {
                check(&state.info, op, sector, count.checked_mul(512))
            }
            _ => Err(Error::Unsupported(op)),
        });
        self.begin(checked.map(|()| Request::new(op, sector, count)), Data::None)
    }

    /// Shares pages that the backend reads and writes itself, without a copy: see
    /// [`Disk::read_into`]. They come from the same supply as the rings, so callers should keep and
    /// reuse them.
    pub fn buffer(&self, pages: usize) -> Result<Buffer<P>, Error<P::Error>> {
        let backend = self.0.0.with(|state| state.info.backend);
        Buffer::new(&self.0.0.platform, backend, pages).map_err(Error::Platform)
    }

    /// Reads from `sector` on into the bytes `range` of `to`, which begin at a multiple of 512 (of
    /// the disk's sector size, if the backend counts in its sectors).
    pub fn read_into(&self, sector: u64, to: &Buffer<P>, range: Range<usize>) -> Transfer<'_, P> {
        self.move_shared(Op::Read, sector, to, range)
    }

    /// Writes the bytes `range` of `from`, as [`Disk::read_into`] reads. A change of them meanwhile
    /// may be written or not.
    pub fn write_from(
        &self,
        sector: u64,
        from: &Buffer<P>,
        range: Range<usize>,
    ) -> Transfer<'_, P> {
        self.move_shared(Op::Write, sector, from, range)
    }

    fn move_shared(
        &self,
        op: Op,
        sector: u64,
        buffer: &Buffer<P>,
        range: Range<usize>,
    ) -> Transfer<'_, P> {
        let unit = self.0.0.with(|state| state.limits.segment_unit);
        let whole = range.start % (unit as usize) == 0;
        assert!(
            whole && range.end <= buffer.len(),
            "bytes {range:?} of a buffer of {} in units of {unit}",
            buffer.len()
        );
        self.transfer(op, sector, range.len(), Data::Shared(buffer.pages(), range.start))
    }

    /// Returns the properties of the disk and its connection.
    pub fn info(&self) -> Info {
        self.0.0.with(|state| state.info.clone())
    }

    /// Returns the counters of the disk.
    pub fn stats(&self) -> Stats {
        self.0.0.with(|state| state.stats)
    }

    /// Waits until [`Disk::info`] changes or the disk is gone. `seen` is the count of changes that
    /// the caller knows, and is brought up to date; if it is behind, this returns at once.
    pub async fn changed(&self, seen: &mut u32) {
        poll_fn(|cx| self.0.0.changes.poll_after(seen, cx)).await
    }

    /// Closes the disk: finishes the requests in flight, refuses new ones, and waits until the
    /// backend has let go and the driver has ended.
    pub async fn close(&self) {
        self.0.begin_to_close();
        self.ended().await
    }

    /// Waits until the disk has ended: it was closed, or is gone.
    pub async fn ended(&self) {
        let device = &self.0.0;
        let mut seen = device.changes.count();
        // The end is a change, too.
        poll_fn(|cx| {
            loop {
                if device.with(|state| state.life.has_ended()) {
                    return Poll::Ready(());
                }
                if device.changes.poll_after(&mut seen, cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn transfer<'a>(
        &'a self,
        op: Op,
        sector: u64,
        len: usize,
        data: Data<'a, P>,
    ) -> Transfer<'a, P> {
        let checked = self.0.0.with(|state| check(&state.info, op, sector, Some(len as u64)));
        self.begin(checked.map(|()| Request::new(op, sector, len as u64 / 512)), data)
    }

    /// Begins a request without data.
    fn bare(&self, op: Op, sector: u64, sectors: u64) -> Transfer<'_, P> {
        self.begin(Ok(Request::new(op, sector, sectors)), Data::None)
    }

    fn wrong(&self, wrong: Error<P::Error>) -> Transfer<'_, P> {
        self.begin(Err(wrong), Data::None)
    }

    fn begin<'a>(
        &'a self,
        request: Result<Request, Error<P::Error>>,
        data: Data<'a, P>,
    ) -> Transfer<'a, P> {
        let request = match self.0.0.with(|state| state.life.refusal()) {
            Some(over) => Err(over.into()),
            None => request,
        };
        Transfer::new(&self.0.0, request, data)
    }
}

/// Checks a request before it is sent: at least one sector, whole sectors, within the disk, and no
/// write to a read-only one.
fn check<E>(info: &Info, op: Op, sector: u64, len: Option<u64>) -> Result<(), Error<E>> {
    let Info { sectors, sector_size, .. } = *info;
    let unit = u64::from(sector_size);
    let Some(len) = len.filter(|len| *len < 1 << 63) else {
        return Err(Error::OutOfRange { op, sector, count: u64::MAX, sectors });
    };
    if len == 0 || len % unit != 0 || sector % (unit / 512) != 0 {
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
            state.life.close(GoneReason::Closed);
            state.wakers.wake_driver();
        });
    }
}

impl<P: Platform> Drop for Handle<P> {
    fn drop(&mut self) {
        self.begin_to_close();
    }
}
