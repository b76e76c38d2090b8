//! One turn of the world: events are delivered, or time passes.

use super::port::{Events, Link};
use crate::World;
use std::fmt::Write;
use std::rc::Rc;
use xen_exec::Turn;
use xen_platform::{DomId, Port};

/// Number of turns without time passing after which the tasks only keep each other busy.
const TURN_LIMIT: u64 = 1_000_000;

impl World {
    /// Delivers pending events. If there are none and no task can move, pauses end, or time jumps
    /// to the next timer.
    ///
    /// Panics if nothing can ever happen again (deadlock), and if tasks move without end while time
    /// stands still.
    pub fn turn(&self, turn: Turn) {
        let turns = self.0.turns.get() + 1;
        self.0.turns.set(turns);
        assert!(
            turns < TURN_LIMIT,
            "livelock: {turns} turns and no time passed\n{}",
            self.who_waits()
        );
        let at_least = if turn == Turn::Idle { 1 } else { 0 };
        if self.deliver(at_least) || turn == Turn::Busy {
            return;
        }
        if self.0.yields.is_awaited() {
            self.0.yields.signal();
            return;
        }
        match self.0.timers.next() {
            Some(at) => {
                self.0.turns.set(0);
                self.0.now.set(self.now().max(at));
                self.0.timers.fire(self.now());
            }
            None => panic!(
                "deadlock: every task waits, no event is pending, no timer is set\n{}",
                self.who_waits()
            ),
        }
    }

    /// Delivers pending events, in a world with a seed some of them, in any order; says whether
    /// there were any.
    fn deliver(&self, at_least: usize) -> bool {
        let mut pending = self.pending();
        let take = self.pick(&mut pending, at_least);
        let ready: Vec<Rc<Events>> = {
            let mut state = self.0.state.borrow_mut();
            pending
                .drain(..take)
                .map(|(domid, number)| {
                    let port = state.port(domid, number).expect("just listed");
                    if port.pending {
                        port.pending = false;
                    } else {
                        port.spurious -= 1;
                    }
                    port.events.clone()
                })
                .collect()
        };
        ready.iter().for_each(|events| events.signal());
        !ready.is_empty()
    }

    fn pending(&self) -> Vec<(DomId, Port)> {
        let state = self.0.state.borrow();
        let ports = state
            .domains
            .iter()
            .flat_map(|(domid, domain)| domain.ports.iter().map(|port| (*domid, port)));
        ports
            .filter(|(_, (_, port))| port.pending || port.spurious > 0)
            .map(|(domid, (port, _))| (domid, *port))
            .collect()
    }

    /// For each domain, its unfinished tasks and the ports that somebody waits on, as lines of
    /// text.
    fn who_waits(&self) -> String {
        let state = self.0.state.borrow();
        let mut text = String::new();
        for (domid, domain) in &state.domains {
            let tasks: usize =
                domain.processes.iter().filter_map(|p| p.upgrade()).map(|p| p.unfinished()).sum();
            write!(text, "  domain {domid}: {tasks} unfinished tasks")
                .expect("writing to a string");
            for (number, port) in domain.ports.iter().filter(|(_, port)| port.events.waiting.get())
            {
                match port.link {
                    Link::Unbound { peer } => {
                        write!(text, ", waits on port {number} (unbound, for domain {peer})")
                    }
                    Link::Bound { peer, port } => {
                        write!(
                            text,
                            ", waits on port {number} (bound to port {port} of domain {peer})"
                        )
                    }
                }
                .expect("writing to a string");
            }
            text.push('\n');
        }
        text
    }
}
