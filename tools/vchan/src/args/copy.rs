//! `vchan cp`.

use super::{DomainArgument, Domains, Location, Place, ServerPlace, after_help};
use crate::{Code, Failure};
use clap::Args;
use std::path::PathBuf;

/// The name of the service by default.
const PORT: &str = "cp";

const EXAMPLES: &str = "  \
  vchan cp --serve /srv/in vm1,vm2         let two domains put files into a folder of this one, and get them
  vchan cp photos 0:                       in such a domain: copy a folder into the one that dom0 serves
  vchan cp 0:photos/1.jpg .                and a file back
  vchan cp --serve /srv/out --read-only all
                                           a folder for all domains to read

Each file is checked by a BLAKE3 hash, and has its name only once it is complete. A copy that was interrupted goes on where it
stood when it is started again, and leaves out what is there already. Only files and folders are copied, with their permission
bits. Paths at the server are below the folder that it serves: none leads out of it, by .. or by a symbolic link.";

/// The arguments of `vchan cp`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(EXAMPLES))]
pub struct CopyArguments {
    /// The file or folder to copy; one at a server is DOMID:PATH. With --serve, the domains whose
    /// clients may copy: several with commas between them, or all.
    #[arg(value_name = "SOURCE")]
    pub first: String,

    /// Its new place: a folder that is there, or a new name.
    #[arg(value_name = "TARGET", required_unless_present = "serve", conflicts_with = "serve")]
    pub second: Option<String>,

    /// Serve this folder, until a signal comes or the only domain has ended.
    #[arg(long, value_name = "DIR")]
    pub serve: Option<PathBuf>,

    /// Let clients read only.
    #[arg(long, requires = "serve", conflicts_with = "second")]
    pub read_only: bool,

    /// The name of the service within the std layout.
    #[arg(long, value_name = "NAME", default_value = PORT)]
    pub port: String,

    /// Time limit for the server to appear.
    #[arg(long, value_name = "SECS", default_value_t = 10, conflicts_with = "serve")]
    pub timeout: u64,

    /// Report on standard error each copy that a client makes.
    #[arg(short, long, requires = "serve", conflicts_with = "second")]
    pub verbose: bool,
}

/// A copy that a client makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From a path here to one at the server.
    Put { from: PathBuf, to: String },
    /// From a path at the server to one here.
    Get { from: String, to: PathBuf },
}

impl CopyArguments {
    /// Returns the place of a server's channels.
    pub fn server_place(&self) -> Result<ServerPlace, Failure> {
        let domains: Result<Domains, String> = self.first.parse();
        let domains = domains.map_err(|wrong| Failure::new(Code::Usage, wrong))?;
        Ok(ServerPlace { domains, location: self.location() })
    }

    /// Returns the server and what to copy, of a client.
    pub(crate) fn client(&self) -> Result<(Place, Direction), Failure> {
        let second = self.second.as_deref().unwrap_or_default();
        let (domain, direction) = match (remote(&self.first), remote(second)) {
            (None, Some((domain, to))) => {
                (domain, Direction::Put { from: self.first.clone().into(), to: to.into() })
            }
            (Some((domain, from)), None) => {
                (domain, Direction::Get { from: from.into(), to: second.into() })
            }
            (one, _) => {
                let what = if one.is_some() { "both are" } else { "none is" };
                let text = format!(
                    "one of the two must be at a server, as DOMID:PATH, and {what}; a local name with \
                     a colon is ./NAME"
                );
                return Err(Failure::new(Code::Usage, text));
            }
        };
        let Ok(domain) = domain.parse::<DomainArgument>();
        Ok((Place { domain, location: self.location() }, direction))
    }

    /// Finds what is wrong before anything is looked up.
    pub(crate) fn check(&self) -> Result<Location, Failure> {
        match self.serve {
            Some(_) => self.server_place().map(|place| place.location),
            None => self.client().map(|(place, _)| place.location),
        }
    }

    fn location(&self) -> Location {
        Location { port: Some(self.port.clone()), ..Location::default() }
    }
}

/// Splits the domain from the path of something at a server.
fn remote(text: &str) -> Option<(&str, &str)> {
    let (domain, path) = text.split_once(':')?;
    (!domain.is_empty() && !domain.contains('/')).then_some((domain, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_platform::DomId;

    fn args(first: &str, second: &str) -> CopyArguments {
        CopyArguments {
            first: first.into(),
            second: Some(second.into()),
            serve: None,
            read_only: false,
            port: PORT.into(),
            timeout: 10,
            verbose: false,
        }
    }

    #[test]
    fn one_of_two_paths_is_at_a_server() {
        let client = |first, second| args(first, second).client().map(|(p, d)| (p.domain, d));
        let domain = DomainArgument::Number(DomId(2));
        let put = Direction::Put { from: "a".into(), to: "b/c".into() };
        assert_eq!(client("a", "2:b/c"), Ok((domain.clone(), put)));
        let get = Direction::Get { from: "".into(), to: "./x:y".into() };
        assert_eq!(client("2:", "./x:y"), Ok((domain, get)));
        for (first, second) in [("a", "b"), ("1:a", "2:b"), ("./1:a", "b"), (":a", "b")] {
            assert_eq!(client(first, second).unwrap_err().code, Code::Usage, "{first} {second}");
        }
    }
}
