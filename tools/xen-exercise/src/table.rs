//! Several runs side by side, as tables in Markdown and as a page.

use crate::html::STYLE;
use crate::junit::escape;
use crate::log::{Outcome, Run};
use anyhow::{Context, Result};
use std::fmt::Write;

/// Lines of a Markdown file between which the tables stand.
const BEGIN: &str = "<!-- tables -->\n";
const END: &str = "<!-- end of tables -->\n";

/// Keys that are shown, of the backend and found by trying.
const KEYS: [&str; 17] = [
    "sector-size",
    "physical-sector-size",
    "max-ring-page-order",
    "multi-queue-max-queues",
    "feature-max-indirect-segments",
    "feature-persistent",
    "feature-flush-cache",
    "feature-barrier",
    "feature-discard",
    "discard-granularity",
    "discard-secure",
    "found: depth",
    "found: indirect_segments",
    "found: flush",
    "found: barrier",
    "found: discard",
    "found: discard_of_a_sector",
];

/// The cell of what a run has not.
const NONE: &str = "–";

/// A table with a column for each run.
struct Table {
    title: &'static str,
    rows: Vec<(String, Vec<String>)>,
}

/// The runs, each with its name, and what is shown of them.
pub struct Tables {
    names: Vec<String>,
    host: String,
    tables: Vec<Table>,
    /// Failed checks: the test, the check, and the names of the runs.
    failures: Vec<(String, String, Vec<String>)>,
}

impl Tables {
    /// Compares the runs of their first disks.
    pub fn new(runs: &[(String, Run)]) -> Tables {
        let about = |run: &Run, key: &str| {
            let found = run.about.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.clone())
        };
        let host = runs.iter().find_map(|(_, run)| about(run, "host")).unwrap_or_default();
        Tables {
            names: runs.iter().map(|(name, _)| name.clone()).collect(),
            host,
            tables: vec![
                Table { title: "Tests", rows: tests(runs) },
                Table { title: "Keys, and what was found by trying", rows: keys(runs) },
            ],
            failures: failures(runs),
        }
    }

    /// Returns the tables in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("On {}.\n", self.host);
        for Table { title, rows } in &self.tables {
            // Writing to a string cannot fail.
            let _ = write!(out, "\n| {title} | {} |\n|---|", self.names.join(" | "));
            out += &"---|".repeat(self.names.len());
            for (name, cells) in rows {
                let _ = write!(out, "\n| {name} | {} |", cells.join(" | "));
            }
            out.push('\n');
        }
        out += "\n| test | failed check | backends |\n|---|---|---|\n";
        for (test, check, names) in &self.failures {
            let check = check.replace('|', "\\|");
            let _ = writeln!(out, "| {test} | {check} | {} |", names.join(", "));
        }
        out
    }

    /// Returns the tables as a page.
    pub fn page(&self) -> String {
        let title = format!("Block backends on {}", self.host);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\
             <style>{STYLE}body{{max-width:90rem}}</style></head><body>\n<h1>{0}</h1>\n",
            escape(&title)
        );
        for Table { title, rows } in &self.tables {
            let _ = write!(out, "<h2>{title}</h2>\n<table>\n<tr><th></th>");
            for name in &self.names {
                let _ = write!(out, "<th>{}</th>", escape(name));
            }
            out += "</tr>\n";
            for (name, cells) in rows {
                let _ = write!(out, "<tr><th>{}</th>", escape(name));
                for cell in cells {
                    let class = match &**cell {
                        "ok" => "passed",
                        "FAILED" => "failed",
                        NONE | "skipped" => "skipped",
                        _ => "",
                    };
                    let _ = write!(out, "<td class=\"{class}\">{}</td>", escape(cell));
                }
                out += "</tr>\n";
            }
            out += "</table>\n";
        }
        out += "<h2>Failed checks</h2>\n<table>\n<tr><th>test</th><th>check</th><th>backends</th></tr>\n";
        for (test, check, names) in &self.failures {
            let (check, names) = (escape(check), escape(&names.join(", ")));
            let _ = writeln!(out, "<tr><td>{test}</td><td>{check}</td><td>{names}</td></tr>");
        }
        out + "</table>\n</body></html>\n"
    }
}

/// Returns the outcomes: a row for each test of any run.
fn tests(runs: &[(String, Run)]) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<&str> = Vec::new();
    for test in runs.iter().flat_map(|(_, run)| &run.tests) {
        if !names.contains(&&*test.name) {
            names.push(&test.name);
        }
    }
    let cell = |run: &Run, name: &str| {
        let test = run.tests.iter().find(|test| test.name == name);
        let word = test.map_or(NONE, |test| match test.outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        });
        word.to_string()
    };
    let row = |name: &str| {
        (name.to_string(), runs.iter().map(|(_, run)| cell(run, name)).collect::<Vec<_>>())
    };
    names.into_iter().map(row).collect()
}

/// Returns the keys, without those that no run has.
fn keys(runs: &[(String, Run)]) -> Vec<(String, Vec<String>)> {
    let cell = |run: &Run, name: &str| {
        let keys = run.disks.first().map_or(&[][..], |(_, keys)| keys);
        let found = keys.iter().find(|(key, _)| key == name);
        found.map_or(NONE.to_string(), |(_, value)| value.clone())
    };
    let row = |name: &str| {
        (name.to_string(), runs.iter().map(|(_, run)| cell(run, name)).collect::<Vec<_>>())
    };
    KEYS.into_iter().map(row).filter(|(_, cells)| cells.iter().any(|cell| cell != NONE)).collect()
}

/// Returns each check that failed in any run, with the runs. Numbers in it are those of one run.
fn failures(runs: &[(String, Run)]) -> Vec<(String, String, Vec<String>)> {
    let without_numbers =
        |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let mut all: Vec<(String, String, Vec<String>)> = Vec::new();
    for (name, run) in runs {
        for test in &run.tests {
            for detail in &test.details {
                let same = |(other, check, _): &&mut (String, String, Vec<String>)| {
                    *other == test.name && without_numbers(check) == without_numbers(detail)
                };
                match all.iter_mut().find(same) {
                    Some((.., names)) if names.contains(name) => {}
                    Some((.., names)) => names.push(name.clone()),
                    None => all.push((test.name.clone(), detail.clone(), vec![name.clone()])),
                }
            }
        }
    }
    all
}

/// Returns the name of a run, from that of its file: without a number that keeps the order.
pub fn name(stem: &str) -> String {
    match stem.split_once('-') {
        Some((number, name)) if number.bytes().all(|byte| byte.is_ascii_digit()) => name.into(),
        _ => stem.into(),
    }
}

/// Puts tables into the text of a Markdown file, between the two lines that mark their place.
pub fn insert(text: &str, tables: &str) -> Result<String> {
    let (head, rest) = text.split_once(BEGIN).context("it has no line <!-- tables -->")?;
    let (_, tail) = rest.split_once(END).context("it has no line <!-- end of tables -->")?;
    Ok(format!("{head}{BEGIN}{tables}{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::LOG;

    fn tables() -> Tables {
        let mut other = Run::parse(LOG).unwrap();
        other.tests.retain(|test| test.name != "barrier");
        Tables::new(&[(name("01-blkback"), Run::parse(LOG).unwrap()), (name("xen-disk"), other)])
    }

    #[test]
    fn markdown_has_a_column_for_each_run() {
        let text = tables().markdown();
        assert!(text.starts_with("On Xen 4.20.5-pre.\n"), "{text}");
        assert!(text.contains("\n| barrier | FAILED | – |\n"), "{text}");
        assert!(text.contains("\n| feature-flush-cache | 1 | 1 |\n"), "{text}");
        assert!(text.contains("were done before it: 1216 sectors | blkback |\n"), "{text}");
        assert!(text.contains("| Tests | blkback | xen-disk |\n|---|---|---|\n"), "{text}");
    }

    #[test]
    fn tables_replace_those_before() {
        let text = format!("a\n{BEGIN}old\n{END}z\n");
        assert_eq!(insert(&text, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}z\n"));
        assert!(insert("a\n", "new\n").is_err());
    }

    #[test]
    fn page_is_well_formed() {
        let page = tables().page();
        let body = page.replace("<!DOCTYPE html>", "").replace("<meta charset=\"utf-8\">", "");
        roxmltree::Document::parse(&body).expect("every element is closed");
    }
}
