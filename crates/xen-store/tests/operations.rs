//! Each request against the daemon, and the errors that name what is wrong.

mod common;

use common::{Counting, DOM0, Host, ONE, TWO};
use proptest::prelude::*;
use xen_platform::DomId;
use xen_store::path::PathError;
use xen_store::{Error, ErrorKind};

#[test]
fn nodes_are_written_read_listed_and_removed() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        store.write("data/vchan/ring-ref", b"17").await.unwrap();
        assert_eq!(daemon.get("/local/domain/1/data/vchan/ring-ref").unwrap(), b"17");
        assert_eq!(store.read("/local/domain/1/data/vchan/ring-ref").await.unwrap(), b"17");
        assert_eq!(store.read_string("data/vchan/ring-ref").await.unwrap(), "17");
        assert_eq!(store.read_number::<u8>("data/vchan/ring-ref").await.unwrap(), 17);

        store.mkdir("data/empty").await.unwrap();
        store.mkdir("data/vchan").await.unwrap();
        assert_eq!(store.read("data/empty").await.unwrap(), b"");
        assert_eq!(store.directory("data").await.unwrap(), ["empty", "vchan"]);
        assert_eq!(store.directory("data/empty").await.unwrap(), [""; 0]);

        store.rm("data/vchan").await.unwrap();
        store.rm("data/vchan").await.unwrap();
        assert!(store.read("data/vchan/ring-ref").await.unwrap_err().is_not_found());
        let orphan = store.rm("data/no/such").await.unwrap_err();
        assert_eq!(
            orphan.to_string(),
            "xenstore: cannot remove data/no/such: there is no such entry (ENOENT)"
        );
        store.rm("data/empty").await.unwrap();
        assert_eq!(store.directory("data").await.unwrap(), [""; 0]);
    });
}

#[test]
fn domains_are_looked_up() {
    let mut host = Host::new();
    let (store, guest, daemon) = (host.client(DOM0), host.client(TWO), host.daemon.clone());
    host.run(async move {
        let refused = guest.is_domain_introduced(DOM0).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Access, "{refused}");
        assert_eq!(store.domain_path(TWO).await.unwrap(), "/local/domain/2");
        assert!(store.is_domain_introduced(TWO).await.unwrap());
        daemon.release(TWO);
        assert!(!store.is_domain_introduced(TWO).await.unwrap());
        assert!(!store.is_domain_introduced(DomId(77)).await.unwrap());
    });
}

#[test]
fn values_that_are_no_numbers_are_quoted() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(DOM0), host.daemon.clone());
    host.run(async move {
        for text in ["", "+1", "-1", " 1", "1\n", "0x1", "70000", "99999999999999999999"] {
            daemon.set("/n", text);
            let error = store.read_number::<u16>("/n").await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotNumber(text.into()));
            assert_eq!(error.path, "/n");
        }
        daemon.set("/n", "65535");
        assert_eq!(store.read_number::<u16>("/n").await.unwrap(), 65535);
        daemon.set("/n", b"\xff");
        assert_eq!(store.read_string("/n").await.unwrap_err().kind, ErrorKind::NotText);
    });
}

#[test]
fn what_would_cost_the_connection_is_not_sent() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let path = "data/x";
        let most = 4096 - 16 - path.len() - 1;
        let error = store.write(path, &vec![b'a'; most + 1]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLong { len: 4081, max: 4080 });
        assert_eq!(daemon.get("/local/domain/1/data/x"), None);
        store.write(path, &vec![b'a'; most]).await.unwrap();
        assert_eq!(store.read(path).await.unwrap().len(), most);

        let slash = store.read("/local/domain/").await.unwrap_err();
        assert_eq!(slash.kind, ErrorKind::Path(PathError::EmptyPart));
        let nul = store.watch("data\0").await.err().unwrap();
        assert_eq!(nul.kind, ErrorKind::Path(PathError::Character('\0')));
    });
}

#[test]
fn a_long_directory_comes_in_parts() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(DOM0), host.daemon.clone());
    daemon.limit_transfer(7);
    let names: Vec<String> = (0..700).map(|n| format!("entry-number-{n:04}")).collect();
    names.iter().for_each(|name| daemon.set(&format!("/big/{name}"), ""));
    assert_eq!(host.run(async move { store.directory("/big").await }).unwrap(), names);
}

#[test]
fn a_long_directory_that_changes_meanwhile_is_listed_anew() {
    let mut host = Host::new();
    let daemon = host.daemon.clone();
    (0..700).for_each(|n| daemon.set(&format!("/big/entry-number-{n:04}"), ""));
    let (reader, inner) = daemon.connect(DOM0);
    // The third message asks for the second part.
    let before = move |message| {
        if message == 3 {
            daemon.remove("/big/entry-number-0000");
        }
    };
    let (store, driver) = xen_store::connect(reader, Counting { inner, messages: 0, before });
    host.sim.spawn(&host.sim.domain(0), driver);
    let names = host.run(async move { store.directory("/big").await }).unwrap();
    assert_eq!(names.len(), 699);
    assert_eq!(names[0], "entry-number-0001");
    assert!(names.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_long_directory_that_never_rests_is_given_up() {
    let mut host = Host::new();
    let daemon = host.daemon.clone();
    (0..700).for_each(|n| daemon.set(&format!("/big/entry-number-{n:04}"), ""));
    let (reader, inner) = daemon.connect(DOM0);
    let before = move |message: usize| daemon.set(&format!("/big/new-{message}"), "");
    let (store, driver) = xen_store::connect(reader, Counting { inner, messages: 0, before });
    host.sim.spawn(&host.sim.domain(0), driver);
    let error: Error = host.run(async move { store.directory("/big").await }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Again);
}

proptest! {
    #[test]
    fn any_value_comes_back_as_it_was(
        path in "/[a-zA-Z0-9_@-]{1,9}(/[a-zA-Z0-9_@-]{1,9}){0,3}",
        value in proptest::collection::vec(any::<u8>(), 0..200),
        piece in 1..64usize,
    ) {
        let mut host = Host::new();
        host.daemon.limit_transfer(piece);
        let (store, written) = (host.client(DOM0), value.clone());
        let read = host.run(async move {
            store.write(&path, &written).await?;
            store.read(&path).await
        });
        prop_assert_eq!(read.unwrap(), value);
    }
}
