//! Disks of a driver domain: xl in dom0 makes their folders, and this process serves them all.
//!
//! There is no script, since libxl runs it in dom0 alone. So a disk's storage is opened here, after
//! this process has confined itself: it must be one that the configuration grants.

use super::entry::Entry;
use super::reload::Granted;
use super::{Host, RETRY, first, run_dir, say};
use crate::adopt::{self, PHY, SEEN, adopt};
use crate::config::Spec;
use crate::disk::Plugged;
use crate::{Code, DomainArgument, Failure, Vdev, control};
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use xen_blk::back::Finder;
use xen_blk::toolstack::{self, Device};
use xen_exec::TaskSet;
use xen_platform::{Clock, deadline, sleep};
use xen_store::Error;

/// Linux's driver of backends, which would serve the same disks.
const DRIVER: &str = "/sys/bus/xen-backend/drivers/vbd";

/// An event in the life of a driver domain.
enum Event {
    Found(Result<Device, Error>),
    Ended(Device),
    /// The user ends all.
    Asked,
}

impl Host {
    /// Serves the disks that xl makes for this domain, until the user ends that.
    pub(super) async fn drive(&self, granted: &Granted) -> Result<(), Failure> {
        if Path::new(DRIVER).exists() {
            say(&format!(
                "xen-disk: {DRIVER} would serve the same disks as this process, which serves none \
                 of xl's: rmmod xen-blkback, and start it again"
            ));
            return Ok(());
        }
        let finder = Finder::new(&self.linux, &self.store, self.own(), PHY).await?;
        let (mut finder, mut serving) = (finder.with_abandoned(), TaskSet::new());
        loop {
            let event = {
                let mut next = pin!(finder.next());
                let found = poll_fn(|cx| match serving.poll_next(cx) {
                    Poll::Ready(ended) => Poll::Ready(Event::Ended(ended)),
                    Poll::Pending => next.as_mut().poll(cx).map(Event::Found),
                });
                let asked = async {
                    self.ending.asked().await;
                    Event::Asked
                };
                first(found, asked).await
            };
            match event {
                Event::Found(device) => {
                    let device = device?;
                    serving.push(self.serve_found(device, granted));
                }
                Event::Ended(device) => finder.forget(&device),
                Event::Asked => break,
            }
        }
        while !serving.is_empty() {
            serving.next().await;
        }
        Ok(())
    }

    /// Serves a disk until its end, and removes this domain's part of it.
    async fn serve_found(&self, device: Device, granted: &Granted) -> Device {
        let name = format!("disk {} of domain {}", Vdev(device.vdev), device.front);
        let store = &self.store;
        let ended = match adopt::is_ours(store, &device).await {
            Ok(true) => self.serve_made(&device, granted).await,
            Ok(false) => {
                let script = adopt::SCRIPT;
                say(&format!("{name} is left alone: it has no script={script}"));
                self.until_removed(&device).await
            }
            Err(error) => Err(error.into()),
        };
        let left = async {
            match &ended {
                Ok(()) => sleep(&self.linux, SEEN).await,
                Err(failure) => {
                    say(&format!("xen-disk: {name}: {failure}"));
                    adopt::refuse(store, &device, &failure.text).await?;
                }
            }
            Ok(!toolstack::withdraw(store, &device).await?
                && adopt::is_abandoned(store, &device).await?)
        };
        let left: Result<bool, Error> = left.await;
        if left.is_err() {
            say(&format!("xen-disk: {name}: its folder stays"));
        }
        // Its storage may be free later, or its guest let go.
        if left.unwrap_or(true) {
            let at = Some(self.linux.now() + RETRY);
            let _ = deadline(&self.linux, at, self.ending.asked()).await;
        }
        device
    }

    async fn serve_made(&self, device: &Device, granted: &Granted) -> Result<(), Failure> {
        let source = adopt::source(&self.store, device).await?;
        let (domain, vdev) = (DomainArgument::Number(device.front), Some(Vdev(device.vdev)));
        let entry = Entry::added(Spec { domain, vdev, source });
        if let Some(need) = granted.lacks(&entry.spec)? {
            let text = format!("needs {need}: write it into the configuration");
            return Err(Failure::new(Code::Usage, text));
        }
        entry.spec.source.check()?;
        self.entries.borrow_mut().push(entry.clone());
        let ended = self.serve_entry(&entry, device).await;
        self.entries.borrow_mut().retain(|other| !Rc::ptr_eq(other, &entry));
        ended
    }

    async fn serve_entry(&self, entry: &Entry, device: &Device) -> Result<(), Failure> {
        let Some((storage, identity)) = self.open(entry).await? else { return Ok(()) };
        let is_served = |device: &Device| control::is_served(&control::socket(&run_dir(), device));
        let plugged = adopt(&self.store, device, &identity, is_served).await?;
        let listener = self.listen(device, &identity.stack)?;
        let how = if plugged == Plugged::New { "Serving" } else { "Going on with" };
        let (name, stack) = (Vdev(device.vdev), identity.stack);
        say(&format!("{how} disk {name} of domain {}: {stack}", device.front));
        self.serve_opened(entry, storage, stack, device.clone(), listener).await
    }

    /// Waits until the folder of a disk is gone.
    async fn until_removed(&self, device: &Device) -> Result<(), Failure> {
        let path = format!("{}/state", device.back_path());
        let removed = async {
            let mut watch = self.store.watch(&path).await?;
            loop {
                watch.next().await?;
                match self.store.read(&path).await {
                    Err(error) if error.is_not_found() => return Ok(()),
                    state => drop(state?),
                }
            }
        };
        let asked = async {
            self.ending.asked().await;
            Ok(())
        };
        first(removed, asked).await
    }
}
