//! The driver of a disk: moves requests and answers, keeps the time, and follows the backend's state.

use super::bus::{Bus, Connected};
use super::device::{Device, Over};
use super::keys::Boxed;
use super::{End, Error, Note, Why};
use crate::handshake::{FrontStep, front};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::poll_fn;
use core::task::{Context, Poll};
use xen_abi::xenbus::State;
use xen_platform::{Platform, Time, deadline};

/// Runs until the disk is closed or gone; says why.
pub(crate) async fn drive<P: Platform>(device: Rc<Device<P>>, mut bus: Bus) -> Result<End, Error<P::Error>> {
    // Should the future be dropped, nobody waits for ever.
    let ending = Ending(device);
    let device = &ending.0;
    let mut next_sweep = None;
    // On the heap, as all that is rare: it is long, and would be moved about.
    let mut following: Boxed<'_, _> = Box::pin(follow(device, &mut bus));
    poll_fn(|cx| {
        move_requests(device, &mut next_sweep, cx);
        following.as_mut().poll(cx)
    })
    .await
}

/// Ends the disk when the driver is dropped.
struct Ending<P: Platform>(Rc<Device<P>>);

impl<P: Platform> Drop for Ending<P> {
    fn drop(&mut self) {
        self.0.end(Over::Gone(Why::Dropped));
    }
}

/// Shows the backend new requests, takes its answers, and looks after the time.
fn move_requests<P: Platform>(device: &Device<P>, next_sweep: &mut Option<Time>, cx: &mut Context<'_>) {
    let wrong = device.with(|state| {
        state.driver_woken = false;
        if !state.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            state.driver = Some(cx.waker().clone());
        }
        if state.over.is_some() {
            return Ok(());
        }
        state.push();
        (0..state.queues.len() as u32).try_for_each(|number| state.listen(&device.platform, number, cx))
    });
    if let Err(wrong) = wrong {
        log::warn!("{}: {wrong}", device.name());
        device.refuse(Over::Peer(wrong));
    }
    keep_time(device, next_sweep, cx);
}

/// One timer for all requests. It is left alone while it runs, however often the disk becomes idle and busy meanwhile.
fn keep_time<P: Platform>(device: &Device<P>, next_sweep: &mut Option<Time>, cx: &mut Context<'_>) {
    loop {
        let busy = device.with(|state| state.is_busy());
        let at = match *next_sweep {
            Some(at) => at,
            None if busy => *next_sweep.insert(device.platform.now() + device.step()),
            None => return,
        };
        if device.platform.poll_until(at, cx).is_pending() {
            return;
        }
        *next_sweep = None;
        if busy {
            device.with(|state| state.sweep());
        }
    }
}

/// What makes the driver act.
enum News {
    /// The backend's state may have changed.
    Changed,
    /// The disk is to be closed, and nothing is under way.
    Close,
    /// The backend broke the protocol.
    Over,
}

/// Follows the backend's state until the end.
async fn follow<P: Platform>(device: &Device<P>, bus: &mut Bus) -> Result<End, Error<P::Error>> {
    let result = follow_states(device, bus).await;
    let over = match &result {
        Ok(End::Closed) => Over::Gone(Why::Closed),
        Ok(End::Unplugged) => Over::Gone(Why::Unplugged),
        Ok(End::Lost) => Over::Gone(Why::Lost),
        Err(Error::Peer(wrong)) => Over::Peer(wrong.clone()),
        Err(Error::Gone(why)) => Over::Gone(*why),
        Err(_) => Over::Gone(Why::NoReturn),
    };
    // Before this end is closed nobody sends any more; the rings stay until the backend has let them go.
    device.refuse(over.clone());
    bus.close(&device.platform, device.wishes.connect_timeout).await;
    device.end(over);
    result
}

async fn follow_states<P: Platform>(device: &Device<P>, bus: &mut Bus) -> Result<End, Error<P::Error>> {
    loop {
        match news(device, bus).await? {
            News::Over => return Err(device.with(|state| state.over.clone()).expect("it is over").into()),
            News::Close => {
                settle(device, Why::Closed).await;
                return Ok(End::Closed);
            }
            News::Changed => {}
        }
        let theirs = bus.look().await?;
        match front(bus.mine, theirs) {
            FrontStep::Refresh => Box::pin(refresh(device, bus)).await?,
            FrontStep::Close => {
                settle(device, Why::Unplugged).await;
                return Ok(End::Unplugged);
            }
            // It closed without asking: only if it is to go for good, nothing comes after that.
            FrontStep::Restart if theirs == State::CLOSED && !bus.is_online().await => return Ok(End::Unplugged),
            FrontStep::Restart => Box::pin(restart(device, bus)).await?,
            FrontStep::Lost => return Ok(End::Lost),
            FrontStep::Wait | FrontStep::Publish | FrontStep::Connect | FrontStep::Reset => {}
        }
    }
}

async fn news<P: Platform>(device: &Device<P>, bus: &mut Bus) -> Result<News, xen_store::Error> {
    poll_fn(|cx| {
        let (over, closing) = device.with(|state| (state.over.is_some(), state.closing.is_some()));
        if over {
            return Poll::Ready(Ok(News::Over));
        }
        if closing {
            return Poll::Ready(Ok(News::Close));
        }
        bus.poll_changed(cx).map_ok(|()| News::Changed)
    })
    .await
}

/// Waits for the answers to what is under way, as long as requests may take, while no new ones are taken.
async fn settle<P: Platform>(device: &Device<P>, why: Why) {
    device.with(|state| state.closing = Some(why));
    let until = device.platform.now() + device.wishes.request_timeout;
    // Every answer wakes the driver.
    let settled = poll_fn(|_| match device.with(|state| state.is_busy() && state.over.is_none()) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    });
    if deadline(&device.platform, Some(until), settled).await.is_err() {
        log::warn!("{}: closed with requests under way", device.name());
    }
}

/// The backend wrote `Connected` again: the disk may have another size.
async fn refresh<P: Platform>(device: &Device<P>, bus: &mut Bus) -> Result<(), Error<P::Error>> {
    let (offer, notes) = bus.offer(&device.wishes).await?;
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

/// The backend was started anew: makes new rings for it. What it had not answered is sent again.
async fn restart<P: Platform>(device: &Device<P>, bus: &mut Bus) -> Result<(), Error<P::Error>> {
    log::info!("{}: the backend {} was started anew", device.name(), bus.back);
    let old = device.with(|state| state.disconnect());
    drop(old);
    bus.write(State::INITIALISING).await?;
    let mut connected: Connected<P> =
        bus.connect(&device.platform, &device.wishes, device.wishes.connect_timeout).await?;
    connected.notes.push(Note::Restarted);
    device.with(|state| {
        let notes = core::mem::take(&mut state.info.notes);
        state.connect(connected);
        state.info.add_notes(notes);
    });
    device.changes.signal();
    Ok(())
}
