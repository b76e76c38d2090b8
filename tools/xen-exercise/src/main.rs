//! `xen-exercise report` turns what a guest with the exerciser has printed into one HTML page and
//! into JUnit's XML, and compares two runs.
#![forbid(unsafe_code)]

mod html;
mod job;
mod junit;
mod log;
mod plot;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reads the console logs of block exercisers.
#[derive(Parser)]
#[command(name = "xen-exercise", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a page, or JUnit's XML, from a console log; exit code 1 if a test failed.
    Report {
        /// The console log, such as /var/log/xen/console/guest-block.log.
        log: PathBuf,
        /// An earlier console log to compare with.
        #[arg(long)]
        compare: Option<PathBuf>,
        /// The page to write.
        #[arg(long)]
        html: Option<PathBuf>,
        /// The XML to write.
        #[arg(long)]
        junit: Option<PathBuf>,
    },
    /// Print a fio job as words for the guest's command line.
    Job {
        /// The job file.
        file: PathBuf,
    },
}

fn read(path: &Path) -> Result<log::Run> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    log::Run::parse(&String::from_utf8_lossy(&bytes)).with_context(|| {
        format!("{}: no run of the exerciser: a line \"TAP version\" begins one", path.display())
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn main() -> Result<ExitCode> {
    let (log, compare, html, junit) = match Args::parse().command {
        Command::Report { log, compare, html, junit } => (log, compare, html, junit),
        Command::Job { file } => {
            let job = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            println!("{}", job::words(&job).with_context(|| file.display().to_string())?);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let run = read(&log)?;
    let earlier = compare.as_deref().map(read).transpose()?;
    if let Some(path) = junit {
        write(&path, &junit::xml(&run))?;
    }
    if let Some(path) = html {
        write(&path, &html::page(&run, earlier.as_ref())?)?;
    }
    let (failed, all) = (run.failed(), run.tests.len());
    println!("{} of {all} tests failed", failed);
    for change in earlier.iter().flat_map(|earlier| run.changes(earlier)) {
        println!("{change}");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
