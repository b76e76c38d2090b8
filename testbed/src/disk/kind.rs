//! Kinds of disks, and the words that make them.

/// Folder of dom0 for the files of disks.
const FOLDER: &str = "/tmp/ringside-disks";

/// Folder in which null_blk is configured.
const NULL: &str = "/sys/kernel/config/nullb";

/// A script that takes away all disks that a script of [`Kind::create`] may
/// have made, the upper ones first.
pub(super) const SWEEP: &str = "dmsetup remove_all --force --noudevsync --noudevrules; losetup -D; \
    for disk in /sys/kernel/config/nullb/*/; do echo 0 >$disk/power && rmdir $disk; done; \
    [ ! -b /dev/ram0 ] || rmmod brd; rm -rf /tmp/ringside-disks";

/// Stuff that a disk is made of. Sizes are in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A loop device over a sparse file, with logical sectors of `sector` bytes.
    Loop {
        /// Its size.
        mib: u32,
        /// 512, 1024, 2048 or 4096.
        sector: u32,
        /// True if dom0 and the guest may only read it.
        read_only: bool,
    },
    /// A plain file, which xl's `block` script turns into a loop device.
    File {
        /// Its size.
        mib: u32,
    },
    /// A RAM disk (brd); there can be one at a time.
    Ram {
        /// Its size.
        mib: u32,
    },
    /// null_blk: answers at once.
    Null {
        /// Its size.
        mib: u32,
        /// 512 to 4096.
        sector: u32,
        /// True if it keeps what is written, and so can be verified; it can discard then, too.
        keeps: bool,
    },
    /// A raw file behind QEMU (the scenario must ask for QEMU).
    QdiskRaw {
        /// Its size.
        mib: u32,
    },
    /// A qcow2 file behind QEMU.
    Qcow2 {
        /// Its size.
        mib: u32,
    },
    /// A device-mapper target above another disk: [`super::Disk::mapped`] makes these.
    Mapped(Mapping),
}

/// Effect of a device-mapper target on the disk below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Hands everything through.
    Linear,
    /// Fails `count` sectors of 512 bytes from `first` on, hands the others through.
    Error {
        /// The first failing sector.
        first: u64,
        /// Number of those that fail.
        count: u64,
    },
    /// Fails everything.
    AllFail,
    /// Takes every write and reads zeros.
    Zero,
    /// Works for `up` seconds, then fails for `down` seconds, and again.
    Flakey {
        /// Seconds.
        up: u32,
        /// Seconds.
        down: u32,
    },
    /// Reads what is there, and forgets what is written, though it says that it was.
    Forgets,
    /// Answers every request this much later.
    Delay {
        /// Milliseconds.
        ms: u32,
    },
}

/// Which stamped sectors: see `testbed/peers/blk-stamp.c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The set of data.
    pub seed: u64,
    /// The version of it.
    pub generation: u64,
    /// The first sector, in units of 512 bytes.
    pub first: u64,
    /// Number of them; `None` for all up to the end.
    pub sectors: Option<u64>,
}

impl Stamp {
    /// The words for blk-stamp.
    pub fn options(&self) -> String {
        let Stamp { seed, generation, first, sectors } = self;
        format!("-s {seed} -g {generation} -f {first} -n {}", sectors.unwrap_or(0))
    }

    /// The words for the Linux guest.
    pub fn words(&self) -> String {
        let Stamp { seed, generation, first, sectors } = self;
        format!(
            "seed={seed} generation={generation} first={first} sectors={}",
            sectors.unwrap_or(0)
        )
    }
}

impl Kind {
    /// A script that makes the disk and prints its path; `under` is the path of the disk below.
    pub(super) fn create(&self, name: &str, under: &str) -> String {
        let file = |mib| format!("mkdir -p {FOLDER}; truncate -s {mib}M {FOLDER}/{name}");
        match *self {
            Kind::Loop { mib, sector, read_only } => {
                let mode = if read_only { "--read-only" } else { "" };
                format!(
                    "{}; losetup --find --show --sector-size {sector} {mode} {FOLDER}/{name}",
                    file(mib)
                )
            }
            Kind::File { mib } | Kind::QdiskRaw { mib } => {
                format!("{}; echo {FOLDER}/{name}", file(mib))
            }
            Kind::Qcow2 { mib } => format!(
                "set -e; mkdir -p {FOLDER}; qemu-img create -q -f qcow2 {FOLDER}/{name} {mib}M; echo {FOLDER}/{name}"
            ),
            Kind::Ram { mib } => format!(
                "[ -b /dev/ram0 ] && {{ echo there is a RAM disk already >&2; exit 1; }}; \
                 modprobe brd rd_nr=1 rd_size={} && echo /dev/ram0",
                mib * 1024
            ),
            // Older kernels number the device, newer ones give it the folder's name.
            Kind::Null { mib, sector, keeps } => format!(
                "set -e; modprobe null_blk nr_devices=0; \
                 [ -d {NULL} ] || mount -t configfs configfs /sys/kernel/config; \
                 mkdir {NULL}/{name}; cd {NULL}/{name}; echo {mib} >size; echo {sector} >blocksize; \
                 echo {keeps} >memory_backed; echo {keeps} >discard; echo 1 >power; \
                 if [ -b /dev/{name} ]; then echo /dev/{name}; else echo /dev/nullb$(cat index); fi",
                keeps = u8::from(keeps),
            ),
            Kind::Mapped(mapping) => format!(
                "set -e; size=$(blockdev --getsz {under}); \
                 printf '{}' | dmsetup create {name} --noudevsync --noudevrules; \
                 echo /dev/dm-$(dmsetup info -c --noheadings -o minor {name})",
                mapping.table(under)
            ),
        }
    }

    /// A script that takes the disk away; it fails as long as somebody has it.
    pub(super) fn delete(&self, name: &str, path: &str) -> String {
        match self {
            Kind::Loop { .. } => format!("losetup -d {path}; rm -f {FOLDER}/{name}"),
            Kind::File { .. } | Kind::QdiskRaw { .. } | Kind::Qcow2 { .. } => {
                format!("rm -f {path}")
            }
            Kind::Ram { .. } => "[ ! -b /dev/ram0 ] || rmmod brd".to_string(),
            Kind::Null { .. } => {
                format!(
                    "[ ! -d {NULL}/{name} ] || {{ echo 0 >{NULL}/{name}/power && rmdir {NULL}/{name}; }}"
                )
            }
            Kind::Mapped(_) => {
                format!(
                    "! dmsetup info {name} >/dev/null 2>&1 || dmsetup remove --noudevsync --noudevrules {name}"
                )
            }
        }
    }

    /// A script that maps anew what is in use.
    pub(super) fn remap(name: &str, under: &str, mapping: Mapping) -> String {
        format!(
            "set -e; size=$(blockdev --getsz {under}); printf '{}' | dmsetup load {name}; \
             dmsetup suspend --noflush --nolockfs {name}; dmsetup resume --noudevsync --noudevrules {name}",
            mapping.table(under)
        )
    }

    /// A script that changes the size of what is in use, where that is possible.
    pub(super) fn resize(&self, name: &str, path: &str, mib: u32) -> Option<String> {
        matches!(self, Kind::Loop { .. }).then(|| {
            format!("set -e; truncate -s {mib}M {FOLDER}/{name}; losetup --set-capacity {path}")
        })
    }

    /// Returns the description for xl. `script` is for block devices, instead of Xen's own.
    pub(super) fn spec(&self, path: &str, vdev: &str, script: Option<&str>) -> String {
        let (format, more) = match (self, script) {
            (Kind::File { .. }, _) => ("raw", ",script=block".to_string()),
            (Kind::QdiskRaw { .. }, _) => ("raw", ",backendtype=qdisk".to_string()),
            (Kind::Qcow2 { .. }, _) => ("qcow2", ",backendtype=qdisk".to_string()),
            (_, Some(script)) => ("raw", format!(",script={script}")),
            (_, None) => ("raw", String::new()),
        };
        let access = if matches!(self, Kind::Loop { read_only: true, .. }) { "ro" } else { "rw" };
        // xl takes everything behind target= as part of the path.
        format!("format={format},vdev={vdev},access={access}{more},target={path}")
    }

    /// Returns the path where dom0 writes what a guest shall read.
    pub(super) fn writable(&self, name: &str, path: &str) -> String {
        match self {
            Kind::Loop { read_only: true, .. } => format!("{FOLDER}/{name}"),
            _ => path.to_string(),
        }
    }

    /// A script in which `command` finds the disk's contents at `$raw`, as they are now.
    pub(super) fn with_raw(&self, path: &str, command: &str) -> String {
        match self {
            Kind::Qcow2 { .. } => format!(
                "raw={path}.raw; set -o pipefail; qemu-img convert -f qcow2 -O raw {path} $raw && {{ {command}; }}; \
                 code=$?; rm -f $raw; exit $code"
            ),
            Kind::File { .. } | Kind::QdiskRaw { .. } => {
                format!("raw={path}; set -o pipefail; {command}")
            }
            // dom0's own cache of the device knows nothing of what a backend wrote.
            _ => format!(
                "raw={path}; set -o pipefail; blockdev --flushbufs $raw && {{ {command}; }}"
            ),
        }
    }
}

impl Mapping {
    /// The table for dmsetup, as a format for printf in a script that knows the
    /// size of the disk below as `$size`, in sectors of 512 bytes.
    fn table(&self, under: &str) -> String {
        let all = |target: &str| format!("0 '$size' {target}\\n");
        match *self {
            Mapping::Linear => all(&format!("linear {under} 0")),
            Mapping::AllFail => all("error"),
            Mapping::Zero => all("zero"),
            Mapping::Flakey { up, down } => all(&format!("flakey {under} 0 {up} {down}")),
            Mapping::Forgets => all(&format!("flakey {under} 0 0 600 1 drop_writes")),
            Mapping::Delay { ms } => all(&format!("delay {under} 0 {ms}")),
            Mapping::Error { first, count } => {
                let end = first + count;
                let before = if first > 0 {
                    format!("0 {first} linear {under} 0\\n")
                } else {
                    String::new()
                };
                format!(
                    "{before}{first} {count} error\\n{end} '$((size - {end}))' linear {under} {end}\\n"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: Kind = Kind::Loop { mib: 8, sector: 4096, read_only: false };

    #[test]
    fn xl_is_told_the_backend_and_the_mode() {
        let spec = |kind: Kind| kind.spec("/x", "xvda", Some("/quick"));
        assert_eq!(spec(LOOP), "format=raw,vdev=xvda,access=rw,script=/quick,target=/x");
        assert_eq!(LOOP.spec("/x", "xvdb", None), "format=raw,vdev=xvdb,access=rw,target=/x");
        assert!(spec(Kind::Loop { mib: 8, sector: 512, read_only: true }).contains("access=ro"));
        assert!(spec(Kind::File { mib: 8 }).contains("script=block,"));
        let qcow2 = spec(Kind::Qcow2 { mib: 8 });
        assert!(
            qcow2.contains("format=qcow2")
                && qcow2.contains("backendtype=qdisk")
                && !qcow2.contains("script")
        );
    }

    #[test]
    fn loop_devices_get_their_sectors() {
        let script = LOOP.create("a", "");
        assert!(script.contains("truncate -s 8M /tmp/ringside-disks/a"));
        assert!(script.contains("--sector-size 4096") && !script.contains("--read-only"));
    }

    #[test]
    fn only_loop_devices_are_resized() {
        assert!(
            LOOP.resize("a", "/dev/loop0", 16)
                .is_some_and(|script| script.contains("truncate -s 16M"))
        );
        assert_eq!(Kind::Ram { mib: 8 }.resize("a", "/dev/ram0", 16), None);
    }

    #[test]
    fn a_failing_range_lies_between_working_ones() {
        let table = Mapping::Error { first: 8, count: 16 }.table("/d");
        assert_eq!(table, "0 8 linear /d 0\\n8 16 error\\n24 '$((size - 24))' linear /d 24\\n");
        let table = Mapping::Error { first: 0, count: 1 }.table("/d");
        assert!(table.starts_with("0 1 error\\n1 "));
    }

    #[test]
    fn stamps_are_named_to_both_programs() {
        let stamp = Stamp { seed: 7, generation: 2, first: 8, sectors: Some(16) };
        assert_eq!(stamp.options(), "-s 7 -g 2 -f 8 -n 16");
        assert_eq!(stamp.words(), "seed=7 generation=2 first=8 sectors=16");
        assert_eq!(Stamp::default().options(), "-s 0 -g 0 -f 0 -n 0");
    }
}
