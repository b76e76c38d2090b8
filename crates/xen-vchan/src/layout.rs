//! Places of vchans in xenstore: the two customs.

use crate::{ConfigError, Error};
use alloc::format;
use alloc::string::String;
use xen_platform::{DomId, Platform};
use xen_store::{Store, path};

/// The longest path, in bytes, that libxenvchan can use: it puts `<path>/event-channel` and a zero
/// byte into 64 bytes, and cuts off what is too much (tools/libs/vchan/init.c).
pub const LIBXENVCHAN_PATH_MAX: usize = 64 - 1 - "/event-channel".len();

/// Name of the folder with a vchan's keys.
///
/// The functions give the path for [`ServerConfig`](crate::ServerConfig) and for
/// [`ClientConfig`](crate::ClientConfig), and check it: [`ConfigError::Path`],
/// [`ConfigError::PortName`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Any folder that both ends agree on, absolute or relative to the server's own: one vchan in
    /// each. The custom of ocaml-vchan before 2.0, as `data/vchan`.
    Legacy {
        /// The folder's path.
        path: String,
    },
    /// `data/vchan/<client>/<port>` in the server's folder, so that a server has many, for many
    /// clients: the custom of today (io/libxenvchan.h).
    Standard {
        /// The vchan's name: letters, digits, `-` and `_`.
        port: String,
    },
}

impl Layout {
    /// The path for the server, relative to its own folder unless it was given absolute.
    pub fn server_path(&self, client: DomId) -> Result<String, ConfigError> {
        let path = match self {
            Layout::Legacy { path } => path.clone(),
            Layout::Standard { port } => format!("data/vchan/{client}/{}", checked_port(port)?),
        };
        path::check(&path)?;
        Ok(path)
    }

    /// The absolute path, as the client needs it.
    pub fn client_path(&self, server: DomId, client: DomId) -> Result<String, ConfigError> {
        let path = self.server_path(client)?;
        if path.starts_with('/') {
            return Ok(path);
        }
        let path = format!("{}/{path}", path::of_domain(server));
        path::check(&path)?;
        Ok(path)
    }
}

fn checked_port(port: &str) -> Result<&str, ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match port.chars().find(|c| !allowed(*c)) {
        None if !port.is_empty() => Ok(port),
        character => Err(ConfigError::PortName(character)),
    }
}

/// Returns true if libxenvchan, too, can be at the other end of a vchan under this absolute path.
/// Ringside's own ends take any path that xenstore does.
pub fn check_for_libxenvchan(path: &str) -> Result<(), ConfigError> {
    match path.len() {
        0..=LIBXENVCHAN_PATH_MAX => Ok(()),
        len => Err(ConfigError::PathTooLong { len, max: LIBXENVCHAN_PATH_MAX }),
    }
}

/// The own domain's number, which a client needs for [`Layout::Standard`]: from the platform, or
/// else from xenstore.
pub async fn own_domid<P: Platform>(platform: &P, store: &Store) -> Result<DomId, Error<P::Error>> {
    match platform.domid() {
        Some(own) => Ok(own),
        None => Ok(DomId(store.read_number("domid").await?)),
    }
}
