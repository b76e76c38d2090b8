//! The runtime's own words on the command line.

use alloc::format;
use alloc::string::String;
use core::fmt;
use log::LevelFilter;

/// A word of the command line that makes no sense; its text names the word and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadOption(pub String);

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad command line: {}", self.0)
    }
}

impl core::error::Error for BadOption {}

/// Returns the level that the last `log=` on the line names.
pub fn log_level(line: &str) -> Result<Option<LevelFilter>, BadOption> {
    let values = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("log="));
    let parse = |value: &str| {
        let wanted = "wants off, error, warn, info, debug or trace";
        value.parse().map_err(|_| BadOption(format!("log={value}: {wanted}")))
    };
    values.map(parse).try_fold(None, |_, level| level.map(Some))
}

#[cfg(test)]
mod tests {
    use super::log_level;
    use log::LevelFilter;

    #[test]
    fn log_level_last_word_counts() {
        assert_eq!(log_level("log=warn a=b quiet log=debug"), Ok(Some(LevelFilter::Debug)));
        assert_eq!(log_level("xlog=warn"), Ok(None));
        let error = std::string::ToString::to_string(&log_level("log=loud").unwrap_err());
        assert!(error.contains("log=loud: wants off, error"), "{error}");
    }
}
