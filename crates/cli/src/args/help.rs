//! Help in Docker's layout, wrapped to the terminal.

use super::Syntax;
use clap::{Arg, ArgAction, Command};
use std::fmt::Write;

/// Columns of the terminal, or 80 where there is none; Docker never goes beyond 80 either.
fn width() -> usize {
    crate::output::print::terminal_width().unwrap_or(80).clamp(40, 100)
}

/// The help of one verb.
pub fn verb(program: &str, syntax: &Syntax, command: &Command) -> String {
    let path = [program, syntax.path].join(" ");
    let mut text = format!("Usage:  {} {}\n\n{}\n", path.trim(), syntax.usage, syntax.about);
    let aliases = crate::verbs::aliases(syntax.path);
    if !aliases.is_empty() {
        let names: Vec<String> = aliases.iter().map(|alias| format!("{program} {alias}")).collect();
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    text += &grouped(command);
    text + details(syntax.path)
}

/// What a verb of our own needs to have said about it.
fn details(path: &str) -> &'static str {
    match path {
        "image from-host" => {
            "
BINARY is a program of this machine: a name, which is looked up in PATH, or a
path; a directory is taken whole. What a program needs to start (libraries, its
interpreter) comes along. With no BINARY the image has sh, bash, coreutils,
findutils, grep, sed, tar and the like, as far as this machine has them.

CREATED is the time of the newest file in the image, not the moment at which it
was made, so that the same tools always give the same image.
"
        }
        _ => "",
    }
}

/// The flags of `command` with their descriptions, in the order of their names.
pub fn options(command: &Command) -> String {
    columns(&rows(command.get_arguments()))
}

/// The flags, those of a group under its heading.
fn grouped(command: &Command) -> String {
    let mut headings: Vec<Option<&str>> = vec![None];
    for heading in command.get_arguments().filter(|arg| !arg.is_hide_set()).map(Arg::get_help_heading) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let groups = headings.into_iter().map(|heading| {
        let options = columns(&rows(command.get_arguments().filter(|arg| arg.get_help_heading() == heading)));
        if options.is_empty() { options } else { format!("\n{}:\n{options}", heading.unwrap_or("Options")) }
    });
    groups.collect()
}

fn rows<'a>(arguments: impl Iterator<Item = &'a Arg>) -> Vec<(String, String)> {
    let mut shown: Vec<&Arg> = arguments.filter(|arg| !arg.is_hide_set() && !arg.is_positional()).collect();
    shown.sort_by_key(|arg| arg.get_long());
    shown
        .into_iter()
        .map(|arg| {
            let short = arg.get_short().map_or("    ".to_owned(), |short| format!("-{short}, "));
            let value = match takes_text(arg) {
                true => arg
                    .get_value_names()
                    .and_then(|names| names.first())
                    .map_or(String::new(), |name| format!(" {name}")),
                false => String::new(),
            };
            let default = match (arg.get_default_values(), takes_text(arg)) {
                ([default], true) if value == " int" => format!(" (default {})", default.to_string_lossy()),
                ([default], true) => format!(" (default {:?})", default.to_string_lossy()),
                ([default], false) if default == "true" => " (default true)".to_owned(),
                _ => String::new(),
            };
            let left = format!("  {short}--{}{value}", arg.get_long().unwrap_or_default());
            (left, arg.get_help().map(ToString::to_string).unwrap_or_default() + &default)
        })
        .collect()
}

fn takes_text(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
}

/// `-t, --time`, as pflag names a flag in its errors.
pub fn names(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    arg.get_short().map_or_else(|| format!("--{long}"), |short| format!("-{short}, --{long}"))
}

/// Two columns; the right one is wrapped.
pub fn columns(rows: &[(String, String)]) -> String {
    let left = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 3;
    let right = width().saturating_sub(left).max(20);
    let mut text = String::new();
    for (name, about) in rows {
        let mut line = format!("{name:left$}");
        let mut used = 0;
        for word in about.split(' ') {
            if used > 0 && used + 1 + word.len() > right {
                let _ = writeln!(text, "{}", line.trim_end());
                line = " ".repeat(left);
                used = 0;
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += word.len();
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
