//! JUnit's XML: a suite for each disk, a case for each test.

use crate::log::{Outcome, Run, Test};
use std::fmt::Write;

/// Escapes text for XML and HTML, without characters that XML cannot hold.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c < ' ' && c != '\n' && c != '\t' || ('\u{fffe}'..='\u{ffff}').contains(&c) => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

/// Returns the XML of a run.
pub fn xml(run: &Run) -> String {
    let mut disks: Vec<&str> = run.tests.iter().map(|test| &*test.disk).collect();
    disks.dedup();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for disk in disks {
        let tests: Vec<&Test> = run.tests.iter().filter(|test| test.disk == disk).collect();
        let count = |outcome| tests.iter().filter(|test| test.outcome == outcome).count();
        let time: u64 = tests.iter().map(|test| test.ms).sum();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{}\">\n    <properties>",
            escape(disk),
            tests.len(),
            count(Outcome::Failed),
            count(Outcome::Skipped),
            time as f64 / 1000.0
        );
        let keys = run.disks.iter().filter(|(name, _)| name == disk).flat_map(|(_, keys)| keys);
        for (key, value) in run.about.iter().chain(keys) {
            let (key, value) = (escape(key), escape(value));
            let _ = writeln!(out, "      <property name=\"{key}\" value=\"{value}\"/>");
        }
        out.push_str("    </properties>\n");
        tests.iter().for_each(|test| case(&mut out, test));
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

fn case(out: &mut String, test: &Test) {
    let (name, disk, text) = (escape(&test.name), escape(&test.disk), escape(&test.text));
    let time = test.ms as f64 / 1000.0;
    let _ = write!(out, "    <testcase classname=\"{disk}\" name=\"{name}\" time=\"{time}\"");
    match test.outcome {
        Outcome::Passed => {
            let _ = writeln!(out, "><system-out>{text}</system-out></testcase>");
        }
        Outcome::Skipped => {
            let _ = writeln!(out, "><skipped message=\"{text}\"/></testcase>");
        }
        Outcome::Failed => {
            let details = escape(&test.details.join("\n"));
            let again = escape(&test.again);
            let _ = writeln!(
                out,
                "><failure message=\"{text}\">{details}\nagain: {again}</failure></testcase>"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::LOG;
    use proptest::prelude::*;

    #[test]
    fn xml_has_all_tests() {
        let run = Run::parse(LOG).unwrap();
        let xml = xml(&run);
        let document = roxmltree::Document::parse(&xml).expect("it is XML");
        let count =
            |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
        assert_eq!(count("testcase"), run.tests.len());
        assert_eq!(count("failure"), run.failed());
        assert!(count("property") > 10);
    }

    proptest! {
        #[test]
        fn any_text_is_valid_xml(text in "\\PC{0,60}", control in any::<[u8; 8]>()) {
            let control = String::from_utf8_lossy(&control).into_owned();
            let log = format!("TAP version 14\nnot ok 1 - xvda {text}: {control}\n    - \"{text}\"\n");
            let xml = xml(&Run::parse(&log).unwrap());
            prop_assert!(roxmltree::Document::parse(&xml).is_ok(), "{}", xml);
        }
    }
}
