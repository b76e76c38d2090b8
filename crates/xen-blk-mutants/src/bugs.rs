//! The bugs: which text of the backend becomes which, and the test that finds it.

// The paths are written out for the build script, which is in another folder.
#[path = "bugs/checks.rs"]
mod checks;
#[path = "bugs/data.rs"]
mod data;
#[path = "bugs/handshake.rs"]
mod handshake;
#[path = "bugs/operations.rs"]
mod operations;
#[path = "bugs/requests.rs"]
mod requests;
#[path = "bugs/ring.rs"]
mod ring;
#[path = "bugs/several.rs"]
mod several;

/// A bug to switch on.
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// Edits of the source: file, text that is there once, text instead. `$was` stands for the old
    /// text, `$is` for the condition that the bug is on.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
    /// The disk, by the name that the tests have for it, on which it is looked for.
    pub disk: &'static str,
    /// The test that finds it there.
    pub test: &'static str,
}

type Edits = &'static [(&'static str, &'static str, &'static str)];

const fn bug(name: &'static str, disk: &'static str, test: &'static str, edits: Edits) -> Bug {
    Bug { name, edits, disk, test }
}

/// Returns all of them, by the stage of a request at which they strike.
pub fn all() -> impl Iterator<Item = &'static Bug> {
    [
        requests::BUGS,
        checks::BUGS,
        data::BUGS,
        operations::BUGS,
        ring::BUGS,
        several::BUGS,
        handshake::BUGS,
    ]
    .into_iter()
    .flatten()
}
