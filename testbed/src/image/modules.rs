//! Picks kernel modules with what they depend on. The packages do not ship
//! `modules.dep` (it is made at installation), so it is made here from what
//! each module says of itself.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use goblin::elf::Elf;

use super::cpio::{Node, Tree};
use super::unpack::Files;

/// Adds the modules called `names`, their dependencies and `modules.dep` to `tree`.
pub fn add(tree: &mut Tree, files: &Files, release: &str, names: &[&str]) -> Result<()> {
    let folder = format!("usr/lib/modules/{release}");
    let paths: HashMap<String, &str> =
        files.keys().filter(|path| is_module(path)).map(|path| (plain_name(path), path.as_str())).collect();
    let mut depends = BTreeMap::new();
    let mut todo: Vec<String> = names.iter().map(|name| underscored(name)).collect();
    while let Some(name) = todo.pop() {
        // What is not a file is built into the kernel.
        let Some(path) = paths.get(&name) else { continue };
        if depends.contains_key(&name) {
            continue;
        }
        let Some(Node::File(_, packed)) = files.get(*path) else { continue };
        let data = unpacked(path, packed)?;
        let needs = needs(&data);
        tree.insert(&format!("{folder}/{name}.ko"), Node::File(0o644, data));
        todo.extend(needs.iter().cloned());
        depends.insert(name, needs);
    }
    depends.values_mut().for_each(|needs| needs.retain(|name| paths.contains_key(name)));
    tree.insert(&format!("{folder}/modules.dep"), Node::File(0o644, table(&depends).into_bytes()));
    Ok(())
}

/// Whether `path` is that of a module, packed or not.
pub fn is_module(path: &str) -> bool {
    [".ko", ".ko.xz", ".ko.zst"].iter().any(|end| path.ends_with(end))
}

/// The name as the kernel prints it: `xen-gntdev.ko.xz` is `xen_gntdev`.
fn plain_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    underscored(file.split(".ko").next().unwrap_or(file))
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

fn unpacked(path: &str, data: &[u8]) -> Result<Vec<u8>> {
    match path.rsplit('.').next() {
        Some("xz") => filter("xz", data),
        Some("zst") => filter("zstd", data),
        _ => Ok(data.to_vec()),
    }
}

fn filter(program: &str, data: &[u8]) -> Result<Vec<u8>> {
    crate::install::program(program, if program == "xz" { "xz-utils" } else { program })?;
    let mut child = Command::new(program).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no pipe")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(data));
        child.wait_with_output()
    })?;
    ensure!(output.status.success(), "{program} could not unpack a kernel module");
    Ok(output.stdout)
}

/// What a module's `.modinfo` section lists after `depends=`.
fn needs(module: &[u8]) -> Vec<String> {
    let info = Elf::parse(module).ok().and_then(|elf| {
        let section =
            elf.section_headers.iter().find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".modinfo"))?;
        module.get(section.file_range()?)
    });
    let words = info.unwrap_or_default().split(|byte| *byte == 0);
    words
        .filter_map(|word| std::str::from_utf8(word).ok()?.strip_prefix("depends="))
        .flat_map(|list| list.split(',').filter(|name| !name.is_empty()).map(underscored))
        .collect()
}

/// The text of `modules.dep`: each module with all that must be loaded before,
/// the nearest first.
fn table(depends: &BTreeMap<String, Vec<String>>) -> String {
    let mut text = String::new();
    for name in depends.keys() {
        let mut all: Vec<&str> = Vec::new();
        closure(depends, name, &mut all);
        let list: String = all.iter().rev().map(|need| format!(" {need}.ko")).collect();
        text.push_str(&format!("{name}.ko:{list}\n"));
    }
    text
}

fn closure<'a>(depends: &'a BTreeMap<String, Vec<String>>, name: &str, all: &mut Vec<&'a str>) {
    for need in depends.get(name).into_iter().flatten() {
        if !all.contains(&need.as_str()) {
            closure(depends, need, all);
            all.push(need);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert_eq!(plain_name("usr/lib/x/xen-gntdev.ko.xz"), "xen_gntdev");
    }

    #[test]
    fn the_table_lists_the_nearest_dependency_first() {
        let needs = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let depends = BTreeMap::from([
            ("a".to_string(), needs(&["b"])),
            ("b".to_string(), needs(&["c"])),
            ("c".to_string(), needs(&[])),
        ]);
        assert_eq!(table(&depends), "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\n");
    }
}
