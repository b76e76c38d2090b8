//! A write that finds no room: the disk waits, or the guest is told.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use xen_blk::back::Storage as _;
use xen_disk::OnEnospc;
use xen_disk::pool::Pool;
use xen_disk::served::Served;
use xen_disk::storage::{Info, Ram, Storage};

/// A disk whose first writes find no room.
struct Full {
    disk: Ram,
    failures: AtomicU32,
}

impl Storage for Full {
    fn info(&self) -> Info {
        self.disk.info()
    }
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.disk.read(at, to)
    }
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let less = |left: u32| left.checked_sub(1);
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(io::ErrorKind::StorageFull.into()),
            Err(_) => self.disk.write(at, from),
        }
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Writes a sector to a disk that is full for two writes: whether that succeeds, and the messages.
fn write(on_enospc: OnEnospc) -> (bool, Vec<String>) {
    let full = Full { disk: Ram::new(1 << 20, 512), failures: AtomicU32::new(2) };
    let messages: Arc<Mutex<Vec<String>>> = Arc::default();
    let said = messages.clone();
    let report = move |text: &str| said.lock().unwrap().push(text.to_string());
    let pool = Some(Pool::new(2, || ()));
    let served = Served::new(Arc::new(full), pool, false, report).on_enospc(on_enospc);
    let done = wait(served.write(8, &[7; 512])).is_ok();
    if done {
        let mut bytes = [0; 512];
        wait(served.read(8, &mut bytes)).unwrap();
        assert_eq!(bytes, [7; 512]);
    }
    assert_eq!(served.paused(), 0);
    let messages = messages.lock().unwrap().clone();
    (done, messages)
}

#[test]
fn write_without_room_waits_and_goes_on() {
    let (done, messages) = write(OnEnospc::Pause);
    assert!(done && messages.len() == 2, "{messages:?}");
    assert!(messages[0].contains("sector 8") && messages[0].contains("no space left"));
    assert!(messages[1].contains("goes on"), "{messages:?}");
}

#[test]
fn write_without_room_fails_if_that_is_wanted() {
    let (done, messages) = write(OnEnospc::Fail);
    assert!(!done && messages.len() == 1, "{messages:?}");
}
