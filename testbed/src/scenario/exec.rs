//! `vchan exec` and `vchan connect` between dom0 and a Linux guest: what a command learns of its
//! client.

use anyhow::{Result, ensure};

use super::Bench;
use super::linux::Linux;
use crate::host::PATIENCE;

/// A command that prints what `exec` told it of its client, one line for each variable.
const PRINTS: &str = "sh -c 'for name in DOMID NAME; do eval echo \\${VCHAN_PEER_$name-unset}; done; \
                      echo ${VCHAN_PATH-unset}; echo ${VCHAN_PORT-unset}'";

/// A command in dom0 learns the guest's number, name and service; one in the guest has no name to
/// learn. The services are named behind the domain by one end, and by `--port` by the other.
pub(super) fn identity(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let domid = &linux.domid;
    let dom0 = bench.shell(&format!("out/vchan exec {} who -- {PRINTS}", bench.name))?;
    bench.published(&format!("/local/domain/0/data/vchan/{domid}/who/ring-ref"))?;
    let said = linux.run("vchan connect 0 --port who </dev/null")?;
    let expected = format!("{domid}\n{}\ndata/vchan/{domid}/who\nwho\n", bench.name);
    ensure!(said == expected, "the command in dom0 said:\n{said}exec said:\n{}", dom0.said());

    linux.run(&format!("VCHAN_PEER_NAME=old vchan exec 0 --port who -- {PRINTS} >who 2>&1 &"))?;
    bench.published(&format!("/local/domain/{domid}/data/vchan/0/who/ring-ref"))?;
    let connect = ["out/vchan", "connect", domid, "who"];
    let client = bench.host.spawn(&connect)?;
    client.close_stdin()?;
    let said = client.wait(PATIENCE)?.success()?;
    ensure!(said == "0\nunset\ndata/vchan/0/who\nwho\n", "the command in the guest said:\n{said}");
    Ok(())
}
