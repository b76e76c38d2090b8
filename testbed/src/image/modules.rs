//! Picks kernel modules with what they depend on. The packages do not ship
//! `modules.dep` (it is made at installation), so it is made here from what
//! each module says of itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use goblin::elf::Elf;

use super::cpio::{Node, Tree};
use super::unpack::Files;

/// The list of modules that are part of the kernel, beside the modules.
const BUILT_IN: &str = "modules.builtin";

/// Adds the modules called `names`, their dependencies, `modules.dep` and `modules.builtin` to
/// `tree`. A kernel that has one of `names` neither as a module nor built in is an error.
pub fn add(tree: &mut Tree, files: &Files, release: &str, names: &[&str]) -> Result<()> {
    let folder = format!("usr/lib/modules/{release}");
    let paths: HashMap<String, &str> = files
        .keys()
        .filter(|path| is_module(path))
        .map(|path| (plain_name(path), path.as_str()))
        .collect();
    let built_in = built_in(files);
    for name in names.iter().map(|name| underscored(name)) {
        ensure!(
            paths.contains_key(&name) || built_in.contains(&name),
            "Linux {release} has no module {name}: testbed/src/image names modules that it needs"
        );
    }
    let mut depends = BTreeMap::new();
    let mut todo: Vec<String> = names.iter().map(|name| underscored(name)).collect();
    while let Some(name) = todo.pop() {
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
    let list: String = built_in.iter().map(|name| format!("{name}.ko\n")).collect();
    tree.insert(&format!("{folder}/{BUILT_IN}"), Node::File(0o644, list.into_bytes()));
    Ok(())
}

/// Returns the names of the modules that are part of the kernel.
fn built_in(files: &Files) -> BTreeSet<String> {
    let list = files.iter().find(|(path, _)| is_list(path));
    let Some((_, Node::File(_, text))) = list else { return BTreeSet::new() };
    String::from_utf8_lossy(text).lines().map(plain_name).collect()
}

fn is_list(path: &str) -> bool {
    path.ends_with(&format!("/{BUILT_IN}"))
}

/// Returns true if `path` is needed to find modules.
pub fn is_wanted(path: &str) -> bool {
    is_module(path) || is_list(path)
}

/// Returns true if `path` is that of a module, packed or not.
fn is_module(path: &str) -> bool {
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
    crate::setup::require(program)?;
    let mut child =
        Command::new(program).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no pipe")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(data));
        child.wait_with_output()
    })?;
    ensure!(output.status.success(), "{program} could not unpack a kernel module");
    Ok(output.stdout)
}

/// Returns the names that a module's `.modinfo` section lists after `depends=`.
fn needs(module: &[u8]) -> Vec<String> {
    let info = Elf::parse(module).ok().and_then(|elf| {
        let section = elf
            .section_headers
            .iter()
            .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".modinfo"))?;
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
    fn module_built_into_the_kernel_is_listed_and_another_missed() {
        let list = b"kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/xen/xen-x.ko\n".to_vec();
        let path = "usr/lib/modules/6/modules.builtin".to_string();
        let files = Files::from([(path.clone(), Node::File(0o644, list))]);
        let mut tree = Tree::default();
        add(&mut tree, &files, "6", &["virtio_pci", "xen-x"]).unwrap();
        let (_, list) = tree.iter().find(|(at, _)| *at == path).unwrap();
        assert_eq!(*list, Node::File(0o644, b"virtio_pci.ko\nxen_x.ko\n".to_vec()));
        let error = add(&mut tree, &files, "6", &["loop"]).unwrap_err().to_string();
        assert!(error.contains("no module loop"), "{error}");
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
