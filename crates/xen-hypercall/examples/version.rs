//! Prints Xen's version, in a kernel that runs under Xen.

use xen_hypercall::{raw, version};

fn main() {
    if raw::init().is_none() {
        return eprintln!("this is not a guest of Xen");
    }
    match version::version() {
        Ok((major, minor)) => println!("Xen {major}.{minor}"),
        Err(error) => eprintln!("cannot ask Xen for its version: {error}"),
    }
}
