//! This machine as the host, when it is a Xen host already: the same agent, as
//! a thread instead of a program in an emulated dom0.

use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};

use crate::agent;
use crate::client::Client;

/// Returns true if this is dom0 of a Xen host.
pub fn is_xen() -> bool {
    std::fs::read_to_string("/proc/xen/capabilities").is_ok_and(|text| text.contains("control_d"))
}

/// Makes sure that xenconsoled writes what guests print into files.
pub fn logs_consoles() -> Result<()> {
    let processes = std::fs::read_dir("/proc")?.flatten();
    let mut commands = processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    ensure!(
        commands.any(|command| command.contains("xenconsoled") && command.contains("--log")),
        "xenconsoled does not log what guests print: start it with --log=guest (Debian: XENCONSOLED_ARGS in /etc/default/xen)"
    );
    Ok(())
}

/// Connects to an agent of our own.
pub fn connect() -> Result<Client> {
    ensure!(
        is_xen(),
        "this machine is not a Xen host (/proc/xen/capabilities has no control_d): use --host emulated"
    );
    ensure!(rustix::process::geteuid().is_root(), "xl needs root: run this with sudo");
    let (ours, theirs) = UnixStream::pair()?;
    let output = Box::new(theirs.try_clone()?);
    std::thread::spawn(move || agent::serve(theirs, output));
    Ok(Client::new(ours.try_clone()?, ours))
}
