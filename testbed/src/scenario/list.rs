//! The list of scenarios.

use super::Scenario;
use super::xendisk::exercise;
use super::{
    balloon, block, block_full, block_images, block_linux, boot, clients, console, copy, daemon,
    drop_in, durable, echo, exec, half_close, hostile, inspect, interop, life, linux, local, own,
    package, ramdisk, rogue, soak, suspend, tool, units, xendisk,
};

/// All scenarios, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario::new("elf-size", "the kernel is a small ELF with one PVH note", boot::elf_size),
    Scenario::new("boot-log", "the boot log tells all that it should", boot::log).short(),
    Scenario::new("example-hello", "a unikernel of 15 lines says its name", own::hello),
    Scenario::new("example-upper", "an echo in 25 lines serves clients", own::upper),
    Scenario::new(
        "example-ramdisk",
        "a guest serves its memory to others as disks: all tests, hotplug, hostile and dead peers",
        ramdisk::ours,
    )
    .longest(),
    Scenario::new(
        "ramdisk-linux",
        "Linux has a filesystem in another guest's memory",
        ramdisk::linux,
    )
    .linux()
    .long(),
    Scenario::new("streams", "programs with std's and tokio's streams are served", own::streams),
    Scenario::new(
        "outside-unikernel",
        "a package outside the repository builds on the runtime and boots",
        own::outside,
    )
    .long(),
    Scenario::new("echo-line", "a line typed at the client comes back in upper case", echo::line)
        .short(),
    Scenario::new("echo-16MiB", "16 MiB of random bytes come back byte-exact", echo::random)
        .short(),
    Scenario::new("save-restore", "xl save and restore, three times over", suspend::idle).long(),
    Scenario::new("save-twenty", "xl save and restore, twenty times over", suspend::many_rounds)
        .longest()
        .full(),
    Scenario::new(
        "save-checkpoint",
        "xl save -c: the guest and its client go on as if nothing was",
        suspend::checkpoint,
    )
    .long(),
    Scenario::new(
        "save-transfer",
        "a save in a transfer: it ends whole, or both ends say why",
        suspend::with_transfer,
    )
    .long(),
    Scenario::new(
        "save-disks",
        "what is durable, or before a barrier, outlasts save and restore",
        suspend::with_disks,
    )
    .longest()
    .full(),
    Scenario::new("save-client", "a client of a saved guest is told", suspend::with_client).long(),
    Scenario::new(
        "mem-set",
        "maxmem above memory is respected, and xl mem-set is followed both ways",
        balloon::target,
    ),
    Scenario::new("migrate", "xl migrate to the same host, three times over", suspend::migrate)
        .long(),
    Scenario::new("echo-slow-reader", "a reader that pauses loses nothing", echo::slow_reader),
    Scenario::new("echo-two-guests", "two guests serve at the same time", echo::two_guests),
    Scenario::new("echo-small-rings", "rings of the least size work", echo::small_rings),
    Scenario::new("clients-in-series", "twenty clients, one after another", clients::series),
    Scenario::new(
        "client-killed",
        "a client killed mid-stream does not hinder the next",
        clients::killed,
    )
    .short(),
    Scenario::new("no-server", "the client gives up after its timeout", clients::no_server),
    Scenario::new(
        "server-destroyed",
        "an attached client notices that the domain is gone",
        clients::server_destroyed,
    ),
    Scenario::new("c-client", "a C program on libxenvchan is served as well", clients::c_client),
    Scenario::new(
        "c-client-killed",
        "a killed C client does not hinder the next",
        clients::c_client_killed,
    ),
    Scenario::new("ring-sizes", "rings of all sizes serve C clients and ours", interop::ring_sizes),
    Scenario::new("socket-proxy", "Xen's own vchan-socket-proxy is served", interop::socket_proxy),
    Scenario::new(
        "linux-server",
        "our client is served by C programs in a Linux guest",
        interop::linux_server,
    )
    .linux(),
    Scenario::new("linux-client", "our server in dom0 serves a Linux guest", interop::linux_client)
        .linux(),
    Scenario::new("drop-in-client", "C clients run on our libxenvchan", drop_in::client).short(),
    Scenario::new("drop-in-rings", "so they do through rings of all sizes", drop_in::rings),
    Scenario::new("drop-in-proxy", "Xen's vchan-socket-proxy runs on it", drop_in::proxy),
    Scenario::new(
        "drop-in-proxy-ten",
        "and serves ten clients, one after another",
        drop_in::proxy_serves,
    )
    .linux(),
    Scenario::new(
        "drop-in-server",
        "C servers in a Linux guest run on it, for clients of ours and in C",
        drop_in::linux_server,
    )
    .linux(),
    Scenario::new("drop-in-guest", "C clients in a Linux guest run on it", drop_in::linux_client)
        .linux(),
    Scenario::new(
        "drop-in-dead",
        "no program on it hangs when a domain dies",
        drop_in::dead_domain,
    ),
    Scenario::new(
        "drop-in-hostile",
        "programs on it end with the reason when a peer lies",
        drop_in::hostile,
    )
    .linux(),
    Scenario::new("drop-in-python", "a program in Python runs on it", drop_in::python).python(),
    Scenario::new("linux-vchan", "our tool serves and connects inside a Linux guest", linux::tool)
        .short()
        .linux(),
    Scenario::new(
        "half-close",
        "sort, tar and late output behind exec arrive whole, with their status",
        half_close::programs,
    )
    .linux(),
    Scenario::new(
        "echo-ends",
        "the echo guest ends the channel once its input has ended",
        half_close::echo,
    ),
    Scenario::new("ssh", "ssh reaches a Linux guest with vchan as its ProxyCommand", tool::ssh)
        .linux()
        .ssh(),
    Scenario::new(
        "exec-ends",
        "the programs of exec end with their clients, all of them",
        tool::programs_end,
    )
    .linux(),
    Scenario::new(
        "exec-identity",
        "a command of exec learns which client it serves",
        exec::identity,
    )
    .linux(),
    Scenario::new(
        "exec-pty",
        "a terminal of exec has the user's size, and the user's its mode back",
        exec::terminals,
    )
    .linux(),
    Scenario::new(
        "serve",
        "a daemon's services reach the domains that they are for, and no others",
        daemon::services,
    )
    .linux(),
    Scenario::new(
        "cp",
        "files and folders are copied, and nothing beyond the served folder",
        copy::copy,
    )
    .linux(),
    Scenario::new(
        "reconnect",
        "a client follows a reboot, a checkpoint, a save and a restore",
        tool::reconnect,
    )
    .long(),
    Scenario::new(
        "sockets",
        "a proxy's socket has one server and its mode; SIGHUP leaves nothing behind",
        tool::sockets,
    ),
    Scenario::new(
        "local-failures",
        "limits and missing modules are told at once, with the cure",
        tool::local_failures,
    )
    .linux(),
    Scenario::new(
        "proxy-serves-ten",
        "ten clients of ours, one after another, of one vchan-socket-proxy",
        tool::socket_proxy_serves,
    )
    .linux(),
    Scenario::new(
        "linux-peer-gone",
        "our tool in a Linux guest notices that a domain is gone",
        linux::peer_destroyed,
    )
    .linux(),
    Scenario::new(
        "guest-client",
        "our guest is a client of our server in dom0",
        interop::guest_client,
    ),
    Scenario::new("guest-to-guest", "two of our guests talk without dom0", interop::guest_to_guest),
    Scenario::new(
        "hostile-clients",
        "lying clients are dropped, honest ones undisturbed",
        hostile::clients,
    ),
    Scenario::new(
        "hostile-servers",
        "our tool ends with the reason when a server lies",
        hostile::servers,
    )
    .linux(),
    Scenario::new(
        "hostile-to-guest",
        "our guest as a client does so, too",
        hostile::servers_of_guests,
    ),
    Scenario::new(
        "echo-soak",
        "clients that end well or badly leave nothing behind",
        clients::soak,
    ),
    Scenario::new("proxy", "a unix socket, TCP and a terminal reach the guest", local::proxy),
    Scenario::new(
        "proxy-server",
        "our guest reaches a local server, TCP or unix",
        local::proxy_server,
    ),
    Scenario::new("ls-and-dump", "vchans are listed and decoded undisturbed", inspect::vchans)
        .linux(),
    Scenario::new("console-commands", "what is typed at xl console is obeyed", console::commands),
    Scenario::new(
        "store-reconnect",
        "the connection to xenstore begins anew where the daemon offers it",
        console::reconnect,
    ),
    Scenario::new("grants-grow", "the grant table grows with the rings", console::grants_grow),
    Scenario::new("xl-shutdown", "xl shutdown ends guest, keys and clients", life::shutdown)
        .short(),
    Scenario::new("xl-reboot", "xl reboot brings a guest that serves again", life::reboot).short(),
    Scenario::new("bad-option", "a wrong option is named and ends the domain", boot::bad_option),
    Scenario::new(
        "panic",
        "a panic shows registers and backtrace and ends the domain",
        life::panic,
    ),
    Scenario::new(
        "panic-attached",
        "an attached client is told of a panic at once",
        life::panic_attached,
    ),
    Scenario::new("panic-fault", "so does a page fault", life::fault),
    Scenario::new("panic-stack", "so does a stack overflow", life::stack),
    Scenario::new("idle", "an idle guest uses no CPU time", life::idle),
    Scenario::new(
        "block-data",
        "our guest writes and verifies a disk, a C program too",
        block::data,
    )
    .short(),
    Scenario::new("block-kinds", "disks of 4096-byte sectors, in RAM, with discard", block::kinds),
    Scenario::new("block-read-only", "a read-only disk is read and not written", block::read_only),
    Scenario::new(
        "block-barrier",
        "what was written before a barrier is done before it",
        block::barrier,
    ),
    Scenario::new("block-features", "rings, segments and layouts of many kinds", block::features),
    Scenario::new("block-hostile", "what the protocol forbids hurts nobody", block::hostile)
        .short(),
    Scenario::new(
        "block-conform",
        "Linux's backend fails no test that it should pass",
        block::conform,
    )
    .long(),
    Scenario::new("block-queues", "so it does with several rings", block::queues).long(),
    Scenario::new("block-hotplug", "disks come and go under our guest", block::hotplug),
    Scenario::new(
        "block-mix",
        "a mixed workload on two disks at once is checked on the way",
        block_images::mix,
    ),
    Scenario::new("front-rogues", "our frontend survives every bad backend", rogue::ours).long(),
    Scenario::new("front-rogues-linux", "Linux's frontend meets every bad backend", rogue::linux)
        .linux()
        .longest()
        .full(),
    Scenario::new(
        "block-image",
        "the image of echo and disks shows a disk, and says what it has not",
        block_images::image,
    ),
    Scenario::new(
        "block-huge",
        "sectors beyond the 32-bit border are where they should be",
        block::huge,
    ),
    Scenario::new(
        "block-console",
        "disks are looked at and tried from the console",
        block::console,
    ),
    Scenario::new("block-resize", "a disk grows under our guest", block::resize),
    Scenario::new(
        "block-linux",
        "Linux finds what our guest wrote, and ours what Linux did",
        block_full::linux,
    )
    .linux()
    .full(),
    Scenario::new(
        "block-ext4",
        "our guest finds each sector of Linux's filesystem as it is",
        block_full::ext4,
    )
    .linux()
    .full(),
    Scenario::new(
        "block-errors",
        "sectors that fail are reported, slow ones awaited",
        block_full::errors,
    )
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
    Scenario::new(
        "block-reports",
        "each backend gets the same run, for a table of all",
        xendisk::reports::reports,
    )
    .qemu()
    .minutes(60)
    .full(),
    Scenario::new("block-sweep", "every combination of features", block_full::sweep).long().full(),
    Scenario::new("block-loops", "a thousand connections leave nothing behind", block_full::loops)
        .longest()
        .full(),
    Scenario::new(
        "blkback-stamps",
        "a Linux guest fills a disk, dom0 checks each sector",
        block_linux::stamps,
    )
    .short()
    .linux(),
    Scenario::new(
        "blkback-hotplug",
        "disks come, go and grow under a Linux guest",
        block_linux::hotplug,
    )
    .linux(),
    Scenario::new(
        "blkback-kinds",
        "disks of all kinds read as dom0 wrote them",
        block_linux::kinds,
    )
    .linux()
    .full(),
    Scenario::new("blkback-ext4", "a filesystem made in a guest has no fault", block_linux::ext4)
        .linux()
        .full(),
    Scenario::new(
        "blkback-errors",
        "sectors that fail are reported, others work",
        block_linux::errors,
    )
    .linux()
    .full(),
    Scenario::new(
        "qdisk-stamps",
        "QEMU keeps what a guest writes, raw and qcow2",
        block_linux::qdisk,
    )
    .linux()
    .qemu()
    .full(),
    Scenario::new(
        "xen-disk-session",
        "a golden image is used and changed, and stays as it was",
        xendisk::session::session,
    )
    .short()
    .linux(),
    Scenario::new(
        "xen-disk-storages",
        "what a guest writes is in the file, by every way",
        xendisk::session::storages,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-ext4",
        "a filesystem made in a guest has no fault",
        xendisk::session::ext4,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-killed",
        "a server killed under load goes on where it was",
        xendisk::session::killed,
    )
    .linux(),
    Scenario::new(
        "xen-disk-unflushed",
        "writes that were not flushed outlast a killed server, in every format",
        xendisk::takeover::unflushed,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-other",
        "another disk is not put under a guest whose server was killed",
        xendisk::takeover::another_disk,
    )
    .linux(),
    Scenario::new(
        "xen-disk-drained",
        "a storage that is slow to end holds back the next connection",
        xendisk::takeover::drained,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-devices",
        "block devices below each storage, with sectors of 512 and 4096 bytes",
        xendisk::devices::devices,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-lost",
        "what was in a killed server's memory is missed",
        xendisk::session::lost,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-destroyed",
        "a guest that dies leaves nothing behind",
        xendisk::session::destroyed,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-in-use",
        "a mounted disk is taken only by force",
        xendisk::session::in_use,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-serve",
        "two guests, four disks, one server that waits for them",
        xendisk::session::serve,
    )
    .linux()
    .full(),
    Scenario::new(
        "xen-disk-reload",
        "a configuration is read again: disks come and go, the others stay",
        xendisk::session::reload,
    )
    .linux(),
    Scenario::new(
        "xen-disk-resize",
        "a disk grows and is disconnected by command",
        xendisk::session::resize,
    )
    .linux(),
    Scenario::new(
        "toolstack-disk",
        "xl starts and ends disks of xen-disk: with a guest, while it runs, and not at all",
        xendisk::toolstack::disk,
    )
    .short()
    .long(),
    Scenario::new(
        "toolstack-boot",
        "a Linux guest boots from one: reboot, save, restore, destroy, hotplug",
        xendisk::toolstack::boot,
    )
    .linux()
    .longest(),
    Scenario::new(
        "driver-domain",
        "xen-disk in a Linux guest serves another guest, and outlives kill -9",
        xendisk::driver::serve,
    )
    .linux()
    .longest(),
    Scenario::new("xen-disk-xl", "xl's own commands beside it do no harm", xendisk::beside::xl)
        .linux(),
    Scenario::new(
        "xen-disk-powers",
        "it serves with next to no privileges",
        xendisk::beside::powers,
    )
    .linux(),
    Scenario::new(
        "xen-disk-exercised",
        "our guest tries all it can with a disk of xen-disk",
        exercise::ram,
    )
    .long(),
    Scenario::new("xen-disk-file", "the same with a file", exercise::file).long().full(),
    Scenario::new("xen-disk-mmap", "the same with a mapped file", exercise::mmap).long().full(),
    Scenario::new("xen-disk-cow", "the same with a golden image", exercise::cow).long().full(),
    Scenario::new("xen-disk-overlay", "the same with an overlay", exercise::overlay).long().full(),
    Scenario::new("xen-disk-vhd", "the same with a VHD image", exercise::vhd).long().full(),
    Scenario::new("xen-disk-qcow2", "the same with a qcow2 image", exercise::qcow2).long().full(),
    Scenario::new("xen-disk-object", "the same with chunks in a folder", exercise::object)
        .long()
        .full(),
    Scenario::new(
        "xen-disk-nbd",
        "the same with the export of another xen-disk, over NBD",
        exercise::nbd,
    )
    .long(),
    Scenario::new(
        "xen-disk-nbd-kill",
        "the NBD server below a disk is killed twice: every write is there",
        xendisk::takeover::server,
    )
    .long()
    .linux(),
    Scenario::new("xen-disk-layers", "the same with layers over a file", exercise::layers)
        .long()
        .full(),
    Scenario::new(
        "xen-disk-discard",
        "what keeps nothing is read, and withstands all",
        exercise::discard,
    )
    .long()
    .full(),
    Scenario::new("xen-disk-vmdk", "so is and does a vmdk image", exercise::vmdk).long().full(),
    Scenario::new(
        "block-units",
        "how a backend counts large sectors is found out",
        units::inferred,
    )
    .full(),
    Scenario::new(
        "power-cut",
        "what was flushed survives a power cut, or is missed",
        durable::flushed,
    ),
    Scenario::new(
        "power-cut-barrier",
        "what lies before a barrier survives as well",
        durable::barriers,
    )
    .full(),
    Scenario::new(
        "power-cut-killed",
        "so it is when servers are killed, and guests",
        durable::killed,
    )
    .long()
    .full(),
    Scenario::new(
        "power-cut-storages",
        "files of all kinds survive their servers",
        durable::storages,
    )
    .long()
    .full(),
    Scenario::new(
        "power-cut-blkback",
        "Linux's backend keeps it, unless its disk lies",
        durable::blkback,
    )
    .long()
    .full(),
    Scenario::new("memory-4", "a domain of 4 MiB serves", boot::memory_4).short(),
    Scenario::new(
        "memory-8-crowd",
        "clients that do not fit into 8 MiB are turned away, the others stay",
        clients::crowd,
    )
    .long(),
    Scenario::new(
        "soak-short",
        "ten random actions of the host under load leave nothing behind",
        soak::short,
    )
    .long(),
    Scenario::new("soak-hundred", "so do a hundred", soak::long).longest().full(),
    Scenario::new("memory-4096", "a domain of 4096 MiB serves", boot::memory_4096).memory(5632),
    Scenario::new(
        "package",
        "the package of make dist is installed, used and removed",
        package::install,
    )
    .long()
    .full(),
];
