//! The items that only the binary may have, and the borders of its image.

use crate::memory::paging::Image;

// Borders of the image's parts, by linker.ld.
unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

/// Returns the borders of the image that is running.
pub(crate) fn image() -> Image {
    let [text, rodata, data, end] = [
        &raw const __text_start,
        &raw const __text_end,
        &raw const __rodata_end,
        &raw const __image_end,
    ]
    .map(|border| border as u64);
    Image { text: text..rodata, rodata: rodata..data, data: data..end }
}

/// Makes `async fn main(domain: Domain) -> Reason` the program of a unikernel.
///
/// Defines the items that a binary has once: the symbol that the entry calls, the allocator, the
/// panic handler, and on the host's triple the functions that the compiler expects of a C library.
/// The binary is `no_std` and `no_main`, and its build script passes the link arguments on:
///
/// ```ignore
/// println!("cargo:rustc-link-arg-bins={}", std::env::var("DEP_XEN_RT_LINK").unwrap());
/// ```
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            #[global_allocator]
            static HEAP: $crate::Heap = $crate::Heap;

            #[panic_handler]
            fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
                $crate::crash::panic(info)
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn xen_rt_entry(start_info: u64) -> ! {
                // SAFETY: `boot/pvh.S` calls this once, with the address that Xen passed.
                unsafe { $crate::start(start_info, $main) }
            }
        };
        $crate::c_library!();
    };
}
