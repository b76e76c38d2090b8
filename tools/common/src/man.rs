//! Manual pages, made of a command line and of what it cannot know.

use clap::{Arg, Command};
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};
use std::fs;
use std::io;
use std::path::Path;

/// Section of the manual for programs that only an administrator runs.
const SECTION: &str = "8";

/// The parts of a program's pages that are not in its command line.
pub struct Page {
    /// Environment variables with their meaning.
    pub environment: &'static [(&'static str, &'static str)],
    /// Files with their use.
    pub files: &'static [(&'static str, &'static str)],
    /// Related pages, for instance `xl(1)`.
    pub see_also: &'static [&'static str],
}

/// Writes a page for `command` and one for each of its commands into `dir`, which exists.
pub fn write(command: Command, page: &Page, dir: &Path) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let parent = command.get_name().to_string();
    let source = format!("{parent} {}", command.get_version().unwrap_or_default());
    let commands: Vec<&Command> = shown(&command).collect();
    for one in &commands {
        let mut see_also = vec![format!("{parent}({SECTION})")];
        see_also.extend(page.see_also.iter().map(|page| page.to_string()));
        one_page(one, &source, page, &see_also, dir)?;
    }
    let mut see_also: Vec<String> = commands.into_iter().map(page_name).collect();
    see_also.extend(page.see_also.iter().map(|page| page.to_string()));
    one_page(&command, &source, page, &see_also, dir)
}

fn one_page(
    command: &Command,
    source: &str,
    page: &Page,
    see_also: &[String],
    dir: &Path,
) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_string();
    let man = Man::new(command.clone()).section(SECTION).source(source).manual("Ringside");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    section(&mut text, "NAME", |roff| {
        roff.text([roman(format!("{name} - {}", summary(&about)))]);
    })?;
    section(&mut text, "SYNOPSIS", |roff| {
        roff.text(synopsis(command));
    })?;
    section(&mut text, "DESCRIPTION", |roff| {
        roff.text([roman(format!("{}.", about.trim_end_matches('.')))]);
    })?;
    if shown(command).next().is_some() {
        section(&mut text, "COMMANDS", |roff| {
            for one in shown(command) {
                let about = one.get_about().map(ToString::to_string).unwrap_or_default();
                item(roff, [bold(page_name(one))], &format!("{}.", about.trim_end_matches('.')));
            }
        })?;
    }
    man.render_options_section(&mut text)?;
    let help = command.get_after_long_help().or(command.get_after_help());
    let mut topics = topics(&help.map(ToString::to_string).unwrap_or_default());
    let mut late = |name: &str| {
        topics.iter().position(|topic| topic.heading == name).map(|at| topics.remove(at))
    };
    let (exit, examples) = (late("EXIT CODES"), late("EXAMPLES"));
    for topic in &topics {
        section(&mut text, &topic.heading, |roff| topic.render(roff))?;
    }
    if let Some(exit) = exit {
        section(&mut text, "EXIT STATUS", |roff| {
            for (code, meaning) in exit.lines.iter().filter_map(|line| line.trim().split_once(' '))
            {
                item(roff, [bold(code)], meaning.trim());
            }
        })?;
    }
    for (heading, items) in [("ENVIRONMENT", page.environment), ("FILES", page.files)] {
        section(&mut text, heading, |roff| {
            for (name, meaning) in items {
                item(roff, [italic(*name)], meaning);
            }
        })?;
    }
    if let Some(examples) = examples {
        section(&mut text, "EXAMPLES", |roff| examples.render(roff))?;
    }
    section(&mut text, "SEE ALSO", |roff| {
        roff.text([roman(see_also.join(", "))]);
    })?;
    fs::write(dir.join(format!("{name}.{SECTION}")), one_preamble(text))
}

/// Returns the commands of `command` that its help shows.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

fn page_name(command: &Command) -> String {
    format!("{}({SECTION})", command.get_display_name().unwrap_or(command.get_name()))
}

fn section(text: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Roff)) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [name]);
    fill(&mut roff);
    roff.to_writer(text)
}

/// Removes all but the first of the lines that each section brings for apostrophes.
fn one_preamble(text: Vec<u8>) -> String {
    let text = String::from_utf8(text).expect("clap has only text");
    let (preamble, rest) = text.split_at(text.find(".TH").unwrap_or(0));
    match preamble {
        "" => text,
        _ => format!("{preamble}{}", rest.replace(preamble, "")),
    }
}

fn item<const N: usize>(roff: &mut Roff, name: [Inline; N], meaning: &str) {
    roff.control("TP", []);
    roff.text(name);
    roff.text([roman(meaning)]);
}

/// Returns the part of `about` that fits the one line that whatis(1) shows.
fn summary(about: &str) -> String {
    let end = about.find([':', ';']).or_else(|| about.find(", ")).unwrap_or(about.len());
    changed(about[..end].trim_end_matches('.'), |first| first.to_lowercase().collect())
}

fn capitalized(text: &str) -> String {
    changed(text, |first| first.to_uppercase().collect())
}

fn changed(text: &str, change: impl Fn(char) -> String) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| change(first) + letters.as_str())
}

/// Returns the command with all its options, their values and its arguments.
fn synopsis(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
    let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    for arg in shown().filter(|arg| !arg.is_positional()) {
        let (open, close) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
        line.push(roman(open));
        let names =
            [arg.get_short().map(|c| format!("-{c}")), arg.get_long().map(|l| format!("--{l}"))];
        line.push(bold(names.into_iter().flatten().collect::<Vec<_>>().join("|")));
        if arg.get_action().takes_values() {
            line.push(roman(" "));
            line.push(italic(value(arg)));
        }
        line.push(roman(close));
    }
    for arg in command.get_positionals().filter(|arg| !arg.is_hide_set()) {
        let (open, close) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
        line.extend([roman(open), italic(value(arg)), roman(close)]);
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" ...")]);
    }
    line
}

fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().map(|names| names.iter().map(ToString::to_string).collect());
    let mut name = names.unwrap_or_else(|| vec![arg.get_id().to_string()]).join(" ");
    if arg.get_num_args().is_some_and(|range| range.max_values() > 1) {
        name.push_str(" ...");
    }
    name
}

/// A part of a command's help that stands below a heading.
struct Topic {
    heading: String,
    lines: Vec<String>,
}

/// Divides the help that follows a command's options at its headings: lines that begin in the first
/// column with a capital and end in a colon. Topics of one name are put together.
fn topics(help: &str) -> Vec<Topic> {
    let mut topics: Vec<Topic> = Vec::new();
    let mut at = None;
    for line in help.lines() {
        if let Some(title) = line
            .strip_suffix(':')
            .filter(|title| title.starts_with(|first: char| first.is_uppercase()))
        {
            let (name, rest) = title.split_once(", ").unwrap_or((title, ""));
            let heading = name.to_uppercase();
            let found = topics.iter().position(|topic| topic.heading == heading);
            at = Some(found.unwrap_or_else(|| {
                topics.push(Topic { heading, lines: Vec::new() });
                topics.len() - 1
            }));
            if let (Some(at), false) = (at, rest.is_empty()) {
                topics[at].lines.push(format!("{}:", capitalized(rest)));
            }
        } else if let Some(at) = at {
            topics[at].lines.push(line.to_string());
        }
    }
    topics
}

impl Topic {
    /// Adds the lines as they are: indented ones keep their breaks and their indent, others are
    /// paragraphs.
    fn render(&self, roff: &mut Roff) {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let least = self.lines.iter().map(|line| indent(line)).filter(|n| *n > 0).min();
        let mut fixed = false;
        let last = self.lines.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1);
        for line in &self.lines[..last] {
            let verbatim = line.is_empty() && fixed || indent(line) > 0;
            if verbatim != fixed {
                roff.control(
                    if verbatim { "RS" } else { "RE" },
                    if verbatim { vec!["4"] } else { vec![] },
                );
                roff.control(if verbatim { "nf" } else { "fi" }, []);
                fixed = verbatim;
            }
            if verbatim {
                roff.text([roman(line.get(least.unwrap_or(0)..).unwrap_or(""))]);
            } else if !line.is_empty() {
                roff.control("PP", []);
                roff.text([roman(line.as_str())]);
            }
        }
        if fixed {
            roff.control("fi", []);
            roff.control("RE", []);
        }
    }
}
