//! Sizes and times as users write them.

use std::time::Duration;

/// A size in bytes: a number, with K, M, G or T for powers of 1024 if wanted (also KiB, and so on).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let wrong = || format!("{text:?} is no size: write for instance 512M or 20G");
    let factor = match &text[digits..] {
        "" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "m" | "M" | "MiB" => 1 << 20,
        "g" | "G" | "GiB" => 1 << 30,
        "t" | "T" | "TiB" => 1u64 << 40,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("{text} is more than a number of 64 bits holds"))
}

/// A time: a number with `us`, `ms` or `s`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "us" | "µs" => Duration::from_micros(1),
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        _ => return Err(format!("{text:?} is no time: write for instance 500us, 5ms or 1s")),
    };
    let number: u32 =
        text[..digits].parse().map_err(|_| format!("{text:?} is no time that is possible here"))?;
    Ok(unit * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(
            (parse_size("1k"), parse_size("3GiB"), parse_size("2T")),
            (Ok(1024), Ok(3 << 30), Ok(2 << 40))
        );
        for wrong in ["", "G", "-1", "1.5G", "1GB", "99999999999T", "99999999999999999999"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_duration("5ms"), Ok(Duration::from_millis(5)));
        for wrong in ["", "5", "ms", "1.5s", "99999999999s", "5 ms"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
