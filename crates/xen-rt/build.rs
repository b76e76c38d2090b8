//! Collects the link arguments of a unikernel for the build scripts of its package.
//!
//! Cargo lets no dependency add arguments to the link of a binary. But a package with a `links` key
//! may pass values to the build scripts of its dependents, so the arguments go into a response file
//! whose name they get as `DEP_XEN_RT_LINK`.

use std::env::var;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=linker.ld");
    println!("cargo:rerun-if-changed=boot/pvh.S");
    let out = PathBuf::from(var("OUT_DIR").unwrap());
    let script = out.join("link.x");
    fs::copy("linker.ld", &script).expect("the linker script is a part of the package");

    // Bare-metal targets call the linker itself, the host's triple calls it through the C compiler.
    let bare = var("CARGO_CFG_TARGET_OS").unwrap() == "none";
    let mut args: Vec<String> = match bare {
        true => vec!["--no-pie".into()],
        false => ["-nostartfiles", "-nostdlib", "-static", "-no-pie"].map(Into::into).into(),
    };
    let prefix = if bare { "" } else { "-Wl," };
    // Xen copies the segments out of the file, so that in it they need not begin at pages.
    for arg in
        ["--build-id=none", "--gc-sections", "--nmagic", "-zmax-page-size=4096", "-znoexecstack"]
    {
        args.push(format!("{prefix}{arg}"));
    }
    // Functions with the same code become one: nothing here compares addresses of functions. Only
    // some linkers can do it.
    let fold = format!("{prefix}--icf=all");
    if links_with(&out, bare, &fold) {
        args.push(fold);
    }
    args.push(format!("-T{}", script.display()));

    let file = out.join("link.args");
    let lines: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
    fs::write(&file, lines.join("\n")).expect("OUT_DIR can be written");
    println!("cargo:link=@{}", file.display());
}

/// Returns the argument as a response file spells it.
fn quoted(arg: &str) -> String {
    format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Links an empty program with the linker that the build uses, and returns whether it takes `arg`.
fn links_with(out: &Path, bare: bool, arg: &str) -> bool {
    let source = out.join("probe.rs");
    let program = "#![no_std]\n#![no_main]\n\
        #[unsafe(no_mangle)]\npub extern \"C\" fn _start() {}\n\
        #[panic_handler]\nfn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }\n";
    fs::write(&source, program).expect("OUT_DIR can be written");
    let mut rustc = Command::new(var("RUSTC").unwrap());
    rustc.arg(&source).args(["--edition=2024", "--crate-name=probe", "-Cpanic=abort"]);
    rustc.arg("--target").arg(var("TARGET").unwrap()).arg("-o").arg(out.join("probe"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.display()));
    }
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if !bare {
        rustc.args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"]);
    }
    rustc.arg(format!("-Clink-arg={arg}"));
    rustc.output().is_ok_and(|done| done.status.success())
}
