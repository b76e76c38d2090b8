//! Contents of the dom0 image: plain lists, nothing else.
//!
//! To put a program into dom0, name its package in [`PACKAGES`] and its path in
//! [`FILES`]; the shared libraries it needs are found by themselves. To put a
//! kernel module in, name it in [`MODULES`]; what it depends on comes along.

use super::packages::Alternatives;

/// Packages to start from, Debian's names before Ubuntu's. Metapackages stand
/// here so that no version is spelled out.
pub const PACKAGES: &[Alternatives] = &[
    &["xen-system-amd64"],
    &["linux-image-amd64", "linux-image-generic"],
    &["busybox-static"],
    &["bash"],
    &["coreutils"],
    &["util-linux"],
    &["mount"],
    &["e2fsprogs"],
    &["dmsetup"],
    &["dpkg"],
    &["libc-bin"],
    &["tar"],
    &["libgcc-s1"],
];

/// Dependencies are followed when their name starts with one of these.
pub const FOLLOW: &[&str] = &[
    "lib",
    "zlib",
    "xen",
    "python3.",
    "linux-image-",
    "linux-base-",
    "linux-binary-",
    "linux-modules-",
];

/// Files to take out of the packages (`*` matches within one path component).
pub const FILES: &[&str] = &[
    "usr/bin/busybox",
    "usr/bin/bash",
    "usr/bin/dd",
    "usr/bin/tail",
    "usr/bin/tr",
    "usr/bin/flock",
    "usr/sbin/losetup",
    "usr/sbin/blockdev",
    "usr/sbin/dmsetup",
    "usr/bin/dpkg",
    "usr/bin/dpkg-deb",
    "usr/bin/dpkg-query",
    "usr/bin/dpkg-split",
    "usr/bin/tar",
    "usr/sbin/ldconfig",
    "usr/sbin/start-stop-daemon",
    "usr/sbin/mke2fs",
    "usr/sbin/e2fsck",
    "etc/mke2fs.conf",
    "usr/bin/xenstore",
    "usr/bin/xenstore-*",
    "etc/xen/xl.conf",
    "etc/xen/scripts/*",
    "etc/xen/oxenstored.conf",
    // oxenstored of Xen 4.20 and later loads how it asks Xen for domains.
    "usr/lib/xen-*/ocaml/xsd_glue/xenctrl_plugin/*",
];

/// Xen's version-dependent programs (`usr/lib/xen-X/bin`); each is also
/// reachable as `/usr/sbin/NAME`.
pub const XEN_TOOLS: &[&str] = &[
    "xl",
    "libxl-save-helper",
    "xenstored",
    "oxenstored",
    "xenconsoled",
    "xenconsole",
    "xen-init-dom0",
    "xentop",
    "xenctx",
    "xentrace",
    "lsevtchn",
    "vchan-socket-proxy",
];

/// Libraries that programs load while they run, so that no header names them
/// (`*` as above).
pub const LOADED_LATE: &[&str] = &["libgcc_s.so.1", "libdl.so.2", "libxenvchan.so.*"];

/// Kernel modules for dom0.
pub const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "xenfs",
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "loop",
    "brd",
    "configfs",
    "null_blk",
    "dm-mod",
    "dm-zero",
    "dm-delay",
    "dm-flakey",
];

/// Directories that programs in dom0 expect to find.
pub const DIRECTORIES: &[&str] = &[
    "dev",
    "etc",
    "proc",
    "root/ringside",
    "run/lock",
    "run/xen",
    "run/xenstored",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var/lib/xen",
    "var/lib/xenstored",
    "var/log/xen/console",
];

/// Symbolic links: (where, to what).
pub const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
    ("usr/bin/sh", "busybox"),
    ("usr/sbin/mkfs.ext4", "mke2fs"),
    // What the kernel itself calls.
    ("usr/sbin/modprobe", "/usr/bin/busybox"),
    ("etc/mtab", "/proc/mounts"),
];
