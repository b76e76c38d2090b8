//! Link arguments of the unikernel's binary, and of nothing else in the workspace.

use std::env::var;

fn main() {
    let script = format!("{}/../linker.ld", var("CARGO_MANIFEST_DIR").unwrap());
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed=../boot/pvh.S");

    // Bare-metal targets call the linker itself, the host's triple calls it through the C compiler.
    let bare = var("CARGO_CFG_TARGET_OS").unwrap() == "none";
    if !bare {
        for arg in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
            println!("cargo:rustc-link-arg-bins={arg}");
        }
    }
    if bare {
        println!("cargo:rustc-link-arg-bins=--no-pie");
    }
    let prefix = if bare { "" } else { "-Wl," };
    // Xen copies the segments out of the file, so that in it they need not begin at pages. Functions with the same code
    // are one: nothing here compares addresses of functions.
    for arg in ["--build-id=none", "--gc-sections", "--icf=all", "--nmagic", "-zmax-page-size=4096", "-znoexecstack"] {
        println!("cargo:rustc-link-arg-bins={prefix}{arg}");
    }
    println!("cargo:rustc-link-arg-bins=-T{script}");
}
