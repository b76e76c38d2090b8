//! Text of a peer in messages.

use core::fmt::{self, Write};

/// Shows text from outside in quotation marks, on one line and as plain ASCII.
///
/// `Debug` would do so as well, with tables of printable characters that take 6 KB of a unikernel's
/// image.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' => f.write_char(byte.into())?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn quoted_text_is_one_line_of_ascii() {
        assert_eq!(Quoted("a b").to_string(), "\"a b\"");
        assert_eq!(Quoted("\"\\\n\u{1b}[2Jä").to_string(), r#""\"\\\x0a\x1b[2J\xc3\xa4""#);
    }
}
