//! Exceptions: saves all registers and reports them. None is survived.

use crate::crash;
use core::arch::{asm, global_asm};
use core::fmt;
use core::mem::offset_of;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;

/// Bytes of one stub: the processor's vector number times this is where its stub starts.
const STUB_SIZE: u64 = 16;

// One stub for each vector makes the stack the same for all: an error code (the processor's or
// zero), the vector, and below them the registers in the order of `Frame`.
global_asm!(
    ".section .text.traps, \"ax\", @progbits",
    ".balign 16",
    ".global trap_stubs",
    "trap_stubs:",
    ".irp vector, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15, \
        16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "    .balign {stub_size}",
    // The vectors for which the processor pushes an error code: 8, 10 to 14, 17, 21, 29, 30.
    "    .if ({with_error} >> \\vector) & 1",
    "    .else",
    "    push 0",
    "    .endif",
    "    push \\vector",
    "    jmp trap_common",
    ".endr",
    "trap_common:",
    "    push rax",
    "    push rbx",
    "    push rcx",
    "    push rdx",
    "    push rsi",
    "    push rdi",
    "    push rbp",
    "    push r8",
    "    push r9",
    "    push r10",
    "    push r11",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    mov rdi, rsp",
    "    and rsp, -16",
    "    cld",
    "    call {entry}",
    "    ud2",
    ".text",
    stub_size = const STUB_SIZE,
    with_error = const (1u32 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30),
    entry = sym trap_entry,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

/// Returns the address of the stub of an exception vector.
pub fn stub(vector: u8) -> VirtAddr {
    VirtAddr::new(&raw const trap_stubs as u64 + u64::from(vector) * STUB_SIZE)
}

/// The registers at an exception, as the stubs push them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are the registers' names")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// The registers where this is called, for a report that no exception led to.
    #[inline(always)]
    pub fn here() -> Frame {
        let mut frame = core::mem::MaybeUninit::<Frame>::zeroed();
        // SAFETY: stores registers into a structure of plain words, at the offsets of their fields;
        // the flags go over the stack.
        unsafe {
            asm!(
                "mov [{f} + {rbx}], rbx", "mov [{f} + {rbp}], rbp", "mov [{f} + {rsp}], rsp",
                "mov [{f} + {r12}], r12", "mov [{f} + {r13}], r13",
                "mov [{f} + {r14}], r14", "mov [{f} + {r15}], r15",
                "lea {t}, [rip]", "mov [{f} + {rip}], {t}",
                "pushfq", "pop {t}", "mov [{f} + {rflags}], {t}",
                "mov {t}, cs", "mov [{f} + {cs}], {t}", "mov {t}, ss", "mov [{f} + {ss}], {t}",
                f = in(reg) frame.as_mut_ptr(), t = out(reg) _,
                rbx = const offset_of!(Frame, rbx), rbp = const offset_of!(Frame, rbp),
                rsp = const offset_of!(Frame, rsp), rip = const offset_of!(Frame, rip),
                r12 = const offset_of!(Frame, r12), r13 = const offset_of!(Frame, r13),
                r14 = const offset_of!(Frame, r14), r15 = const offset_of!(Frame, r15),
                rflags = const offset_of!(Frame, rflags), cs = const offset_of!(Frame, cs),
                ss = const offset_of!(Frame, ss),
            );
            frame.assume_init()
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, .. } = *self;
        let Frame { r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags, cs, ss, .. } = *self;
        writeln!(
            f,
            "rip {rip:016x}  rflags {rflags:08x}  cs {cs:04x}  ss {ss:04x}  error {:x}",
            self.error
        )?;
        writeln!(f, "rax {rax:016x}  rbx {rbx:016x}  rcx {rcx:016x}  rdx {rdx:016x}")?;
        writeln!(f, "rsi {rsi:016x}  rdi {rdi:016x}  rbp {rbp:016x}  rsp {rsp:016x}")?;
        writeln!(f, "r8  {r8:016x}  r9  {r9:016x}  r10 {r10:016x}  r11 {r11:016x}")?;
        write!(f, "r12 {r12:016x}  r13 {r13:016x}  r14 {r14:016x}  r15 {r15:016x}")
    }
}

/// The name of an exception.
fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        12 => "stack segment fault",
        13 => "general protection fault",
        14 => "page fault",
        16 | 19 => "floating point exception",
        17 => "alignment check",
        18 => "machine check",
        _ => "exception",
    }
}

extern "C" fn trap_entry(frame: &Frame) -> ! {
    let vector = frame.vector;
    if vector == 14 {
        let address = Cr2::read_raw();
        let doing = match frame.error {
            e if e & 16 != 0 => "executing",
            e if e & 2 != 0 => "writing",
            _ => "reading",
        };
        let hint = match address {
            0..4096 => " (page 0: a null pointer)",
            _ if super::guard_pages().contains(&(address & !4095)) => {
                " (a guard page: the stack overflowed)"
            }
            _ => "",
        };
        crash::trap(format_args!("page fault {doing} {address:#x}{hint}"), frame);
    }
    crash::trap(format_args!("{} (vector {vector})", name(vector)), frame);
}
