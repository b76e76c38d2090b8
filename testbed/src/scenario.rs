//! Scenarios: what is tried on a host, and the runner that tries them.

mod block;
mod block_full;
mod block_linux;
mod boot;
mod clients;
mod console;
mod disks;
mod durable;
mod echo;
mod hostile;
mod inspect;
mod interop;
mod life;
mod linux;
mod local;
mod report;
mod run;
mod units;
mod xendisk;

use std::time::Duration;

use anyhow::Result;

use crate::client::Process;
use crate::guest::Guest;
use crate::host::Host;

pub use run::{Choice, run};
use xendisk::exercise;

/// One thing to try. It gets a host without guests, and whatever guests it
/// leaves behind are destroyed.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// How long it may take.
    pub patience: Duration,
    /// Memory that an emulated host needs for it, in MiB.
    pub memory: u32,
    /// Whether it needs the Linux guest.
    pub linux: bool,
    /// Whether it needs QEMU in dom0.
    pub qemu: bool,
    /// Whether only `--full` or its name choose it, because it takes long.
    pub full: bool,
    action: fn(&Bench) -> Result<()>,
}

impl Scenario {
    const fn new(name: &'static str, about: &'static str, action: fn(&Bench) -> Result<()>) -> Scenario {
        let patience = Duration::from_secs(180);
        Scenario { name, about, action, patience, memory: 1024, linux: false, qemu: false, full: false }
    }

    const fn linux(mut self) -> Scenario {
        self.linux = true;
        self.patience = Duration::from_secs(420);
        self
    }

    const fn qemu(mut self) -> Scenario {
        self.qemu = true;
        self.memory = 1408;
        self
    }

    const fn full(mut self) -> Scenario {
        self.full = true;
        self
    }

    const fn long(mut self) -> Scenario {
        self.patience = Duration::from_secs(600);
        self
    }

    const fn longest(mut self) -> Scenario {
        self.patience = Duration::from_secs(1500);
        self
    }

    const fn memory(mut self, memory: u32) -> Scenario {
        self.memory = memory;
        self
    }
}

/// All scenarios, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario::new("elf-size", "the kernel is a small ELF with one PVH note", boot::elf_size),
    Scenario::new("boot-log", "the boot log tells all that it should", boot::log),
    Scenario::new("echo-line", "a line typed at the client comes back in upper case", echo::line),
    Scenario::new("echo-16MiB", "16 MiB of random bytes come back byte-exact", echo::random),
    Scenario::new("echo-slow-reader", "a reader that pauses loses nothing", echo::slow_reader),
    Scenario::new("echo-two-guests", "two guests serve at the same time", echo::two_guests),
    Scenario::new("echo-small-rings", "rings of the least size work", echo::small_rings),
    Scenario::new("clients-in-series", "twenty clients, one after another", clients::series),
    Scenario::new("client-killed", "a client killed mid-stream does not hinder the next", clients::killed),
    Scenario::new("no-server", "the client gives up after its timeout", clients::no_server),
    Scenario::new("server-destroyed", "an attached client notices that the domain is gone", clients::server_destroyed),
    Scenario::new("c-client", "a C program on libxenvchan is served as well", clients::c_client),
    Scenario::new("c-client-killed", "a killed C client does not hinder the next", clients::c_client_killed),
    Scenario::new("ring-sizes", "rings of all sizes serve C clients and ours", interop::ring_sizes),
    Scenario::new("socket-proxy", "Xen's own vchan-socket-proxy is served", interop::socket_proxy),
    Scenario::new("linux-server", "our client is served by C programs in a Linux guest", interop::linux_server).linux(),
    Scenario::new("linux-client", "our server in dom0 serves a Linux guest", interop::linux_client).linux(),
    Scenario::new("linux-vchan", "our tool serves and connects inside a Linux guest", linux::tool).linux(),
    Scenario::new("linux-peer-gone", "our tool in a Linux guest notices that a domain is gone", linux::peer_destroyed)
        .linux(),
    Scenario::new("guest-client", "our guest is a client of our server in dom0", interop::guest_client),
    Scenario::new("guest-to-guest", "two of our guests talk without dom0", interop::guest_to_guest),
    Scenario::new("hostile-clients", "lying clients are dropped, honest ones undisturbed", hostile::clients),
    Scenario::new("hostile-servers", "our tool ends with the reason when a server lies", hostile::servers).linux(),
    Scenario::new("hostile-to-guest", "our guest as a client does so, too", hostile::servers_of_guests),
    Scenario::new("echo-soak", "clients that end well or badly leave nothing behind", clients::soak),
    Scenario::new("proxy", "a unix socket, TCP and a terminal reach the guest", local::proxy),
    Scenario::new("proxy-server", "our guest reaches a local server, TCP or unix", local::proxy_server),
    Scenario::new("ls-and-dump", "vchans are listed and decoded undisturbed", inspect::vchans).linux(),
    Scenario::new("console-commands", "what is typed at xl console is obeyed", console::commands),
    Scenario::new("grants-grow", "the grant table grows with the rings", console::grants_grow),
    Scenario::new("xl-shutdown", "xl shutdown ends guest, keys and clients", life::shutdown),
    Scenario::new("xl-reboot", "xl reboot brings a guest that serves again", life::reboot),
    Scenario::new("bad-option", "a wrong option is named and ends the domain", boot::bad_option),
    Scenario::new("panic", "a panic shows registers and backtrace and ends the domain", life::panic),
    Scenario::new("panic-attached", "an attached client is told of a panic at once", life::panic_attached),
    Scenario::new("panic-fault", "so does a page fault", life::fault),
    Scenario::new("panic-stack", "so does a stack overflow", life::stack),
    Scenario::new("idle", "an idle guest uses no CPU time", life::idle),
    Scenario::new("block-data", "our guest writes and verifies a disk, a C program too", block::data),
    Scenario::new("block-kinds", "disks of 4096-byte sectors, in RAM, with discard", block::kinds),
    Scenario::new("block-read-only", "a read-only disk is read and not written", block::read_only),
    Scenario::new("block-barrier", "what was written before a barrier is done before it", block::barrier),
    Scenario::new("block-features", "rings, segments and layouts of many kinds", block::features),
    Scenario::new("block-hostile", "what the protocol forbids hurts nobody", block::hostile),
    Scenario::new("block-hotplug", "disks come and go under our guest", block::hotplug),
    Scenario::new("block-huge", "sectors beyond the 32-bit border are where they should be", block::huge),
    Scenario::new("block-console", "disks are looked at and tried from the console", block::console),
    Scenario::new("block-resize", "a disk grows under our guest", block::resize),
    Scenario::new("block-linux", "Linux finds what our guest wrote, and ours what Linux did", block_full::linux)
        .linux()
        .full(),
    Scenario::new("block-ext4", "our guest finds each sector of Linux's filesystem as it is", block_full::ext4)
        .linux()
        .full(),
    Scenario::new("block-errors", "sectors that fail are reported, slow ones awaited", block_full::errors)
        .long()
        .full(),
    Scenario::new(
        "block-flakey",
        "a disk that fails now and then, or lies, is told from a good one",
        block_full::flakey,
    )
    .long()
    .full(),
    Scenario::new("block-qdisk", "QEMU's raw and qcow2 disks do as they should", block_full::qdisk)
        .qemu()
        .long()
        .full(),
    Scenario::new("block-sweep", "every combination of features", block_full::sweep).long().full(),
    Scenario::new("block-loops", "a thousand connections leave nothing behind", block_full::loops).longest().full(),
    Scenario::new("blkback-stamps", "a Linux guest fills a disk, dom0 checks each sector", block_linux::stamps).linux(),
    Scenario::new("blkback-hotplug", "disks come, go and grow under a Linux guest", block_linux::hotplug).linux(),
    Scenario::new("blkback-kinds", "disks of all kinds read as dom0 wrote them", block_linux::kinds).linux().full(),
    Scenario::new("blkback-ext4", "a filesystem made in a guest has no fault", block_linux::ext4).linux().full(),
    Scenario::new("blkback-errors", "sectors that fail are reported, others work", block_linux::errors).linux().full(),
    Scenario::new("qdisk-stamps", "QEMU keeps what a guest writes, raw and qcow2", block_linux::qdisk)
        .linux()
        .qemu()
        .full(),
    Scenario::new(
        "xen-disk-session",
        "a golden image is used and changed, and stays as it was",
        xendisk::session::session,
    )
    .linux(),
    Scenario::new("xen-disk-storages", "what a guest writes is in the file, by every way", xendisk::session::storages)
        .linux()
        .full(),
    Scenario::new("xen-disk-ext4", "a filesystem made in a guest has no fault", xendisk::session::ext4).linux().full(),
    Scenario::new("xen-disk-killed", "a server killed under load goes on where it was", xendisk::session::killed)
        .linux(),
    Scenario::new("xen-disk-lost", "what was in a killed server's memory is missed", xendisk::session::lost)
        .linux()
        .full(),
    Scenario::new("xen-disk-destroyed", "a guest that dies leaves nothing behind", xendisk::session::destroyed)
        .linux()
        .full(),
    Scenario::new("xen-disk-in-use", "a mounted disk is taken only by force", xendisk::session::in_use).linux().full(),
    Scenario::new("xen-disk-serve", "two guests, four disks, one server that waits for them", xendisk::session::serve)
        .linux()
        .full(),
    Scenario::new("xen-disk-resize", "a disk grows and is disconnected by command", xendisk::session::resize).linux(),
    Scenario::new("xen-disk-xl", "xl's own commands beside it do no harm", xendisk::beside::xl).linux(),
    Scenario::new("xen-disk-powers", "it serves with next to no privileges", xendisk::beside::powers).linux(),
    Scenario::new("xen-disk-exercised", "our guest tries all it can with a disk of xen-disk", exercise::ram).long(),
    Scenario::new("xen-disk-file", "the same with a file", exercise::file).long().full(),
    Scenario::new("xen-disk-mmap", "the same with a mapped file", exercise::mmap).long().full(),
    Scenario::new("xen-disk-cow", "the same with a golden image", exercise::cow).long().full(),
    Scenario::new("xen-disk-overlay", "the same with an overlay", exercise::overlay).long().full(),
    Scenario::new("xen-disk-vhd", "the same with a VHD image", exercise::vhd).long().full(),
    Scenario::new("xen-disk-qcow2", "the same with a qcow2 image", exercise::qcow2).long().full(),
    Scenario::new("xen-disk-object", "the same with chunks in a folder", exercise::object).long().full(),
    Scenario::new("xen-disk-layers", "the same with layers over a file", exercise::layers).long().full(),
    Scenario::new("xen-disk-discard", "what keeps nothing is read, and withstands all", exercise::discard)
        .long()
        .full(),
    Scenario::new("xen-disk-vmdk", "so is and does a vmdk image", exercise::vmdk).long().full(),
    Scenario::new("block-units", "how a backend counts large sectors is found out", units::inferred).full(),
    Scenario::new("power-cut", "what was flushed survives a power cut, or is missed", durable::flushed),
    Scenario::new("power-cut-barrier", "what lies before a barrier survives as well", durable::barriers).full(),
    Scenario::new("power-cut-killed", "so it is when servers are killed, and guests", durable::killed).long().full(),
    Scenario::new("power-cut-storages", "files of all kinds survive their servers", durable::storages).long().full(),
    Scenario::new("power-cut-blkback", "Linux's backend keeps it, unless its disk lies", durable::blkback)
        .long()
        .full(),
    Scenario::new("memory-4", "a domain of 4 MiB serves", boot::memory_4),
    Scenario::new("memory-4096", "a domain of 4096 MiB serves", boot::memory_4096).memory(5632),
];

/// What a scenario works with.
pub struct Bench<'a> {
    /// The host.
    pub host: &'a Host,
    /// Start of the names of all guests of this scenario.
    pub name: String,
}

impl<'a> Bench<'a> {
    /// A guest with `settings` on top of `xl/echo.xl`, once it serves.
    pub fn guest(&self, settings: &[&str]) -> Result<Guest<'a>> {
        Guest::serving(self.host, &self.name, settings)
    }

    /// Another guest beside the first.
    pub fn other_guest(&self, number: u32, settings: &[&str]) -> Result<Guest<'a>> {
        Guest::serving(self.host, &format!("{}-{number}", self.name), settings)
    }

    /// Starts a shell command in dom0.
    pub fn shell(&self, command: &str) -> Result<Process> {
        self.host.spawn(&["sh", "-c", command])
    }
}
