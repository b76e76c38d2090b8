//! Tests a disk of one's own, here an array, with what a guest puts a backend through.

use std::cell::RefCell;
use std::rc::Rc;
use xen_exercise::{Boxed, Device, Error, Info, Io, Plan, info, run_on};

struct Array(RefCell<Vec<u8>>);

impl Array {
    fn carry_out(&self, io: Io<'_>) -> Option<()> {
        let mut bytes = self.0.borrow_mut();
        let range = |sector: u64, len| {
            let first = usize::try_from(sector.checked_mul(512)?).ok()?;
            Some(first..first.checked_add(len)?)
        };
        match io {
            Io::Read(at, to) => to.copy_from_slice(bytes.get(range(at, to.len())?)?),
            Io::Write(at, from) | Io::Barrier(at, from) => {
                bytes.get_mut(range(at, from.len())?)?.copy_from_slice(from)
            }
            Io::Flush => {}
            Io::Discard { .. } => return None,
        }
        Some(())
    }
}

impl Device for Array {
    fn info(&self) -> Box<Info> {
        Box::new(info(self.0.borrow().len() as u64 / 512))
    }
    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Error>> {
        let done = self.carry_out(io).ok_or(Error::other("beyond the end"));
        Box::pin(async { done })
    }
}

fn main() {
    let disk = Rc::new(Array(RefCell::new(vec![0; 4 << 20])));
    let plan = Plan::parse("blk.run=seq,rand,boundary,flush,barrier blk.destroy=xvda");
    let (verdict, text) = run_on(&plan.expect("the options are right"), |_| disk.clone());
    println!("{text}");
    assert_eq!(verdict.failed, 0, "the disk has a fault");
}
