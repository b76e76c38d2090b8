//! Time, seen from outside.

use std::time::Duration;
use xen_linux::Linux;
use xen_platform::{Clock, Elapsed, Time, deadline, sleep};

#[test]
fn every_timer_fires_and_none_too_early() {
    let linux = Linux::new();
    let clock = linux.clone();
    let early: Vec<bool> = linux.run(|spawner| async move {
        let mut tasks = Vec::new();
        for millis in [3u64, 1, 0, 2] {
            let clock = clock.clone();
            let at = clock.now() + Duration::from_millis(millis);
            tasks.push(spawner.spawn(async move {
                sleep(&clock, Duration::from_millis(millis)).await;
                clock.now() < at
            }));
        }
        let mut early = Vec::new();
        for task in tasks {
            early.push(task.join().await);
        }
        early
    });
    assert_eq!(early, [false; 4]);
}

#[test]
fn a_deadline_in_the_past_ends_a_wait_at_once() {
    let linux = Linux::new();
    let clock = linux.clone();
    let ended = linux.run(|_| async move {
        deadline(&clock, Some(Time(0)), std::future::pending::<()>()).await
    });
    assert_eq!(ended, Err(Elapsed));
}

#[test]
#[should_panic(expected = "deadlock: every task waits")]
fn a_wait_that_nothing_can_end_is_a_bug_and_said_to_be_one() {
    Linux::new().run(|_| std::future::pending::<()>());
}
