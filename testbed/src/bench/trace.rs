//! Counts what Xen does while a client runs, with xentrace: exits of the guest,
//! hypercalls, events.
//!
//! One guest runs at a time, so whatever happens in a guest happens in that
//! one; dom0 is the only PV domain. Records are those of Xen's public header
//! `trace.h`.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::host::Host;

/// `TRC_HVM` and `TRC_PV`: what HVM (and PVH) guests and PV domains do.
const CLASSES: &str = "0x0028f000";

/// `TRC_HVM_VMEXIT64`: a guest was left for Xen.
const EXIT: u32 = 0x0008_1102;
/// `TRC_HVM_VMMCALL`: a guest's hypercall, its number first.
const GUEST_HYPERCALL: u32 = 0x0008_2012;
/// `TRC_HVM_INJ_VIRQ`: a guest was interrupted.
const INTERRUPT: u32 = 0x0008_2004;
/// `TRC_PV_HYPERCALL_V2`: a hypercall of dom0.
const PV_HYPERCALL: u32 = 0x0020_100d;
/// `TRC_LOST_RECORDS`.
const LOST: u32 = 0x0001_f001;

/// `__HYPERVISOR_event_channel_op` of `xen.h`.
const EVENT_CHANNEL_OP: u32 = 32;

/// File in dom0 for the records.
const FILE: &str = "/tmp/ringside-trace";

/// The most time that a traced client may take.
const LONG: Duration = Duration::from_secs(300);

/// Counts of what happened.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Counts {
    /// The guest was left for Xen, for whatever reason.
    pub exits: f64,
    /// The guest made a hypercall.
    pub guest_hypercalls: f64,
    /// The guest made a hypercall about event channels: events that it sent.
    pub events_sent: f64,
    /// The guest was interrupted: events that woke it or reached it at work.
    pub interrupts: f64,
    /// dom0 made a hypercall.
    pub dom0_hypercalls: f64,
}

impl Counts {
    /// The same for each MiB of `bytes`.
    pub fn per_mib(self, bytes: f64) -> Counts {
        let per = |count: f64| count * f64::from(1 << 20) / bytes;
        Counts {
            exits: per(self.exits),
            guest_hypercalls: per(self.guest_hypercalls),
            events_sent: per(self.events_sent),
            interrupts: per(self.interrupts),
            dom0_hypercalls: per(self.dom0_hypercalls),
        }
    }
}

/// Counts while the program `words` runs in dom0.
pub fn counts(host: &Host, words: &[String]) -> Result<Counts> {
    // It has begun once there are records.
    let script = format!(
        "rm -f {FILE}; xentrace -D -S 256 -e {CLASSES} {FILE} & until [ -s {FILE} ]; do sleep 0.1; done; \
         {} >/dev/null; code=$?; kill -INT $!; wait; cat {FILE}; rm {FILE}; exit $code",
        words.join(" ")
    );
    let finished = host.exec(&["bash", "-c", &script], LONG)?.expect(0)?;
    count(&finished.stdout)
}

/// Counts the records of a trace.
fn count(mut trace: &[u8]) -> Result<Counts> {
    let mut counts = Counts::default();
    while let Some((header, rest)) = word(trace) {
        let stamp = if header >> 31 == 1 { 8 } else { 0 };
        let extra = 4 * (header >> 28 & 7) as usize;
        ensure!(rest.len() >= stamp + extra, "the trace ends within a record");
        let (event, first) =
            (header & 0x0fff_ffff, word(&rest[stamp..stamp + extra]).map(|(value, _)| value));
        match event {
            EXIT => counts.exits += 1.0,
            INTERRUPT => counts.interrupts += 1.0,
            PV_HYPERCALL => counts.dom0_hypercalls += 1.0,
            GUEST_HYPERCALL => {
                counts.guest_hypercalls += 1.0;
                counts.events_sent += if first == Some(EVENT_CHANNEL_OP) { 1.0 } else { 0.0 };
            }
            LOST => anyhow::bail!("Xen lost records: the trace buffer is too small"),
            _ => {}
        }
        trace = &rest[stamp + extra..];
    }
    Ok(counts)
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with a time stamp and these words.
    fn record(event: u32, words: &[u32]) -> Vec<u8> {
        let header = 1 << 31 | (words.len() as u32) << 28 | event;
        [header, 1, 2].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn records_are_counted_by_what_they_tell() {
        let trace = [
            record(EXIT, &[0x81, 0, 0]),
            record(GUEST_HYPERCALL, &[32]),
            record(GUEST_HYPERCALL, &[29]),
            record(INTERRUPT, &[0xf3, 0]),
            record(0x0008_1001, &[]),
            record(PV_HYPERCALL, &[32]),
        ]
        .concat();
        let counts = count(&trace).unwrap();
        assert_eq!((counts.exits, counts.guest_hypercalls, counts.events_sent), (1.0, 2.0, 1.0));
        assert_eq!((counts.interrupts, counts.dom0_hypercalls), (1.0, 1.0));
        assert_eq!(counts.per_mib(4.0 * 1048576.0).guest_hypercalls, 0.5);
    }

    #[test]
    fn a_trace_with_gaps_is_refused() {
        assert!(count(&record(LOST, &[5, 0, 0, 0])).is_err());
        assert!(count(&record(EXIT, &[1, 2, 3])[..12]).is_err());
    }
}
