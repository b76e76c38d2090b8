//! The boundary to C: the functions of `libxenvchan.h`, and all `unsafe` of this crate.
//!
//! C's pointer to a [`Control`] leads to the start of a `Handle`, of whose rest C knows nothing.
//! Several threads may use one handle: its state is behind a lock, which is not held while a thread
//! waits. A panic ends in the function in which it began, as EIO.

mod host;

use crate::layout::{BLOCKING, Control, IS_SERVER, Ring, SERVER_PERSIST};
use crate::{End, Fault};
use core::ffi::{CStr, c_char, c_int, c_void};
use host::{Logger, descriptor_of, event_handle, interrupts, set_errno};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, addr_of, addr_of_mut, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use xen_linux::Linux;
use xen_platform::{BusyPoll, Channel, DomId, PAGE_SIZE};
use xen_vchan::{Error, Role, Side};

type Outcome<T> = Result<T, Error<xen_linux::Error>>;

/// The place that C's pointer leads to.
#[repr(C)]
struct Handle {
    /// C's part. C reads it at any time, and writes the flags.
    control: Control,
    rust: Inner,
}

struct Inner {
    state: Mutex<State>,
    /// Signalled after each look at the descriptor.
    looked: Condvar,
    /// Readable while there is something to do.
    fd: RawFd,
    /// The program waits for the descriptor itself.
    is_selected: AtomicBool,
    logger: Logger,
    /// The name of this end in the log.
    name: String,
    /// Shown in the place of the shared page once that was given back.
    zeros: Box<[u32; PAGE_SIZE / 4]>,
}

struct State {
    end: End<Linux>,
    /// A thread waits at the descriptor; the others wait for it.
    polling: bool,
    /// A wait has already told that the connection is over.
    told: bool,
    /// A fault of the peer was logged.
    logged: bool,
}

/// Runs the body of a function of C; a panic becomes EIO, and an error its errno. `failed` is what
/// the function returns then.
fn bounded<T>(failed: T, body: impl FnOnce() -> Result<T, Fault>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(fault)) => {
            set_errno(fault.errno);
            failed
        }
        // The hook has printed it.
        Err(_) => {
            set_errno(libc::EIO);
            failed
        }
    }
}

/// Converts a count for C. No ring holds more than an `int`.
fn int(count: usize) -> c_int {
    c_int::try_from(count).unwrap_or(c_int::MAX)
}

/// Publishes a channel.
///
/// # Safety
/// `logger` is null or a logger of libxentoollog that outlives the handle; `xs_path` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_server_init(
    logger: *mut c_void,
    domain: c_int,
    xs_path: *const c_char,
    read_min: usize,
    write_min: usize,
) -> *mut Control {
    // SAFETY: as this function's.
    let opened = unsafe {
        init(logger, domain, xs_path, |domain, path| {
            crate::serve(domain, path, read_min, write_min)
        })
    };
    bounded(null_mut(), || opened)
}

/// Connects to a channel.
///
/// # Safety
/// As for [`libxenvchan_server_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_client_init(
    logger: *mut c_void,
    domain: c_int,
    xs_path: *const c_char,
) -> *mut Control {
    // SAFETY: as this function's.
    let opened = unsafe { init(logger, domain, xs_path, crate::connect) };
    bounded(null_mut(), || opened)
}

/// Makes a handle of the end that `open` opens.
///
/// # Safety
/// As for [`libxenvchan_server_init`].
unsafe fn init(
    logger: *mut c_void,
    domain: c_int,
    xs_path: *const c_char,
    open: impl FnOnce(DomId, &str) -> Result<End<Linux>, Fault>,
) -> Result<*mut Control, Fault> {
    let logger = Logger::new(logger);
    let work = || {
        // SAFETY: the caller passes a string, or null, which is not followed.
        let path = (!xs_path.is_null()).then(|| unsafe { CStr::from_ptr(xs_path) });
        let path = path
            .and_then(|path| path.to_str().ok())
            .ok_or_else(|| Fault::new(libc::EINVAL, "xs_path is no text: pass a path"))?;
        let name = format!("domain {domain}, {path}");
        let made = u16::try_from(domain)
            .map_err(|_| Fault::new(libc::EINVAL, "there is no domain of this number"))
            .and_then(|domain| open(DomId(domain), path))
            .and_then(|end| Handle::give_out(end, logger, &name, path));
        made.inspect_err(|fault| logger.report(&name, fault))
    };
    bounded(Err(Fault::new(libc::EIO, "a defect of this library")), || Ok(work()))
}

/// Closes a channel and frees the handle.
///
/// # Safety
/// `ctrl` is null or a handle that no thread uses, now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_close(ctrl: *mut Control) {
    if ctrl.is_null() {
        return;
    }
    // SAFETY: `Handle::give_out` made the handle by `Box::into_raw`, and this is its last use.
    let handle = unsafe { Box::from_raw(ctrl.cast::<Handle>()) };
    bounded((), || {
        let Handle { control, rust } = *handle;
        host::close_event_handle(control.event);
        // SAFETY: `strdup` made it, or it is null.
        unsafe { libc::free(control.xs_path.cast()) };
        let Ok(State { end, .. }) = rust.state.into_inner() else { return Ok(()) };
        let linux = end.platform().clone();
        end.close(|turn| linux.turn(turn)).map_err(Fault::from).or(Ok(()))
    })
}

/// Fills `data`, or returns 0 if a handle that does not block has less.
///
/// # Safety
/// `ctrl` is a handle, and `data` has space for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_recv(
    ctrl: *mut Control,
    data: *mut c_void,
    size: usize,
) -> c_int {
    // SAFETY: as this function's.
    let (mut call, data) = unsafe { (Call::on(ctrl), slice_mut(data, size)) };
    bounded(-1, || call.block(|end, arm| end.recv(data, arm)).map(|n| int(n.unwrap_or(0))))
}

/// Reads what there is, at least a byte of it if the handle blocks.
///
/// # Safety
/// As for [`libxenvchan_recv`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_read(
    ctrl: *mut Control,
    data: *mut c_void,
    size: usize,
) -> c_int {
    // SAFETY: as this function's.
    let (mut call, data) = unsafe { (Call::on(ctrl), slice_mut(data, size)) };
    bounded(-1, || call.block(|end, arm| end.read(data, arm)).map(|n| int(n.unwrap_or(0))))
}

/// Writes all of `data`, or returns 0 if a handle that does not block has no space for it.
///
/// # Safety
/// `ctrl` is a handle, and `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_send(
    ctrl: *mut Control,
    data: *const c_void,
    size: usize,
) -> c_int {
    // SAFETY: as this function's.
    let (mut call, data) = unsafe { (Call::on(ctrl), slice(data, size)) };
    bounded(-1, || call.block(|end, arm| end.send(data, arm)).map(|n| int(n.unwrap_or(0))))
}

/// Writes all of `data` if the handle blocks, and what there is space for if not.
///
/// # Safety
/// As for [`libxenvchan_send`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_write(
    ctrl: *mut Control,
    data: *const c_void,
    size: usize,
) -> c_int {
    // SAFETY: as this function's.
    let (mut call, data) = unsafe { (Call::on(ctrl), slice(data, size)) };
    bounded(-1, || {
        let mut at = 0;
        loop {
            let wrote = call.block(|end, arm| end.write(&data[at..], arm))?;
            at += wrote.unwrap_or(0);
            if at == size || wrote.is_none() {
                return Ok(int(at));
            }
            if !call.is_blocking() {
                return Ok(int(at));
            }
        }
    })
}

/// Waits for an event, or for the end of the connection.
///
/// # Safety
/// `ctrl` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_wait(ctrl: *mut Control) -> c_int {
    // SAFETY: as this function's.
    let mut call = unsafe { Call::on(ctrl) };
    bounded(-1, || call.wait().map(|()| 0))
}

/// Returns the descriptor that is readable while [`libxenvchan_wait`] does not wait.
///
/// # Safety
/// `ctrl` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_fd_for_select(ctrl: *mut Control) -> c_int {
    // SAFETY: as this function's.
    let call = unsafe { Call::on(ctrl) };
    call.rust().is_selected.store(true, Ordering::Relaxed);
    call.rust().fd
}

/// Returns 0 if the connection is over, 1 if both ends are there, 2 if no client has come yet.
///
/// # Safety
/// `ctrl` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_is_open(ctrl: *mut Control) -> c_int {
    // SAFETY: as this function's.
    let mut call = unsafe { Call::on(ctrl) };
    bounded(0, || call.with(|end| Ok(end.is_open())))
}

/// Returns the number of bytes to read; -1 if the peer broke the protocol.
///
/// # Safety
/// `ctrl` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_data_ready(ctrl: *mut Control) -> c_int {
    // SAFETY: as this function's.
    let mut call = unsafe { Call::on(ctrl) };
    bounded(-1, || call.with(|end| end.data_ready().map(int)))
}

/// Returns the number of bytes of space; -1 if the peer broke the protocol.
///
/// # Safety
/// `ctrl` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxenvchan_buffer_space(ctrl: *mut Control) -> c_int {
    // SAFETY: as this function's.
    let mut call = unsafe { Call::on(ctrl) };
    bounded(-1, || call.with(|end| end.buffer_space().map(int)))
}

/// # Safety
/// `data` has `size` bytes, which nothing else changes for as long as the call takes.
unsafe fn slice<'a>(data: *const c_void, size: usize) -> &'a [u8] {
    let start = NonNull::new(data.cast_mut().cast()).unwrap_or(NonNull::dangling());
    // SAFETY: as this function's; C passes null with a size of 0 only.
    unsafe { std::slice::from_raw_parts(start.as_ptr(), size) }
}

/// # Safety
/// As for [`slice()`], for writing. The bytes need not be initialized: they are only written to.
unsafe fn slice_mut<'a>(data: *mut c_void, size: usize) -> &'a mut [u8] {
    let start = NonNull::new(data.cast()).unwrap_or(NonNull::dangling());
    // SAFETY: as this function's; C passes null with a size of 0 only.
    unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), size) }
}

impl Handle {
    fn give_out(
        end: End<Linux>,
        logger: Logger,
        name: &str,
        path: &str,
    ) -> Result<*mut Control, Fault> {
        let fd = descriptor_of(end.platform().descriptor()?);
        let event = event_handle(end.connection().channel());
        let control = control_of(&end, event, path);
        let state = State { end, polling: false, told: false, logged: false };
        let rust = Inner {
            state: Mutex::new(state),
            looked: Condvar::new(),
            fd,
            is_selected: AtomicBool::new(false),
            logger,
            name: name.to_string(),
            zeros: Box::new([0; PAGE_SIZE / 4]),
        };
        Ok(Box::into_raw(Box::new(Handle { control, rust })).cast())
    }
}

/// Fills C's structure in.
fn control_of(end: &End<Linux>, event: *mut c_void, path: &str) -> Control {
    let (info, places) = (end.connection().info(), end.connection().places());
    let pointer = |place: Option<NonNull<u8>>| place.map_or(null_mut(), |at| at.as_ptr().cast());
    let page: *mut c_void = pointer(places.and_then(|places| places.page));
    // `left` is the page's first pair of indices, of eight bytes, and `right` its second.
    let ring = |side: Side| match side {
        Side::Left => Ring {
            shr: page,
            buffer: pointer(places.and_then(|places| places.left)),
            order: info.orders.left().get().into(),
        },
        Side::Right => Ring {
            shr: page.wrapping_byte_add(8),
            buffer: pointer(places.and_then(|places| places.right)),
            order: info.orders.right().get().into(),
        },
    };
    let (flags, read, write, xs_path) = match info.role {
        Role::Server => (IS_SERVER, Side::Left, Side::Right, host::duplicate(path)),
        Role::Client => (0, Side::Right, Side::Left, null_mut()),
    };
    Control {
        grants: null_mut(),
        ring: page,
        event,
        event_port: end.connection().channel().port().0,
        flags,
        read: ring(read),
        write: ring(write),
        xs_path,
    }
}

/// One call of C.
struct Call(*mut Handle);

impl Call {
    /// # Safety
    /// `ctrl` is a handle for as long as the call takes.
    unsafe fn on(ctrl: *mut Control) -> Self {
        Call(ctrl.cast())
    }

    fn rust(&self) -> &Inner {
        // SAFETY: the handle lives; C reaches no further than `control`, which stands before this
        // part, and what this part shares between threads is behind its lock. (What is behind the
        // lock has counters that are not atomic, but leaves it never: one thread at a time is at
        // it.)
        unsafe { &(*self.0).rust }
    }

    fn flags(&self) -> u32 {
        // SAFETY: the handle lives. C may write the flags at any time, so they are read by address,
        // each time anew.
        unsafe { addr_of!((*self.0).control.flags).read_volatile() }
    }

    fn is_blocking(&self) -> bool {
        self.flags() & BLOCKING != 0
    }

    /// Locks the state, and brings it up to date with C's flags.
    fn lock(&self) -> Result<MutexGuard<'_, State>, Fault> {
        let state = self.rust().state.lock();
        let state = state.map_err(|_| Fault::new(libc::EIO, "an earlier call failed badly"))?;
        state.end.persist(self.flags() & SERVER_PERSIST != 0);
        Ok(state)
    }

    /// Does something with the end.
    fn with<T>(&mut self, work: impl FnOnce(&mut End<Linux>) -> Outcome<T>) -> Result<T, Fault> {
        let mut state = self.lock()?;
        let done = work(&mut state.end);
        done.map_err(|error| self.fault(&mut state, error))
    }

    /// Notes an error. What the peer has broken is logged once, and C sees its pages no more.
    fn fault(&self, state: &mut State, error: Error<xen_linux::Error>) -> Fault {
        let broken = matches!(error, Error::Peer(_));
        let fault = Fault::from(error);
        if broken && !std::mem::replace(&mut state.logged, true) {
            self.rust().logger.report(&self.rust().name, &fault);
            let zeros: *mut c_void = self.rust().zeros.as_ptr().cast_mut().cast();
            // SAFETY: the handle lives, and the fields are written by address, under the lock. The
            // page of zeros is as large as the one that it replaces.
            unsafe {
                addr_of_mut!((*self.0).control.ring).write_volatile(zeros);
                for ring in
                    [addr_of_mut!((*self.0).control.read), addr_of_mut!((*self.0).control.write)]
                {
                    addr_of_mut!((*ring).shr).write_volatile(zeros);
                    addr_of_mut!((*ring).buffer).write_volatile(null_mut());
                }
            }
        }
        fault
    }

    /// Repeats `attempt`, which is told whether to ask for an event, until it has done something;
    /// `None` if the handle does not block and there was nothing to do.
    fn block<T>(
        &mut self,
        mut attempt: impl FnMut(&mut End<Linux>, bool) -> Outcome<Option<T>>,
    ) -> Result<Option<T>, Fault> {
        let mut state = self.lock()?;
        loop {
            if self.is_blocking() {
                // A peer that answers at once spares both an event and a wait.
                for _ in 0..BusyPoll::LOOKS {
                    let done = attempt(&mut state.end, false);
                    match done.map_err(|error| self.fault(&mut state, error))? {
                        None => state.end.yield_processor(),
                        done => return Ok(done),
                    }
                }
            }
            let done = attempt(&mut state.end, true);
            let done = done.map_err(|error| self.fault(&mut state, error))?;
            if done.is_some() || !self.is_blocking() {
                return Ok(done);
            }
            state = self.await_event(state)?;
            state.end.take_events();
        }
    }

    /// Waits as libxenvchan_wait does.
    fn wait(&mut self) -> Result<(), Fault> {
        let is_selected = self.rust().is_selected.load(Ordering::Relaxed);
        let mut state = self.lock()?;
        loop {
            if state.end.take_events() {
                return Ok(());
            }
            if state.end.is_over() {
                return self.tell(state);
            }
            state = self.await_event(state)?;
            // A program that looks at the descriptor was told that this does not wait.
            if is_selected {
                state.end.take_events();
                return Ok(());
            }
        }
    }

    /// Fails since the connection is over; again and again only at leisure, since some programs
    /// wait whatever they are told.
    fn tell(&self, mut state: MutexGuard<'_, State>) -> Result<(), Fault> {
        let error = state.end.why_over();
        let fault = self.fault(&mut state, error);
        if std::mem::replace(&mut state.told, true) {
            drop(state);
            host::sleep_for_a_second();
        }
        Err(fault)
    }

    /// Waits for the descriptor, without the lock, and hands out what has come. Of several threads
    /// one waits there, and the others for it.
    fn await_event<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, Fault> {
        let poisoned = |_| Fault::new(libc::EIO, "an earlier call failed badly");
        if state.polling {
            return self.rust().looked.wait(state).map_err(|_| poisoned(()));
        }
        state.polling = true;
        drop(state);
        let waited = host::wait_until_readable(self.rust().fd);
        let mut state = self.lock()?;
        state.polling = false;
        state.end.step();
        self.rust().looked.notify_all();
        match waited {
            Err(errno) if errno != libc::EINTR || interrupts() => {
                Err(Fault { is_news: false, ..Fault::new(errno, "interrupted by a signal") })
            }
            _ => Ok(state),
        }
    }
}
