//! Keeps the logs of scenarios, and shows the part that matters.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Error};

use crate::guest;
use crate::host::{Host, PATIENCE};

/// Lines shown of each log.
const SHOWN: usize = 40;

/// Copies the console logs of all guests whose name starts with `name` out of
/// dom0, and returns the files.
pub fn save_consoles(host: &Host, name: &str) -> Vec<PathBuf> {
    let listed = host.shell(&format!(
        "ls {} {} 2>/dev/null; true",
        guest::log_path(name),
        guest::log_path(&format!("{name}-[0-9]"))
    ));
    let save = |path: &str| -> anyhow::Result<PathBuf> {
        let data = host.exec(&["cat", path], PATIENCE)?.expect(0)?.stdout;
        let copy = host.logs.join(path.rsplit('/').next().context("no name")?);
        fs::write(&copy, data)?;
        Ok(copy)
    };
    listed.unwrap_or_default().lines().filter_map(|path| save(path).ok()).collect()
}

/// Copies what dom0 and xl logged out of dom0.
pub fn host(host: &Host) {
    let all = host.shell("dmesg; for log in /var/log/xen/*.log; do echo \"== $log\"; cat $log; done 2>/dev/null; true");
    let _ =
        fs::write(host.logs.join("dom0.log"), all.unwrap_or_else(|error| format!("{error:#}\n")));
}

/// Prints why a scenario failed, with the ends of the logs.
pub fn failure(error: &Error, consoles: &[PathBuf], hypervisor: &str) {
    println!("{}", indented(&format!("{error:#}")));
    for path in consoles {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        println!("      --- {} ---\n{}", path.display(), indented(tail(&text)));
    }
    // What Xen says of every guest that starts is no news.
    let news: Vec<&str> =
        hypervisor.lines().filter(|line| !line.starts_with("(XEN) HVM")).collect();
    if !news.is_empty() {
        println!("      --- Xen meanwhile ---\n{}", indented(tail(&news.join("\n"))));
    }
}

fn tail(text: &str) -> &str {
    let text = text.trim_end();
    let start = text.rmatch_indices('\n').nth(SHOWN - 1).map_or(0, |(at, _)| at + 1);
    &text[start..]
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_the_last_lines() {
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(tail(&text).lines().count(), SHOWN);
        assert!(tail(&text).starts_with("60\n") && tail(&text).ends_with("99"));
        assert_eq!(tail("one\n"), "one");
    }
}
