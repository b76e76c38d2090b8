//! The order of measurements: ours and Xen's in turns, several times over, of which the best
//! counts: what else the machine does only ever makes it slower.

use crate::machine::Made;
use crate::native::Error;
use crate::{copies, table};
use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Bytes of each of the two rings.
const RINGS: [usize; 3] = [8 << 10, 64 << 10, 1 << 20];

/// Sizes of messages: powers of two, and those of packets of networks.
const SIZES: [usize; 7] = [16, 64, 256, 1 << 10, 1500, 4 << 10, 64 << 10];

/// Bytes that are sent for each size: as many rings full, but not more bytes or messages than
/// these.
const RINGS_FULL: usize = 1000;
const MOST_BYTES: usize = 64 << 20;
const MOST_MESSAGES: usize = 200_000;

/// Round trips of each size.
const TRIPS: usize = 2_000;

/// Number of times that everything is measured.
const ROUNDS: usize = 5;

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    /// There and back, one after another, or one way.
    pub is_trip: bool,
    /// Bytes of a message.
    pub size: usize,
    /// Number of messages.
    pub count: usize,
}

/// The jobs for a ring. A message that goes as a packet has to fit.
fn jobs(ring: usize) -> Vec<Job> {
    let amount = (RINGS_FULL * ring).min(MOST_BYTES);
    let stream =
        |size: usize| Job { is_trip: false, size, count: (amount / size).min(MOST_MESSAGES) };
    let trip = |size: usize| Job { is_trip: true, size, count: TRIPS };
    let fits = |size: &usize| *size <= ring;
    SIZES.into_iter().map(stream).chain(SIZES.into_iter().filter(fits).map(trip)).collect()
}

/// Measures everything and prints it.
pub fn run(folder: &Path) -> Result<()> {
    let own = env::current_exe()?;
    let theirs = folder.join("native-c");
    println!("vchan between two processes of this machine, the best of {ROUNDS} runs in turns");
    println!("\n{}", copies::measure());
    for processors in [2, 1] {
        for ring in RINGS {
            let jobs = jobs(ring);
            let mut best = [vec![f64::MAX; jobs.len()], vec![f64::MAX; jobs.len()]];
            for _ in 0..ROUNDS {
                for (program, best) in [&theirs, &own].into_iter().zip(&mut best) {
                    let ends = Ends { program, folder, processors };
                    for (best, seconds) in best.iter_mut().zip(ends.seconds(ring, &jobs)?) {
                        *best = best.min(seconds);
                    }
                }
            }
            println!("{}", table::channel(processors, ring, &jobs, &best[0], &best[1]));
        }
    }
    println!("Ratios say how many times faster ours is.");
    Ok(())
}

/// The two ends of a channel: a program, and the number of processors that they have.
struct Ends<'a> {
    program: &'a Path,
    folder: &'a Path,
    processors: usize,
}

impl Ends<'_> {
    /// Runs them, and returns the seconds of each job.
    fn seconds(&self, ring: usize, jobs: &[Job]) -> Result<Vec<f64>> {
        let (machine, program) = (Made::new()?, self.program.display());
        let mut server = self.start(&machine, &["server", &ring.to_string()], 1)?;
        let mut client = self.start(&machine, &["client"], 0)?;
        let mut input = client.stdin.take().context("no input")?;
        for Job { is_trip, size, count } in jobs {
            writeln!(input, "{} {size} {count}", if *is_trip { "trip" } else { "stream" })?;
        }
        drop(input);
        let output = client.wait_with_output()?;
        let status = output.status;
        ensure!(status.success(), "{program}: the client ended with {status}");
        let ended = server.wait()?;
        ensure!(ended.success(), "{program}: the server ended with {ended}");
        let text = String::from_utf8(output.stdout)?;
        let seconds: Vec<f64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(seconds.len() == jobs.len(), "{program} printed {text:?}");
        Ok(seconds)
    }

    /// Starts one end, on the processor of this number.
    fn start(&self, machine: &Made, words: &[&str], number: usize) -> Result<Child> {
        let mut command = Command::new(self.program);
        machine.give(&mut command);
        command.args(words).env("LD_LIBRARY_PATH", self.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A process has the affinity of its parent.
        let all = sched_getaffinity(None).map_err(Error::from)?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
        let mut one = CpuSet::new();
        one.set(allowed[number % self.processors % allowed.len()]);
        sched_setaffinity(None, &one).map_err(Error::from)?;
        let child = command.spawn();
        sched_setaffinity(None, &all).map_err(Error::from)?;
        child.with_context(|| format!("cannot run {}", self.program.display()))
    }
}
