//! A disk of xl's: a process serves it from the script's `add` to the end of the disk.

use super::{Host, Mode, Reach, on_host, privileges};
use crate::adopt::{self, adopt};
use crate::disk::Plugged;
use crate::host::ask::sweep_sockets;
use crate::host::{print, run_dir, say};
use crate::identity::Identity;
use crate::{Failure, Vdev, control, stack};
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
        sweep_sockets(&self.store).await?;
        let source = adopt::source(&self.store, &device).await?;
        source.check()?;
        let stack = source.stack()?;
        self.prepare_privileges(&stack)?;
        let storage = source.open()?;
        let identity = Identity::of(&*storage, &stack, source.readonly);
        let signals = Signals::catch(&self.linux).map_err(Failure::other)?;
        let is_served = |device: &Device| control::is_served(&control::socket(&run_dir(), device));
        let plugged = adopt(&self.store, &device, &identity, is_served).await?;
        let listener = self.listen(&device, &stack)?;
        let how = if plugged == Plugged::New { "Serving" } else { "Going on with" };
        say(&format!("{how} disk {} of domain {}: {stack}", Vdev(device.vdev), device.front));
        let listening = self.clone();
        self.spawner.spawn(async move { listening.obey(signals).await });
        print(&format!("{READY}\n"))?;
        self.serve_opened(&source, storage, stack, device, listener).await
    }

    /// Gives up what opening the storage does not need, before it can make threads.
    fn prepare_privileges(&self, stack: &str) -> Result<(), Failure> {
        privileges::keep_files()?;
        if stack::needs(stack)?.network {
            privileges::restrict(&Reach {
                files: stack::files(stack)?,
                run_dir: run_dir(),
                makes_sockets: true,
                network: true,
                servers: stack::sockets(stack)?,
            })?;
        }
        Ok(())
    }
}
