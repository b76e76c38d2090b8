//! Reports as text for Prometheus (exposition format, version 0.0.4).

use super::{Count, Report};
use std::fmt::Write;

/// A disk of this host, with its server's report if one answers.
pub struct Disk<'a> {
    /// The domain's number.
    pub domain: u16,
    /// The domain's name.
    pub name: &'a str,
    /// The disk's name.
    pub disk: &'a str,
    /// The report.
    pub report: Option<&'a Report>,
}

/// A value of a disk with the labels that are its own.
type Sample = (String, f64);

/// A metric: its name, kind and meaning, and its samples of a disk.
type Metric = (&'static str, &'static str, &'static str, fn(&Report) -> Vec<Sample>);

const METRICS: [Metric; 8] = [
    ("requests_total", "counter", "Requests that were completed.", |report| {
        let each = |(op, count): (&str, Count)| {
            let label = |result: &str| format!(",op=\"{op}\",result=\"{result}\"");
            [(label("ok"), count.ok as f64), (label("failed"), count.failed as f64)]
        };
        operations(report).into_iter().flat_map(each).collect()
    }),
    ("bytes_total", "counter", "Bytes of requests that succeeded.", |report| {
        let each = |(op, count): (&str, Count)| (format!(",op=\"{op}\""), count.bytes as f64);
        operations(report).into_iter().map(each).collect()
    }),
    ("refused_total", "counter", "Requests that broke the protocol.", |report| {
        one(report.refused as f64)
    }),
    ("connections_total", "counter", "Connections of frontends.", |report| {
        one(report.connections as f64)
    }),
    ("in_flight", "gauge", "Requests in work.", |report| one(report.in_flight.into())),
    ("size_bytes", "gauge", "Length of the disk.", |report| one(report.bytes as f64)),
    ("served_seconds", "gauge", "Time since the disk was connected.", |report| one(report.seconds)),
    ("latency_seconds", "gauge", "Latency of requests since then, by quantile.", |report| {
        let quantiles = [
            ("0.5", report.p50_us),
            ("0.9", report.p90_us),
            ("0.99", report.p99_us),
            ("1", report.max_us),
        ];
        quantiles.map(|(q, micros)| (format!(",quantile=\"{q}\""), micros / 1e6)).into()
    }),
];

fn one(value: f64) -> Vec<Sample> {
    vec![(String::new(), value)]
}

fn operations(report: &Report) -> [(&'static str, Count); 5] {
    [
        ("read", report.reads),
        ("write", report.writes),
        ("flush", report.flushes),
        ("barrier", report.barriers),
        ("discard", report.discards),
    ]
}

/// Returns the text for `disks`. A disk without a report has the metric `xen_disk_up` alone, as 0.
pub fn metrics(disks: &[Disk<'_>]) -> String {
    let mut text = String::new();
    let mut write =
        |name: &str, kind: &str, about: &str, samples: &dyn Fn(&Disk<'_>) -> Vec<Sample>| {
            let name = format!("xen_disk_{name}");
            writeln!(text, "# HELP {name} {about}\n# TYPE {name} {kind}").expect("a String grows");
            for disk in disks {
                let Disk { domain, name: vm, disk: vdev, .. } = disk;
                let vm = escaped(vm);
                for (labels, value) in samples(disk) {
                    let own = format!("domain=\"{domain}\",name=\"{vm}\",disk=\"{vdev}\"");
                    writeln!(text, "{name}{{{own}{labels}}} {value}").expect("a String grows");
                }
            }
        };
    let up = |disk: &Disk<'_>| one(u8::from(disk.report.is_some()).into());
    write("up", "gauge", "1 if a server answers for the disk.", &up);
    for (name, kind, about, samples) in METRICS {
        let of = |disk: &Disk<'_>| disk.report.map(samples).unwrap_or_default();
        write(name, kind, about, &of);
    }
    text
}

/// Returns the value of a label, with what ends it taken from its meaning.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_of_the_report_and_names_are_escaped() {
        let reads = Count { ok: 300, failed: 1, bytes: 4096 };
        let report = Report { reads, p50_us: 1500.0, bytes: 1 << 20, ..Report::default() };
        let disk = |report| Disk { domain: 7, name: "a\"b\\", disk: "xvda", report };
        let text = metrics(&[disk(Some(&report)), disk(None)]);
        let own = "domain=\"7\",name=\"a\\\"b\\\\\",disk=\"xvda\"";
        for line in [
            "# TYPE xen_disk_requests_total counter".to_string(),
            format!("xen_disk_up{{{own}}} 1\nxen_disk_up{{{own}}} 0"),
            format!("xen_disk_requests_total{{{own},op=\"read\",result=\"failed\"}} 1"),
            format!("xen_disk_bytes_total{{{own},op=\"read\"}} 4096"),
            format!("xen_disk_latency_seconds{{{own},quantile=\"0.5\"}} 0.0015"),
            format!("xen_disk_size_bytes{{{own}}} 1048576"),
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is missing:\n{text}");
        }
        assert_eq!(text.matches("xen_disk_in_flight{").count(), 1);
    }
}
