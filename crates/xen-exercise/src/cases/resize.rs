//! Resize: the disk changes its size while it is in use.

use super::{Context, Outcome};
use crate::environment::{Error, ErrorKind, Io};
use crate::stamp::SECTOR;
use alloc::format;
use alloc::vec;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;

/// Time that the change has to come.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Waits until the size changes, reading all the while; then the new last sector can be used, and
/// not the one behind it.
pub async fn resize(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let old = disk.info();
    cx.note(format_args!("{} has {} sectors: waiting for another size", cx.name, old.sectors));
    let mut seen = 0;
    let mut reads = 0u32;
    let mut late = cx.env.sleep(TIMEOUT);
    while disk.info().sectors == old.sectors {
        let mut buffer = vec![0; old.sector_size as usize];
        disk.io(Io::Read(0, &mut buffer)).await?;
        reads += 1;
        // A change, or a tenth of a second: then the next read.
        let (mut changed, mut rest) =
            (disk.changed(&mut seen), cx.env.sleep(Duration::from_millis(100)));
        let waited = poll_fn(|context| {
            if late.as_mut().poll(context).is_ready() {
                return Poll::Ready(false);
            }
            let moved =
                changed.as_mut().poll(context).is_ready() | rest.as_mut().poll(context).is_ready();
            if moved { Poll::Ready(true) } else { Poll::Pending }
        });
        if !waited.await {
            return Err(Error::new(ErrorKind::TimedOut, "the size did not change"));
        }
    }
    let new = disk.info();
    let unit = u64::from(new.sector_size) / SECTOR as u64;
    let mut buffer = vec![0; new.sector_size as usize];
    let last = new.sectors - unit;
    if cx.destroy {
        cx.stamps.fill(last, cx.generation + 1, &mut buffer);
        let written = disk.io(Io::Write(last, &buffer)).await;
        cx.works(written, format_args!("writing the last sector, {last}"));
    }
    let read = disk.io(Io::Read(last, &mut buffer)).await;
    if cx.works(read, format_args!("reading the last sector, {last}")).is_some() && cx.destroy {
        for (number, sector) in (last..).zip(buffer.as_chunks::<SECTOR>().0) {
            cx.judge(number, cx.generation + 1, cx.stamps.check(number, cx.generation + 1, sector));
        }
    }
    let beyond = disk.io(Io::Read(new.sectors, &mut buffer)).await;
    cx.check(
        beyond.is_err(),
        format_args!("a sector behind the last one, {}, was read", new.sectors),
    );
    Ok(format!("from {} to {} sectors, {reads} reads meanwhile", old.sectors, new.sectors))
}
