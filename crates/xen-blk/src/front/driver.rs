//! The driver of a disk: moves requests and responses, keeps the time, and follows the backend's
//! state.

use super::connect::{connect, until_resumed};
use super::device::Device;
use super::error::{Error, GoneReason};
use super::life::{End, Life, Over};
use super::note::Note;
use super::xenbus::device::{Connected, XenbusDevice};
use super::xenbus::keys::Boxed;
use crate::protocol::handshake::{FrontStep, front};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::poll_fn;
use core::task::{Context, Poll};
use xen_abi::xenbus::State;
use xen_platform::{Platform, Time, deadline};

/// Runs until the disk is closed or gone; returns how it ended.
pub(crate) async fn drive<P: Platform>(
    device: Rc<Device<P>>,
    mut xenbus: XenbusDevice,
    resumes: u32,
) -> Result<End, Error<P::Error>> {
    // Should the future be dropped, no task waits for ever.
    let ending = EndOnDrop(device);
    let device = &ending.0;
    let mut next_tick = None;
    // On the heap, as all that is rare: it is long, and would be moved about.
    let mut following: Boxed<'_, _> = Box::pin(follow(device, &mut xenbus, resumes));
    poll_fn(|cx| {
        move_requests(device, &mut next_tick, cx);
        following.as_mut().poll(cx)
    })
    .await
}

/// Ends the disk when the driver is dropped.
struct EndOnDrop<P: Platform>(Rc<Device<P>>);

impl<P: Platform> Drop for EndOnDrop<P> {
    fn drop(&mut self) {
        self.0.end(Over::Gone(GoneReason::Dropped));
    }
}

/// Shows the backend new requests, takes its responses, and looks after the time.
fn move_requests<P: Platform>(
    device: &Device<P>,
    next_tick: &mut Option<Time>,
    cx: &mut Context<'_>,
) {
    let received = device.with(|state| {
        state.wakers.driver_looks(cx);
        if state.life.over().is_some() {
            return Ok(());
        }
        state.push();
        state.receive(&device.platform, cx)
    });
    if let Err(wrong) = received {
        log::warn!("disk {}: the backend broke the protocol: {wrong}", device.name());
        device.refuse(Over::Peer(wrong));
    }
    keep_time(device, next_tick, cx);
}

/// Runs one timer for all requests. It is left alone while it runs, however often the disk becomes
/// idle and busy meanwhile.
fn keep_time<P: Platform>(device: &Device<P>, next_tick: &mut Option<Time>, cx: &mut Context<'_>) {
    loop {
        let busy = device.with(|state| state.is_busy());
        let at = match *next_tick {
            Some(at) => at,
            None if busy => *next_tick.insert(device.platform.now() + device.tick()),
            None => return,
        };
        if device.platform.poll_until(at, cx).is_pending() {
            return;
        }
        *next_tick = None;
        if busy {
            device.with(|state| state.sweep());
        }
    }
}

/// An event that makes the driver act.
enum Event {
    /// The backend's state may have changed.
    Changed,
    /// The disk is to be closed.
    Close,
    /// Every request fails from now on.
    Over(Over),
}

/// Follows the backend's state until the end.
async fn follow<P: Platform>(
    device: &Device<P>,
    xenbus: &mut XenbusDevice,
    mut resumes: u32,
) -> Result<End, Error<P::Error>> {
    let result = loop {
        let following = follow_states(device, xenbus);
        match until_resumed(&device.platform, &mut resumes, following).await {
            Some(result) => break result,
            None => {
                if let Err(error) = Box::pin(resume(device, xenbus, &mut resumes)).await {
                    break Err(error);
                }
            }
        }
    };
    let over = match &result {
        Ok(End::Closed) => Over::Gone(GoneReason::Closed),
        Ok(End::Unplugged) => Over::Gone(GoneReason::Unplugged),
        Ok(End::Lost) => Over::Gone(GoneReason::Lost),
        Err(Error::Peer(wrong)) => Over::Peer(wrong.clone()),
        Err(Error::Gone(why)) => Over::Gone(*why),
        Err(_) => Over::Gone(GoneReason::NoReturn),
    };
    // No request is sent once this end begins to close. The rings stay until the backend has let
    // them go.
    device.refuse(over.clone());
    xenbus.close(&device.platform, device.config.connect_timeout).await;
    device.end(over);
    result
}

async fn follow_states<P: Platform>(
    device: &Device<P>,
    xenbus: &mut XenbusDevice,
) -> Result<End, Error<P::Error>> {
    loop {
        match next_event(device, xenbus).await? {
            Event::Over(over) => return Err(over.into()),
            Event::Close => {
                settle(device, GoneReason::Closed).await;
                return Ok(End::Closed);
            }
            Event::Changed => {}
        }
        let theirs = xenbus.read_otherend_state().await?;
        match front(xenbus.mine, theirs) {
            FrontStep::Refresh => Box::pin(refresh(device, xenbus)).await?,
            FrontStep::Close => {
                settle(device, GoneReason::Unplugged).await;
                return Ok(End::Unplugged);
            }
            // It closed without asking, and if it is to go for good, nothing comes after that.
            FrontStep::Restart if theirs == State::CLOSED && !xenbus.is_online().await => {
                return Ok(End::Unplugged);
            }
            // Another disk of the same number: its data are others.
            FrontStep::Restart if !xenbus.owns_folder().await? => return Ok(End::Unplugged),
            FrontStep::Restart => Box::pin(restart(device, xenbus)).await?,
            FrontStep::Lost => return Ok(End::Lost),
            FrontStep::Wait | FrontStep::Publish | FrontStep::Connect | FrontStep::Reset => {}
        }
    }
}

async fn next_event<P: Platform>(
    device: &Device<P>,
    xenbus: &mut XenbusDevice,
) -> Result<Event, xen_store::Error> {
    poll_fn(|cx| {
        match device.with(|state| state.life.clone()) {
            Life::Over(over) | Life::Ended(over) => return Poll::Ready(Ok(Event::Over(over))),
            Life::Closing(_) => return Poll::Ready(Ok(Event::Close)),
            Life::Open => {}
        }
        xenbus.poll_changed(cx).map_ok(|()| Event::Changed)
    })
    .await
}

/// Waits for the responses to all requests in flight, for the time that a request may take, while
/// no new ones are taken.
async fn settle<P: Platform>(device: &Device<P>, why: GoneReason) {
    device.with(|state| state.life.close(why));
    let until = device.platform.now() + device.config.request_timeout;
    // Every response wakes the driver.
    let settled =
        poll_fn(|_| match device.with(|state| state.is_busy() && state.life.over().is_none()) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        });
    if deadline(&device.platform, Some(until), settled).await.is_err() {
        log::warn!("disk {}: closed with requests in flight", device.name());
    }
}

/// Looks at the disk's size and mode anew: the backend wrote `Connected` again.
async fn refresh<P: Platform>(
    device: &Device<P>,
    xenbus: &mut XenbusDevice,
) -> Result<(), Error<P::Error>> {
    let (offer, notes) = xenbus.read_offer(&device.config).await?;
    let changed = device.with(|state| {
        let mut info = state.info.clone();
        info.refresh(&offer);
        info.add_notes(notes);
        let changed = info != state.info;
        state.info = info;
        changed
    });
    if changed {
        device.changes.signal();
    }
    Ok(())
}

/// Connects to the new backend after the domain was saved and restored. All rings, pages and ports
/// are gone. Requests that the old backend has not completed are sent again.
async fn resume<P: Platform>(
    device: &Device<P>,
    xenbus: &mut XenbusDevice,
    resumes: &mut u32,
) -> Result<(), Error<P::Error>> {
    log::info!("disk {}: the domain was restored: connecting again", device.name());
    let Device { platform, config, .. } = device;
    let old = device.with(|state| state.resume(config.bounce_pages));
    drop(old);
    let (store, vdev) = (xenbus.store().clone(), device.with(|state| state.info.vdev));
    let (new, connected) = connect(platform, &store, vdev, config, resumes, true).await?;
    *xenbus = new;
    device.with(|state| state.reconnect(xenbus, connected));
    device.changes.signal();
    Ok(())
}

/// Makes new rings for a backend that was started anew. Requests that it has not completed are sent
/// again.
async fn restart<P: Platform>(
    device: &Device<P>,
    xenbus: &mut XenbusDevice,
) -> Result<(), Error<P::Error>> {
    log::info!("disk {}: the backend {} was started anew", device.name(), xenbus.otherend);
    let old = device.with(|state| state.disconnect());
    drop(old);
    xenbus.write(State::INITIALISING).await?;
    let mut connected: Connected<P> =
        xenbus.connect(&device.platform, &device.config, device.config.connect_timeout).await?;
    connected.notes.push(Note::Restarted);
    device.with(|state| {
        let notes = core::mem::take(&mut state.info.notes);
        state.connect(connected);
        state.info.add_notes(notes);
    });
    device.changes.signal();
    Ok(())
}
