//! Manual pages of a command line that has everything.

use clap::{Arg, ArgAction, Command};
use std::path::PathBuf;
use tools_common::{Page, generate};

const PAGE: Page = Page {
    environment: &[("SOME_PATH", "A path.")],
    files: &[("/dev/some", "A device's file.")],
    see_also: &["xl(1)"],
};

const HELP: &str = "\
Examples:
  some plug 1         'quoted'
    deeper
  .starts with a dot

Layers, each with a slash behind it:
  fault  fails
      every=N  the Nth

Examples:
  a/b

Exit codes:
  0    all went well
  130  SIGINT (Ctrl-C)";

fn pages(name: &str) -> (PathBuf, String, String) {
    let plug = Command::new("plug")
        .about("Plugs one: copies it, and more")
        .after_help(HELP)
        .arg(Arg::new("size").long("size").value_name("SIZE").help("Its length"))
        .arg(Arg::new("v").short('v').long("verbose").action(ArgAction::SetTrue))
        .arg(Arg::new("vm").value_name("VM").required(true))
        .arg(Arg::new("words").value_name("WORD").num_args(1..));
    let hidden = Command::new("generate").hide(true);
    let command = Command::new("some").version("1.2.3").about("Does some").subcommand(plug);
    let dir = std::env::temp_dir().join(format!("tools-common-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    generate(&command.subcommand(hidden), &PAGE, &dir).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let (top, sub) = (read("some.8"), read("some-plug.8"));
    (dir, top, sub)
}

#[test]
fn page_has_every_section_once_and_in_order() {
    let (dir, top, sub) = pages("order");
    let headings = |text: &str| -> Vec<String> {
        text.lines().filter_map(|l| l.strip_prefix(".SH ")).map(|h| h.replace('"', "")).collect()
    };
    let order = "NAME SYNOPSIS DESCRIPTION OPTIONS LAYERS EXIT STATUS ENVIRONMENT FILES EXAMPLES \
                 SEE ALSO";
    assert_eq!(headings(&sub).join(" "), order);
    let order = "NAME SYNOPSIS DESCRIPTION COMMANDS OPTIONS ENVIRONMENT FILES SEE ALSO";
    assert_eq!(headings(&top).join(" "), order);
    assert!(sub.contains(".TH some-plug 8  \"some 1.2.3\" Ringside\n"), "{sub}");
    assert!(sub.contains("some\\-plug \\- plugs one\n"), "{sub}");
    assert!(top.contains("some\\-plug(8)") && sub.contains("some(8), xl(1)"), "{top}{sub}");
    assert_eq!(sub.matches(".ie \\n(.g").count(), 1, "{sub}");
    let mut names: Vec<_> =
        dir.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["_some", "some-plug.8", "some.8", "some.bash", "some.fish"]);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn synopsis_has_the_values_and_examples_keep_their_indent() {
    let (dir, _, sub) = pages("values");
    std::fs::remove_dir_all(dir).unwrap();
    let synopsis = "[\\fB\\-\\-size\\fR \\fISIZE\\fR] [\\fB\\-v|\\-\\-verbose\\fR]";
    assert!(sub.contains(synopsis), "{sub}");
    assert!(sub.contains("\\fIVM\\fR [\\fIWORD ...\\fR]"), "{sub}");
    let examples =
        "some plug 1         \\*(Aqquoted\\*(Aq\n  deeper\n\\&.starts with a dot\n\na/b\n";
    assert!(sub.contains(examples), "{sub}");
    assert!(sub.contains("Each with a slash behind it:\n"), "{sub}");
    assert!(sub.contains("fault  fails\n    every=N  the Nth\n"), "{sub}");
    assert!(sub.contains("\\fB130\\fR\nSIGINT (Ctrl\\-C)\n"), "{sub}");
}
