//! A terminal in raw mode gets its settings back, however the program goes on.

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::panic::catch_unwind;
use xen_linux::Terminal;

/// A pseudo terminal: its master and its slave.
fn pair() -> (rustix::fd::OwnedFd, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    (master, OpenOptions::new().read(true).write(true).open(name).unwrap())
}

/// Returns true if the terminal of `master` echoes and collects lines.
fn is_cooked(master: &rustix::fd::OwnedFd) -> bool {
    let modes = tcgetattr(master).unwrap().local_modes;
    modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
}

/// One test: the mode is that of the whole program.
#[test]
fn raw_mode_ends_with_its_guard_and_with_a_panic() {
    let (master, slave) = pair();
    let terminal = Terminal::new(OwnedFd::from(slave)).unwrap();
    assert_eq!(terminal.size(), None);
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    assert_eq!(terminal.size(), Some((80, 24)));

    let raw = terminal.make_raw().unwrap();
    assert!(!is_cooked(&master));
    assert!(terminal.make_raw().is_err(), "it is raw already");
    drop(raw);
    assert!(is_cooked(&master));

    let raw = terminal.make_raw().unwrap();
    catch_unwind(|| panic!("on purpose")).unwrap_err();
    assert!(is_cooked(&master), "the hook of a panic did not restore it");
    drop(raw);
    assert!(is_cooked(&master));
}

#[test]
fn file_is_no_terminal() {
    let file = File::open("/dev/null").unwrap();
    assert!(Terminal::new(OwnedFd::from(file)).is_err());
}
