//! The configuration of `vchan serve`.

use crate::args::{Domains, RingSizes, TcpAddress, bytes, clients, ring_size};
use crate::serve::Offered;
use crate::{
    Code, DomainArgument, ExecArguments, Failure, LocalAddress, Location, Place, ProxyArguments,
    ServeArguments, ServerPlace,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use xen_platform::DomId;
use xen_vchan::Layout;

/// Seconds that a command has to end, by default.
const GRACE: u64 = 10;

/// A service that is offered to domains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its name in the std layout.
    pub name: String,
    /// The domains whose clients it takes.
    pub domains: Domains,
    /// The end of each of its channels.
    pub target: Target,
    /// The rings of each channel.
    pub sizes: RingSizes,
    /// Number of clients of each domain that are served at a time.
    pub clients: usize,
    /// Seconds that a command has to end once its client has left.
    pub grace: u64,
    /// Report its clients and their bytes.
    pub verbose: bool,
}

/// The end of a service's channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A command for each client.
    Command {
        /// The program and its arguments; at least one.
        words: Vec<OsString>,
        /// True if each command has a pseudo terminal.
        pty: bool,
    },
    /// A connection to a unix socket for each client.
    Unix(PathBuf),
    /// A TCP connection for each client.
    Tcp(TcpAddress),
    /// A folder for `vchan cp`.
    Files {
        /// Its path.
        dir: PathBuf,
        /// True if clients may only read.
        read_only: bool,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    service: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    domains: Names,
    command: Option<Vec<String>>,
    #[serde(default)]
    pty: bool,
    unix: Option<PathBuf>,
    tcp: Option<String>,
    files: Option<PathBuf>,
    #[serde(default)]
    readonly: bool,
    left: Option<String>,
    right: Option<String>,
    clients: Option<u64>,
    grace: Option<u64>,
}

/// The domains of a service: `"all"`, or a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected \"all\" or a list of names of domains")]
enum Names {
    All(All),
    These(Vec<String>),
}

#[derive(Deserialize)]
enum All {
    #[serde(rename = "all")]
    All,
}

/// Reads the services of `vchan serve`, in the order of their names.
pub fn read_services(args: &ServeArguments) -> Result<Vec<Rc<Service>>, Failure> {
    let path = args.config.display();
    let text = std::fs::read_to_string(&args.config)
        .map_err(|error| Failure::other(format!("cannot read {path}: {error}")))?;
    parse(&text, args.verbose)
        .map_err(|wrong| Failure::new(Code::Usage, format!("{path}: {wrong}")))
}

fn parse(text: &str, verbose: bool) -> Result<Vec<Rc<Service>>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let services = file.service.into_iter().map(|(name, entry)| {
        let service =
            entry.check(&name, verbose).map_err(|wrong| format!("service {name}: {wrong}"))?;
        Ok(Rc::new(service))
    });
    let services: Vec<_> = services.collect::<Result<_, String>>()?;
    match services.is_empty() {
        true => Err("there is no [service.NAME] in it".into()),
        false => Ok(services),
    }
}

impl Entry {
    fn check(self, name: &str, verbose: bool) -> Result<Service, String> {
        let layout = Layout::Standard { port: name.to_string() };
        layout.server_path(DomId::FIRST_RESERVED).map_err(|error| error.to_string())?;
        let domains = match &self.domains {
            Names::All(All::All) => Domains::All,
            Names::These(names) => Domains::of(names.iter().map(String::as_str))?,
        };
        let size = |text: &Option<String>| match text {
            Some(text) => ring_size(text),
            None => bytes("8192"),
        };
        let sizes = RingSizes { left: size(&self.left)?, right: size(&self.right)? };
        let number = self.clients.unwrap_or(64);
        Ok(Service {
            name: name.to_string(),
            domains,
            sizes,
            clients: clients(&number.to_string())?,
            grace: self.grace.unwrap_or(GRACE),
            verbose,
            target: self.target()?,
        })
    }

    fn target(self) -> Result<Target, String> {
        if self.command.is_none() && (self.pty || self.grace.is_some()) {
            return Err("pty and grace are for a command".into());
        }
        if self.files.is_none() && self.readonly {
            return Err("readonly is for files".into());
        }
        match (self.command, self.unix, self.tcp, self.files) {
            (Some(words), None, None, None) => match words.first() {
                Some(program) if !program.is_empty() => {
                    let words = words.into_iter().map(OsString::from).collect();
                    Ok(Target::Command { words, pty: self.pty })
                }
                _ => Err("the command is empty".into()),
            },
            (None, Some(path), None, None) => Ok(Target::Unix(path)),
            (None, None, Some(address), None) => Ok(Target::Tcp(address.parse()?)),
            (None, None, None, Some(dir)) => Ok(Target::Files { dir, read_only: self.readonly }),
            _ => Err("it needs one of command, unix, tcp and files".into()),
        }
    }
}

impl Service {
    /// Returns the arguments of `vchan exec` for one of its domains and a command.
    pub fn exec_arguments(&self, domain: DomId, words: &[OsString], pty: bool) -> ExecArguments {
        ExecArguments {
            place: self.server_place(domain),
            sizes: self.sizes,
            once: false,
            clients: self.clients,
            timeout: None,
            pty,
            grace: self.grace,
            verbose: self.verbose,
            command: words.to_vec(),
        }
    }

    /// Returns the arguments of `vchan proxy --server` for one of its domains and an address.
    pub fn proxy_arguments(&self, domain: DomId, local: LocalAddress) -> ProxyArguments {
        let domain = DomainArgument::Number(domain);
        ProxyArguments {
            place: Place { domain, location: self.location() },
            local,
            mode: None,
            owner: None,
            server: true,
            sizes: self.sizes,
            clients: self.clients,
            once: false,
            timeout: None,
            linger: None,
            verbose: self.verbose,
        }
    }

    /// Returns the place of its channels for one of its domains.
    pub fn server_place(&self, domain: DomId) -> ServerPlace {
        let domains = Domains::These(vec![DomainArgument::Number(domain)]);
        ServerPlace { domains, location: self.location() }
    }

    fn location(&self) -> Location {
        Location { service: Some(self.name.clone()), ..Location::default() }
    }
}

impl Offered for Service {
    fn name(&self) -> &str {
        &self.name
    }

    fn domains(&self) -> &Domains {
        &self.domains
    }

    fn is_like(&self, other: &Self) -> bool {
        *self == Service { domains: self.domains.clone(), ..other.clone() }
    }
}

#[cfg(test)]
mod tests;
