//! Perl's TAP reader reads a log, and a browser its page, where they are installed.

use std::path::Path;
use std::process::Command;

const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console.log");

/// Runs a program; `None` if it is not installed.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn folder() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn tap_reader_skips_all_but_the_points() {
    // It knows version 13, of which 14 is a superset that old readers skip.
    let log = std::fs::read_to_string(LOG).unwrap().replace("TAP version 14", "TAP version 13");
    let path = folder().join("log.tap");
    std::fs::write(&path, log).unwrap();
    let Some(said) = output("prove", &["-e", "cat", path.to_str().unwrap()]) else { return };
    assert!(said.contains("Tests: 12 Failed: 1)") && !said.contains("Parse errors"), "{said}");
}

#[test]
fn browser_shows_the_page() {
    let page = folder().join("page.html");
    let page = page.to_str().unwrap();
    let report = [env!("CARGO_BIN_EXE_xen-exercise"), "report", LOG, "--html", page];
    assert!(output(report[0], &report[1..]).unwrap().contains("1 of 12 tests failed"));
    let options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"];
    let url = format!("file://{page}");
    let Some(dom) = output("chromium", &[&options[..], &[&url]].concat()) else { return };
    assert_eq!(dom.matches("<svg").count(), 4, "{dom}");
    assert!(dom.contains("<td class=\"failed\">failed</td>"), "{dom}");
}
