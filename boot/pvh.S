# From PVH's 32-bit start to the first line of Rust.
#
# Xen starts the virtual CPU here (docs/misc/pvh.pandoc, arch-x86/hvm/start_info.h): flat 32-bit protected mode,
# paging off, interrupts off, ebx = physical address of hvm_start_info. Nothing else may be assumed, so every table
# that follows is our own. All of it runs at its link address: the image is loaded where it is linked.
#
# Constants in braces come from typed Rust in crates/xen-rt/src/pvh.rs.

    # Not of the type @note: linkers keep such sections, with all that they lead to, in every program, and a host test
    # of a unikernel has no entry. linker.ld keeps this one, in a segment of notes.
    .section .note.Xen, "a", @progbits
    .align 4
    .long 4                         # size of the name
    .long 4                         # size of the value
    .long {note_phys32_entry}
    .asciz "Xen"
    .long pvh_start32

    .section .text.boot, "ax", @progbits
    .code32
    .global pvh_start32
pvh_start32:
    cld
    mov     esp, offset {stack} + {stack_size}
    mov     ebp, ebx                # start_info; ebx is cpuid's

    # Identity-map the first GiB with 2 MiB pages: all the code needs until it builds its real tables. The image,
    # what Xen loaded behind it and the first page tables all lie there (linker.ld asserts it of the image).
    mov     dword ptr [boot_pml4], offset boot_pdpt + 3
    mov     dword ptr [boot_pdpt], offset boot_pd + 3
    mov     ecx, 512
    mov     eax, 0x83               # present, writable, 2 MiB
    mov     edi, offset boot_pd
map_2m:
    mov     [edi], eax
    add     eax, 0x200000
    add     edi, 8
    dec     ecx
    jnz     map_2m

    # SSE is on before any Rust runs, for the compiler uses it freely.
    mov     eax, {cr4}
    mov     cr4, eax
    mov     eax, offset boot_pml4
    mov     cr3, eax
    mov     ecx, {msr_efer}
    mov     eax, {efer}
    xor     edx, edx
    wrmsr
    mov     eax, {cr0}
    mov     cr0, eax                # paging on: compatibility mode

    lgdt    [boot_gdt_pointer]
    push    8
    mov     eax, offset start64
    push    eax
    retf

    .code64
start64:
    xor     eax, eax
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    mov     fs, eax
    mov     gs, eax
    mov     edi, ebp                # start_info, the only argument
    xor     ebp, ebp                # where a backtrace ends
    call    xen_rt_entry
    ud2

    .section .rodata.boot, "a", @progbits
    .align 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 64-bit code, ring 0
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt

    .section .bss.boot, "aw", @nobits
    .align 4096
boot_pml4:  .skip 4096
boot_pdpt:  .skip 4096
boot_pd:    .skip 4096

    .text
