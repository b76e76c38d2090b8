//! The descriptor tables: segments, the stacks for exceptions, the handlers.

use super::stacks::{DOUBLE_FAULT_STACK, TRAP_STACK};
use super::traps;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::{Entry, InterruptDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// The entry of the interrupt stack table that exceptions use.
const TRAP_IST: u16 = 0;
/// The one that double faults, NMIs and machine checks use: they can come while an exception is
/// handled.
const DOUBLE_FAULT_IST: u16 = 1;

static TSS: Table<TaskStateSegment> = Table::new();
static GDT: Table<GlobalDescriptorTable> = Table::new();
static IDT: Table<InterruptDescriptorTable> = Table::new();

/// The place of a table that is written once, at boot. (A lock would be 600 bytes of the image.)
struct Table<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: `init`, which alone uses it, runs once, on the one processor.
unsafe impl<T> Sync for Table<T> {}

impl<T> Table<T> {
    const fn new() -> Self {
        Table(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Puts the table in its place.
    ///
    /// # Safety
    /// To be called once.
    unsafe fn put(&'static self, table: T) -> &'static T {
        // SAFETY: there is no other reference to it, now or later.
        unsafe { (*self.0.get()).write(table) }
    }
}

/// Loads the tables: from here on every exception is reported, and the event vector may come.
pub fn init() {
    let mut tss = TaskStateSegment::new();
    tss.interrupt_stack_table[usize::from(TRAP_IST)] = VirtAddr::new(TRAP_STACK.top());
    tss.interrupt_stack_table[usize::from(DOUBLE_FAULT_IST)] =
        VirtAddr::new(DOUBLE_FAULT_STACK.top());
    // SAFETY: the boot comes here once.
    let tss = unsafe { TSS.put(tss) };
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    // SAFETY: as above.
    unsafe { GDT.put(gdt) }.load();
    // SAFETY: both selectors are those of the table just loaded.
    unsafe {
        CS::set_reg(code);
        load_tss(task);
    }
    // SAFETY: as above.
    unsafe { IDT.put(handlers()) }.load();
}

fn handlers() -> InterruptDescriptorTable {
    // SAFETY: entries of zeros are not present, and those that are set are written as a whole. The
    // crate's own constructor takes 600 bytes of the image.
    let mut idt: InterruptDescriptorTable = unsafe { core::mem::zeroed() };
    macro_rules! traps {
        ($($field:ident = $vector:literal on $ist:expr;)*) => {$(
            set(&mut idt.$field, $vector, $ist);
        )*};
    }
    traps! {
        divide_error = 0 on TRAP_IST;
        debug = 1 on TRAP_IST;
        non_maskable_interrupt = 2 on DOUBLE_FAULT_IST;
        breakpoint = 3 on TRAP_IST;
        overflow = 4 on TRAP_IST;
        bound_range_exceeded = 5 on TRAP_IST;
        invalid_opcode = 6 on TRAP_IST;
        device_not_available = 7 on TRAP_IST;
        double_fault = 8 on DOUBLE_FAULT_IST;
        invalid_tss = 10 on TRAP_IST;
        segment_not_present = 11 on TRAP_IST;
        stack_segment_fault = 12 on TRAP_IST;
        general_protection_fault = 13 on TRAP_IST;
        page_fault = 14 on TRAP_IST;
        x87_floating_point = 16 on TRAP_IST;
        alignment_check = 17 on TRAP_IST;
        machine_check = 18 on DOUBLE_FAULT_IST;
        simd_floating_point = 19 on TRAP_IST;
    }
    // SAFETY: the handler returns with `iretq` and leaves every register as it was.
    unsafe { idt[super::idle::EVENT_VECTOR].set_handler_addr(super::idle::event_handler()) };
    idt
}

/// Has an exception handled by the stub of its vector, on that stack. Not in line, for it stands
/// once for every exception.
#[inline(never)]
fn set<F>(entry: &mut Entry<F>, vector: u8, ist: u16) {
    // SAFETY: the stub at that address is made for that vector, with or without the error code that
    // the processor pushes for it, and does not return. The stacks are the handlers' own.
    unsafe { entry.set_handler_addr(traps::stub(vector)).set_stack_index(ist) };
}
