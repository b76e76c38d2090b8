//! Orders to a server of many disks, over its socket.

use super::entry::Entry;
use super::opened::QUESTION;
use super::reload::Granted;
use super::{Host, Service, run_dir, say};
use crate::config::Entry as Keys;
use crate::control::service::{self, Listed, Name, Order, Reply};
use crate::control::{self, Question};
use crate::report::{Report, metrics};
use crate::{Failure, Vdev};
use std::rc::Rc;
use xen_linux::{LocalListener, SocketAccess, Streams};
use xen_platform::{Clock, deadline};

impl Host {
    /// Makes the socket for orders; another server may have it.
    pub(super) fn listen_for_orders(&self) -> Option<LocalListener> {
        let path = service::socket(&run_dir());
        let made = LocalListener::unix(&self.linux, &path, &SocketAccess::default());
        made.inspect_err(|error| {
            say(&format!("xen-disk: takes no orders at {}: {error}", path.display()));
        })
        .ok()
    }

    /// Obeys orders, several clients at a time.
    pub(super) async fn take_orders(
        self: Rc<Self>,
        listener: LocalListener,
        granted: Granted,
        service: Rc<Service>,
    ) {
        loop {
            let (from, to): Streams = match listener.accept().await {
                Ok(streams) => streams,
                Err(error) => {
                    say(&format!("xen-disk: the socket for orders fails: {error}"));
                    continue;
                }
            };
            let (host, granted, service) = (self.clone(), granted.clone(), service.clone());
            self.spawner.spawn(async move {
                let at = host.linux.now() + QUESTION;
                let answer = async |line: &[u8]| match service::parse(line) {
                    Ok(order) => host.carry_out(order, &granted, &service).await,
                    Err(wrong) => Reply::Failed(wrong),
                };
                let _ = deadline(&host.linux, Some(at), control::converse(from, to, answer)).await;
            });
        }
    }

    async fn carry_out(
        self: &Rc<Self>,
        order: Order,
        granted: &Granted,
        service: &Service,
    ) -> Reply {
        match order {
            Order::List => Reply::List(self.listed()),
            Order::Metrics => Reply::Metrics(self.metrics()),
            Order::Reload => {
                self.reload(granted, service);
                Reply::Done
            }
            Order::Add(keys) => match self.add(*keys, granted) {
                Ok(()) => Reply::Done,
                Err(why) => Reply::Failed(why),
            },
            Order::Remove(name) => match self.find(&name) {
                Some(entry) => {
                    self.entries.borrow_mut().retain(|other| !Rc::ptr_eq(other, &entry));
                    entry.ending.ask();
                    Reply::Done
                }
                None => missing(&name),
            },
            Order::Disk(name, question) => match self.find(&name) {
                Some(entry) => self.ask(&entry, question).await,
                None => missing(&name),
            },
        }
    }

    fn add(self: &Rc<Self>, keys: Keys, granted: &Granted) -> Result<(), String> {
        let spec = keys.spec()?;
        let same =
            |entry: &Rc<Entry>| (&entry.spec.domain, entry.spec.vdev) == (&spec.domain, spec.vdev);
        if self.entries.borrow().iter().any(same) {
            return Err(format!("{spec} is there already"));
        }
        spec.source.check().map_err(|failure: Failure| failure.to_string())?;
        match granted.lacks(&spec).map_err(|failure| failure.to_string())? {
            Some(need) => Err(format!("{spec} needs {need}: write it into the configuration")),
            None => {
                self.begin(Entry::added(spec));
                Ok(())
            }
        }
    }

    fn find(&self, name: &Name) -> Option<Rc<Entry>> {
        let vdev: Vdev = name.vdev.parse().ok()?;
        let Ok(domain) = name.vm.parse();
        let entries = self.entries.borrow();
        let found = entries.iter().find(|e| e.spec.domain == domain && e.spec.vdev == Some(vdev));
        found.cloned()
    }

    async fn ask(&self, entry: &Entry, question: Question) -> Reply {
        let Some((disk, since)) = entry.ending.served() else {
            return Reply::Failed(format!("{} waits for its domain", entry.spec));
        };
        let seconds = self.linux.now().since(since).as_secs_f64();
        Reply::Disk(control::answer(&disk, seconds, question).await)
    }

    fn listed(&self) -> Vec<Listed> {
        let entries = self.entries.borrow();
        let listed = entries.iter().map(|entry| Listed {
            name: Name {
                vm: entry.spec.domain.to_string(),
                vdev: entry.spec.vdev.map(|vdev| vdev.to_string()).unwrap_or_default(),
            },
            stack: entry.spec.source.stack().unwrap_or_default(),
            added: entry.is_added,
            served: entry.ending.served().map(|(disk, since)| {
                Report::of(&disk, self.linux.now().since(since).as_secs_f64())
            }),
        });
        listed.collect()
    }

    fn metrics(&self) -> String {
        let listed = self.listed();
        let disks = listed.iter().map(|listed| metrics::Disk {
            domain: listed.served.as_ref().map(|report| report.domain).unwrap_or_default(),
            name: &listed.name.vm,
            disk: &listed.name.vdev,
            report: listed.served.as_ref(),
        });
        metrics::metrics(&disks.collect::<Vec<_>>())
    }
}

fn missing(name: &Name) -> Reply {
    Reply::Failed(format!("there is no disk {} of {} here", name.vdev, name.vm))
}
