use super::*;
use crate::storage::Storage;
use proptest::prelude::*;
use std::sync::Arc;

fn open(text: &str) -> Result<Arc<dyn Storage>, String> {
    build(text, &Files::default()).map_err(|error| error.to_string())
}

fn says(text: &str) -> String {
    open(text).err().unwrap_or_else(|| panic!("{text} was opened"))
}

fn names(text: &str) -> Vec<&'static str> {
    parse(text).unwrap().0.iter().map(|(entry, _)| entry.name).collect()
}

#[test]
fn parts_are_told_apart() {
    assert_eq!(
        names("throttle:iops=1000/fault:every=100/file:disk.raw"),
        ["throttle", "fault", "file"]
    );
    assert_eq!(names("file:/srv/a/b:c.raw"), ["file"]);
    assert_eq!(names("ram"), ["ram"]);
    let parsed = parse("overlay:\"/a,b/c\"/verify/file:\"/d,e/f\",ro").unwrap().0;
    assert_eq!(parsed[0].1.path().to_str(), Some("/a,b/c"));
    assert_eq!(parsed[2].1.path().to_str(), Some("/d,e/f"));
    assert!(parsed[2].1.flag("ro").unwrap());
}

#[test]
fn nbd_uri_is_a_storage_with_or_without_its_name() {
    for (text, path) in [
        ("nbd://localhost:99/a,ro,outage=5s", "nbd://localhost:99/a"),
        ("nbd:nbd://localhost/a", "nbd://localhost/a"),
        ("nbd+unix:///a?socket=/run/s,connections=1", "nbd+unix:///a?socket=/run/s"),
        ("nbd:\"nbd+unix:///a?socket=/run/s,t\",ro", "nbd+unix:///a?socket=/run/s,t"),
    ] {
        let stack = format!("verify/{text}");
        let parsed = parse(&stack).unwrap().0;
        assert_eq!(names(&stack), ["verify", "nbd"]);
        assert_eq!(parsed[1].1.path().to_str(), Some(path), "{text}");
        assert_eq!(files(&stack).unwrap(), Some(Vec::new()));
        let unix = path.contains("unix");
        assert_eq!(needs(&stack).unwrap(), Needs { files: false, network: !unix, sockets: unix });
        assert_eq!(sockets(&stack).unwrap().len(), usize::from(unix));
        check(&stack, &Files::default()).unwrap();
    }
    for (text, part) in [
        ("nbd", "a path must follow"),
        ("nbd:localhost", "it is no URI"),
        ("nbd://", "names no host"),
        ("nbd+unix:///a", "lacks ?socket=PATH"),
        ("nbd://a/b,outage=5", "is no time"),
        ("nbd://a/b,connections=99", "1 to 16"),
        ("nbd://a/b,size=1G", "no option"),
    ] {
        assert!(says(text).contains(part), "{text}: {}", says(text));
        assert!(check(text, &Files::default()).is_err(), "{text}");
    }
    assert!(says("nbd+unix:///a?socket=/nowhere/s").contains("No such file"));
    assert!(says("nbds://localhost/a").contains("no TLS"));
}

#[test]
fn what_is_wrong_is_said() {
    for (text, part) in [
        ("", "no storage or layer \"\""),
        ("rom", "no storage or layer \"rom\"; there are discard, ram"),
        ("verify", "verify is a layer"),
        ("verify/", "verify is a layer"),
        ("verify,x/ram", "comes a colon"),
        ("ram/file:x", "comes a colon"),
        ("file", "a path must follow"),
        ("file:", "a path must follow"),
        ("file:x,rw", "no option \"rw\"; it has ro, direct"),
        ("file:\"x", "a quote is not closed"),
        ("file:/nowhere/x", "cannot open \"file:/nowhere/x\": No such file"),
        ("file:x,ro=1", "ro takes no value"),
        ("ram:size=1X", "\"1X\" is no size"),
        ("ram:size=1000", "not one or more whole sectors"),
        ("ram:size=0", "not one or more whole sectors"),
        ("ram:size", "size needs a value"),
        ("ram:size=1M,size=2M", "size is given twice"),
        ("ram:sector=1024", "only 512 and 4096"),
        ("throttle/ram", "must say how much"),
        ("throttle:iops=0/ram", "more than nothing"),
        ("delay/ram", "how long?"),
        ("delay:5/ram", "\"5\" is no time"),
        ("fault:p=2/ram", "from 0 to 1"),
        ("fault:op=trim/ram", "no such request"),
        ("fault:silent/ram", "a read cannot be silent"),
        ("fault:op=write+read,silent/ram", "a read cannot be silent"),
        ("powercut:keep=2/ram", "from 0 to 1"),
        ("overlay/ram", "a path must follow"),
    ] {
        assert!(says(text).contains(part), "{text}: {}", says(text));
    }
}

#[test]
fn stacks_do_what_they_say() {
    let disk = open(
        "fault:every=2,op=write+flush/verify/delay:1us/throttle:rate=1G/ram:size=1M,sector=4096",
    )
    .unwrap();
    assert_eq!((disk.info().bytes, disk.info().sector_size), (1 << 20, 4096));
    assert!(
        disk.write(0, &[1; 4096]).is_ok()
            && disk.flush().is_err()
            && disk.read(0, &mut [0; 4096]).is_ok()
    );
    assert_eq!(open("powercut:after=1/ram").unwrap().info().bytes, 1 << 30);
}

#[test]
fn an_overlay_is_committed_and_reverted() {
    let base = std::env::temp_dir().join(format!("xen-disk-stack-{}", std::process::id()));
    let overlay = base.with_extension("overlay");
    std::fs::write(&base, [0; 8192]).unwrap();
    let text = format!("overlay:\"{}\"/file:{}", overlay.display(), base.display());
    let write = |byte| {
        let disk = open(&text).unwrap();
        disk.write(512, &[byte; 512]).unwrap();
        disk.flush().unwrap();
        assert!(says(&text).contains("another program serves it"));
    };
    write(1);
    assert_eq!(revert(&text).unwrap().clusters, 1);
    write(2);
    assert_eq!(std::fs::read(&base).unwrap(), [0; 8192]);
    assert_eq!(commit(&text).unwrap().clusters, 1);
    assert_eq!(std::fs::read(&base).unwrap()[511..514], [0, 2, 2]);
    write(3);
    std::fs::write(&base, [9; 8192]).unwrap();
    assert!(says(&text).contains("the disk below was written since"), "{}", says(&text));
    assert!(commit("ram").unwrap_err().to_string().contains("only in an overlay"));
    [base, overlay].iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

#[test]
fn what_is_only_in_memory_is_not_gone_on_with() {
    let path = std::env::temp_dir().join(format!("xen-disk-outlives-{}", std::process::id()));
    std::fs::write(&path, [0; 8192]).unwrap();
    let path = path.to_str().unwrap();
    for (text, outlives) in [
        ("ram:size=1M", false),
        ("verify/ram:size=1M", false),
        (&format!("cow:{path}"), false),
        (&format!("powercut/file:{path}"), false),
        (&format!("verify/delay:1us/file:{path}"), true),
        (&format!("mmap:{path}"), true),
    ] {
        assert_eq!(open(text).unwrap().outlives(), outlives, "{text}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn help_names_everything() {
    let text = help();
    for entry in kinds::all() {
        assert!(text.contains(&format!("  {}", entry.name)), "{}", entry.name);
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "(file|ram|verify|delay|fault|[a-z:/,\"=0-9]){0,12}") {
        let _ = parse(&text);
    }
}

#[test]
fn check_finds_mistakes_and_makes_nothing() {
    let folder = std::env::temp_dir().join(format!("xen-storage-check-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    std::fs::write(at("image"), [0; 4096]).unwrap();
    let wrong = |text: &str| check(text, &Files::default()).unwrap_err().to_string();
    for (text, part) in [
        ("floppy".to_string(), "there is no storage or layer"),
        (format!("file:{}", at("missing")), "No such file"),
        (format!("cow:{},sector=1000", at("image")), "only 512 and 4096"),
        (format!("file:{},direct=yes", at("image")), "takes no value"),
        (format!("throttle:iops=many/file:{}", at("image")), "is no number"),
        (format!("throttle/file:{}", at("image")), "must say how much"),
        (format!("powercut:keep=2/file:{}", at("image")), "from 0 to 1"),
        (format!("overlay:\"{}\"/file:{}", at("x/over"), at("image")), "No such file"),
        (format!("log:\"{}\"/file:{}", at("image/log"), at("image")), "not a directory"),
        ("verify/ram:size=1000".to_string(), "whole sectors"),
    ] {
        let wrong = wrong(&text);
        assert!(wrong.contains(part), "{text}: {wrong}");
    }
    let sized = Files { size: Some(1 << 20), ..Files::default() };
    let text = format!("file:{}", at("image"));
    assert!(check(&text, &sized).unwrap_err().to_string().contains("how long it is"));

    let text = format!("log:\"{}\"/overlay:\"{}\"/{text}", at("log"), at("over"));
    check(&text, &Files::default()).unwrap();
    let names: Vec<_> = folder.read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["image"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_of_a_stack_are_known_unless_an_image_names_others() {
    let found = |text: &str| {
        let files = files(text).unwrap()?;
        Some(files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
    };
    let expected = Some(vec!["/a/changes".to_string(), "/b/golden".to_string()]);
    assert_eq!(found("overlay:\"/a/changes\"/verify/file:/b/golden,ro"), expected);
    assert_eq!(found("ram:size=1M"), Some(Vec::new()));
    assert_eq!(found("vmdk:/b/disk,trusted"), None);
    if cfg!(feature = "object") {
        let cache = Some(vec!["/var/cache/chunks".to_string()]);
        assert_eq!(found("object:s3://bucket,name=a,cache=/var/cache/chunks"), cache);
        assert_eq!(found("object:/srv/store,name=a"), Some(vec!["/srv/store".to_string()]));
    }
}
