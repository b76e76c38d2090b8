//! NBD in both directions, beside programs that nobody here wrote: libnbd's nbdinfo, nbdcopy and
//! nbdfuse, QEMU's qemu-img, qemu-io and qemu-nbd, nbdkit, fio, and e2fsprogs. `testbed/setup.sh
//! test` installs them; a test whose tool is missing fails and names it.

#[path = "../../../../crates/xen-storage/tests/common/mod.rs"]
mod common;
mod export;
mod killed;
mod peers;
mod storage;
