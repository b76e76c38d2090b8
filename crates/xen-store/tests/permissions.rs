//! Permissions of nodes.

mod common;

use common::{DOM0, Host, ONE, TWO};
use xen_store::{Access, ErrorKind, Permissions};

#[test]
fn a_third_domain_cannot_read_what_is_shared_with_one() {
    let mut host = Host::new();
    let (one, two, dom0) = (host.client(ONE), host.client(TWO), host.client(DOM0));
    host.daemon.introduce(xen_platform::DomId(3));
    let three = host.client(xen_platform::DomId(3));
    host.run(async move {
        let path = "/local/domain/1/data/ring-ref";
        let permissions = Permissions::shared_with(ONE, TWO, Access::Read);
        one.write(path, b"8").await.unwrap();
        one.set_permissions(path, &permissions).await.unwrap();
        assert_eq!(one.permissions(path).await.unwrap(), permissions);

        assert_eq!(two.read(path).await.unwrap(), b"8");
        assert_eq!(dom0.read(path).await.unwrap(), b"8");
        assert_eq!(two.write(path, b"9").await.unwrap_err().kind, ErrorKind::Access);
        assert_eq!(
            two.set_permissions(path, &permissions).await.unwrap_err().kind,
            ErrorKind::Access
        );
        assert_eq!(three.read(path).await.unwrap_err().kind, ErrorKind::Access);
        assert_eq!(three.permissions(path).await.unwrap_err().kind, ErrorKind::Access);
    });
}

#[test]
fn new_nodes_inherit_but_belong_to_their_maker() {
    let mut host = Host::new();
    let (one, dom0, daemon) = (host.client(ONE), host.client(DOM0), host.daemon.clone());
    host.run(async move {
        one.write("data/own", b"").await.unwrap();
        assert_eq!(daemon.permissions("/local/domain/1/data/own").unwrap(), "n1");

        daemon.set("/open", "");
        daemon.set_permissions("/open", "n0 b1 r2");
        one.write("/open/a/b", b"").await.unwrap();
        assert_eq!(daemon.permissions("/open/a").unwrap(), "n1 b1 r2");
        dom0.write("/open/a/c", b"").await.unwrap();
        assert_eq!(daemon.permissions("/open/a/c").unwrap(), "n1 b1 r2");
    });
}

#[test]
fn a_guest_stays_within_its_bounds() {
    let mut host = Host::new();
    let (one, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        assert_eq!(one.write("elsewhere", b"").await.unwrap_err().kind, ErrorKind::Access);
        assert_eq!(one.rm("/local/domain/2").await.unwrap_err().kind, ErrorKind::Access);
        // A missing node in a folder that it cannot read looks the same as one that it cannot read.
        assert_eq!(one.read("/local/domain/2/data/x").await.unwrap_err().kind, ErrorKind::Access);
        assert_eq!(one.read("no-such").await.unwrap_err().kind, ErrorKind::NoEntry);
        // Only dom0 gives nodes away.
        let away = Permissions::private(TWO);
        assert_eq!(
            one.set_permissions("data", &away).await.unwrap_err().kind,
            ErrorKind::NotPermitted
        );
        assert_eq!(daemon.permissions("/local/domain/1/data").unwrap(), "n1");
    });
}
