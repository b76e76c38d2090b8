//! Checks the language of the repository: the part of it that a program can check.
//!
//! `IN=crates/xen-blk cargo test -p testbed --test language` checks one folder.

#[path = "language/rules.rs"]
mod rules;
#[path = "language/text.rs"]
mod text;

use rules::{Fault, faults};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Endings of the files that are checked.
const ENDINGS: [&str; 7] = ["rs", "md", "toml", "sh", "S", "ld", "xl"];

/// Folders that hold nothing of the project's own.
const SKIPPED: [&str; 6] = [".git", "target", "out", "corpus", "artifacts", "node_modules"];

#[test]
fn files_speak_the_language() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let only = std::env::var("IN").unwrap_or_default();
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files(&root.join(&only)) {
        let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        if name.starts_with("testbed/tests/language") {
            continue; // It quotes what it forbids.
        }
        let source = fs::read_to_string(&path).unwrap_or_default();
        for Fault { line, rule, text } in faults(&name, &source) {
            let place = format!("{name}:{line}: {rule}: {text}");
            folders.entry(folder(&name)).or_default().push(place);
        }
    }
    for (folder, places) in &folders {
        println!("{folder}: {} faults\n  {}", places.len(), places.join("\n  "));
    }
    assert!(folders.is_empty(), "the places above do not speak the project's language");
}

/// Returns the folder that `name` is counted for: a crate, a tool or a top-level folder.
fn folder(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["crates" | "tools" | "examples", one, _, ..] => format!("{}/{one}", parts[0]),
        [one, _, ..] => one.to_string(),
        _ => ".".to_string(),
    }
}

/// Returns the files below `folder` that people write, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    if folder.is_file() {
        return vec![folder.to_path_buf()];
    }
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            if !SKIPPED.contains(&&*name) {
                found.extend(files(&path));
            }
        } else if ENDINGS.iter().any(|ending| path.extension().is_some_and(|e| e == *ending))
            || name == "Makefile"
        {
            found.push(path);
        }
    }
    found
}

/// Returns the lines and rules that `source` breaks as the file `path`.
fn broken(path: &str, source: &str) -> Vec<(usize, &'static str)> {
    faults(path, source).into_iter().map(|fault| (fault.line, fault.rule)).collect()
}

#[test]
fn question_word_opens_a_doc_comment_only() {
    let rule = "doc comment begins with a question word";
    assert_eq!(broken("a.rs", "/// What it is.\nstruct A;"), [(1, rule)]);
    assert_eq!(broken("a.rs", "struct A {\n    /// Whether: yes.\n    a: u8,\n}"), [(2, rule)]);
    assert_eq!(broken("a.rs", "/// A thing.\n/// What it holds."), []);
    assert_eq!(broken("a.rs", "// What follows is long."), []);
    assert_eq!(broken("a.rs", "let a = \"/// What\";"), []);
    assert_eq!(broken("a.rs", "/// Whatever comes."), []);
}

#[test]
fn who_needs_a_word_for_people() {
    let rule = "\"who\" without a noun";
    assert_eq!(broken("a.rs", "// The lock of who waits."), [(1, rule)]);
    assert_eq!(broken("a.rs", "// for\n// whoever asks"), [(2, rule)]);
    assert_eq!(broken("a.rs", "fail(\"who is there?\")"), [(1, rule)]);
    assert_eq!(broken("a.rs", "// Those\n// who wait; people, who sleep."), []);
    assert_eq!(broken("a.rs", "// The right of `who`."), []);
    assert_eq!(broken("a.rs", "let who = 1;"), []);
    assert_eq!(broken("a.md", "Tell who asks.\n```\nwho | whoever\n```\n"), [(1, rule)]);
}

#[test]
fn so_many_is_found_across_lines() {
    let rule = "\"so many\": name the count and its unit";
    assert_eq!(broken("a.rs", "/// Waits for so\n/// many seconds."), [(2, rule)]);
    assert_eq!(broken("Makefile", "# so many, too"), [(1, rule)]);
    assert_eq!(broken("a.rs", "// so\nfn a() {}\n// many"), []);
}

#[test]
fn long_lines_and_mod_rs_are_found() {
    let long = format!("// {}", "ä".repeat(98));
    assert_eq!(broken("a.rs", &long), [(1, "comment over 100 columns")]);
    assert_eq!(broken("a.rs", &long[..long.len() - 2]), []);
    assert_eq!(broken("a.rs", &format!("let a = \"{long}\";")), []);
    assert_eq!(broken("a/src/b/mod.rs", ""), [(1, "mod.rs")]);
    assert_eq!(broken("a/tests/common/mod.rs", ""), []);
}

#[test]
fn literals_do_not_hide_what_follows() {
    let rule = "\"who\" without a noun";
    for before in ["'\"'", "'\\''", "\"\\\"\"", "r#\"\"\"#", "br\"\\\"", "bar\"x\"", "'a: 'b'"] {
        assert_eq!(broken("a.rs", &format!("{before}; // who")), [(1, rule)], "{before}");
    }
}
