//! The callers of a place in the code, by the chain of frame pointers.

use super::stacks::stack_of;

/// Maximum number of callers in a backtrace.
const DEPTH: usize = 32;

/// Returns the return addresses, innermost first, from the frame pointer `rbp` on. Ends where the
/// chain leaves the stack that it began on, or turns back.
pub fn walk(rbp: u64) -> impl Iterator<Item = u64> {
    let stack = stack_of(rbp).unwrap_or(0..0);
    let mut frame = rbp;
    core::iter::from_fn(move || {
        let inside = frame.is_multiple_of(8) && frame >= stack.start && frame + 16 <= stack.end;
        if !inside {
            return None;
        }
        let at = frame as *const u64;
        // SAFETY: both words lie on a stack, which is mapped and whose bytes are plain memory.
        let (caller, address) = unsafe { (at.read_volatile(), at.add(1).read_volatile()) };
        frame = if caller > frame { caller } else { 0 };
        (address != 0).then_some(address)
    })
    .take(DEPTH)
}
