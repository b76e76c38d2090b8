//! The handshake: each table by itself, and both against each other in every order of events.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use xen_abi::xenbus::State;
use xen_blk::protocol::handshake::{BackStep, FrontStep, back, front};

const ALL: [State; 9] = [
    State::UNKNOWN,
    State::INITIALISING,
    State::INIT_WAIT,
    State::INITIALISED,
    State::CONNECTED,
    State::CLOSING,
    State::CLOSED,
    State::RECONFIGURING,
    State::RECONFIGURED,
];

#[test]
fn frontend_has_a_step_for_each_pair() {
    use FrontStep::*;
    // One row for each own state; the columns are the peer's, from Unknown to Reconfigured.
    let rows = [
        (State::INITIALISING, [Wait, Wait, Publish, Reset, Reset, Reset, Wait, Wait, Wait]),
        (State::INITIALISED, [Lost, Wait, Wait, Wait, Connect, Close, Restart, Wait, Wait]),
        (State::CONNECTED, [Lost, Restart, Restart, Restart, Refresh, Close, Restart, Wait, Wait]),
        (State::CLOSING, [Wait; 9]),
        (State::CLOSED, [Wait, Restart, Restart, Wait, Wait, Wait, Restart, Wait, Wait]),
    ];
    for (mine, steps) in rows {
        for (theirs, step) in ALL.into_iter().zip(steps) {
            assert_eq!(front(mine, theirs), step, "frontend in {mine}, backend in {theirs}");
        }
        assert_eq!(
            front(mine, State(77)),
            Wait,
            "frontend in {mine}, backend in no state there is"
        );
    }
}

#[test]
fn backend_has_a_step_for_each_pair() {
    use BackStep::*;
    let rows = [
        (State::INITIALISING, [Gone, Offer, Wait, Connect, Connect, Closed, Offer, Wait, Wait]),
        (State::INIT_WAIT, [Gone, Wait, Wait, Connect, Connect, Closed, Wait, Wait, Wait]),
        (State::CONNECTED, [Gone, Closed, Wait, Wait, Wait, Close, Closed, Wait, Wait]),
        (State::CLOSING, [Gone, Wait, Wait, Wait, Wait, Wait, Closed, Wait, Wait]),
        (State::CLOSED, [Gone, Offer, Wait, Wait, Wait, Wait, Wait, Wait, Wait]),
    ];
    for (mine, steps) in rows {
        for (theirs, step) in ALL.into_iter().zip(steps) {
            assert_eq!(back(mine, theirs), step, "backend in {mine}, frontend in {theirs}");
        }
    }
}

/// Both ends, as they act on their tables. A step reads the peer's state and later, when the peer
/// may have moved on, writes its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    front: End<FrontStep>,
    back: End<BackStep>,
    /// The connection that the frontend's keys lead to, and the one that the backend has mapped.
    published: u8,
    mapped: Option<u8>,
    /// The frontend has seen that the disk is unplugged or lost, and is done with it.
    done: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct End<S> {
    /// The state that it wrote last, as it knows.
    mine: State,
    /// The state in xenstore: another than `mine` if it is left from an earlier life.
    key: State,
    /// The step that it is about to carry out.
    next: Option<S>,
}

impl<S> End<S> {
    fn at(state: State) -> Self {
        End { mine: state, key: state, next: None }
    }
    fn write(self, state: State) -> Self {
        End::at(state)
    }
}

fn fresh() -> World {
    let start = State::INITIALISING;
    World { front: End::at(start), back: End::at(start), published: 0, mapped: None, done: false }
}

/// Every world that one move of one end leads to.
fn moves(world: World) -> Vec<World> {
    let front_moves = match world.front.next {
        _ if world.done => vec![],
        None => {
            vec![World {
                front: End { next: Some(front(world.front.mine, world.back.key)), ..world.front },
                ..world
            }]
        }
        Some(step) => front_acts(world, step),
    };
    let back_moves = match world.back.next {
        None => vec![World {
            back: End { next: Some(back(world.back.mine, world.front.key)), ..world.back },
            ..world
        }],
        Some(step) => back_acts(world, step),
    };
    front_moves.into_iter().chain(back_moves).filter(|next| *next != world).collect()
}

fn front_acts(world: World, step: FrontStep) -> Vec<World> {
    let idle = World { front: End { next: None, ..world.front }, ..world };
    let to = |state| World { front: world.front.write(state), ..world };
    vec![match step {
        FrontStep::Wait | FrontStep::Refresh => idle,
        FrontStep::Publish => {
            World { published: (world.published + 1) % 3, ..to(State::INITIALISED) }
        }
        // The event channel tells whether the backend has taken these rings or older ones.
        FrontStep::Connect if world.mapped == Some(world.published) => to(State::CONNECTED),
        FrontStep::Restart => to(State::INITIALISING),
        // `Closing` is written first, but need not be seen by anyone.
        FrontStep::Connect | FrontStep::Reset => {
            return vec![
                World { front: End { key: State::CLOSING, ..world.front }, ..world },
                to(State::CLOSED),
            ];
        }
        FrontStep::Close | FrontStep::Lost => World { done: true, ..to(State::CLOSED) },
    }]
}

fn back_acts(world: World, step: BackStep) -> Vec<World> {
    let idle = World { back: End { next: None, ..world.back }, ..world };
    let to = |state| World { back: world.back.write(state), ..world };
    vec![match step {
        BackStep::Wait | BackStep::Gone => idle,
        BackStep::Offer => to(State::INIT_WAIT),
        BackStep::Connect => World { mapped: Some(world.published), ..to(State::CONNECTED) },
        BackStep::Close => to(State::CLOSING),
        BackStep::Closed => World { mapped: None, ..to(State::CLOSED) },
    }]
}

/// All worlds that can come of some, with all moves between them.
fn explore(starts: impl IntoIterator<Item = World>) -> HashMap<World, Vec<World>> {
    let mut known = HashMap::new();
    let mut open: Vec<World> = starts.into_iter().collect();
    while let Some(world) = open.pop() {
        if let Entry::Vacant(new) = known.entry(world) {
            open.extend(new.insert(moves(world)).iter());
        }
    }
    known
}

/// The worlds from which a good one can be reached.
fn can_reach(worlds: &HashMap<World, Vec<World>>, good: impl Fn(&World) -> bool) -> HashSet<World> {
    let mut reach: HashSet<World> = worlds.keys().filter(|world| good(world)).copied().collect();
    loop {
        let more: Vec<World> = worlds
            .iter()
            .filter(|(w, next)| !reach.contains(w) && next.iter().any(|n| reach.contains(n)))
            .map(|(w, _)| *w)
            .collect();
        if more.is_empty() {
            return reach;
        }
        reach.extend(more);
    }
}

/// Both are connected, by the same rings, and neither is about to do anything but wait.
fn connected(world: &World) -> bool {
    let calm = matches!(world.front.next, None | Some(FrontStep::Wait | FrontStep::Refresh))
        && matches!(world.back.next, None | Some(BackStep::Wait));
    let both = world.front.mine == State::CONNECTED && world.back.mine == State::CONNECTED;
    both && calm && world.mapped == Some(world.published)
}

/// From everywhere a connection can be reached, and what is connected stays so.
fn always_connects(starts: impl IntoIterator<Item = World>) {
    let worlds = explore(starts);
    let reach = can_reach(&worlds, connected);
    for (world, next) in &worlds {
        assert!(
            reach.contains(world),
            "no way to a connection from {world:?}, of {} worlds",
            worlds.len()
        );
        assert!(!world.done, "given up: {world:?}");
        if connected(world) {
            assert!(next.iter().all(connected), "a connection is left: {world:?} to {next:?}");
        }
    }
    assert!(worlds.keys().any(connected));
}

#[test]
fn fresh_ends_always_connect() {
    always_connects([fresh()]);
}

#[test]
fn restarted_frontend_always_connects() {
    // Its key still says what the one before had written, and the backend is anywhere with that
    // one.
    let backs = [State::INIT_WAIT, State::CONNECTED, State::CLOSING, State::CLOSED];
    let keys =
        [State::INITIALISING, State::INITIALISED, State::CONNECTED, State::CLOSING, State::CLOSED];
    for back in backs {
        for key in keys {
            let mut world = fresh();
            world.back = End::at(back);
            world.mapped = (back == State::CONNECTED || back == State::CLOSING).then_some(0);
            // A frontend begins by closing for the one before, if the backend is busy with that
            // one.
            let busy = [State::CONNECTED, State::CLOSING].contains(&back);
            world.front = End::at(if busy && key != State::INITIALISING {
                State::CLOSED
            } else {
                State::INITIALISING
            });
            always_connects([world]);
        }
    }
}

#[test]
fn restarted_backend_always_connects() {
    let connected = World {
        front: End::at(State::CONNECTED),
        back: End::at(State::INITIALISING),
        published: 1,
        mapped: None,
        done: false,
    };
    always_connects([connected]);
    always_connects([World { back: End::at(State::INIT_WAIT), ..connected }]);
    // The one before had only just mapped the rings.
    always_connects([World { front: End::at(State::INITIALISED), ..connected }]);
}

#[test]
fn closing_end_closes_the_other() {
    let mut world = fresh();
    (world.front, world.back) = (End::at(State::CONNECTED), End::at(State::CONNECTED));
    (world.published, world.mapped) = (1, Some(1));
    // The backend closes: the frontend is done, and the backend lets go.
    let worlds = explore([World { back: End::at(State::CLOSING), ..world }]);
    let reach = can_reach(&worlds, |world| {
        world.done && world.back.mine == State::CLOSED && world.mapped.is_none()
    });
    assert!(worlds.keys().all(|world| reach.contains(world)));
    // The frontend closes, as `Bus::close` does.
    for state in [State::CLOSING, State::CLOSED] {
        let closing = World { front: End::at(state), done: true, ..world };
        let worlds = explore([closing]);
        let wanted = if state == State::CLOSING { State::CLOSING } else { State::CLOSED };
        let reach = can_reach(&worlds, |world| world.back.mine == wanted);
        assert!(worlds.keys().all(|world| reach.contains(world)));
    }
}
