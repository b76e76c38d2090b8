//! An environment for tests in any program: disks that are values of the program, without Xen.

use crate::environment::{Device, Environment, Error, Usage};
use crate::plan::Plan;
use crate::raw::{Raw, Rings};
use crate::run::{Verdict, run};
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt::Arguments;
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use xen_blk::front::{Config, Info};
use xen_blk::protocol::wire::Abi;
use xen_blk::protocol::{Units, vdev};
use xen_platform::{DomId, Time, Timers};

/// Runs a plan on the disk xvda, which `attach` returns each time that a test connects to it.
/// Returns the outcome and the text that a guest would print on its console.
///
/// Time is counted, not measured: a sleep ends at once, and `bench` measures nothing. Tests that
/// look at a ring (`segments`, `hostile`) fail, for there is none.
pub fn run_on(plan: &Plan, attach: impl Fn(&Config) -> Rc<dyn Device>) -> (Verdict, String) {
    let env =
        Local { attach, now: Cell::new(Time(1)), timers: Timers::new(), text: RefCell::default() };
    let mut work = pin!(run(&env, plan));
    let mut cx = Context::from_waker(Waker::noop());
    let verdict = loop {
        if let Poll::Ready(verdict) = work.as_mut().poll(&mut cx) {
            break verdict;
        }
        // Nothing moves but the time.
        if let Some(at) = env.timers.next() {
            env.now.set(env.now.get().max(at));
            env.timers.fire(env.now.get());
        }
    };
    (verdict, env.text.take())
}

/// Describes a disk of `sectors` sectors of 512 bytes that takes reads, writes, barriers and
/// flushes; what else it has is for the caller to add.
pub fn info(sectors: u64) -> Info {
    Info {
        vdev: XVDA,
        backend: DomId(0),
        backend_path: String::new(),
        sectors,
        sector_size: 512,
        physical_sector_size: 512,
        read_only: false,
        removable: false,
        cdrom: false,
        flush: true,
        barrier: true,
        discard: None,
        indirect_segments: 0,
        ring_pages: 1,
        queues: 1,
        persistent: false,
        abi: Abi::X86_64,
        units: Units::HEADER,
        max_transfer: 1 << 20,
        notes: Vec::new(),
    }
}

/// The disk's number.
const XVDA: u32 = 51712;

struct Local<F> {
    attach: F,
    now: Cell<Time>,
    timers: Timers,
    text: RefCell<String>,
}

impl<F: Fn(&Config) -> Rc<dyn Device>> Environment for Local<F> {
    fn now(&self) -> Time {
        // Each look takes a moment.
        self.now.set(self.now.get() + Duration::from_nanos(100));
        self.now.get()
    }

    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        let at = self.now() + time;
        Box::pin(poll_fn(move |cx| {
            if self.now.get() >= at {
                return Poll::Ready(());
            }
            self.timers.wake_at(at, cx);
            Poll::Pending
        }))
    }

    fn print(&self, text: Arguments<'_>) {
        self.text.borrow_mut().push_str(&text.to_string());
    }

    fn flushed(&self) -> Boxed<'_, ()> {
        Box::pin(async {})
    }

    fn usage(&self) -> Option<Usage> {
        None
    }

    fn disks(&self) -> Boxed<'_, Vec<u32>> {
        Box::pin(async { vec![XVDA] })
    }

    fn attach<'a>(
        &'a self,
        vdev: u32,
        config: &'a Config,
    ) -> Boxed<'a, Result<Rc<dyn Device>, Error>> {
        Box::pin(async move {
            match vdev {
                XVDA => Ok((self.attach)(config)),
                other => Err(Error::other(vdev::name(other) + ": there is only xvda")),
            }
        })
    }

    fn keys(&self, _: u32) -> Boxed<'_, Result<Vec<(String, String)>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn raw<'a>(
        &'a self,
        _: u32,
        _: Rings,
        _: &'a [(&'a str, &'a str)],
    ) -> Boxed<'a, Result<Box<dyn Raw>, Error>> {
        Box::pin(async { Err(Error::other("this disk has no ring")) })
    }

    fn publish<'a>(&'a self, _: &'a str, _: &'a str) -> Boxed<'a, ()> {
        Box::pin(async {})
    }
}
