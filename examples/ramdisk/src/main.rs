//! Serves its memory to other guests as disks, without dom0 in between: a driver domain.
//!
//! `xl create /dev/null 'name="ramdisk"' 'type="pvh"' 'kernel="out/ramdisk.elf"' memory=96
//! driver_domain=1 'extra="blk.serve=64M"'`, then for another guest
//! `disk=['vdev=xvda,backend=ramdisk,backendtype=phy,format=raw,target=NAME']`.
#![no_std]
#![no_main]

extern crate alloc;

mod images;
mod options;
mod server;

use images::Images;
use options::Options;
use server::Server;
use xen_rt::{Domain, Reason, control};

xen_rt::entry!(main);

async fn main(domain: Domain) -> Reason {
    let Options { bytes } =
        Options::parse(domain.command_line()).unwrap_or_else(|why| panic!("{why}"));
    let images = Images::new(bytes).unwrap_or_else(|why| panic!("blk.serve: {why}"));
    let server = Server::new(&domain, images);
    domain.spawn(server.clone().run());
    let reason = control::wait(&domain).await;
    server.stop().await;
    reason
}
