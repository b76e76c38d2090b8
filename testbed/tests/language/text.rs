//! The parts of a Rust file that people read: its comments and the text of its strings.

/// What kind of text a piece is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A line of `///` or `//!`.
    Doc,
    /// Any other comment.
    Comment,
    /// A string literal.
    String,
}

/// Text on one line of a file.
#[derive(Debug)]
pub struct Piece {
    /// Its line, counted from 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
    /// The text without its delimiters.
    pub text: String,
}

/// Returns the comments and strings of `source`, one piece for each line that they cover.
pub fn pieces(source: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while !rest.is_empty() {
        let (kind, len, text) = token(rest);
        if let Some(kind) = kind {
            for (n, text) in text.lines().enumerate() {
                found.push(Piece { line: line + n, kind, text: text.to_string() });
            }
        }
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    found
}

/// Returns the kind of what `source` begins with, its length in bytes, and its text.
fn token(source: &str) -> (Option<Kind>, usize, &str) {
    if source.starts_with("//") {
        let len = source.find('\n').unwrap_or(source.len());
        return match &source[2..len] {
            text if text.starts_with("//") => (None, len, ""),
            text if text.starts_with(['/', '!']) => (Some(Kind::Doc), len, &text[1..]),
            text => (Some(Kind::Comment), len, text),
        };
    }
    if let Some(hashes) = raw_string(source) {
        let open = source.find('"').expect("a raw string has a quote") + 1;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = source[open..].find(&close).map_or(source.len(), |at| open + at);
        return (Some(Kind::String), (end + close.len()).min(source.len()), &source[open..end]);
    }
    if source.starts_with('"') {
        let end = string_end(source);
        return (Some(Kind::String), (end + 1).min(source.len()), &source[1..end]);
    }
    // A character that could be mistaken for the start of a string or of a comment.
    for literal in ["'\"'", "'\\\"'", "b'\"'", "'\\''"] {
        if source.starts_with(literal) {
            return (None, literal.len(), "");
        }
    }
    // A name is skipped as a whole: its last letter may be an r or a b before a quote.
    let name = source.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(source.len());
    (None, name.max(source.chars().next().map_or(1, char::len_utf8)), "")
}

/// Returns the number of hashes if `source` begins with a raw string.
fn raw_string(source: &str) -> Option<usize> {
    let rest = source.strip_prefix("br").or_else(|| source.strip_prefix('r'))?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// Returns the position of the quote that ends the string at the start of `source`.
fn string_end(source: &str) -> usize {
    let mut escaped = false;
    for (at, c) in source.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    source.len()
}
