//! Copies the backend and edits the copy: each bug becomes a condition that a test switches on.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/bugs.rs"]
#[allow(dead_code, reason = "the tests use the other fields")]
mod bugs;

/// Parts of `xen-blk` that a backend needs, and the module of `xen-ring` with its end of a ring.
const PARTS: [&str; 3] = ["back", "protocol", "toolstack"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("src");
    let crates = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let crates = crates.parent().expect("the crate lies beside the others");
    let _ = fs::remove_dir_all(&out);
    for part in PARTS {
        copy(&crates.join("xen-blk/src"), &out, part);
    }
    copy(&crates.join("xen-ring/src"), &out, "slots");
    for bug in bugs::all() {
        for (file, find, replace) in bug.edits {
            edit(&out.join(file), bug.name, find, replace);
        }
    }
    let modules = PARTS.map(|part| format!("pub mod {part};\n")).concat() + "pub mod slots;\n";
    fs::write(out.join("lib.rs"), modules).expect("the output folder can be written");
    println!("cargo::rerun-if-changed=src/bugs.rs");
    println!("cargo::rerun-if-changed=src/bugs");
}

/// Copies a module and its folder.
fn copy(from: &Path, to: &Path, name: &str) {
    let file = format!("{name}.rs");
    println!("cargo::rerun-if-changed={}", from.join(&file).display());
    let text = fs::read_to_string(from.join(&file)).expect("the module is there");
    fs::create_dir_all(to).expect("the output folder can be written");
    // The unit tests are run where they belong.
    let text = text.replace("#[cfg(test)]", "#[cfg(any())]");
    fs::write(to.join(&file), text.replace("xen_ring::slots", "crate::slots"))
        .expect("the output folder can be written");
    let Ok(entries) = fs::read_dir(from.join(name)) else { return };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a Rust name");
            copy(&from.join(name), &to.join(name), stem);
        }
    }
}

/// Puts a bug into a file, at the one place where the text `find` is.
fn edit(file: &Path, name: &str, find: &str, replace: &str) {
    let text =
        fs::read_to_string(file).unwrap_or_else(|why| panic!("{name}: {}: {why}", file.display()));
    assert_eq!(
        text.matches(find).count(),
        1,
        "{name}: {} has to have this text once, and it was changed: adapt src/bugs.rs: {find}",
        file.display()
    );
    let new =
        replace.replace("$is", &format!("crate::mutant::is(\"{name}\")")).replace("$was", find);
    fs::write(file, text.replace(find, &new)).expect("the output folder can be written");
}
