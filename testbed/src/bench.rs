//! `testbed bench`: our guest and a Linux guest as vchan echo servers, each
//! against the C client and ours, all in one run of an emulated host whose time
//! is a count of instructions.

pub mod block;
mod figures;
mod plot;
mod table;
mod trace;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::HostArgs;
use crate::guest::Guest;
use crate::host::{Host, HostConfig, PATIENCE};
use crate::progress::Progress;
use figures::{Figures, number};
use plot::Plot;
use trace::Counts;

/// Memory of the emulated host, in MiB.
const MEMORY: u32 = 1536;

/// The most time that one client may take.
const LONG: Duration = Duration::from_secs(300);

/// The most time that Linux may take to boot.
const BOOT: Duration = Duration::from_secs(180);

/// Bytes of each ring.
const RINGS: [u32; 2] = [8192, 1 << 20];

/// Round trips whose median is taken.
const ROUND_TRIPS: &str = "1000";

/// Bytes for each size of messages while exits and hypercalls are counted.
const COUNTED: u64 = 1 << 20;

/// A server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Server {
    /// Our guest.
    Ours,
    /// The Linux guest with the C echo.
    Linux,
}

/// A client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    /// `vchan-bench`, on libxenvchan.
    C,
    /// `vchan bench`.
    Ours,
}

/// Figures that one client measured at one server.
struct Row {
    ring: u32,
    server: Server,
    client: Client,
    figures: Figures,
    counts: Counts,
}

/// All figures of a run.
struct Report {
    /// Speed at which the machine copies memory, in MiB/s.
    copy: f64,
    /// True if time was counted in instructions.
    counted: bool,
    rows: Vec<Row>,
}

/// The form in which figures are wanted.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// JSON instead of a table.
    pub json: bool,
    /// A file for a picture of them.
    pub plot: Option<&'a Path>,
}

impl Output<'_> {
    /// Writes the picture that `plot` makes, if one is wanted.
    fn draw(&self, plot: impl FnOnce() -> Plot) -> Result<()> {
        let Some(path) = self.plot else { return Ok(()) };
        fs::write(path, plot().to_svg()?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Measures everything, `amount` MiB for each size of messages, and prints it.
pub fn run(on: HostArgs, amount: u32, output: Output) -> Result<ExitCode> {
    let progress = Progress::new();
    let config =
        HostConfig { peers: true, linux: true, counted: true, ..HostConfig::plain(on, MEMORY) };
    let host = Host::up(&config, &progress)?;
    host.logs_consoles()?;
    let copied = host.exec(&[&host.peer("vchan-bench"), "copy"], PATIENCE)?.success()?;
    let copy =
        number(&copied, "copy_mib_per_second").context("vchan-bench copy prints no figure")?;
    let mut rows = Vec::new();
    for ring in RINGS {
        for server in [Server::Ours, Server::Linux] {
            let name = format!("ringside-bench-{server:?}-{ring}").to_lowercase();
            progress.stage(&format!("rings of {ring} bytes: {server:?} guest"));
            let guest = start(&host, server, &name, ring)?;
            for client in [Client::C, Client::Ours] {
                progress
                    .stage(&format!("rings of {ring} bytes: {server:?} guest, {client:?} client"));
                rows.push(measure(&host, &guest, (ring, server, client), u64::from(amount) << 20)?);
            }
            host.xl(&["destroy", &name])?;
        }
    }
    progress.done("all is measured");
    let report = Report { copy, counted: host.emulated(), rows };
    print!("{}", if output.json { report.to_json() } else { report.to_text() });
    output.draw(|| report.to_plot())?;
    Ok(ExitCode::SUCCESS)
}

/// Starts a server and waits until it serves.
fn start<'a>(host: &'a Host, server: Server, name: &str, ring: u32) -> Result<Guest<'a>> {
    match server {
        Server::Ours => Guest::serving(
            host,
            name,
            &[&format!("extra=\"vchan.left={ring} vchan.right={ring}\"")],
        ),
        Server::Linux => {
            let words = format!("role=echo-server client=0 channels=data/vchan:{ring}:{ring}");
            let guest = Guest::linux(host, name, &words)?;
            guest.says_within("vchan-echo: ready", BOOT)?;
            Ok(guest)
        }
    }
}

/// Measures, then counts in a second pass, which the counting slows down.
fn measure(host: &Host, guest: &Guest, of: (u32, Server, Client), amount: u64) -> Result<Row> {
    let (ring, server, client) = of;
    let domid = guest.domid()?;
    let told = words(host, client, &domid, amount, ROUND_TRIPS);
    let told = host.exec(&told.iter().map(String::as_str).collect::<Vec<_>>(), LONG)?.success()?;
    let figures =
        Figures::read(&told).with_context(|| format!("{client:?} client said {told:?}"))?;
    let counted = words(host, client, &domid, COUNTED, "1");
    let counts =
        trace::counts(host, &counted)?.per_mib(figures.throughput.len() as f64 * COUNTED as f64);
    Ok(Row { ring, server, client, figures, counts })
}

/// The words that start a client.
fn words(host: &Host, client: Client, domid: &str, amount: u64, round_trips: &str) -> Vec<String> {
    let amount = amount.to_string();
    let words: &[&str] = match client {
        Client::C => &[&host.peer("vchan-bench"), domid, "data/vchan", &amount, round_trips],
        Client::Ours => &[
            "out/vchan",
            "bench",
            domid,
            "--amount",
            &amount,
            "--round-trips",
            round_trips,
            "--json",
            "--timeout",
            "60",
        ],
    };
    words.iter().map(|word| word.to_string()).collect()
}
