//! Crashes on purpose.

use crate::options::CrashTest;
use log::info;

/// Crashes, because the command line says so.
pub fn on_purpose(how: CrashTest) {
    info!("crash={how:?}: crashing on purpose");
    match how {
        CrashTest::Panic => panic!("as the command line says"),
        CrashTest::Fault => {
            // SAFETY: none: the page is not mapped, and that is the point.
            unsafe { core::ptr::without_provenance::<u64>(16).read_volatile() };
        }
        CrashTest::Stack => drop(overflow(1)),
    }
}

/// Calls itself until the stack ends.
#[expect(unconditional_recursion, reason = "it is what it is for")]
fn overflow(depth: u64) -> [u64; 64] {
    let mut deeper = overflow(core::hint::black_box(depth + 1));
    deeper[0] += depth;
    deeper
}
