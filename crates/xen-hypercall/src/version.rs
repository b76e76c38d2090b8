//! Version and features of the hypervisor.

use crate::{Error, raw::hypercall};
use xen_abi::version::{EXTRAVERSION, EXTRAVERSION_LEN, FeatureInfo, GET_FEATURES, VERSION};
use xen_abi::xen::HYPERVISOR_XEN_VERSION;

/// The hypervisor's version: major and minor number.
pub fn version() -> Result<(u16, u16), Error> {
    // SAFETY: the operation takes no memory.
    let both = Error::check(unsafe { hypercall(HYPERVISOR_XEN_VERSION, VERSION.into(), 0, 0) })?;
    Ok(((both >> 16) as u16, both as u16))
}

/// Returns the suffix of the version's two numbers, such as ".7", padded with zero bytes.
pub fn extra_version() -> Result<[u8; EXTRAVERSION_LEN], Error> {
    let mut text = [0; EXTRAVERSION_LEN];
    // SAFETY: Xen writes a string of at most this size.
    Error::check(unsafe {
        hypercall(HYPERVISOR_XEN_VERSION, EXTRAVERSION.into(), text.as_mut_ptr() as u64, 0)
    })?;
    Ok(text)
}

/// Returns whether the hypervisor has the feature of this bit number (`XENFEAT_*`).
pub fn has_feature(number: u32) -> Result<bool, Error> {
    let mut info = FeatureInfo { submap_idx: number / 32, submap: 0 };
    // SAFETY: Xen fills in just this structure.
    Error::check(unsafe {
        hypercall(HYPERVISOR_XEN_VERSION, GET_FEATURES.into(), &raw mut info as u64, 0)
    })?;
    Ok(info.submap & (1 << (number % 32)) != 0)
}
