//! Each bug is found by the test that the table names, and a backend without one passes all tests.

mod common;

use common::{DISKS, Ran, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use xen_blk_mutants::{Bug, bugs};

/// Everything that the exerciser can try.
fn all_tests(disk: &str) -> &'static [&'static str] {
    match disk {
        "usual" => &["all,faults,hostile", "durable", "ordered"],
        "growing" | "shrinking" => &["resize"],
        // Nothing that writes by itself.
        "readonly" => &["report,hostile"],
        _ => &["all,hostile"],
    }
}

/// The tests that fail; a panic of backend or simulator is one, too.
fn failures(disk: &str, tests: &str, bug: &'static str) -> (Vec<String>, String) {
    match catch_unwind(AssertUnwindSafe(|| run(disk, tests, bug))) {
        Ok(ran) => (ran.failed().into_iter().map(String::from).collect(), ran.text),
        Err(_) => (vec!["PANIC".into()], String::new()),
    }
}

#[test]
fn backend_without_a_bug_passes_all_tests() {
    for disk in DISKS {
        for tests in all_tests(disk) {
            let Ran { verdict, text, .. } = run(disk, tests, "");
            assert_eq!(verdict.failed, 0, "{disk}, {tests}: {text}");
        }
    }
}

#[test]
fn bug_is_found_by_the_test_that_the_table_names() {
    let only = std::env::var("BUG").unwrap_or_default();
    let missed = |bug: &&'static Bug| {
        let begun = std::time::Instant::now();
        let found = failures(bug.disk, bug.test, bug.name).0;
        println!("{:20} {} {found:?} {:?}", bug.name, bug.test, begun.elapsed());
        !found.iter().any(|test| test.trim_end_matches("-check") == bug.test)
    };
    let missed: Vec<_> =
        bugs().filter(|bug| bug.name.contains(&only)).filter(missed).map(|bug| bug.name).collect();
    assert!(missed.is_empty(), "{} of {} are missed: {missed:?}", missed.len(), bugs().count());
}

/// Shows for each bug all tests that find it, to the author of a new one.
#[test]
#[ignore = "a table to look at"]
fn survey() {
    let only = std::env::var("BUG").unwrap_or_default();
    for bug in bugs().filter(|bug| bug.name.contains(&only)) {
        let mut found = Vec::new();
        for disk in DISKS {
            for tests in all_tests(disk) {
                let (failed, text) = failures(disk, tests, bug.name);
                if !only.is_empty() {
                    println!("=== {disk} {tests}\n{text}");
                }
                found.extend(failed.iter().map(|test| format!("{disk}:{test}")));
            }
        }
        println!("{:20} {}", bug.name, found.join(" "));
    }
}
