//! Xen's CPUID leaves: `arch-x86/cpuid.h`.

/// The first leaf where Xen may answer; further candidates follow every [`LEAF_STEP`]
/// (`XEN_CPUID_FIRST_LEAF`).
pub const FIRST_LEAF: u32 = 0x4000_0000;
/// The distance between candidates.
pub const LEAF_STEP: u32 = 0x100;
/// The end of the search.
pub const LAST_LEAF: u32 = 0x4001_0000;
/// Signature that the first leaf returns in ebx, ecx, edx: "XenVMMXenVMM"
/// (`XEN_CPUID_SIGNATURE_EBX` and its neighbours).
pub const SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];
/// The leaf about HVM and PVH domains, counted from the first.
pub const HVM_LEAF: u32 = 4;
/// In that leaf's eax: ecx has the domain's number (`XEN_HVM_CPUID_DOMID_PRESENT`).
pub const HVM_DOMID_PRESENT: u32 = 1 << 4;
