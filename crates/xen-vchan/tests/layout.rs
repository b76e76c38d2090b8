//! Places of vchans in xenstore.

mod common;

use common::{Bench, DOM0, GUEST};
use proptest::prelude::*;
use xen_platform::DomId;
use xen_store::path::PathError;
use xen_vchan::{
    ClientConfig, ConfigError, LIBXENVCHAN_PATH_MAX, Layout, Offer, ServerConfig,
    check_for_libxenvchan, connect, own_domid,
};

fn legacy(path: &str) -> Layout {
    Layout::Legacy { path: path.into() }
}

fn standard(port: &str) -> Layout {
    Layout::Standard { port: port.into() }
}

#[test]
fn each_custom_has_its_paths() {
    let (server, client) = (DomId(7), DomId(3));
    for (layout, near, far) in [
        (standard("echo"), "data/vchan/3/echo", "/local/domain/7/data/vchan/3/echo"),
        (legacy("data/vchan"), "data/vchan", "/local/domain/7/data/vchan"),
        (legacy("/tool/vchan"), "/tool/vchan", "/tool/vchan"),
    ] {
        assert_eq!(layout.server_path(client).unwrap(), near);
        assert_eq!(layout.client_path(server, client).unwrap(), far);
    }
}

proptest! {
    #[test]
    fn a_port_has_letters_digits_dashes_and_underlines(port in "[a-zA-Z0-9_-]{1,20}", wrong in "[^a-zA-Z0-9_-]") {
        let path = standard(&port).server_path(DOM0).unwrap();
        prop_assert_eq!(path, format!("data/vchan/0/{port}"));
        let character = wrong.chars().next();
        prop_assert_eq!(standard(&format!("{port}{wrong}")).server_path(DOM0), Err(ConfigError::PortName(character)));
    }
}

#[test]
fn what_is_no_path_is_refused_with_its_reason() {
    let empty = standard("").client_path(GUEST, DOM0).unwrap_err();
    assert_eq!(
        empty.to_string(),
        "the port's name is empty; a port's name has ASCII letters, digits, - and _"
    );
    let slash = standard("a/b").client_path(GUEST, DOM0).unwrap_err();
    assert!(slash.to_string().starts_with("the port's name has the character \"/\""), "{slash}");
    assert_eq!(
        legacy("data/vchan/").server_path(DOM0),
        Err(ConfigError::Path(PathError::EmptyPart))
    );
    let long = "a".repeat(2049);
    let too_long = ConfigError::Path(PathError::TooLong { len: 2049, max: 2048 });
    assert_eq!(legacy(&long).client_path(GUEST, DOM0), Err(too_long));
}

#[test]
fn libxenvchan_has_room_for_49_bytes() {
    assert_eq!(LIBXENVCHAN_PATH_MAX, 49);
    let path = |port: &str| standard(port).client_path(DomId(32_751), DomId(32_750)).unwrap();
    assert_eq!(check_for_libxenvchan(&path("twelve_bytes")), Ok(()));
    let error = check_for_libxenvchan(&path("thirteen_byte")).unwrap_err();
    assert_eq!(error, ConfigError::PathTooLong { len: 50, max: 49 });
}

#[test]
fn ends_that_agree_on_a_layout_meet() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        assert_eq!(own_domid(&guest.domain, &guest.store).await, Ok(GUEST));
        for layout in [
            standard("a"),
            standard("B-2_b"),
            legacy("data/vchan"),
            legacy("/local/domain/1/data/other"),
        ] {
            let path = layout.server_path(DOM0).unwrap();
            let config = ServerConfig::new(DOM0, path);
            let offer = Offer::publish(&guest.domain, &guest.store, &config).await.unwrap();
            let path = layout
                .client_path(GUEST, own_domid(&dom0.domain, &dom0.store).await.unwrap())
                .unwrap();
            let config = ClientConfig::new(GUEST, path).deadline(dom0.in_secs(1));
            let client = connect(&dom0.domain, &dom0.store, &config).await.unwrap();
            offer.accept().await.unwrap().close().await.unwrap();
            drop(client);
        }
    });
}
