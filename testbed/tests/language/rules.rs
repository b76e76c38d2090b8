//! The rules: each returns the places that break it.

use crate::text::{Kind, Piece, pieces};

/// Longest line with a comment, in columns. rustfmt breaks none.
const MAX_WIDTH: usize = 100;

/// Words that no doc comment begins with.
const OPENERS: [&str; 7] = ["What", "Who", "Whoever", "Whether", "How", "Where", "When"];

/// Words for people, after which `who` may stand.
const PEOPLE: &str = "administrator administrators anybody anyone engineers everyone nobody \
    people person reader readers somebody someone those user users";

/// A place that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// The rule in a few words.
    pub rule: &'static str,
    /// The offending text, shortened.
    pub text: String,
}

/// Returns the faults of the file `path` with the content `source`, in the order of lines.
pub fn faults(path: &str, source: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    if path.ends_with(".rs") {
        let pieces = pieces(source);
        found.extend(openers(&pieces));
        found.extend(words(pieces.iter().map(|piece| (piece.line, piece.text.as_str()))));
        found.extend(wide(source, &pieces));
        if path.ends_with("/mod.rs") && path.contains("src/") {
            let text = "stands beside its folder in this project".to_string();
            found.push(Fault { line: 1, rule: "mod.rs", text });
        }
    } else if path.ends_with(".md") {
        found.extend(words(prose(source)));
    } else {
        found.extend(words(source.lines().enumerate().map(|(n, line)| (n + 1, line))));
    }
    found.sort_by_key(|fault| fault.line);
    found
}

/// Finds doc comments that begin with a question word.
fn openers(pieces: &[Piece]) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut last = None;
    for piece in pieces.iter().filter(|piece| piece.kind == Kind::Doc) {
        let first = last.is_none_or(|last| piece.line != last + 1);
        last = Some(piece.line);
        let word = piece.text.split_whitespace().next().unwrap_or("");
        let word = word.trim_end_matches([',', ':', '.', ';', '?']);
        if first && OPENERS.contains(&word) {
            found.push(fault(piece.line, "doc comment begins with a question word", &piece.text));
        }
    }
    found
}

/// Finds `so many`, `whoever`, and `who` after anything but a word for people.
fn words<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut before = (0, String::new());
    for (line, text) in lines {
        if line != before.0 + 1 && line != before.0 {
            before.1.clear();
        }
        for word in text.split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            if bare == "many" && before.1 == "so" {
                found.push(fault(line, "\"so many\": name the count and its unit", text));
            }
            // A name in code.
            let code = word.starts_with(['`', '{']);
            if bare == "whoever" || !code && bare == "who" && !people(&before.1) {
                found.push(fault(line, "\"who\" without a noun", text));
            }
            if !bare.is_empty() {
                before.1 = bare;
            }
        }
        before.0 = line;
    }
    found
}

fn people(word: &str) -> bool {
    PEOPLE.split_whitespace().any(|noun| noun == word)
}

/// Finds lines with a comment that are too wide. rustfmt sees to code, and some strings are scripts.
fn wide(source: &str, pieces: &[Piece]) -> Vec<Fault> {
    let lines: Vec<&str> = source.lines().collect();
    let comments = pieces.iter().filter(|piece| piece.kind != Kind::String);
    let lines = comments.map(|piece| (piece.line, lines[piece.line - 1]));
    let wide = lines.filter(|(_, line)| line.chars().count() > MAX_WIDTH);
    wide.map(|(line, text)| fault(line, "comment over 100 columns", text)).collect()
}

/// Returns the lines of a Markdown text outside its blocks of code.
fn prose(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    source.lines().enumerate().filter_map(move |(n, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((n + 1, line))
    })
}

fn fault(line: usize, rule: &'static str, text: &str) -> Fault {
    Fault { line, rule, text: text.trim().chars().take(80).collect() }
}
