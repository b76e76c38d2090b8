//! Counts what disks leave behind, so that a scenario can say that nothing did.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::host::{Host, PATIENCE, until};

/// The most time that backends may take to let go.
const BURIAL: Duration = Duration::from_secs(30);

/// Everything of disks on a host. Take one before, and ask
/// [`Census::unchanged`] after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Loop devices, mapped devices, null_blk and RAM disks, one word for each.
    pub devices: Vec<String>,
    /// Directories of block backends in xenstore: `vbd/1/51712`.
    pub backends: Vec<String>,
    /// Grants of whatever domain that somebody has mapped or is copying.
    pub grants: usize,
}

/// Prints a word for each device, then a line of dots, then one for each backend.
const SCRIPT: &str = "losetup -n -O NAME; dmsetup info -c --noheadings -o name 2>/dev/null | grep -v '^No devices'; \
    ls /sys/kernel/config/nullb 2>/dev/null | grep -v '^features$'; ls /dev/ram* 2>/dev/null; echo ...; \
    base=/local/domain/0/backend; for kind in vbd vbd3 qdisk; do \
    for domain in $(xenstore-list $base/$kind 2>/dev/null); do \
    for disk in $(xenstore-list $base/$kind/$domain); do echo $kind/$domain/$disk; done; done; done";

impl Census {
    /// Counts.
    pub fn take(host: &Host) -> Result<Census> {
        let printed = host.exec(&["bash", "-c", SCRIPT], PATIENCE)?.success()?;
        let (devices, backends) = parse(&printed);
        Ok(Census { devices, backends, grants: grants(host)? })
    }

    /// Counts again, for as long as backends may take to let go, until all is
    /// as it was; else says what differs.
    pub fn unchanged(&self, host: &Host) -> Result<()> {
        if !until(BURIAL, || Ok(Census::take(host)? == *self))? {
            let now = Census::take(host)?;
            ensure!(now == *self, "left behind in dom0: {now:?}; before there was {self:?}");
        }
        Ok(())
    }
}

fn parse(printed: &str) -> (Vec<String>, Vec<String>) {
    let words = |text: &str| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_string).collect();
        words.sort();
        words
    };
    let (devices, backends) = printed.split_once("...\n").unwrap_or((printed, ""));
    (words(devices), words(backends))
}

/// Returns the number of grants in use, as Xen's debug key `g` tells.
fn grants(host: &Host) -> Result<usize> {
    const END: &str = "gnttab_usage_print_all ] done";
    let before = host.hypervisor_log().matches(END).count();
    host.xl(&["debug-keys", "g"])?;
    ensure!(
        until(PATIENCE, || Ok(host.hypervisor_log().matches(END).count() > before))?,
        "the hypervisor does not print its grants (debug key g)"
    );
    Ok(used(&host.hypervisor_log()))
}

/// Entries in the last list of grants in a log of the hypervisor's.
fn used(log: &str) -> usize {
    let list = log.rsplit_once("gnttab_usage_print_all [").map_or("", |(_, list)| list);
    list.lines()
        .filter(|line| line.trim_start_matches("(XEN)").trim_start().starts_with("[0x"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_of_the_last_list_count() {
        let log = "(XEN) gnttab_usage_print_all [ key 'g' pressed\n(XEN) [0x008]      0 0x1 0x1\n\
                   (XEN) gnttab_usage_print_all ] done\n\
                   (XEN) gnttab_usage_print_all [ key 'g' pressed\n\
                   (XEN)       -------- active --------       -------- shared --------\n\
                   (XEN) [ref] localdom mfn      pin          localdom gmfn     flags\n\
                   (XEN) grant-table for remote d1 (v1)\n\
                   (XEN) [0x000]      0 0x10d73e 0x00000002          0 0x0feffc 0x19\n\
                   (XEN) [0x009]      0 0x10d73f 0x00000002          0 0x0fefff 0x19\n\
                   (XEN) gnttab_usage_print_all ] done\n";
        assert_eq!(used(log), 2);
        assert_eq!(used(""), 0);
    }

    #[test]
    fn devices_and_backends_are_told_apart() {
        let (devices, backends) = parse("/dev/loop1\n/dev/loop0\n...\nvbd/1/51712\n");
        assert_eq!(devices, ["/dev/loop0", "/dev/loop1"]);
        assert_eq!(backends, ["vbd/1/51712"]);
        assert_eq!(parse("...\n"), (vec![], vec![]));
    }
}
