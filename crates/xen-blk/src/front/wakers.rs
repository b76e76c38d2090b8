//! Tasks to be woken once the disk's state is no longer borrowed.

use alloc::vec::Vec;
use core::task::{Context, Waker};

/// Wakers that wait until the state is no longer borrowed: a waker may drop futures, and these come
/// back to the state.
#[derive(Default)]
pub(crate) struct Wakers {
    driver: Option<Waker>,
    /// The driver was woken and has not looked yet.
    driver_woken: bool,
    /// The driver is to be woken.
    wake_driver: bool,
    tasks: Vec<Waker>,
}

impl Wakers {
    /// Notes that the driver looks now, and that this is its task.
    pub fn driver_looks(&mut self, cx: &Context<'_>) {
        self.driver_woken = false;
        if !self.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
    }

    /// Has the driver look for work. It is woken once until it has looked.
    pub fn wake_driver(&mut self) {
        self.wake_driver |= !core::mem::replace(&mut self.driver_woken, true);
    }

    pub fn wake(&mut self, tasks: impl IntoIterator<Item = Waker>) {
        self.tasks.extend(tasks);
    }

    pub fn is_quiet(&self) -> bool {
        self.tasks.is_empty() && !self.wake_driver
    }

    /// Takes those to be woken: the tasks, and the driver if it is one of them.
    pub fn take(&mut self) -> (Vec<Waker>, Option<Waker>) {
        let driver = match core::mem::take(&mut self.wake_driver) {
            true => self.driver.clone(),
            false => None,
        };
        (core::mem::take(&mut self.tasks), driver)
    }

    /// Gives the emptied list of tasks back, so that its memory is used again.
    pub fn reuse(&mut self, mut emptied: Vec<Waker>) {
        emptied.append(&mut self.tasks);
        self.tasks = emptied;
    }
}
