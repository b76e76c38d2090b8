//! Messages to the service manager that started this program: sd_notify(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if one listens.
pub(super) struct Service(Option<UnixDatagram>);

impl Service {
    /// Connects to the one that NOTIFY_SOCKET names, while this process may still connect.
    pub fn connect() -> Service {
        Service(env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok()))
    }

    /// Tells that the disks are seen to.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Tells that the configuration is read again; [`Service::ready`] ends that.
    pub fn reloading(&self) {
        self.send("RELOADING=1");
    }

    /// Tells that the disks are being taken from their guests.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Tells what `systemctl status` shows.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    fn send(&self, text: &str) {
        // Disks are served whether it hears or not.
        let _ = self.0.as_ref().map(|socket| socket.send(text.as_bytes()));
    }
}

/// Connects to a socket in the file system, or to an abstract one: `@NAME`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manager_hears_each_message() {
        let name = format!("xen-disk-service-{}", std::process::id());
        let path = env::temp_dir().join(&name);
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (listener, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ] {
            let service = Service(Some(connect(&name).unwrap()));
            service.ready();
            service.reloading();
            service.status("two\nlines");
            service.stopping();
            for expected in ["READY=1", "RELOADING=1", "STATUS=two lines", "STOPPING=1"] {
                let mut heard = [0; 64];
                let count = listener.recv(&mut heard).unwrap();
                assert_eq!(&heard[..count], expected.as_bytes());
            }
        }
        std::fs::remove_file(path).unwrap();
        // Without a manager nothing is sent.
        Service(None).ready();
    }
}
