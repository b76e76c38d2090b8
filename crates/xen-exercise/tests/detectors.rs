//! Every test passes on a disk without defects, and each defect is found by the tests that are
//! there for it.

mod common;

use common::{Contents, Defect, Ran, on_array};
use std::rc::Rc;

const DATA: &str = "seq,rand,verify,boundary,flush,barrier,discard,features,lifecycle";

fn runs(tests: &str, sectors: u64, sector_size: u32, defect: Option<Defect>) -> Ran {
    let line = format!(
        "blk.run={tests} blk.destroy=xvda blk.size=512K blk.seed=3 blk.loops=6 blk.bytes=1M"
    );
    on_array(&line, Contents::new(sectors, sector_size, defect), |env| {
        if defect == Some(Defect::DiscardsUnasked) {
            env.discard = false;
        }
        if tests == "resize" {
            env.grows_to = Some(sectors * 2);
        }
    })
}

#[test]
fn good_disk_passes_all_tests() {
    for (sectors, sector_size) in [(4096, 512), (4096, 4096), (40, 512), (64, 4096), (8, 512)] {
        let ran = runs(&format!("report,{DATA},bench-all"), sectors, sector_size, None);
        // On a disk of a few sectors there is no room for pieces of a MiB.
        let failed = u32::from(sectors < 4096);
        assert_eq!(
            (ran.verdict.passed, ran.verdict.failed),
            (11 - failed, failed),
            "{sectors}: {}",
            ran.text
        );
    }
    assert_eq!(runs("resize", 4096, 512, None).verdict.passed, 1);
}

#[test]
fn defect_is_found_by_its_tests() {
    use Defect::*;
    for (defect, tests) in [
        (Misplaces, &["rand", "boundary", "verify", "faults", "features"][..]),
        (Tears, &["seq", "rand", "boundary", "verify", "flush", "features"]),
        (TearsSectors, &["rand", "verify", "faults"]),
        (Drops, &["rand", "verify", "faults"]),
        (Stale, &["rand", "verify", "faults"]),
        (Aliases, &["seq", "rand", "verify"]),
        (Damages, &["seq", "rand", "verify", "features", "discard"]),
        (IgnoresFlush, &["flush"]),
        (PassesBarriers, &["barrier"]),
        (DiscardsNeighbours, &["discard"]),
        (DiscardsBeyond, &["discard"]),
        (DiscardsUnstable, &["discard"]),
        (DiscardsUnasked, &["discard"]),
        (FailsWrites, &["seq", "rand", "boundary", "verify", "flush", "features"]),
        (FailsReads, &["seq", "rand", "boundary", "verify", "features"]),
        (Leaks, &["lifecycle"]),
        (GrowsOnPaper, &["resize"]),
    ] {
        for test in tests {
            let ran = runs(test, 4096, 512, Some(defect));
            assert_eq!(ran.verdict.failed, 1, "{test} does not find {defect:?}: {}", ran.text);
        }
    }
}

#[test]
fn disk_that_reports_failures_passes_faults() {
    for (defect, fails) in
        [(None, false), (Some(Defect::FailsReads), true), (Some(Defect::FailsWrites), true)]
    {
        let ran = runs("faults", 256, 512, defect);
        assert_eq!(ran.verdict.passed, 1, "{defect:?}: {}", ran.text);
        assert_eq!(ran.text.contains("faults: 0 requests failed"), !fails, "{}", ran.text);
    }
    let ran = on_array(
        "blk.run=faults blk.destroy=xvda blk.loops=2 blk.size=64K",
        Contents::new(4096, 512, None),
        |env| env.broken = true,
    );
    assert!(ran.verdict.failed == 1 && ran.text.contains("sectors from "), "{}", ran.text);
}

#[test]
fn read_only_tests_find_read_defects() {
    for (defect, found) in [(None, 0), (Some(Defect::Damages), 2), (Some(Defect::FailsReads), 2)] {
        let ran = on_array("blk.run=seq,rand", Contents::new(4096, 512, defect), |_| {});
        assert_eq!(ran.verdict.failed, found, "{defect:?}: {}", ran.text);
    }
}

#[test]
fn disk_of_others_is_verified_by_seed_and_generation() {
    let contents = Contents::new(4096, 512, None);
    let line = "blk.run=write blk.destroy=xvda blk.size=all blk.seed=8 blk.generation=2";
    assert_eq!(on_array(line, contents.clone(), |_| {}).verdict.passed, 1);
    for (line, passed) in [
        ("blk.run=verify blk.size=all blk.seed=8 blk.generation=2", 1),
        ("blk.run=verify blk.size=all blk.seed=8 blk.generation=3", 0),
        ("blk.run=verify blk.size=all blk.seed=9 blk.generation=2", 0),
    ] {
        let ran = on_array(line, contents.clone(), |_| {});
        assert_eq!(ran.verdict.passed, passed, "{line}: {}", ran.text);
    }
}

#[test]
fn disk_without_permission_is_not_overwritten() {
    let contents = Contents::new(4096, 512, None);
    contents.write(7, &[0x77; 512], false);
    let ran = on_array("blk.run=all blk.bytes=1M", contents.clone(), |_| {});
    // An array has no ring to look at the segments of.
    assert_eq!(ran.verdict.failed, 1, "{}", ran.text);
    assert!(
        ran.text.contains("xvda flush # SKIP overwrites the disk: wants blk.destroy=xvda"),
        "{}",
        ran.text
    );
    let ran = on_array("blk.run=flush,write", contents.clone(), |_| {});
    assert_eq!(ran.verdict.failed, 2, "what is asked for and not permitted fails");
    let mut sector = [0; 512];
    contents.read(7, &mut sector);
    assert_eq!(sector, [0x77; 512]);
    contents.read(8, &mut sector);
    assert_eq!(sector, [0; 512]);
}

#[test]
fn read_only_disk_is_tested_by_reading() {
    let mut contents = Contents::new(4096, 512, None);
    Rc::get_mut(&mut contents).expect("alone").read_only = true;
    let ran = on_array(
        "blk.run=seq,rand,boundary,features,lifecycle,bench blk.bytes=1M",
        contents,
        |_| {},
    );
    assert_eq!(ran.verdict.failed, 0, "{}", ran.text);
}

#[test]
fn results_are_tap_json_and_keys() {
    let ran = runs("report,rand", 4096, 512, Some(Defect::Drops));
    let text = &ran.text;
    assert!(text.starts_with("TAP version 14\n1..2\n# {\"run\":{\"version\":"), "{text}");
    assert!(text.contains("\nok 1 - xvda report: 2 MiB, sectors of 512 bytes, flush"), "{text}");
    assert!(text.contains("\nnot ok 2 - xvda rand: "), "{text}");
    assert!(
        text.contains("  again: blk.disk=xvda blk.run=rand blk.seed=3 blk.loops=6 blk.size=524288"),
        "{text}"
    );
    assert!(text.contains("{\"test\":\"rand\",\"disk\":\"xvda\",\"ok\":false,"), "{text}");
    assert!(text.contains("{\"report\":\"xvda\","), "{text}");
    let value =
        |key: &str| ran.published.iter().find(|(name, _)| name == key).map(|(_, value)| &**value);
    assert_eq!(value("result"), Some("fail"));
    assert_eq!(
        (value("passed"), value("failed"), value("seed")),
        (Some("1"), Some("1"), Some("3"))
    );
    assert!(value("xvda/rand").is_some_and(|line| line.contains("blk.destroy=xvda")));
}

#[test]
fn measurements_are_lines_of_json() {
    let ran = runs("bench", 4096, 512, None);
    let line = ran
        .text
        .lines()
        .find(|line| line.starts_with("# {\"test\":\"rand-read-4k-qd32\""))
        .expect("a line");
    assert!(line.contains("\"backend\":\"array\",\"mib_per_s\":"), "{line}");
    assert!(line.contains(",\"iops\":3200000,\"p50_us\":10.0,\"p99_us\":10.0"), "{line}");
}

#[test]
fn run_without_disk_fails() {
    let ran = on_array("blk.run=report", Contents::new(8, 512, None), |env| env.disks.clear());
    assert_eq!((ran.verdict.passed, ran.verdict.failed), (0, 1));
    let ran = on_array("blk.run=report blk.disk=xvdb", Contents::new(8, 512, None), |_| {});
    assert_eq!((ran.verdict.passed, ran.verdict.failed), (0, 1), "{}", ran.text);
}

#[test]
fn backend_with_one_response_for_all_is_found() {
    // All is well, all is an error, nothing is known, nothing is answered.
    for says in [Some(0), Some(-1), Some(-2), Some(7), None] {
        for test in ["segments", "hostile"] {
            let line = format!("blk.run={test} blk.destroy=xvda blk.hostile=yes");
            let ran =
                on_array(&line, Contents::new(4096, 512, None), |env| env.answers = Some(says));
            // A backend that refuses everything refuses what is forbidden, too, but also the two
            // valid requests among it.
            assert_eq!(
                ran.verdict.failed, 1,
                "{test} finds nothing wrong with {says:?}: {}",
                ran.text
            );
        }
    }
}

#[test]
fn limits_follow_responses_not_keys() {
    for (says, direct, flush) in [
        (Some(0), 11, "okay"),
        (Some(-1), 0, "error"),
        (Some(-2), 0, "unsupported"),
        (Some(7), 0, "unknown"),
        (None, 0, "none"),
    ] {
        let ran = on_array("blk.run=report", Contents::new(4096, 512, None), |env| {
            env.answers = Some(says)
        });
        let limits =
            format!("\"direct_segments\":{direct},\"flush\":\"{flush}\",\"barrier\":\"not tried\"");
        assert!(ran.text.contains(&limits), "{says:?}: {}", ran.text);
    }
}
