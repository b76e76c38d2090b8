//! Bytes in hexadecimal.

/// Formats bytes in lower-case hexadecimal, 16 to a line.
pub fn hexdump(bytes: &[u8]) -> String {
    let line =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexdump_breaks_lines_after_sixteen_bytes() {
        let bytes: Vec<u8> = (0..20).map(|n| n * 13).collect();
        let expected = "00 0d 1a 27 34 41 4e 5b 68 75 82 8f 9c a9 b6 c3\nd0 dd ea f7";
        assert_eq!(hexdump(&bytes), expected);
        assert_eq!(hexdump(&[]), "");
    }
}
