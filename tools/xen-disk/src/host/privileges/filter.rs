//! Which system calls serving a disk needs. All others fail with EPERM, and the program goes on.

use nix::libc::{self, c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::env;

/// Allowed whatever their arguments are.
const ALWAYS: &[c_long] = &[
    // Files: those of disks, of objects, of overlays that are made.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_umask,
    // Memory and threads.
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_brk,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_prlimit64,
    libc::SYS_uname,
    libc::SYS_getrandom,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time, and waiting.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    // Sockets that are there.
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
];

/// Older names of the same, which only x86 still has.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// Kinds of requests to devices: those of /dev/xen/evtchn, and of /dev/xen/gntdev and gntalloc
/// (xen/sys/evtchn.h, xen/sys/gntdev.h); of block devices (linux/fs.h). So /dev/xen/privcmd, whose
/// kind is 'P', takes none, or the one that lets the processor go.
const DEVICE_KINDS: [u64; 3] = [b'E' as u64, b'G' as u64, 0x12];

/// Requests to any descriptor: whether it waits, whether other programs inherit it, whether it is a
/// terminal.
const REQUESTS: [libc::Ioctl; 4] = [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS];

/// Sockets that a process makes once it is confined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sockets {
    /// Those of disks that are yet to come, at which it is asked.
    pub listens: bool,
    /// To stores in a network.
    pub network: bool,
    /// To servers of this machine.
    pub local: bool,
}

/// The filter, for this machine.
///
/// Without a network, and without a server of this machine, no socket can be connected: the other
/// ends of those that are in the file system are programs that believe root.
///
/// `pause` is the request and argument of
/// [`Linux::prepare_yields`](xen_linux::Linux::prepare_yields), if it is to be permitted: nothing
/// else can come to lie at that address then.
pub(super) fn program(
    sockets: Sockets,
    pause: Option<(u32, usize)>,
) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    for call in ALWAYS.iter().chain(OLD) {
        // No rule is one that always fits.
        rules.insert(*call, Vec::new());
    }
    let mut requests = Vec::new();
    for kind in DEVICE_KINDS {
        requests.push(when(1, SeccompCmpOp::MaskedEq(0xff00), kind << 8)?);
    }
    for request in REQUESTS {
        requests.push(when(1, SeccompCmpOp::Eq, request)?);
    }
    if let Some((request, at)) = pause {
        let request =
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request.into())?;
        let argument =
            SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, at as u64)?;
        requests.push(SeccompRule::new(vec![request, argument])?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    // What begins above the page of a pause cannot lie over it.
    let above = pause.map_or(0, |(_, at)| at as u64 + 1);
    let begins_above =
        || SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Ge, above);
    let moves_anywhere = number(libc::MREMAP_MAYMOVE);
    let moves = SeccompCondition::new(
        3,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(!moves_anywhere & 0xffff_ffff),
        0,
    )?;
    rules.insert(libc::SYS_munmap, vec![SeccompRule::new(vec![begins_above()?])?]);
    rules.insert(libc::SYS_mremap, vec![SeccompRule::new(vec![begins_above()?, moves])?]);
    let Sockets { listens, network, local } = sockets;
    let mut families = Vec::new();
    if listens || local {
        families.push(libc::AF_UNIX);
    }
    if local {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    if listens {
        rules.extend([libc::SYS_bind, libc::SYS_listen].map(|call| (call, Vec::new())));
    }
    let mut memory = Vec::new();
    let mut executable = None;
    if network {
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
        rules.insert(libc::SYS_connect, Vec::new());
        rules.insert(libc::SYS_bind, Vec::new());
        // The C library loads others to find out what a name means.
    } else {
        let not = SeccompCondition::new(
            2,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(number(libc::PROT_EXEC)),
            0,
        )?;
        memory.push(SeccompRule::new(vec![not.clone()])?);
        executable = Some(not);
    }
    // At a place of the kernel's choice, or above.
    let anywhere = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    let mappings = [anywhere, begins_above()?].map(|place| {
        SeccompRule::new([Some(place), executable.clone()].into_iter().flatten().collect())
    });
    rules.insert(libc::SYS_mmap, mappings.into_iter().collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_mprotect, memory);
    let sockets: Result<Vec<_>, _> =
        families.into_iter().map(|family| when(0, SeccompCmpOp::Eq, number(family))).collect();
    let sockets = sockets?;
    if !sockets.is_empty() {
        rules.insert(libc::SYS_socket, sockets);
    }
    // Two ends of its own.
    let pair = when(0, SeccompCmpOp::Eq, number(libc::AF_UNIX))?;
    rules.insert(libc::SYS_socketpair, vec![pair]);
    // By which a program that has failed ends itself, and no other.
    let own = when(0, SeccompCmpOp::Eq, std::process::id().into())?;
    rules.insert(libc::SYS_tgkill, vec![own]);
    // A thread's name, and that of its memory, for people who look.
    const PR_SET_VMA: c_int = 0x5356_4d41;
    let names =
        [libc::PR_SET_NAME, PR_SET_VMA].map(|option| when(0, SeccompCmpOp::Eq, number(option)));
    rules.insert(libc::SYS_prctl, names.into_iter().collect::<Result<_, _>>()?);
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32));
    SeccompFilter::new(rules, refuse, allow, env::consts::ARCH.try_into()?)?.try_into()
}

fn number(flag: c_int) -> u64 {
    u64::try_from(flag).expect("flags and numbers are not negative")
}

fn when(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    // The kernel looks at no more of these arguments.
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operation,
        value,
    )?])
}

#[cfg(test)]
#[allow(unsafe_code, reason = "what is refused is asked for as an intruder in the program would")]
mod tests {
    use super::*;
    use crate::storage::{Mmap, Storage};
    use std::fs::{self, File};
    use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;
    use std::thread;
    use std::time::Duration;
    use xen_linux::{EventFd, Linux};

    /// The request to /dev/xen/privcmd that is permitted.
    const PAUSE: (u32, usize) = (0x0030_5000, 0x1_0000);

    /// Runs `work` in a thread that is confined.
    fn confined<T: Send + 'static>(network: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
        let run = move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            let sockets = Sockets { listens: true, network, local: false };
            seccompiler::apply_filter(&program(sockets, Some(PAUSE)).unwrap()).unwrap();
            work()
        };
        thread::spawn(run).join().unwrap()
    }

    #[test]
    fn what_serving_does_is_allowed() {
        let folder = std::env::temp_dir().join(format!("xen-disk-filter-{}", std::process::id()));
        let path = folder.clone();
        confined(false, move || -> io::Result<()> {
            fs::create_dir_all(&path)?;
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path.join("disk"))?;
            file.try_lock().unwrap();
            file.set_len(1 << 20)?;
            file.seek(SeekFrom::Start(4096))?;
            file.write_all(&[1; 4096])?;
            file.sync_data()?;
            // A child that another test forks holds the lock beyond the end of the file.
            file.unlock()?;
            drop(file);
            let disk = Mmap::open(&path.join("disk"), true, 512)?;
            disk.write(512, &[2; 512])?;
            disk.flush()?;
            let listener = UnixListener::bind(path.join("socket"))?;
            drop(listener);
            let refused = UnixStream::connect(path.join("socket")).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
            fs::remove_file(path.join("socket"))?;
            thread::spawn(|| ()).join().unwrap();
            let linux = Linux::new();
            let event_fd = EventFd::new(&linux).unwrap();
            event_fd.doorbell().ring();
            linux.run({
                let linux = linux.clone();
                move |_| async move { xen_platform::sleep(&linux, Duration::from_micros(1)).await }
            });
            fs::rename(path.join("disk"), path.join("other"))?;
            assert_eq!(fs::read_dir(&path)?.count(), 1);
            fs::remove_dir_all(&path)
        })
        .unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn one_hypercall_is_permitted_and_nothing_comes_over_what_it_takes() {
        let file = File::open("/dev/null").unwrap();
        let outcomes = confined(false, move || {
            let outcome = |done: i64| {
                if done == -1 { io::Error::last_os_error().raw_os_error() } else { None }
            };
            let (request, at) = (i64::from(PAUSE.0), PAUSE.1 as i64);
            // SAFETY: /dev/null takes no request, and what is mapped, moved and unmapped is
            // nothing.
            unsafe {
                let fd = i64::from(file.as_raw_fd());
                [
                    outcome(libc::syscall(libc::SYS_ioctl, fd, request, at)),
                    outcome(libc::syscall(libc::SYS_ioctl, fd, request, at + 4096)),
                    outcome(libc::syscall(libc::SYS_ioctl, fd, request + 1, at)),
                    outcome(libc::syscall(libc::SYS_munmap, at, 4096_i64)),
                    outcome(libc::syscall(libc::SYS_munmap, 0_i64, at + 4096)),
                    outcome(libc::syscall(
                        libc::SYS_mmap,
                        at,
                        4096_i64,
                        1_i64,
                        0x32_i64,
                        -1_i64,
                        0_i64,
                    )),
                    outcome(libc::syscall(libc::SYS_mremap, at, 4096_i64, 4096_i64, 1_i64, 0_i64)),
                    outcome(libc::syscall(
                        libc::SYS_mremap,
                        at + 4096,
                        4096_i64,
                        4096_i64,
                        3_i64,
                        at,
                    )),
                ]
            }
        });
        let (reached, refused) = (Some(libc::ENOTTY), Some(libc::EPERM));
        assert_eq!(
            outcomes,
            [reached, refused, refused, refused, refused, refused, refused, refused]
        );
    }

    #[test]
    fn what_it_does_not_do_is_refused() {
        let (started, listened, mapped) = confined(false, || {
            let mapped = memmap2::MmapMut::map_anon(4096).unwrap().make_exec();
            (Command::new("true").status(), TcpListener::bind("127.0.0.1:0"), mapped.map(drop))
        });
        assert_eq!(started.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(listened.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(mapped.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let (started, listened) =
            confined(true, || (Command::new("true").status(), TcpListener::bind("127.0.0.1:0")));
        assert!(started.is_err() && listened.is_ok());
        let reached = confined(true, || std::net::TcpStream::connect("127.0.0.1:1"));
        assert_eq!(reached.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
