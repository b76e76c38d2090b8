use super::*;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

#[test]
fn the_socket_is_where_the_tools_of_xen_look_for_it() {
    let set = |pairs: &'static [(&str, &str)]| {
        move |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
        }
    };
    assert_eq!(
        sockets(set(&[])),
        ["/run/xenstored/socket", "/var/run/xenstored/socket"].map(PathBuf::from)
    );
    assert_eq!(sockets(set(&[("XENSTORED_RUNDIR", "/x")])), [PathBuf::from("/x/socket")]);
    assert_eq!(
        sockets(set(&[("XENSTORED_RUNDIR", "/x"), ("XENSTORED_PATH", "/y/s")])),
        [PathBuf::from("/y/s")]
    );
}

#[test]
fn a_slow_and_narrow_socket_carries_everything_both_ways() {
    let linux = Linux::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (mut reader, mut writer) = split(&linux, sys::owned(ours), Way::Socket);
    let data: Vec<u8> = (0..2_000_000u32).map(|i| (i >> 5) as u8).collect();
    let other_end = std::thread::spawn(move || {
        let mut got = vec![0; 2_000_000];
        theirs.read_exact(&mut got).unwrap();
        (got, theirs)
    });
    linux.run(|spawner| async move {
        writer.write_all(&data).await.unwrap();
        let (got, mut theirs) = other_end.join().unwrap();
        assert!(got == data);

        let reading = spawner.spawn(async move {
            let mut to = [0; 8];
            let bytes = reader.read(&mut to).await.unwrap();
            (to[..bytes].to_vec(), reader.read(&mut to).await.unwrap())
        });
        xen_exec::yield_now().await;
        theirs.write_all(b"answer").unwrap();
        xen_exec::yield_now().await;
        drop(theirs);
        assert_eq!(reading.join().await, (b"answer".to_vec(), 0));
    });
}

/// The whole client over the socket transport, against a daemon that knows one key.
#[test]
fn the_client_asks_through_a_socket() {
    let linux = Linux::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (reader, writer) = split(&linux, sys::owned(ours), Way::Xenbus);
    let daemon = std::thread::spawn(move || {
        // struct xsd_sockmsg (io/xs_wire.h): type, req_id, tx_id, len.
        let mut header = [0; 16];
        theirs.read_exact(&mut header).unwrap();
        let mut path = vec![0; usize::from(header[12])];
        theirs.read_exact(&mut path).unwrap();
        header[12..].copy_from_slice(&1u32.to_ne_bytes());
        theirs.write_all(&[&header[..], b"7"].concat()).unwrap();
        path
    });
    let domid = linux.run(|spawner| async move {
        let (store, driver) = xen_store::connect(reader, writer);
        spawner.spawn(driver);
        own_domid(&store, Way::Xenbus).await.unwrap()
    });
    assert_eq!((domid, daemon.join().unwrap()), (DomId(7), b"domid\0".to_vec()));
}

/// The daemon's end answers each request only when it has seen that no other is behind it.
#[test]
fn the_device_gets_one_request_at_a_time() {
    let linux = Linux::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (reader, writer) = split(&linux, sys::owned(ours), Way::Xenbus);
    let device = std::thread::spawn(move || {
        for _ in 0..3 {
            let mut header = [0; 16];
            theirs.read_exact(&mut header).unwrap();
            let mut path = vec![0; usize::from(header[12])];
            theirs.read_exact(&mut path).unwrap();
            theirs.set_nonblocking(true).unwrap();
            let more = theirs.read(&mut [0]);
            theirs.set_nonblocking(false).unwrap();
            assert!(
                more.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
                "a request too early"
            );
            header[12..].copy_from_slice(&1u32.to_ne_bytes());
            theirs.write_all(&[&header[..], b"7"].concat()).unwrap();
        }
    });
    linux.run(|spawner| async move {
        let (store, driver) = xen_store::connect(reader, writer);
        spawner.spawn(driver);
        let reads = ["a", "b", "c"].map(|path| {
            let store = store.clone();
            spawner.spawn(async move { store.read(path).await })
        });
        for read in reads {
            assert_eq!(read.join().await.unwrap(), b"7");
        }
    });
    device.join().unwrap();
}

#[test]
fn every_way_that_failed_is_named() {
    let linux = Linux::new();
    let nowhere = |name: &str| (name == "XENSTORED_PATH").then(|| PathBuf::from("/nowhere/socket"));
    match open_transport(&linux, nowhere) {
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("/nowhere/socket: No such file")
                    && text.contains("/dev/xen/xenbus: "),
                "{text}"
            );
        }
        // In a Xen domain.
        Ok((_, way)) => assert_eq!(way, Way::Xenbus),
    }
}

#[test]
fn machine_without_xen_is_named_as_such() {
    let sockets = sockets(|_| None);
    if std::path::Path::new("/proc/xen").exists() || sockets.iter().any(|path| path.exists()) {
        return; // A Xen domain, or a machine where xenstored runs all the same.
    }
    let error = open_transport(&Linux::new(), |_| None).unwrap_err();
    let text = "this is no Xen domain: there is no /proc/xen; `make run` boots an emulated one";
    assert_eq!(error.to_string(), text);
    let error = Linux::new().open("evtchn", "xen-evtchn").unwrap_err();
    assert_eq!(error.to_string(), text);
}
