use super::*;
use clap::CommandFactory;
use xen_platform::DomId;

fn parse(args: &[&str]) -> Result<Command, clap::error::ErrorKind> {
    let args = [&["xen-disk"], args].concat();
    Arguments::try_parse_from(args).map(|args| args.command).map_err(|error| error.kind())
}

fn stack_of(args: &[&str]) -> Result<String, String> {
    match parse(&[&["connect", "vm"], args].concat()) {
        Ok(Command::Connect(args)) => args.source.stack().map_err(|failure| failure.text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clap_finds_no_fault_with_the_command_line() {
    Arguments::command().debug_assert()
}

#[test]
fn what_a_disk_is_kept_in() {
    assert_eq!(stack_of(&[]).unwrap(), "discard");
    assert_eq!(stack_of(&["--path", "/a,b"]).unwrap(), "file:\"/a,b\"");
    assert_eq!(stack_of(&["--path", "x", "--backend", "cow"]).unwrap(), "cow:\"x\"");
    assert_eq!(stack_of(&["--backend", "ram", "--size", "1G"]).unwrap(), "ram");
    assert_eq!(stack_of(&["--stack", "verify/ram"]).unwrap(), "verify/ram");
    let object = ["--stack", "object:s3://b", "--on-outage", "wait:30", "--take-over"];
    assert_eq!(stack_of(&object).unwrap(), "object:s3://b,outage=30s,takeover");
    assert!(stack_of(&["--path", "x", "--take-over"]).unwrap_err().contains("object stores"));
    assert!(stack_of(&["--backend", "mmap"]).unwrap_err().contains("needs a path"));
    assert!(
        stack_of(&["--backend", "ram", "--path", "x"]).unwrap_err().contains("leave the path out")
    );
    assert!(stack_of(&["--path", "a\"b"]).unwrap_err().contains("quote"));
}

#[test]
fn domains_and_disks_have_several_names() {
    let domain = |text: &str| text.parse::<DomainArgument>().unwrap();
    assert_eq!(domain("7"), DomainArgument::Number(DomId(7)));
    assert_eq!(domain("99999"), DomainArgument::Name("99999".into()));
    let uuid = "0B1A5E4C-1111-2222-3333-444455556666";
    assert_eq!(domain(uuid), DomainArgument::Uuid(uuid.to_lowercase()));
    assert_eq!(domain("0b1a5e4c-1111"), DomainArgument::Name("0b1a5e4c-1111".into()));
    assert_eq!(("xvdb".parse(), Vdev(51728).to_string()), (Ok(Vdev(51728)), "xvdb".to_string()));
    assert!("disk".parse::<Vdev>().is_err());
}

#[test]
fn what_contradicts_itself_is_wrong_usage() {
    for wrong in [
        &["connect"][..],
        &["connect", "2", "--path", "x", "--stack", "ram"],
        &["connect", "2", "--backend", "tape"],
        &["connect", "2", "--vdev", "tape"],
        &["connect", "2", "--size", "big"],
        &["serve", "a", "b"],
        &["hotplug"],
        &["hotplug", "change"],
        &["stats", "2"],
        &["stats", "2", "xvdb", "--interval", "0"],
        &["disconnect", "2"],
        &["resize", "2", "xvdb"],
        &["resize", "2", "xvdb", "-1"],
        &["convert", "ram"],
        &["connect", "2", "--stack", "ram", "--on-outage", "wait:0"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn every_command_has_examples_and_exit_codes() {
    for command in Arguments::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let text = command
            .get_after_help()
            .unwrap_or_else(|| panic!("{}", command.get_name()))
            .to_string();
        let example = format!("xen-disk {}", command.get_name());
        assert!(text.contains(&example) && text.contains("Exit codes:"), "{text}");
    }
}
