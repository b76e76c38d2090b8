//! The descriptor tables: segments, the stacks for exceptions, the handlers.

use super::stacks::{DOUBLE_FAULT_STACK, TRAP_STACK};
use super::traps;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// The entry of the interrupt stack table that exceptions use.
const TRAP_IST: u16 = 0;
/// The one that double faults, NMIs and machine checks use: they can come while an exception is handled.
const DOUBLE_FAULT_IST: u16 = 1;

static TSS: Once<TaskStateSegment> = Once::new();
static GDT: Once<GlobalDescriptorTable> = Once::new();
static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Loads the tables: from here on every exception is reported, and the event vector may come.
pub fn init() {
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        tss.interrupt_stack_table[usize::from(TRAP_IST)] = VirtAddr::new(TRAP_STACK.top());
        tss.interrupt_stack_table[usize::from(DOUBLE_FAULT_IST)] = VirtAddr::new(DOUBLE_FAULT_STACK.top());
        tss
    });
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    GDT.call_once(|| gdt).load();
    // SAFETY: both selectors are those of the table just loaded.
    unsafe {
        CS::set_reg(code);
        load_tss(task);
    }
    IDT.call_once(handlers).load();
}

fn handlers() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    // SAFETY (of every `set_handler_addr`): the stub at that address is made for that vector, with or without the error
    // code that the processor pushes for it, and does not return. The stacks are the handlers' own.
    macro_rules! traps {
        ($($field:ident = $vector:literal on $ist:expr;)*) => {$(
            // SAFETY: see above.
            unsafe { idt.$field.set_handler_addr(traps::stub($vector)).set_stack_index($ist) };
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
