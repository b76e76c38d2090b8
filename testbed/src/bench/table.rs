//! The figures for people, and for scripts.

use super::figures::Figures;
use super::plot::{Panel, Plot};
use super::{Client, Report, Row, Server};

impl Report {
    /// One table for each size of rings: a line for each figure, a column for
    /// each pair of server and client, and how ours compare.
    pub fn to_text(&self) -> String {
        let time = if self.counted { "counted time: 2 ns an instruction" } else { "real time" };
        let mut lines = vec![
            format!(
                "vchan echo, MiB/s one way while as much comes back, every byte checked ({time})"
            ),
            format!("The machine copies memory at {:.0} MiB/s.", self.copy),
        ];
        let mut rings: Vec<u32> = self.rows.iter().map(|row| row.ring).collect();
        rings.dedup();
        for ring in rings {
            lines.push(format!("\nRings of {}", named(ring)));
            lines.push(line(
                "server / client",
                ["ours / C", "Linux / C", "ours / ours", "Linux / ours"],
                HEADS,
            ));
            for (name, of) in figures(&self.rows) {
                let of = |server, client| {
                    self.rows.iter().find(|row| row.is(ring, server, client)).map(&of)
                };
                let values = [
                    of(Server::Ours, Client::C),
                    of(Server::Linux, Client::C),
                    of(Server::Ours, Client::Ours),
                    of(Server::Linux, Client::Ours),
                ];
                let [Some(ours_c), Some(linux_c), Some(ours), Some(linux)] = values else {
                    continue;
                };
                let better = |a: f64, b: f64| if name.contains("MiB/s") { a / b } else { b / a };
                let ratios = [
                    better(ours_c, linux_c),
                    better(ours, linux),
                    better(ours, ours_c),
                    better(ours, linux_c),
                ];
                let values = [ours_c, linux_c, ours, linux].map(|value| format!("{value:.1}"));
                let ratios = ratios.map(|ratio| format!("{ratio:.2}"));
                lines.push(line(
                    &name,
                    values.each_ref().map(String::as_str),
                    ratios.each_ref().map(String::as_str),
                ));
            }
        }
        lines.push(
            "\nRatios say how many times better: the first of the pair in the head against the second.".to_string(),
        );
        lines.join("\n") + "\n"
    }

    /// Throughput for each size of rings, and round trips.
    pub fn to_plot(&self) -> Plot {
        let pairs = [
            (Server::Ours, Client::C),
            (Server::Linux, Client::C),
            (Server::Ours, Client::Ours),
            (Server::Linux, Client::Ours),
        ];
        let values = |ring, of: &dyn Fn(&Row) -> f64| -> Vec<Option<f64>> {
            let row = |(server, client)| self.rows.iter().find(|row| row.is(ring, server, client));
            pairs.map(|pair| row(pair).map(of)).to_vec()
        };
        let mut rings: Vec<u32> = self.rows.iter().map(|row| row.ring).collect();
        rings.dedup();
        let sizes = self.rows.first().map(|row| row.figures.throughput.clone()).unwrap_or_default();
        let throughput = rings.iter().map(|ring| {
            let groups = sizes.iter().enumerate().map(|(at, of)| {
                let mib = |row: &Row| row.figures.throughput.get(at).map_or(0.0, |of| of.mib);
                (named(of.size), values(*ring, &mib))
            });
            let title = format!("rings of {}, messages of: MiB/s", named(*ring));
            Panel { title, groups: groups.collect() }
        });
        let mut panels: Vec<Panel> = throughput.collect();
        let trips = |ring| (named(ring), values(ring, &|row: &Row| row.figures.round_trip));
        let title = "round trip of 64 B, rings of: µs (less is better)".to_string();
        panels.push(Panel { title, groups: rings.into_iter().map(trips).collect() });
        let series = vec![
            "our guest, C client",
            "Linux guest, C client",
            "our guest, our client",
            "Linux guest, our client",
        ];
        let time = if self.counted { "counted time: 2 ns an instruction" } else { "real time" };
        let title = format!("vchan echo, one way while as much comes back ({time})");
        Plot { title, series, panels, columns: 3 }
    }

    /// An object with everything measured.
    pub fn to_json(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(Row::to_json).collect();
        let (copy, counted) = (self.copy, self.counted);
        format!(
            "{{\"copy_mib_per_second\":{copy:.3},\"counted_time\":{counted},\"rows\":[{}]}}\n",
            rows.join(",")
        )
    }
}

/// Pairs that the ratios compare: guests by the C client and by ours, then clients at
/// our guest, then all of ours with nothing of ours.
const HEADS: [&str; 4] = ["guest(C)", "guest", "client", "both"];

fn line(name: &str, values: [&str; 4], ratios: [&str; 4]) -> String {
    let mut line = format!("  {name:28}");
    values.iter().for_each(|value| line.push_str(&format!("{value:>13}")));
    line.push_str("  ");
    ratios.iter().for_each(|ratio| line.push_str(&format!("{ratio:>9}")));
    line.trim_end().to_string()
}

type Figure = (String, Box<dyn Fn(&Row) -> f64>);

/// The figures of a row, in the order of the table's lines.
fn figures(rows: &[Row]) -> Vec<Figure> {
    let sizes = rows.first().map(|row| row.figures.throughput.clone()).unwrap_or_default();
    let throughput = sizes.into_iter().enumerate().map(|(number, of)| {
        let value =
            move |row: &Row| row.figures.throughput.get(number).map_or(f64::NAN, |of| of.mib);
        (
            format!("messages of {}, MiB/s", named(of.size)),
            Box::new(value) as Box<dyn Fn(&Row) -> f64>,
        )
    });
    let mut all: Vec<Figure> = throughput.collect();
    let mut add = |name: &str, of: fn(&Row) -> f64| all.push((name.to_string(), Box::new(of)));
    add("round trip of 64 B, µs", |row| row.figures.round_trip);
    add("set up a connection, µs", |row| row.figures.setup);
    add("exits of the guest / MiB", |row| row.counts.exits);
    add("hypercalls of the guest / MiB", |row| row.counts.guest_hypercalls);
    add("events from the guest / MiB", |row| row.counts.events_sent);
    add("interrupts of the guest / MiB", |row| row.counts.interrupts);
    add("hypercalls of dom0 / MiB", |row| row.counts.dom0_hypercalls);
    all
}

impl Row {
    fn is(&self, ring: u32, server: Server, client: Client) -> bool {
        (self.ring, self.server, self.client) == (ring, server, client)
    }

    fn to_json(&self) -> String {
        let Row { ring, server, client, figures, counts } = self;
        let Figures { throughput, round_trip, setup } = figures;
        let sizes: Vec<String> = throughput
            .iter()
            .map(|of| format!("{{\"size\":{},\"mib_per_second\":{:.3}}}", of.size, of.mib))
            .collect();
        format!(
            "{{\"ring\":{ring},\"server\":\"{server:?}\",\"client\":\"{client:?}\",\"throughput\":[{}],\
             \"round_trip_us\":{round_trip:.3},\"setup_us\":{setup:.3},\"per_mib\":{{\"guest_exits\":{:.1},\"guest_hypercalls\":{:.1},\
             \"guest_events_sent\":{:.1},\"guest_interrupts\":{:.1},\"dom0_hypercalls\":{:.1}}}}}",
            sizes.join(","),
            counts.exits,
            counts.guest_hypercalls,
            counts.events_sent,
            counts.interrupts,
            counts.dom0_hypercalls,
        )
    }
}

/// A size as people write it.
fn named(size: u32) -> String {
    match size {
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Throughput;
    use super::super::trace::Counts;
    use super::*;

    fn report() -> Report {
        let row = |server, client, mib, round_trip| Row {
            ring: 8192,
            server,
            client,
            figures: Figures {
                throughput: vec![Throughput { size: 64, mib }],
                round_trip,
                setup: 900.0,
            },
            counts: Counts::default(),
        };
        let rows = vec![
            row(Server::Ours, Client::C, 60.0, 50.0),
            row(Server::Ours, Client::Ours, 90.0, 40.0),
            row(Server::Linux, Client::C, 30.0, 160.0),
            row(Server::Linux, Client::Ours, 45.0, 120.0),
        ];
        Report { copy: 1500.0, counted: true, rows }
    }

    #[test]
    fn plot_has_a_panel_for_the_rings_and_one_for_round_trips() {
        let plot = report().to_plot();
        assert_eq!(plot.panels.len(), 2);
        let of = |panel: usize| plot.panels[panel].groups[0].clone();
        let values = |values: [f64; 4]| values.map(Some).to_vec();
        assert_eq!(of(0), ("64 B".to_string(), values([60.0, 30.0, 90.0, 45.0])));
        assert_eq!(of(1), ("8 KiB".to_string(), values([50.0, 160.0, 40.0, 120.0])));
    }

    #[test]
    fn ratios_are_above_one_where_ours_is_better() {
        let text = report().to_text();
        let words = |start: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
            line.rsplit(' ').filter(|word| !word.is_empty()).take(4).map(str::to_string).collect()
        };
        assert_eq!(words("messages of 64 B"), ["3.00", "1.50", "2.00", "2.00"]);
        assert_eq!(words("round trip"), ["4.00", "1.25", "3.00", "3.20"]);
    }

    #[test]
    fn json_has_a_row_for_each_pair() {
        let json = report().to_json();
        assert_eq!(json.matches("\"ring\":8192").count(), 4);
        assert!(json.contains(
            r#""server":"Linux","client":"C","throughput":[{"size":64,"mib_per_second":30.000}]"#
        ));
    }
}
