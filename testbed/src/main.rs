//! Ringside's testbed: boots a real Xen host under emulation, puts the kernel
//! and the tools into it, runs scenarios there and checks what comes out.
#![forbid(unsafe_code)]

mod agent;
mod artefacts;
mod bare;
mod bench;
mod cli;
mod client;
mod disk;
mod guest;
mod host;
mod image;
mod matrix;
mod peers;
mod progress;
mod scenario;
mod session;
mod setup;
mod terminal;
mod wire;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{BenchKind, Cli, Job};
use host::{Host, HostConfig};
use progress::Progress;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<ExitCode> {
    match &cli.job {
        Job::Shell => terminal::attach(&up(cli, 2048)?, &["bash", "-i"]),
        Job::Exec { argv } => {
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            terminal::attach(&up(cli, 2048)?, &argv)
        }
        Job::Image => {
            println!("{}", image::ready(cli.on.suite()?, &Progress::new())?.root.display());
            Ok(ExitCode::SUCCESS)
        }
        Job::Sysroot => {
            let folder = image::sysroot::ready(cli.on.suite()?, &Progress::new())?;
            println!("{}", folder.display());
            Ok(ExitCode::SUCCESS)
        }
        Job::Agent { device } => {
            let port = std::fs::File::options().read(true).write(true).open(device);
            let port = port.with_context(|| format!("cannot open {}", device.display()))?;
            agent::serve(port.try_clone()?, Box::new(port)).map(|()| ExitCode::SUCCESS)
        }
        Job::Test { list: true, .. } => {
            for scenario in scenario::ALL {
                println!(
                    "{:5} {:18} {}",
                    if scenario.full { "full" } else { "" },
                    scenario.name,
                    scenario.about
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Job::Bare { suites, only } => bare::run(suites, only.as_deref()),
        Job::Matrix { jobs, retry, only } => {
            artefacts::require()?;
            matrix::run(*jobs, *retry, only)
        }
        Job::Test { patterns, full, short, retry, keep, .. } => {
            artefacts::require()?;
            let (host, code) = scenario::run(
                cli.on,
                &scenario::Choice { patterns, full: *full, short: *short, retry: *retry },
            )?;
            if *keep {
                terminal::attach(&host, &["bash", "-i"])?;
            }
            Ok(code)
        }
        Job::Bench { what, only, json, plot, amount } => {
            artefacts::require()?;
            let output = bench::Output { json: *json, plot: plot.as_deref() };
            match what {
                BenchKind::Vchan => bench::run(cli.on, *amount, output),
                BenchKind::Block => bench::block::run(cli.on, only, output),
            }
        }
        Job::Run { settings } => {
            artefacts::require()?;
            session::run(&up(cli, 1536)?, settings)
        }
    }
}

fn up(cli: &Cli, memory: u32) -> Result<Host> {
    let progress = Progress::new();
    let host = Host::up(&HostConfig::plain(cli.on, memory), &progress)?;
    progress.done("the host is up");
    Ok(host)
}
