//! Time, seen from outside.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_linux::Linux;
use xen_platform::{Clock, Elapsed, Time, deadline, sleep};

#[test]
fn timers_fire_in_the_order_of_their_times() {
    let linux = Linux::new();
    let order = Rc::new(RefCell::new(Vec::new()));
    let start = linux.now();
    linux.run(|spawner| {
        let (linux, order) = (linux.clone(), order.clone());
        async move {
            let tasks: Vec<_> = [3u64, 1, 2]
                .map(|millis| {
                    let (linux, order) = (linux.clone(), order.clone());
                    spawner.spawn(async move {
                        sleep(&linux, Duration::from_millis(millis)).await;
                        order.borrow_mut().push(millis);
                    })
                })
                .into();
            for task in tasks {
                task.join().await;
            }
        }
    });
    assert_eq!(*order.borrow(), [1, 2, 3]);
    assert!(linux.now().since(start) >= Duration::from_millis(3));
}

#[test]
fn a_deadline_in_the_past_ends_a_wait_at_once() {
    let linux = Linux::new();
    let clock = linux.clone();
    let ended = linux.run(|_| async move { deadline(&clock, Some(Time(0)), std::future::pending::<()>()).await });
    assert_eq!(ended, Err(Elapsed));
}

#[test]
#[should_panic(expected = "deadlock: every task waits")]
fn a_wait_that_nothing_can_end_is_a_bug_and_said_to_be_one() {
    Linux::new().run(|_| std::future::pending::<()>());
}
