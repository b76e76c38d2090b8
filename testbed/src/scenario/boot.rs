//! Start of the guest: its image, its words, its memory.

use anyhow::{Context, Result, ensure};
use goblin::elf::{Elf, header::ET_EXEC};

use super::Bench;
use crate::artefacts;
use crate::guest::Guest;
use crate::host::PATIENCE;

/// The images, the command that makes each, and how many bytes it must stay below: the whole
/// kernel, what serves the echo alone, that with disks, and that with the exerciser and its
/// workload.
const IMAGES: [(&str, &str, usize); 4] = [
    ("out/ringside.elf", "make kernel", 468 << 10),
    ("out/ringside-echo.elf", "make echo", 204 << 10),
    ("out/ringside-block.elf", "make block", 264 << 10),
    ("out/ringside-mix.elf", "make mix", 456 << 10),
];

/// Number of the ELF note that carries the 32-bit PVH entry.
const PVH_ENTRY: u32 = 18;

/// Facts that a boot log tells, as words that some line has together.
const TOLD: &[&[&str]] = &[
    &["start_info"],
    &["memory map"],
    &["text"],
    &["rodata"],
    &["heap"],
    &["grant table"],
    &["data/vchan"],
    &["left_order", "right_order"],
    &["ring-ref", "event-channel"],
    &["gntref"],
    &["shared page"],
];

pub(super) fn elf_size(_: &Bench) -> Result<()> {
    IMAGES.iter().try_for_each(|(path, command, limit)| {
        let bytes = std::fs::read(artefacts::root()?.join(path));
        let bytes = bytes.with_context(|| format!("cannot read {path}: run {command} first"))?;
        ensure!(
            bytes.len() < *limit,
            "{path} has {} bytes, allowed are fewer than {limit}",
            bytes.len()
        );
        plain_pvh(&bytes).with_context(|| format!("{path} is no kernel for PVH"))
    })
}

/// Returns true if these are an executable that needs no loader but Xen's.
fn plain_pvh(bytes: &[u8]) -> Result<()> {
    let elf = Elf::parse(bytes)?;
    ensure!(
        elf.header.e_type == ET_EXEC && elf.interpreter.is_none(),
        "it is not a plain executable"
    );
    ensure!(
        elf.dynrelas.is_empty() && elf.dynrels.is_empty(),
        "it has relocations that nobody will apply"
    );
    let notes = elf.iter_note_headers(bytes).context("it has no notes")?;
    let entries =
        notes.flatten().filter(|note| note.name == "Xen" && note.n_type == PVH_ENTRY).count();
    ensure!(entries == 1, "it has {entries} notes with a PVH entry instead of one");
    Ok(())
}

pub(super) fn log(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&["extra=\"log=debug\""])?;
    let log = guest.console();
    for words in TOLD {
        ensure!(
            log.lines()
                .map(str::to_lowercase)
                .any(|line| words.iter().all(|word| line.contains(word))),
            "no line of the boot log has {words:?}:\n{log}"
        );
    }
    ensure!(log.lines().any(is_dump), "the boot log has no dump of the shared page:\n{log}");
    let stamps: Vec<f64> = log.lines().filter_map(stamp).collect();
    ensure!(
        stamps.len() > 10,
        "only {} lines of the boot log begin with a time:\n{log}",
        stamps.len()
    );
    ensure!(
        stamps.is_sorted() && stamps.last() > stamps.first(),
        "the boot log's times do not go on:\n{log}"
    );
    Ok(())
}

/// The seconds in `[    0.012345] …`.
fn stamp(line: &str) -> Option<f64> {
    line.strip_prefix('[')?.split_once(']')?.0.trim().parse().ok()
}

/// Returns true if a line holds at least eight two-digit hexadecimal words in a row.
fn is_dump(line: &str) -> bool {
    let hex = |word: &str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(8).any(|window| window.iter().all(|word| hex(word)))
}

pub(super) fn bad_option(bench: &Bench) -> Result<()> {
    let wrong = [
        ("vchan.left=banana", "vchan.left"),
        ("vchan.lefft=8192", "vchan.lefft"),
        ("vchan.domid=99999999", "vchan.domid"),
        ("log=loud", "log"),
    ];
    for (number, (option, named)) in wrong.iter().enumerate() {
        let name = format!("{}-{number}", bench.name);
        let extra = format!("extra=\"{option}\"");
        let guest = Guest::create(bench.host, &name, &[&extra, "on_crash=\"preserve\""])?;
        guest.crashed().with_context(|| format!("started with {option}"))?;
        let console = guest.console();
        ensure!(
            console.contains(named),
            "with {option} the console does not name {named}:\n{console}"
        );
        bench.host.xl(&["destroy", &name])?;
    }
    Ok(())
}

pub(super) fn memory_4(bench: &Bench) -> Result<()> {
    serves_in(bench, &["memory=4", "shadow_memory=1"])
}

pub(super) fn memory_4096(bench: &Bench) -> Result<()> {
    serves_in(bench, &["memory=4096"])
}

fn serves_in(bench: &Bench, settings: &[&str]) -> Result<()> {
    let guest = bench.guest(settings)?;
    guest.echoes("hello from dom0")?;
    super::echo::transfer(bench, &guest, 1 << 20, "")?.wait(PATIENCE)?.success()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(stamp("[    0.012345] INFO  echo: ready"), Some(0.012345));
        assert_eq!(stamp("Loading"), None);
    }

    #[test]
    fn dumps_are_recognised() {
        assert!(is_dump("[ 0.1] DEBUG 0000: 00 01 02 03 04 05 06 ff |........|"));
        assert!(!is_dump("[ 0.1] INFO 00 01 02 and no more"));
    }
}
