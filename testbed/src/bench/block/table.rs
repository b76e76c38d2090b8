//! The figures of disks for people, and for scripts.

use super::super::plot::{Panel, Plot};
use super::{Figure, Frontend, Row};

/// For each backend and test a line for each guest, and one that compares them.
pub(super) fn text(rows: &[Row], counted: bool) -> String {
    let time = if counted { "counted time: 2 ns an instruction" } else { "real time" };
    let mut lines =
        vec![format!("Disks, past the guest's caches ({time}); CPU time is for each GiB")];
    let mut backends: Vec<&str> = rows.iter().map(|row| row.backend).collect();
    backends.dedup();
    for backend in backends {
        let of =
            |frontend| rows.iter().find(|row| row.backend == backend && row.frontend == frontend);
        let (Some(linux), ours) = (of(Frontend::Linux), of(Frontend::Ours)) else { continue };
        lines.push(String::new());
        lines.push(line(
            backend,
            "",
            ["MiB/s", "IOPS", "p50 µs", "p99 µs", "guest ms", "dom0 ms"].map(String::from),
        ));
        for figure in &linux.figures {
            lines.push(line(&figure.test, "Linux", figure.columns()));
            let same =
                ours.and_then(|row| row.figures.iter().find(|other| other.test == figure.test));
            match same {
                Some(same) => {
                    lines.push(line("", "ours", same.columns()));
                    lines.push(line("", "ratio", same.against(figure)));
                }
                None => lines.push(line("", "ours", [(); 6].map(|()| "-".to_string()))),
            }
        }
    }
    lines.push("\nRatios say how many times better ours is.".to_string());
    lines.extend(backends_compared(rows));
    lines.join("\n") + "\n"
}

/// Backends that keep a disk in the same thing, and QEMU's, which everything is compared with.
const PAIRS: [(&str, &str); 6] = [
    ("xen-disk ram", "brd"),
    ("xen-disk mmap", "loop"),
    ("xen-disk file", "loop"),
    ("xen-disk ram", "qdisk"),
    ("xen-disk mmap", "qdisk"),
    ("xen-disk file", "qdisk"),
];

/// For each test and guest a line with how many times as much xen-disk moves as others; none if no
/// two were measured.
fn backends_compared(rows: &[Row]) -> Vec<String> {
    let figures = |backend: &str, frontend| {
        let row = rows.iter().find(|row| row.backend == backend && row.frontend == frontend);
        row.map_or(&[][..], |row| &row.figures)
    };
    let speed = |backend: &str, frontend, test: &str| {
        figures(backend, frontend)
            .iter()
            .find(|figure| figure.test == test)
            .map(|figure| figure.mib)
    };
    let pairs: Vec<_> = PAIRS
        .iter()
        .filter(|(ours, theirs)| {
            [ours, theirs].iter().all(|backend| rows.iter().any(|row| row.backend == **backend))
        })
        .collect();
    let Some((first, _)) = pairs.first() else { return Vec::new() };
    let mut head = format!("\n{:20} {:6}", "MiB/s of xen-disk", "");
    for (ours, theirs) in &pairs {
        head.push_str(&format!(
            "{:>13}",
            format!("{}/{theirs}", ours.trim_start_matches("xen-disk "))
        ));
    }
    let mut lines = vec![head];
    for test in figures(first, Frontend::Linux).iter().map(|figure| &figure.test) {
        for (label, guest, frontend) in
            [(test.as_str(), "Linux", Frontend::Linux), ("", "ours", Frontend::Ours)]
        {
            let mut line = format!("{label:20} {guest:6}");
            for (ours, theirs) in &pairs {
                let ratio = speed(ours, frontend, test).zip(speed(theirs, frontend, test));
                let shown =
                    ratio.map_or("-".to_string(), |(ours, theirs)| format!("{:.2}", ours / theirs));
                line.push_str(&format!("{shown:>13}"));
            }
            lines.push(line);
        }
    }
    lines
}

/// A panel for each test, in which the backends stand side by side.
pub(super) fn plot(rows: &[Row], counted: bool) -> Plot {
    let mut backends: Vec<&str> = rows.iter().map(|row| row.backend).collect();
    backends.dedup();
    let figure = |backend: &str, frontend, test: &str| {
        let row = rows.iter().find(|row| row.backend == backend && row.frontend == frontend)?;
        row.figures.iter().find(|figure| figure.test == test)
    };
    let tests = rows.first().map_or(&[][..], |row| &row.figures).iter().map(|of| of.test.as_str());
    let panels = tests.map(|test| {
        let sequential = test.starts_with("seq");
        let value = |of: &Figure| if sequential { of.mib } else { of.iops / 1000.0 };
        let groups = backends.iter().map(|backend| {
            let values = [Frontend::Ours, Frontend::Linux]
                .map(|frontend| figure(backend, frontend, test).map(value));
            (backend.trim_start_matches("xen-disk ").to_string(), values.to_vec())
        });
        let unit = if sequential { "MiB/s" } else { "thousands a second" };
        Panel { title: format!("{test}: {unit}"), groups: groups.collect() }
    });
    let time = if counted { "counted time: 2 ns an instruction" } else { "real time" };
    Plot {
        title: format!("Disks of several backends, past the guest's caches ({time})"),
        series: vec!["our guest", "Linux guest"],
        panels: panels.collect(),
        columns: 2,
    }
}

/// An object with everything measured.
pub(super) fn json(rows: &[Row], counted: bool) -> String {
    let all: Vec<String> =
        rows.iter().flat_map(|row| row.figures.iter().map(|figure| figure.to_json(row))).collect();
    format!("{{\"counted_time\":{counted},\"rows\":[{}]}}\n", all.join(","))
}

fn line(test: &str, guest: &str, columns: [String; 6]) -> String {
    let mut line = format!("{test:20} {guest:6}");
    columns.iter().for_each(|column| line.push_str(&format!("{column:>11}")));
    line.trim_end().to_string()
}

impl Figure {
    fn columns(&self) -> [String; 6] {
        let Figure { mib, iops, p50, p99, guest_cpu, dom0_cpu, .. } = self;
        let one = |value: &f64| format!("{value:.1}");
        [one(mib), format!("{iops:.0}"), one(p50), one(p99), one(guest_cpu), one(dom0_cpu)]
    }

    /// Returns the ratio by which this is better than `other`.
    fn against(&self, other: &Figure) -> [String; 6] {
        let more = |a: f64, b: f64| format!("{:.2}", a / b);
        [
            more(self.mib, other.mib),
            more(self.iops, other.iops),
            more(other.p50, self.p50),
            more(other.p99, self.p99),
            more(other.guest_cpu, self.guest_cpu),
            more(other.dom0_cpu, self.dom0_cpu),
        ]
    }

    fn to_json(&self, row: &Row) -> String {
        let Figure { test, mib, iops, p50, p99, guest_cpu, dom0_cpu } = self;
        let (backend, frontend) = (row.backend, row.frontend);
        format!(
            "{{\"backend\":\"{backend}\",\"frontend\":\"{frontend:?}\",\"test\":\"{test}\",\"mib_per_s\":{mib:.2},\
             \"iops\":{iops:.0},\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\"guest_cpu_ms_per_gib\":{guest_cpu:.2},\
             \"dom0_cpu_ms_per_gib\":{dom0_cpu:.2}}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(frontend: Frontend, mib: f64, p50: f64) -> Row {
        let figure = Figure {
            test: "read".into(),
            mib,
            iops: mib,
            p50,
            p99: p50,
            guest_cpu: p50,
            dom0_cpu: p50,
        };
        Row { backend: "brd", frontend, figures: vec![figure] }
    }

    #[test]
    fn ratios_are_above_one_where_ours_is_better() {
        let text = text(&[row(Frontend::Linux, 10.0, 30.0), row(Frontend::Ours, 20.0, 10.0)], true);
        let ratios = text.lines().find(|line| line.contains("ratio")).unwrap();
        let words: Vec<&str> = ratios.split_whitespace().skip(1).collect();
        assert_eq!(words, ["2.00", "2.00", "3.00", "3.00", "3.00", "3.00"]);
    }

    #[test]
    fn plot_has_a_group_for_each_backend() {
        let mut rows = vec![row(Frontend::Linux, 10.0, 1.0), row(Frontend::Ours, 2000.0, 1.0)];
        rows.push(Row { backend: "xen-disk ram", ..row(Frontend::Linux, 5000.0, 1.0) });
        let plot = plot(&rows, true);
        let groups = [
            ("brd".to_string(), vec![Some(2.0), Some(0.01)]),
            ("ram".to_string(), vec![None, Some(5.0)]),
        ];
        assert_eq!(plot.panels.len(), 1);
        assert_eq!(plot.panels[0].groups, groups);
    }

    #[test]
    fn without_ours_there_are_dashes() {
        let text = text(&[row(Frontend::Linux, 10.0, 30.0)], true);
        let ours = text.lines().find(|line| line.contains("ours  ")).unwrap();
        assert_eq!(ours.matches('-').count(), 6);
        assert!(!text.contains("ratio"));
    }

    #[test]
    fn backends_are_compared_where_both_were_measured() {
        let mut rows = vec![row(Frontend::Linux, 10.0, 1.0), row(Frontend::Ours, 20.0, 1.0)];
        assert!(!text(&rows, true).contains("xen-disk"));
        rows.push(Row { backend: "xen-disk ram", ..row(Frontend::Linux, 5.0, 1.0) });
        let text = text(&rows, true);
        let lines: Vec<&str> =
            text.lines().skip_while(|line| !line.starts_with("MiB/s of xen-disk")).collect();
        let words = |line: usize| lines[line].split_whitespace().last();
        assert_eq!((words(0), words(1), words(2)), (Some("ram/brd"), Some("0.50"), Some("-")));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn json_has_a_row_for_each_measurement() {
        let json =
            json(&[row(Frontend::Linux, 10.0, 30.0), row(Frontend::Ours, 20.0, 10.0)], false);
        assert_eq!(json.matches("\"test\":\"read\"").count(), 2);
        assert!(json.contains("\"counted_time\":false") && json.contains("\"frontend\":\"Ours\""));
    }
}
