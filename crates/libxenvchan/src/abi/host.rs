//! Services of the C library, and of Xen's libraries where the program has them.

use crate::Fault;
use core::ffi::{CStr, c_char, c_int, c_void};
use std::ffi::CString;
use std::mem::{MaybeUninit, transmute};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::null_mut;
use xen_linux::LinuxChannel;

pub(super) fn set_errno(errno: c_int) {
    // SAFETY: the address of this thread's errno, which is always valid.
    unsafe { *libc::__errno_location() = errno }
}

pub(super) fn descriptor_of(fd: BorrowedFd<'_>) -> RawFd {
    fd.as_raw_fd()
}

/// Returns a copy of a text for C, which free(3) frees; null if it has a zero byte.
pub(super) fn duplicate(text: &str) -> *mut c_char {
    let Ok(text) = CString::new(text) else { return null_mut() };
    // SAFETY: the text is a string for as long as the call takes.
    unsafe { libc::strdup(text.as_ptr()) }
}

/// Waits until `fd` is readable; fails with the errno of poll(2).
pub(super) fn wait_until_readable(fd: RawFd) -> Result<(), c_int> {
    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one element, which lives for as long as the call takes.
    match unsafe { libc::poll(&mut polled, 1, -1) } {
        // SAFETY: as in `set_errno`.
        ..0 => Err(unsafe { *libc::__errno_location() }),
        _ => Ok(()),
    }
}

pub(super) fn sleep_for_a_second() {
    // SAFETY: no descriptors are passed.
    unsafe { libc::poll(null_mut(), 0, 1000) };
}

/// Returns true if the program has a signal handler that is to interrupt system calls. poll(2) is
/// interrupted by every handler, where the read(2) by which Xen's library waits is continued after
/// those with `SA_RESTART`.
pub(super) fn interrupts() -> bool {
    (1..=64).any(|signal| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: nothing is changed, and the structure has space for the answer.
        let asked = unsafe { libc::sigaction(signal, null_mut(), action.as_mut_ptr()) };
        // SAFETY: all zeros are a valid value, whatever was answered.
        let action = unsafe { action.assume_init() };
        let is_handled = ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
        asked == 0 && is_handled && action.sa_flags & libc::SA_RESTART == 0
    })
}

/// Returns a function of a library that the program has, by its name.
fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// Returns a `xenevtchn_handle` whose descriptor is that of `channel`, for programs that send
/// events by it (Qubes' libvchan does); null if libxenevtchn is not in the program.
pub(super) fn event_handle(channel: &LinuxChannel) -> *mut c_void {
    let (Some(open), Some(fd_of)) = (find(c"xenevtchn_open"), find(c"xenevtchn_fd")) else {
        return null_mut();
    };
    // SAFETY: libxenevtchn's functions, with the types of xenevtchn.h, which have never changed.
    let (open, fd_of) = unsafe {
        (
            transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void, u32) -> *mut c_void>(open),
            transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> c_int>(fd_of),
        )
    };
    // SAFETY: no logger and no flags.
    let handle = unsafe { open(null_mut(), 0) };
    if !handle.is_null() {
        let ours = channel.as_fd().as_raw_fd();
        // SAFETY: the descriptor of the handle becomes another one for ours; both stay open.
        unsafe { libc::dup3(ours, fd_of(handle), libc::O_CLOEXEC) };
    }
    handle
}

/// Closes what [`event_handle`] returned.
pub(super) fn close_event_handle(handle: *mut c_void) {
    if let (false, Some(close)) = (handle.is_null(), find(c"xenevtchn_close")) {
        // SAFETY: as in `event_handle`; the handle is used no more.
        unsafe {
            transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> c_int>(close)(handle)
        };
    }
}

/// The program's logger (libxentoollog), or none.
#[derive(Clone, Copy)]
pub(super) struct Logger(*mut c_void);

/// `XTL_ERROR` and `XTL_DEBUG` of xentoollog.h.
const ERROR: c_int = 8;
const DEBUG: c_int = 1;

impl Logger {
    pub(super) fn new(logger: *mut c_void) -> Self {
        Logger(logger)
    }

    /// Logs a fault: to the program's logger if it gave one, and else to standard error if it is
    /// news.
    pub(super) fn report(self, name: &str, fault: &Fault) {
        let text = format!("{name}: {}", fault.text);
        let log = (!self.0.is_null()).then(|| find(c"xtl_log")).flatten();
        let (Some(log), Ok(shown)) = (log, CString::new(text.as_str())) else {
            if fault.is_news {
                eprintln!("libxenvchan: {text}");
            }
            return;
        };
        type Log =
            unsafe extern "C" fn(*mut c_void, c_int, c_int, *const c_char, *const c_char, ...);
        let level = if fault.is_news { ERROR } else { DEBUG };
        // SAFETY: libxentoollog's function, with the type of xentoollog.h, which has never changed;
        // the caller's logger, and texts that live for as long as the call takes.
        unsafe {
            let log = transmute::<*mut c_void, Log>(log);
            log(self.0, level, fault.errno, c"xenvchan".as_ptr(), c"%s".as_ptr(), shown.as_ptr());
        }
    }
}
