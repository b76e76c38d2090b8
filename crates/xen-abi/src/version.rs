//! The hypervisor's version and features: `version.h`, `features.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENVER_version`: returns major << 16 | minor.
pub const VERSION: u32 = 0;
/// `XENVER_extraversion`: fills in a string of at most [`EXTRAVERSION_LEN`] bytes.
pub const EXTRAVERSION: u32 = 1;
/// `XENVER_get_features`.
pub const GET_FEATURES: u32 = 6;
/// `XEN_EXTRAVERSION_LEN`.
pub const EXTRAVERSION_LEN: usize = 16;

/// `XENFEAT_hvm_callback_vector`, as a bit number of [`FeatureInfo::submap`]: events can come as an
/// interrupt vector.
pub const FEATURE_HVM_CALLBACK_VECTOR: u32 = 8;

/// `struct xen_feature_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FeatureInfo {
    /// In: which 32 features.
    pub submap_idx: u32,
    /// Out: a bit for each.
    pub submap: u32,
}
layout!(FeatureInfo, 8, submap_idx @ 0, submap @ 4);
