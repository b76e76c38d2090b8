//! Client and agent over a socket pair, on this machine.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::agent;

const SOON: Duration = Duration::from_secs(20);

/// A client, and the socket that its agent reads from.
fn connected() -> (Client, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = theirs.try_clone().unwrap();
    let output = Box::new(theirs.try_clone().unwrap());
    std::thread::spawn(move || agent::serve(theirs, output));
    let client = Client::new(ours.try_clone().unwrap(), ours);
    assert!(client.greeted(SOON).unwrap());
    (client, link)
}

fn request(words: &[&str]) -> Request {
    Request { argv: words.iter().map(|word| word.to_string()).collect(), ..Request::default() }
}

#[test]
fn a_process_has_output_errors_and_an_exit_code() {
    let (client, _link) = connected();
    let mut request = request(&["sh", "-c", "echo $WORD; pwd; echo bad >&2; exit 7"]);
    request.cwd = "/".to_string();
    request.env = vec![("WORD".to_string(), "said".to_string())];
    let finished = client.spawn(request).unwrap().wait(SOON).unwrap();
    assert_eq!(finished.status, Status::Code(7));
    assert_eq!((finished.text().as_str(), finished.stderr.as_str()), ("said\n/\n", "bad\n"));
    let error = finished.expect(0).unwrap_err().to_string();
    assert!(error.contains("exit code 7") && error.contains("bad"), "{error}");
}

#[test]
fn input_goes_in_and_its_end_too() {
    let (client, _link) = connected();
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let cat = client.spawn(request(&["cat"])).unwrap();
    cat.write(&data).unwrap();
    cat.close_stdin().unwrap();
    assert_eq!(cat.wait(SOON).unwrap().expect(0).unwrap().stdout, data);
}

#[test]
fn several_processes_run_at_a_time_and_signals_end_them() {
    let (client, _link) = connected();
    let cats: Vec<_> = (0..5).map(|_| client.spawn(request(&["cat"])).unwrap()).collect();
    for (number, cat) in cats.iter().enumerate() {
        cat.write(format!("cat {number}\n").as_bytes()).unwrap();
        cat.wait_for(&format!("cat {number}"), SOON).unwrap();
    }
    cats[2].signal(9).unwrap();
    assert_eq!(cats[2].wait(SOON).unwrap().status, Status::Signal(9));
    assert!(cats[3].running());
}

#[test]
fn what_cannot_start_says_why() {
    let (client, _link) = connected();
    let error = client.spawn(request(&["/nowhere/at-all"])).unwrap().wait(SOON).unwrap_err();
    assert!(format!("{error:#}").contains("cannot start /nowhere/at-all"), "{error:#}");
}

#[test]
fn waiting_has_an_end() {
    let (client, _link) = connected();
    let cat = client.spawn(request(&["cat"])).unwrap();
    assert!(cat.wait_for("nothing", Duration::from_millis(20)).is_err());
    client.set_limit(Some(Instant::now()));
    let error = cat.wait(SOON).unwrap_err().to_string();
    assert!(error.contains("still running"), "{error}");
}

#[test]
fn a_process_can_have_a_terminal() {
    let (client, _link) = connected();
    let mut request =
        request(&["sh", "-c", "test -t 0 && test -t 1 && read line && echo got $line"]);
    request.terminal = true;
    let process = client.spawn(request).unwrap();
    process.write(b"typed\n").unwrap();
    let finished = process.wait(SOON).unwrap().expect(0).unwrap();
    assert!(finished.text().contains("got typed"), "{:?}", finished.text());
}

#[test]
fn a_lost_link_ends_every_wait() {
    let (client, link) = connected();
    let cat = client.spawn(request(&["cat"])).unwrap();
    link.shutdown(Shutdown::Both).unwrap();
    assert!(format!("{:#}", cat.wait(SOON).unwrap_err()).contains("host is gone"));
}
