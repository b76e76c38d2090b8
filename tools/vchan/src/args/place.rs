//! Which vchan: the domain at its other end, and where it is published.

use super::Domains;
use clap::{Args, ValueEnum};
use std::time::Duration;
use tools_common::{Code, DomainArgument, Failure};

/// The domain at the other end, and the place of the keys in xenstore.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The domain at the other end: its number or its name, as `xl list` shows them, or its UUID.
    #[arg(value_name = "DOMID")]
    pub domain: DomainArgument,

    /// The place of the keys.
    #[command(flatten)]
    pub location: Location,
}

/// The domains whose clients a server takes, and the place of the keys in xenstore.
#[derive(Args, Clone, Debug)]
pub struct ServerPlace {
    /// The clients' domain, by its number, name or UUID; several with commas between them, or all,
    /// whenever they are there.
    #[arg(value_name = "DOMID")]
    pub domains: Domains,

    /// The place of the keys.
    #[command(flatten)]
    pub location: Location,
}

impl ServerPlace {
    /// Returns the location, unless it, or the time limit for a client, cannot be with several
    /// domains: these need a path each, and come and go.
    pub(crate) fn check(&self, timeout: Option<u64>) -> Result<&Location, Failure> {
        if self.domains.single().is_none() {
            let usage = |text| Err(Failure::new(Code::Usage, text));
            if timeout.is_some() {
                return usage("--timeout is for a single domain: leave it out, or name one domain");
            }
            if let xen_vchan::Layout::Legacy { .. } = self.location.layout()? {
                return usage(
                    "several domains would find the same path: add a service's name behind them, or \
                     as --port NAME",
                );
            }
        }
        Ok(&self.location)
    }
}

/// The place of a channel's keys in xenstore.
#[derive(Args, Clone, Default, Debug)]
pub struct Location {
    /// The name of the service within the std layout: the same as --port NAME.
    #[arg(value_name = "PORT", conflicts_with_all = ["path", "port"])]
    pub service: Option<String>,

    /// Path of the channel in xenstore: absolute, or within the server's folder.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["layout", "port"])]
    pub path: Option<String>,

    /// Convention for that path [default: legacy, or std with --port].
    #[arg(long, value_enum)]
    pub layout: Option<Layout>,

    /// The name of the service within the std layout: letters, digits, - and _.
    #[arg(long, value_name = "NAME")]
    pub port: Option<String>,
}

impl Location {
    /// Returns the name of the service within the std layout, however it was given.
    pub(crate) fn port(&self) -> Option<&str> {
        self.port.as_deref().or(self.service.as_deref())
    }

    /// The folder of the keys, however it was named.
    pub(crate) fn layout(&self) -> Result<xen_vchan::Layout, Failure> {
        let usage = |text| Err(Failure::new(Code::Usage, text));
        let legacy = |path: &str| Ok(xen_vchan::Layout::Legacy { path: path.to_string() });
        if let Some(path) = self.service.as_deref().filter(|name| name.contains('/')) {
            let text = format!("{path} is no service's name: a path is given as --path {path}");
            return Err(Failure::new(Code::Usage, text));
        }
        match (&self.path, self.layout, self.port()) {
            (Some(path), ..) => legacy(path),
            (None, None | Some(Layout::Legacy), None) => legacy("data/vchan"),
            (None, None | Some(Layout::Std), Some(port)) => {
                Ok(xen_vchan::Layout::Standard { port: port.to_string() })
            }
            (None, Some(Layout::Std), None) => usage(
                "--layout std needs the service's name: add it behind the domain, or as --port NAME",
            ),
            (None, Some(Layout::Legacy), Some(_)) => {
                usage("--layout legacy has no ports: leave the service's name out")
            }
        }
    }
}

/// A place, and how long to wait for the server there.
#[derive(Args, Clone, Debug)]
pub struct Dial {
    /// The server.
    #[command(flatten)]
    pub place: Place,

    /// Time limit for the server to appear, and then for its first sign of life once
    /// something waits for it. With 0 only what is there at once is taken; xenstore and the server
    /// have a second to answer.
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    pub timeout: u64,
}

impl Dial {
    /// Returns the time limit of the search for the server, and of its first reaction: `--timeout`,
    /// but never less than the second that xenstore has.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.max(1))
    }
}

/// Places at which servers publish their channels.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `data/vchan/<client>/<port>` in the server's folder: what libxenvchan's header recommends.
    Std,
    /// `data/vchan` in the server's folder: one channel for each server.
    Legacy,
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_platform::DomId;

    #[test]
    fn each_layout_has_its_path() {
        let path = |path: Option<&str>, layout, port: Option<&str>| {
            let place = Location {
                service: None,
                path: path.map(Into::into),
                layout,
                port: port.map(Into::into),
            };
            let path = place.layout().and_then(|layout| Ok(layout.server_path(DomId(7))?));
            path.map_err(|failure| failure.code)
        };
        assert_eq!(path(None, None, None).unwrap(), "data/vchan");
        assert_eq!(path(None, Some(Layout::Legacy), None).unwrap(), "data/vchan");
        assert_eq!(path(None, None, Some("echo")).unwrap(), "data/vchan/7/echo");
        assert_eq!(path(None, Some(Layout::Std), Some("0")).unwrap(), "data/vchan/7/0");
        assert_eq!(path(Some("/x/y"), None, None).unwrap(), "/x/y");
        assert_eq!(path(None, Some(Layout::Std), None), Err(Code::Usage));
        assert_eq!(path(None, Some(Layout::Legacy), Some("echo")), Err(Code::Usage));
        assert_eq!(path(None, None, Some("a/b")), Err(Code::Usage));
        assert_eq!(path(Some("a//b"), None, None), Err(Code::Usage));
    }

    #[test]
    fn service_behind_the_domain_is_that_of_port() {
        let layout = |service: &str, layout| {
            let place = Location { service: Some(service.into()), path: None, layout, port: None };
            place.layout().map_err(|failure| failure.text)
        };
        let log = xen_vchan::Layout::Standard { port: "log".into() };
        assert_eq!(layout("log", None), Ok(log));
        let path = layout("data/vchan", None).unwrap_err();
        assert!(path.ends_with("given as --path data/vchan"), "{path}");
        let legacy = layout("log", Some(Layout::Legacy)).unwrap_err();
        assert!(legacy.ends_with("leave the service's name out"), "{legacy}");
    }

    #[test]
    fn several_domains_need_a_service_and_no_time_limit() {
        let check = |domains: &str, service: Option<&str>, timeout| {
            let location = Location { service: service.map(Into::into), ..Location::default() };
            let place = ServerPlace { domains: domains.parse().unwrap(), location };
            place.check(timeout).map(drop).map_err(|failure| failure.text)
        };
        assert_eq!(check("2", None, Some(9)), Ok(()));
        assert_eq!(check("2,3", Some("log"), None), Ok(()));
        assert!(check("all", None, None).unwrap_err().contains("the same path"));
        assert!(
            check("all", Some("log"), Some(9)).unwrap_err().contains("--timeout is for a single")
        );
    }
}
