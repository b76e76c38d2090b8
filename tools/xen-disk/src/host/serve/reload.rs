//! A configuration that is read again while its disks are served.

use super::entry::Entry;
use super::{Host, Reach, Service, run_dir, say};
use crate::config::{self, Configuration, Spec};
use crate::{Failure, stack};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The needs of a configuration that the process has kept means for. Others cannot be had later.
#[derive(Clone, Default)]
pub(super) struct Granted {
    /// The configuration's file, if there is one.
    config: Option<PathBuf>,
    /// Files and folders of disks; `None` if these can be anywhere.
    files: Option<Vec<PathBuf>>,
    /// Some storage is reached through a network.
    pub network: bool,
    /// Sockets of servers of this machine.
    pub servers: Vec<PathBuf>,
}

impl Granted {
    /// Returns the needs of `configuration`, with those of disks in its folders.
    pub fn of(configuration: &Configuration) -> Result<Granted, Failure> {
        let mut granted = Granted {
            config: configuration.path.clone(),
            files: Some(configuration.folders.clone()),
            ..Granted::default()
        };
        for spec in &configuration.specs {
            let stack = spec.source.stack()?;
            granted.network |= stack::needs(&stack)?.network;
            granted.servers.extend(stack::sockets(&stack)?);
            granted.files = match (granted.files.take(), stack::files(&stack)?) {
                (Some(all), Some(more)) => Some([all, more].concat()),
                _ => None,
            };
        }
        Ok(granted)
    }

    /// Returns the files that this takes.
    pub fn reach(&self) -> Reach {
        let folder = |path: &PathBuf| path.parent().map(Path::to_path_buf);
        Reach {
            files: self.files.clone(),
            reads: self.config.iter().filter_map(folder).collect(),
            run_dir: run_dir(),
            makes_sockets: true,
            network: self.network,
            servers: self.servers.clone(),
        }
    }

    /// Returns the need of `spec` that is not met, in words.
    pub(super) fn lacks(&self, spec: &Spec) -> Result<Option<String>, Failure> {
        let stack = spec.source.stack()?;
        if stack::needs(&stack)?.network && !self.network {
            return Ok(Some("a network".into()));
        }
        if let Some(server) = stack::sockets(&stack)?.iter().find(|s| !self.servers.contains(s)) {
            return Ok(Some(format!("the socket {}", server.display())));
        }
        let reach = self.reach();
        match (&self.files, stack::files(&stack)?) {
            (None, _) => Ok(None),
            (Some(_), None) => Ok(Some("files that can be anywhere".into())),
            (Some(_), Some(files)) => Ok(files
                .iter()
                .find(|file| !reach.covers(file))
                .map(|file| format!("the file {}, outside of folders", file.display()))),
        }
    }
}

impl Host {
    /// Reads the configuration again: ends the disks that are no longer in it, begins new ones, and
    /// leaves all others alone. One that cannot be read changes nothing.
    pub(super) fn reload(self: &Rc<Self>, granted: &Granted, service: &Service) {
        let Some(path) = &granted.config else {
            return say("There is no configuration to read again.");
        };
        match config::read(path) {
            Ok(configuration) => self.follow(configuration.specs, granted, service),
            Err(failure) => say(&format!("xen-disk: everything stays as it was: {failure}")),
        }
    }

    fn follow(self: &Rc<Self>, specs: Vec<Spec>, granted: &Granted, service: &Service) {
        let old = self.entries.take();
        let (kept, gone): (Vec<_>, Vec<_>) =
            old.into_iter().partition(|entry| entry.is_added || specs.contains(&entry.spec));
        let added: Vec<Spec> =
            specs.into_iter().filter(|spec| !kept.iter().any(|k| k.spec == *spec)).collect();
        self.entries.replace(kept);
        for entry in &gone {
            say(&format!("{}: is no longer in the configuration as it was", entry.spec));
            entry.ending.ask();
        }
        let mut count = 0;
        for spec in added {
            let lacks = granted.lacks(&spec).unwrap_or_else(|failure| Some(failure.to_string()));
            if let Some(need) = lacks {
                say(&format!("xen-disk: {spec} needs {need}: start xen-disk again"));
                continue;
            }
            count += 1;
            self.begin(Entry::new(spec));
        }
        let text = format!(
            "Configuration read again: {count} disks added, {} taken away, {} in all",
            gone.len(),
            self.entries.borrow().len()
        );
        service.status(&text);
        say(&text);
    }
}
