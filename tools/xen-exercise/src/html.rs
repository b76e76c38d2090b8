//! One page for a run, with plots, without anything from elsewhere.

use crate::junit::escape;
use crate::log::{Outcome, Run, Test};
use crate::plot;
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write;

pub const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a202c}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #e2e8f0;vertical-align:top}
.passed{color:#276749}.failed{color:#c53030;font-weight:600}.skipped{color:#718096}
code,pre{font:13px ui-monospace,monospace}pre{background:#f7fafc;padding:.6rem;overflow-x:auto;white-space:pre-wrap}
svg{max-width:100%;height:auto}summary{cursor:pointer}";

/// Returns the page; `earlier` is a run to compare with.
pub fn page(run: &Run, earlier: Option<&Run>) -> Result<String> {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Block exerciser</title>\
         <style>{STYLE}</style></head><body>\n<h1>Block exerciser: {} of {} tests failed</h1>\n",
        run.failed(),
        run.tests.len()
    );
    table(&mut out, &run.about);
    tests(&mut out, run);
    if let Some(earlier) = earlier {
        out.push_str("<h2>Compared with the earlier run</h2>\n<ul>\n");
        let changes = run.changes(earlier);
        if changes.is_empty() {
            out.push_str("<li>nothing changed by more than a tenth</li>\n");
        }
        for change in changes {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "<li>{}</li>", escape(&change));
        }
        out.push_str("</ul>\n");
    }
    speed(&mut out, run, earlier)?;
    over_time(&mut out, run)?;
    for (disk, keys) in &run.disks {
        let _ = writeln!(out, "<h2>What the backend of {} says, and does</h2>", escape(disk));
        table(&mut out, keys);
    }
    Ok(out + "</body></html>\n")
}

fn table(out: &mut String, rows: &[(String, String)]) {
    out.push_str("<table>\n");
    for (key, value) in rows {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td><code>{}</code></td></tr>",
            escape(key),
            escape(value)
        );
    }
    out.push_str("</table>\n");
}

fn tests(out: &mut String, run: &Run) {
    out.push_str("<h2>Tests</h2>\n<table>\n<tr><th>disk</th><th>test</th><th>outcome</th><th>checks</th><th>ms</th><th></th></tr>\n");
    for test in &run.tests {
        let (class, word) = match test.outcome {
            Outcome::Passed => ("passed", "passed"),
            Outcome::Failed => ("failed", "failed"),
            Outcome::Skipped => ("skipped", "skipped"),
        };
        let (disk, name, ms) = (escape(&test.disk), escape(&test.name), test.ms);
        let checks = test.checks;
        let _ = write!(
            out,
            "<tr><td>{disk}</td><td>{name}</td><td class=\"{class}\">{word}</td><td>{checks}</td><td>{ms}</td><td>{}",
            escape(&test.text)
        );
        more(out, test);
        out.push_str("</td></tr>\n");
    }
    out.push_str("</table>\n");
}

/// The details of a test that failed, and its combinations.
fn more(out: &mut String, test: &Test) {
    if !test.details.is_empty() {
        let details = escape(&test.details.join("\n"));
        let _ = write!(out, "<pre>{details}\nagain: {}</pre>", escape(&test.again));
    }
    if test.points.is_empty() {
        return;
    }
    let count = test.points.len();
    let _ = write!(out, "<details><summary>{count} combinations</summary><pre>");
    for point in &test.points {
        let (class, word) = if point.ok { ("passed", "ok    ") } else { ("failed", "NOT OK") };
        let _ = writeln!(out, "<span class=\"{class}\">{word}</span> {}", escape(&point.text));
    }
    out.push_str("</pre></details>");
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value[key].as_f64()
}

/// Plots of the measurements.
fn speed(out: &mut String, run: &Run, earlier: Option<&Run>) -> Result<()> {
    if run.measures.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Speed</h2>\n");
    if earlier.is_some() {
        out.push_str("<p>Grey: the earlier run.</p>\n");
    }
    let name = |one: &Value| one["test"].as_str().unwrap_or("?").to_string();
    for (key, title, unit) in [
        ("iops", "Operations a second", "1/s"),
        ("mib_per_s", "Throughput", "MiB/s"),
        ("p99_us", "Latency that 99 of 100 requests do not exceed", "µs"),
    ] {
        let row = |one: &Value| {
            let old = earlier
                .and_then(|earlier| earlier.measures.iter().find(|old| name(old) == name(one)));
            let values = old.into_iter().chain([one]).filter_map(|one| number(one, key)).collect();
            (name(one), values)
        };
        out.push_str(&plot::bars(title, unit, &run.measures.iter().map(row).collect())?);
    }
    let percentiles = [("p50_us", 50.0), ("p99_us", 99.0), ("p999_us", 99.9), ("max_us", 100.0)];
    let line = |one: &Value| {
        let point = |(at, (key, _)): (usize, &(&str, f64))| Some((at as f64, number(one, key)?));
        (name(one), percentiles.iter().enumerate().filter_map(point).collect())
    };
    let all: Vec<_> = run.measures.iter().map(line).collect();
    let axis = "0: half of the requests, 1: 99 %, 2: 99.9 %, 3: all";
    out.push_str(&plot::lines("Latency", "µs", axis, &all)?);
    Ok(())
}

/// A plot of what `mix` reported while it ran, a line for each disk.
fn over_time(out: &mut String, run: &Run) -> Result<()> {
    let mut all: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for beat in &run.beats {
        let disk = beat["disk"].as_str().unwrap_or("?");
        let Some(point) = number(beat, "s").zip(number(beat, "iops")) else { continue };
        match all.iter_mut().find(|(name, _)| name == disk) {
            Some((_, points)) => points.push(point),
            None => all.push((disk.to_string(), vec![point])),
        }
    }
    if !all.is_empty() {
        out.push_str("<h2>Over time</h2>\n");
        out.push_str(&plot::lines("Operations a second", "1/s", "seconds", &all)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::LOG;

    #[test]
    fn page_shows_tests_plots_and_changes() {
        let run = Run::parse(LOG).unwrap();
        let page = page(&run, Some(&run)).unwrap();
        for word in
            ["barrier", "feature-flush-cache", "22 combinations", "nothing changed", "</html>"]
        {
            assert!(page.contains(word), "no {word}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
        // Well formed, so no browser has to guess.
        let body = page.replace("<!DOCTYPE html>", "").replace("<meta charset=\"utf-8\">", "");
        roxmltree::Document::parse(&body).expect("every element is closed");
    }
}
