//! Figures that a bench client prints, read back.

use anyhow::{Context, Result, ensure};

/// Throughput for one size of messages.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Throughput {
    /// Bytes of a message.
    pub size: u32,
    /// MiB a second, in one direction while as much goes the other way.
    pub mib: f64,
}

/// The figures of one client at one server.
#[derive(Clone, PartialEq, Debug)]
pub struct Figures {
    /// By size of messages.
    pub throughput: Vec<Throughput>,
    /// The median time of a round trip of 64 bytes, in µs.
    pub round_trip: f64,
    /// The time to set the connection up, in µs.
    pub setup: f64,
}

impl Figures {
    /// Reads the JSON of `vchan bench` or `vchan-bench`.
    pub fn read(json: &str) -> Result<Figures> {
        let (sizes, mib) = (numbers(json, "size"), numbers(json, "mib_per_second"));
        let time = |name: &str| number(json, name).with_context(|| format!("there is no {name}"));
        ensure!(
            !sizes.is_empty() && sizes.len() == mib.len(),
            "these are no figures for each size of messages"
        );
        let of = sizes.into_iter().zip(mib);
        let throughput = of.map(|(size, mib)| Throughput { size: size as u32, mib }).collect();
        Ok(Figures { throughput, round_trip: time("median_us")?, setup: time("setup_us")? })
    }
}

/// The number of the first member called `name`.
pub fn number(json: &str, name: &str) -> Option<f64> {
    numbers(json, name).into_iter().next()
}

/// The numbers of all members called `name`, in their order. The programs that
/// print this JSON are ours: a general parser has nothing more to find in it.
fn numbers(json: &str, name: &str) -> Vec<f64> {
    let member = format!("\"{name}\":");
    let values = json.split(&member).skip(1);
    values.filter_map(|rest| rest.split([',', '}', ']']).next()?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clients_are_understood() {
        let c = r#"{"left":8192,"setup_us":913.5,"throughput":[{"size":64,"messages":9,"seconds":0.1,"mib_per_second":22.5},
                   {"size":1048576,"messages":1,"seconds":0.2,"mib_per_second":26}],
                   "rtt":{"count":9,"median_us":96.9,"p99_us":1},"rtt_1":{"median_us":95}}"#;
        let figures = Figures::read(c).unwrap();
        let of = |size, mib| Throughput { size, mib };
        assert_eq!(
            figures,
            Figures {
                throughput: vec![of(64, 22.5), of(1 << 20, 26.0)],
                round_trip: 96.9,
                setup: 913.5
            }
        );
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(Figures::read("").is_err());
        assert!(Figures::read(r#"{"size":64,"mib_per_second":null,"median_us":1}"#).is_err());
        assert!(Figures::read(r#"{"size":64,"mib_per_second":1,"setup_us":1}"#).is_err());
        assert!(Figures::read(r#"{"size":64,"mib_per_second":1,"median_us":1}"#).is_err());
    }
}
