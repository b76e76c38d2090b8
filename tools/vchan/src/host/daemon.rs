//! `vchan serve`: the services of a configuration, for systemd too.

use crate::host::child;
use crate::host::local::Local;
use crate::other;
use embassy_futures::select::{Either, select};
use sd_notify::NotifyState;
use std::cell::RefCell;
use std::rc::Rc;
use tools_common::report;
use vchan::{
    Failure, FileServer, Fleet, LocalAddress, ServeArguments, Service, Session, Target,
    read_services,
};
use xen_linux::{Linux, Signal, Signals};
use xen_platform::{DomId, EventCounter};

/// Serves until a request to stop comes. SIGHUP has the configuration read again.
pub(crate) async fn run(
    linux: &Linux,
    session: Session<'_, Linux>,
    args: &ServeArguments,
) -> Result<(), Failure> {
    let hangups = Signals::none(linux).and(Signal::Hangup).map_err(other)?;
    let services = RefCell::new(read_services(args)?);
    warn(&services.borrow());
    let changes = EventCounter::new();
    let reloading = async {
        loop {
            hangups.next().await;
            reload(args, &services);
            changes.signal();
        }
    };
    let current = || services.borrow().clone();
    let ready = || {
        report(&format!("Serving {}", names(&services.borrow())));
        notify(&[NotifyState::Ready]);
    };
    let fleet = Fleet { services: &current, changes: &changes, ready: &ready, once: false };
    let serve_one = async |session: Session<'_, Linux>, service: &Service, domain| {
        serve(linux, session, service, domain).await
    };
    let serving = async {
        let ended = vchan::serve_fleet(session, &fleet, serve_one).await;
        notify(&[NotifyState::Stopping]);
        ended
    };
    match select(serving, reloading).await {
        Either::First(ended) => ended,
        Either::Second(never) => never,
    }
}

/// Reads the configuration again. One that is wrong changes nothing.
fn reload(args: &ServeArguments, services: &RefCell<Vec<Rc<Service>>>) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    match read_services(args) {
        Ok(fresh) => {
            warn(&fresh);
            report(&format!("Serving {}", names(&fresh)));
            services.replace(fresh);
        }
        Err(failure) => report(&format!("vchan: {failure}; the services stay as they were")),
    }
    notify(&[NotifyState::Ready]);
}

/// Reports services whose program is not there. It may come before their first client does.
fn warn(services: &[Rc<Service>]) {
    for service in services {
        if let Target::Command { words, .. } = &service.target
            && let Err(failure) = child::check(&words[0])
        {
            report(&format!("vchan: service {}: {failure}", service.name));
        }
    }
}

fn names(services: &[Rc<Service>]) -> String {
    let names: Vec<&str> = services.iter().map(|service| &*service.name).collect();
    names.join(", ")
}

/// Tells systemd, where it has started this program.
fn notify(state: &[NotifyState<'_>]) {
    // Without systemd nobody listens, and nothing depends on it.
    let _ = sd_notify::notify(state);
}

/// Offers a service to one of its domains.
async fn serve(
    linux: &Linux,
    session: Session<'_, Linux>,
    service: &Service,
    domain: DomId,
) -> Result<(), Failure> {
    let local = match &service.target {
        Target::Command { words, pty } => {
            let args = service.exec_arguments(domain, words, *pty);
            return child::exec(linux, session, &args).await;
        }
        Target::Files { dir, read_only } => {
            let Service { clients, sizes, verbose, .. } = *service;
            let files = FileServer::open(dir, *read_only, clients, sizes, verbose)?;
            return vchan::serve_files(session, &service.server_place(domain), &files).await;
        }
        Target::Unix(path) => LocalAddress { unix: Some(path.clone()), tcp: None, pty: false },
        Target::Tcp(address) => LocalAddress { unix: None, tcp: Some(*address), pty: false },
    };
    let args = service.proxy_arguments(domain, local);
    let local = Local::open(linux, &args)?;
    vchan::proxy(session, &args, async || local.next().await).await
}
