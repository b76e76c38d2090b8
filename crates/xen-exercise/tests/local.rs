//! The tests on a disk of the program's own, without Xen.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use xen_exercise::{Boxed, Device, Error, Info, Io, Plan, info, run_on};

/// A disk that forgets each `forgets`th write.
struct Array {
    bytes: RefCell<Vec<u8>>,
    forgets: u32,
    writes: Cell<u32>,
}

impl Device for Array {
    fn info(&self) -> Box<Info> {
        Box::new(info(self.bytes.borrow().len() as u64 / 512))
    }
    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Error>> {
        let mut bytes = self.bytes.borrow_mut();
        let end = bytes.len();
        let done = match io {
            Io::Read(at, to) if at.saturating_mul(512) as usize <= end - to.len() => {
                to.copy_from_slice(&bytes[at as usize * 512..][..to.len()]);
                Ok(())
            }
            Io::Write(at, from) if at.saturating_mul(512) as usize <= end - from.len() => {
                self.writes.set(self.writes.get() + 1);
                if !self.writes.get().is_multiple_of(self.forgets) {
                    bytes[at as usize * 512..][..from.len()].copy_from_slice(from);
                }
                Ok(())
            }
            Io::Flush => Ok(()),
            _ => Err(Error::other("beyond the end, or not known")),
        };
        Box::pin(async { done })
    }
}

fn failed(line: &str, forgets: u32) -> u32 {
    let bytes = RefCell::new(vec![0; 4 << 20]);
    let disk = Rc::new(Array { bytes, forgets, writes: Cell::new(0) });
    let (verdict, text) = run_on(&Plan::parse(line).unwrap(), |_| disk.clone());
    assert_eq!(text.matches("\nnot ok ").count() as u32, verdict.failed, "{text}");
    verdict.failed
}

#[test]
fn disk_of_a_program_is_tested() {
    let line = "blk.run=seq,rand,boundary,flush,verify blk.destroy=xvda blk.size=1M";
    assert_eq!(failed(line, u32::MAX), 0);
    assert_eq!(failed(line, 2), 5);
}

#[test]
fn line_of_options_is_checked() {
    assert!(Plan::parse("blk.run=seq vchan.left=1").unwrap_err().contains("no such option"));
    assert!(Plan::parse("blk.run=sing").is_err());
}
