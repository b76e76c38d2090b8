//! Checks the options of a run, as they stand on a kernel's command line.

use std::process::ExitCode;
use xen_exercise::{CASES, Plan};

fn main() -> ExitCode {
    let mut plan = Plan::default();
    for (name, value) in [("blk.run", "seq,flush"), ("blk.seed", "7")] {
        if let Err(reason) = plan.set(name, value) {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    }
    println!("{} cases can run, by this plan: {plan:?}", CASES.len());
    ExitCode::SUCCESS
}
