//! `xen-exercise report` turns what a guest with the exerciser has printed into one HTML page and
//! into JUnit's XML, and compares two runs; `table` shows several side by side.
#![forbid(unsafe_code)]

mod html;
mod job;
mod junit;
mod log;
mod plot;
mod table;

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
    /// Print several runs side by side as tables in Markdown.
    Table {
        /// The console logs. The names of the files, without a leading number, are those of the
        /// runs.
        #[arg(required = true)]
        logs: Vec<PathBuf>,
        /// A Markdown file with the lines "<!-- tables -->" and "<!-- end of tables -->": the
        /// tables are written between them, and not printed.
        #[arg(long)]
        into: Option<PathBuf>,
        /// A page to write with the same tables.
        #[arg(long)]
        html: Option<PathBuf>,
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

fn tables(runs: &[(String, log::Run)], into: Option<&Path>, html: Option<&Path>) -> Result<()> {
    let tables = table::Tables::new(runs);
    if let Some(path) = html {
        write(path, &tables.page())?;
    }
    let Some(path) = into else {
        print!("{}", tables.markdown());
        return Ok(());
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text =
        table::insert(&text, &tables.markdown()).with_context(|| path.display().to_string())?;
    write(path, &text)
}

fn main() -> Result<ExitCode> {
    let (log, compare, html, junit) = match Args::parse().command {
        Command::Report { log, compare, html, junit } => (log, compare, html, junit),
        Command::Table { logs, into, html } => {
            let named = |path: &PathBuf| {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                Ok((table::name(&stem), read(path)?))
            };
            let runs = logs.iter().map(named).collect::<Result<Vec<_>>>()?;
            tables(&runs, into.as_deref(), html.as_deref())?;
            return Ok(ExitCode::SUCCESS);
        }
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
