//! `vchan exec` describes its client to the program that serves it.

mod common;

use common::{Bench, DOM0, GUEST, program};
use std::cell::RefCell;
use vchan::{
    Child, Client, ExecArguments, Failure, Location, Program, RingSizes, ServerPlace, Stop,
};
use xen_vchan::ClientConfig;

/// A program that ends with its streams.
struct Ends;

impl Child for Ends {
    async fn wait(&mut self) -> Result<u8, Failure> {
        Ok(0)
    }
    fn terminate(&mut self) {}
    fn kill(&mut self) {}
}

/// Serves one client of the guest at `location`; returns how its program saw it.
fn served(location: Location, path: &'static str) -> Client {
    let mut bench = Bench::new();
    let ((guest, guest_store), (dom0, store)) = (bench.host(GUEST), bench.host(DOM0));
    bench.sim.spawn(&guest.clone(), async move {
        let config = ClientConfig::new(DOM0, path);
        let connection = xen_vchan::connect(&guest, &guest_store, &config).await.unwrap();
        connection.close().await.unwrap();
    });
    let args = ExecArguments {
        place: ServerPlace { location, ..common::server_place(GUEST) },
        sizes: RingSizes { left: 4096, right: 4096 },
        once: true,
        timeout: None,
        pty: false,
        grace: 10,
        clients: 64,
        verbose: false,
        command: Vec::new(),
    };
    bench.sim.run(async move {
        let (stop, client) = (Stop::new(), RefCell::new(None));
        let start = async |of: &Client| {
            client.replace(Some(of.clone()));
            let (output, input) = program(usize::MAX);
            Ok(Program { output, input, child: Ends })
        };
        let result = vchan::exec(common::quiet(&dom0, &store, &stop), &args, start).await;
        assert_eq!(result, Ok(()));
        client.into_inner().expect("a program was started")
    })
}

#[test]
fn program_is_told_domain_name_and_service() {
    let log = || Some("log".to_string());
    for (location, path, port) in [
        (Location::default(), "data/vchan", None),
        (Location { port: log(), ..Location::default() }, "data/vchan/1/log", log()),
        (Location { service: log(), ..Location::default() }, "data/vchan/1/log", log()),
    ] {
        let set = served(location, path).environment();
        let expected = [
            ("VCHAN_PEER_DOMID", Some("1".to_string())),
            ("VCHAN_PEER_NAME", Some("echo".to_string())),
            ("VCHAN_PATH", Some(path.to_string())),
            ("VCHAN_PORT", port),
        ];
        assert_eq!(set, expected);
    }
}
