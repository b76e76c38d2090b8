use super::*;
use proptest::prelude::*;

#[test]
fn configuration_is_read() {
    let text = "[service.sh]\ncommand = [\"login\", \"-p\"]\npty = true\ndomains = [\"work\", \"7\"]\ngrace = 3\n\
                [service.log]\nunix = \"/run/log\"\ndomains = \"all\"\nleft = \"64K\"\nclients = 2\n\
                [service.out]\nfiles = \"/srv/out\"\nreadonly = true\ndomains = \"all\"\n\
                [service.ssh]\ntcp = \"127.0.0.1:22\"\ndomains = [\"all\"]\n";
    let services = parse(text, false).unwrap();
    let names: Vec<&str> = services.iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["log", "out", "sh", "ssh"]);
    let [log, out, sh, ssh] = &services[..] else { panic!() };
    assert_eq!((&log.target, &log.domains), (&Target::Unix("/run/log".into()), &Domains::All));
    assert_eq!((log.sizes.left, log.sizes.right, log.clients), (65536, 8192, 2));
    let words = vec!["login".into(), "-p".into()];
    assert_eq!((&sh.target, sh.grace), (&Target::Command { words, pty: true }, 3));
    assert_eq!(sh.domains, "work,7".parse().unwrap());
    // In a list, it is the name of a domain.
    assert_eq!(ssh.domains, Domains::These(vec![DomainArgument::Name("all".into())]));
    assert_eq!(out.target, Target::Files { dir: "/srv/out".into(), read_only: true });
    assert_eq!(ssh.target, Target::Tcp("127.0.0.1:22".parse().unwrap()));
}

#[test]
fn what_is_wrong_is_named() {
    let service = |rest: &str| format!("[service.a]\ndomains = \"all\"\n{rest}");
    for (text, part) in [
        ("", "missing field `service`"),
        ("[service]", "there is no [service.NAME]"),
        ("[service.a]\ncommand = [\"cat\"]", "missing field `domains`"),
        ("[service.a]\ndomains = \"some\"\ncommand = [\"cat\"]", "expected \"all\" or a list"),
        ("[service.a]\ndomains = []\ncommand = [\"cat\"]", "service a: no domain is named"),
        (
            "[service.a]\ndomains = [\"\"]\ncommand = [\"cat\"]",
            "service a: a domain's name is empty",
        ),
        ("[service.\"a/b\"]\ndomains = \"all\"\ncommand = [\"cat\"]", "service a/b: "),
        (&service(""), "service a: it needs one of command, unix, tcp and files"),
        (&service("unix = \"/x\"\ntcp = \"127.0.0.1:1\""), "it needs one of"),
        (&service("command = []"), "the command is empty"),
        (&service("command = \"cat\""), "invalid type"),
        (&service("unix = \"/x\"\npty = true"), "pty and grace are for a command"),
        (&service("unix = \"/x\"\nreadonly = true"), "readonly is for files"),
        (&service("tcp = \"host\""), "no address and port"),
        (&service("command = [\"cat\"]\nleft = \"2M\""), "a ring has 1 to 1048576"),
        (&service("command = [\"cat\"]\nclients = 0"), "a number of clients is"),
        (&service("command = [\"cat\"]\ncolour = 1"), "unknown field"),
    ] {
        let wrong = parse(text, false).unwrap_err();
        assert!(wrong.contains(part), "{text}: {wrong}");
    }
}

#[test]
fn sample_is_valid_and_manual_has_every_key() {
    let sample = include_str!("../../../../packaging/vchan.toml");
    assert!(
        parse(sample, false).unwrap_err().contains("missing field `service`"),
        "it serves nothing"
    );
    let lines = sample.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
    let services: Vec<&str> = lines.filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(parse(&services.join("\n"), false).unwrap().len(), 4);

    let manual = include_str!("../../../../packaging/vchan.toml.5");
    let unknown = parse("[service.a]\ncolour = 1", false).unwrap_err();
    let keys: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert!(keys.contains(&"domains") && keys.contains(&"grace"), "{unknown}");
    for key in keys {
        assert!(manual.contains(&format!("\n.TP\n\\fB{key}\\fR = ")), "{key}");
    }
}

proptest! {
    #[test]
    fn no_text_does_harm(text in "(\\[service\\.[a-z]*\\]\n|[a-z]+ = .{0,12}\n|.{0,9}){0,6}") {
        let _ = parse(&text, false);
    }
}
