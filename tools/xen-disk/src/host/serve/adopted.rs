//! A disk of xl's: a process serves it from the script's `add` to the end of the disk.

use super::entry::Entry;
use super::reload::Granted;
use super::{Host, Mode, Service, on_host};
use crate::adopt::{self, adopt};
use crate::config::{Configuration, Spec};
use crate::disk::Plugged;
use crate::host::ask::sweep_sockets;
use crate::host::{print, run_dir, say};
use crate::identity::Identity;
use crate::{DomainArgument, Failure, Vdev, control};
use std::rc::Rc;
use xen_blk::toolstack::Device;
use xen_linux::Signals;

/// The word on standard output once the disk is served.
pub(in crate::host) const READY: &str = "ready";

/// Serves `device` until its end. Before it is ready, failures are for the script.
pub(in crate::host) fn run(device: Device) -> Result<(), Failure> {
    on_host(Mode { wait: false, verbose: true }, 0, |host| host.serve_adopted(device))
}

impl Host {
    async fn serve_adopted(self: Rc<Self>, device: Device) -> Result<(), Failure> {
        super::make_run_dir(&run_dir())?;
        sweep_sockets(&self.store, device.back).await?;
        let source = adopt::source(&self.store, &device).await?;
        source.check()?;
        let stack = source.stack()?;
        let domain = DomainArgument::Number(device.front);
        let spec = Spec { domain, vdev: Some(Vdev(device.vdev)), source: source.clone() };
        let specs = vec![spec.clone()];
        let granted = Granted::of(&Configuration { specs, ..Configuration::default() })?;
        self.give_up_for_all(&granted)?;
        let storage = source.open()?;
        let identity = Identity::of(&*storage, &stack, source.readonly);
        let signals = Signals::catch(&self.linux).map_err(Failure::other)?;
        let is_served = |device: &Device| control::is_served(&control::socket(&run_dir(), device));
        let plugged = adopt(&self.store, &device, &identity, is_served).await?;
        let listener = self.listen(&device, &stack)?;
        let how = if plugged == Plugged::New { "Serving" } else { "Going on with" };
        say(&format!("{how} disk {} of domain {}: {stack}", Vdev(device.vdev), device.front));
        let entry = Entry::new(spec);
        self.entries.borrow_mut().push(entry.clone());
        let (listening, service) = (self.clone(), Rc::new(Service::connect()));
        self.spawner.spawn(async move { listening.obey(signals, granted, service).await });
        print(&format!("{READY}\n"))?;
        self.serve_opened(&entry, storage, stack, device, listener).await
    }
}
