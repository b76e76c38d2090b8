//! Reads the serial log of a host: how far it is, what went wrong.

/// Texts after which a boot will not succeed any more.
const TROUBLE: &[&str] = &[
    "ringside-dom0: FAILED",
    "Kernel panic",
    "Panic on CPU",
    "Domain 0 crashed",
    "Domain 0 shutdown",
    "triple fault",
    "Triple fault",
    "FATAL TRAP",
];

/// Lines shown before and after the one that matters.
const BEFORE: usize = 25;
const AFTER: usize = 25;

/// Number of the first line that tells of a failure.
pub fn trouble(log: &str) -> Option<usize> {
    log.lines().position(|line| TROUBLE.iter().any(|text| line.contains(text)))
}

/// The part of `log` that matters: around the first failure, else the end.
pub fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let (from, to) = match trouble(log) {
        Some(at) => (at.saturating_sub(BEFORE), (at + AFTER).min(lines.len())),
        None => (lines.len().saturating_sub(BEFORE + AFTER), lines.len()),
    };
    lines[from..to].iter().map(|line| format!("    {}\n", line.trim_end())).collect()
}

/// The last line that is not empty, cut to fit beside a spinner.
pub fn latest(log: &str) -> &str {
    let line = log.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("…");
    line.char_indices().nth(60).map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excerpt_is_around_the_failure() {
        let log: String = (0..200)
            .map(|n| format!("{}{n}\n", if n == 90 { "Kernel panic " } else { "line " }))
            .collect();
        let excerpt = excerpt(&log);
        assert_eq!(trouble(&log), Some(90));
        assert!(
            excerpt.contains("Kernel panic 90")
                && excerpt.contains("line 65\n")
                && excerpt.contains("line 114\n")
        );
        assert!(!excerpt.contains("line 64\n") && !excerpt.contains("line 115\n"));
    }

    #[test]
    fn without_a_failure_it_is_the_end() {
        let excerpt = excerpt("a\nb\r\nc");
        assert_eq!(excerpt, "    a\n    b\n    c\n");
        assert_eq!(latest("first\n  last  \n\n"), "last");
    }
}
