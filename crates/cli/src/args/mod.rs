//! The command line: one module of flags per noun, read by clap and made to behave as Docker's own parser (pflag).
//!
//! Only the flags of the verb that is called are built, so that no verb pays for the others.

pub mod container;
pub mod files;
pub mod global;
pub mod help;
pub mod image;
mod later;
pub mod options;
#[cfg(test)]
mod page;
pub mod shared;
pub mod system;
pub mod volume;

use clap::builder::{TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, Command};

/// How many arguments a verb takes besides its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// As many as it says.
    Exactly(usize),
    /// That many or more.
    AtLeast(usize),
    /// That many or fewer.
    AtMost(usize),
    /// From the one to the other.
    Between(usize, usize),
}

/// What a wrong command line is answered with.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `--help` was given: the text for stdout.
    Help(String),
    /// A flag is wrong: exit code 125, as Docker has it.
    Flag(String),
    /// A flag of Docker's that is not there yet: exit code 125, as for any other that can't be had.
    Missing(String),
    /// The number of arguments is wrong: exit code 1, as Docker has it.
    Arguments(String),
}

/// What a verb is called and takes, as help and errors show it.
#[derive(Clone, Copy, Debug)]
pub struct Syntax {
    /// After the program's name: `volume rm`.
    pub path: &'static str,
    /// After that: `[OPTIONS] VOLUME [VOLUME...]`.
    pub usage: &'static str,
    /// One line.
    pub about: &'static str,
    /// How many arguments.
    pub count: Count,
}

/// Reads the flags of one verb. `words` are what follows the verb's name.
pub fn parse<A: Args>(program: &str, syntax: &Syntax, words: &[String]) -> Result<A, Refusal> {
    let mut command = behave(A::augment_args(Command::new("orlop").no_binary_name(true)));
    // What is read but has no effect yet is refused as what isn't there.
    command = command.mut_args(|arg| match later_flag(syntax, &arg) {
        Some(_) => arg.hide(true),
        None => arg,
    });
    command.build();
    // `-h` is help unless it is one of the verb's own flags.
    let takes_h = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let matches = command.try_get_matches_from_mut(words).map_err(|error| match wanted_help(&error, takes_h) {
        true => Refusal::Help(help::verb(program, syntax, &command)),
        false => flag_refusal(program, syntax, &command, &error, words),
    })?;
    if matches.get_flag("help") {
        return Err(Refusal::Help(help::verb(program, syntax, &command)));
    }
    let later = command.get_arguments().find_map(|arg| {
        let given = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        later_flag(syntax, arg).filter(|_| given)
    });
    if let Some(refusal) = later {
        return Err(Refusal::Missing(refusal));
    }
    let positional = command.get_positionals().next().map(|arg| arg.get_id().clone());
    let given = positional.map_or(0, |id| matches.get_many::<String>(id.as_str()).map_or(0, Iterator::count));
    let fits = match syntax.count {
        Count::Exactly(count) => given == count,
        Count::AtLeast(count) => given >= count,
        Count::AtMost(count) => given <= count,
        Count::Between(least, most) => (least..=most).contains(&given),
    };
    if !fits {
        return Err(Refusal::Arguments(count_error(program, syntax)));
    }
    A::from_arg_matches(&matches).map_err(|error| Refusal::Flag(error.to_string()))
}

/// The refusal of a flag that clap knows, when it stands in the list of what comes later.
fn later_flag(syntax: &Syntax, arg: &Arg) -> Option<String> {
    arg.get_long().and_then(|long| later::refusal(syntax.path, &format!("--{long}")))
}

fn wanted_help(error: &clap::Error, takes_h: bool) -> bool {
    error.kind() == ErrorKind::UnknownArgument && !takes_h && invalid_argument(error) == "-h"
}

/// pflag's manner: a boolean may have `=false`, a value may begin with a dash, the last one counts.
fn behave(command: Command) -> Command {
    let help = Arg::new("help").long("help").action(ArgAction::SetTrue).hide(true);
    let command = command.disable_help_flag(true).disable_version_flag(true);
    let (boolean, integer) = (ValueParser::bool().type_id(), ValueParser::from(clap::value_parser!(i64)).type_id());
    command
        .mut_args(|arg| match (arg.get_action(), arg.get_value_parser().type_id()) {
            (ArgAction::SetTrue, _) => flexible_bool(arg, "false"),
            (ArgAction::Set, kind) if kind == boolean => flexible_bool(arg, "true"),
            (ArgAction::Set, kind) if kind == integer => last_counts(arg).value_parser(go_int),
            (ArgAction::Set, _) => last_counts(arg),
            _ if arg.is_positional() => arg,
            _ => arg.allow_hyphen_values(true),
        })
        .arg(help)
}

fn last_counts(arg: Arg) -> Arg {
    let id = arg.get_id().clone();
    arg.overrides_with(id).allow_hyphen_values(true)
}

fn flexible_bool(arg: Arg, default: &'static str) -> Arg {
    let id = arg.get_id().clone();
    arg.action(ArgAction::Set)
        .overrides_with(id)
        .num_args(0..=1)
        .require_equals(true)
        .default_value(default)
        .default_missing_value("true")
        .value_parser(clap::builder::StringValueParser::new().try_map(|text| go_bool(&text)))
}

/// What Go's strconv.ParseBool takes.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

fn go_int(text: &str) -> Result<i64, String> {
    let number = text.strip_prefix('+').unwrap_or(text);
    number.parse().map_err(|error: std::num::ParseIntError| {
        let problem = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {problem}")
    })
}

fn invalid_argument(error: &clap::Error) -> &str {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text,
        _ => "",
    }
}

/// A flag that can't be had: one of Docker's by its name, any other in pflag's words.
fn flag_refusal(program: &str, syntax: &Syntax, command: &Command, error: &clap::Error, words: &[String]) -> Refusal {
    let missing = later::refusal(syntax.path, flag_of(error));
    missing.map_or_else(|| Refusal::Flag(flag_error(program, syntax, command, error, words)), Refusal::Missing)
}

/// The flag that an error is about, without its value.
fn flag_of(error: &clap::Error) -> &str {
    invalid_argument(error).split([' ', '=', '[']).next().unwrap_or_default()
}

/// A wrong flag in pflag's words, with Docker's pointer to the help.
fn flag_error(program: &str, syntax: &Syntax, command: &Command, error: &clap::Error, words: &[String]) -> String {
    let flag = flag_of(error);
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let message = match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown flag: {flag}"),
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let letter = flag.chars().nth(1).unwrap_or('-');
            let cluster = words.iter().find(|word| {
                word.starts_with('-')
                    && !word.starts_with("--")
                    && word.split('=').next().unwrap_or("").contains(letter)
            });
            format!("unknown shorthand flag: {letter:?} in {}", cluster.map_or(flag, String::as_str))
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            match words.last().filter(|last| last.starts_with('-') && !last.starts_with("--")) {
                Some(last) => {
                    format!("flag needs an argument: {:?} in {last}", last.chars().last().unwrap_or('-'))
                }
                None => format!("flag needs an argument: {flag}"),
            }
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let known = command.get_arguments().find(|arg| {
                arg.get_long().is_some_and(|long| flag == format!("--{long}"))
                    || arg.get_short().is_some_and(|short| flag == format!("-{short}"))
            });
            let shown = known.map_or_else(|| flag.to_owned(), help::names);
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument {value:?} for {shown:?} flag: {cause}")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let hint = match error.kind() {
        ErrorKind::UnknownArgument => flag_hint(command, flag),
        _ => String::new(),
    };
    format!("{message}\n\n{}{hint}", pointer(program, syntax))
}

/// The flag of the verb that may have been meant, as a line of its own.
fn flag_hint(command: &Command, flag: &str) -> String {
    let Some(wanted) = flag.strip_prefix("--") else { return String::new() };
    let known = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
    let near = orlop_model::near::near(wanted, known);
    near.first().map_or_else(String::new, |name| format!("\nHint: did you mean '--{name}'?"))
}

fn count_error(program: &str, syntax: &Syntax) -> String {
    let Syntax { path, count, .. } = syntax;
    let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
    let demand = match count {
        Count::Exactly(0) | Count::AtMost(0) => "accepts no arguments".to_owned(),
        Count::Exactly(count) => format!("requires {count} {}", plural(*count)),
        Count::AtLeast(count) => format!("requires at least {count} {}", plural(*count)),
        Count::AtMost(count) => format!("requires at most {count} {}", plural(*count)),
        Count::Between(least, most) => format!("requires at least {least} and at most {most} {}", plural(*most)),
    };
    format!("{program}: '{program} {path}' {demand}\n\n{}", pointer(program, syntax))
}

/// The two lines that Docker ends a usage error with.
fn pointer(program: &str, Syntax { path, usage, .. }: &Syntax) -> String {
    let path = [program, path].join(" ");
    let path = path.trim();
    format!("Usage:  {path} {usage}\n\nRun '{path} --help' for more information")
}

/// The flags that stand before a verb, for the help of the whole.
pub fn global_options() -> String {
    help::options(&behave(global::GlobalArgs::augment_args(Command::new("orlop"))))
}

#[cfg(test)]
mod tests {
    use super::container::{CreateArgs, ExecArgs, PsArgs, RmArgs, RunArgs, StopArgs};
    use super::*;

    const SYNTAX: Syntax = Syntax { path: "run", usage: "[OPTIONS] IMAGE", about: "Run", count: Count::AtLeast(1) };

    fn read<A: Args>(line: &[&str]) -> Result<A, Refusal> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        parse("docker", &SYNTAX, &words)
    }

    fn run(line: &[&str]) -> RunArgs {
        read(line).unwrap()
    }

    #[test]
    fn flags_stop_at_the_image() {
        for (line, command) in [
            (&["alpine"][..], &["alpine"][..]),
            (&["alpine", "ls", "-la"], &["alpine", "ls", "-la"]),
            (&["alpine", "-d", "--rm", "--foo"], &["alpine", "-d", "--rm", "--foo"]),
            (&["--", "alpine", "ls"], &["alpine", "ls"]),
            (&["alpine", "--", "ls"], &["alpine", "--", "ls"]),
            (&["alpine", "sh", "-c", "echo -- --help"], &["alpine", "sh", "-c", "echo -- --help"]),
            (&["alpine", "--help"], &["alpine", "--help"]),
            (&["alpine", ""], &["alpine", ""]),
        ] {
            let args = run(line);
            assert_eq!(args.create.command, command, "{line:?}");
            assert!(!args.detach && !args.create.rm);
        }
        let exec: ExecArgs = read(&["-it", "db", "psql", "-U", "postgres", "-h"]).unwrap();
        assert_eq!(exec.command, ["db", "psql", "-U", "postgres", "-h"]);
    }

    #[test]
    fn clusters_values_and_booleans_are_read_as_pflag_reads_them() {
        let args = run(&["-dit", "-v", "a:/a", "-vb:/b", "-v=c:/c", "--volume", "d:/d", "--volume=e:/e", "x"]);
        assert!(args.detach && args.create.interactive && args.create.tty);
        assert_eq!(args.create.volume, ["a:/a", "b:/b", "c:/c", "d:/d", "e:/e"]);
        let args = run(&["--rm=false", "-d=true", "-ti=false", "--read-only=1", "--sig-proxy=false", "x"]);
        assert!(!args.create.rm && args.detach && args.create.tty && !args.create.interactive);
        assert!(args.create.read_only && !args.sig_proxy);
        let args = run(&["--rm", "--rm=false", "--rm", "--name", "one", "--name=two", "x"]);
        assert!(args.create.rm);
        assert_eq!(args.create.name.as_deref(), Some("two"));
        let args = run(&["-itv", "a:/a", "-e", "-X=1", "-e", "A=", "-e", "B", "--entrypoint", "", "-w", "/w", "x"]);
        assert_eq!(args.create.env, ["-X=1", "A=", "B"]);
        assert_eq!(args.create.entrypoint.as_deref(), Some(""));
        assert_eq!(args.create.volume, ["a:/a"]);
        assert_eq!(run(&["-h", "host", "x"]).create.hostname.as_deref(), Some("host"));
        assert_eq!(run(&["--net", "host", "x"]).create.network.as_deref(), Some("host"));
        let rm: RmArgs = read(&["one", "-f", "two", "-v"]).unwrap();
        assert!(rm.force && rm.volumes);
        assert_eq!(rm.containers, ["one", "two"]);
        let stop: StopArgs = read(&["-t", "-1", "one"]).unwrap();
        assert_eq!(stop.timeout, Some(-1));
        let stop: StopArgs = read(&["--time=5", "one"]).unwrap();
        assert_eq!(stop.timeout, Some(5));
        assert!(read::<CreateArgs>(&["--tmpfs", "/t", "x"]).unwrap().tmpfs == ["/t"]);
    }

    #[test]
    fn mistakes_have_dockers_words() {
        for (line, expected) in [
            (&["--foo", "x"][..], "unknown flag: --foo"),
            (&["--foo=1", "x"], "unknown flag: --foo"),
            (&["-zz", "x"], "unknown shorthand flag: 'z' in -zz"),
            (&["-itz", "x"], "unknown shorthand flag: 'z' in -itz"),
            (&["--name"], "flag needs an argument: --name"),
            (&["-v"], "flag needs an argument: 'v' in -v"),
            (&["-itv"], "flag needs an argument: 'v' in -itv"),
            (
                &["--rm=foo", "x"],
                r#"invalid argument "foo" for "--rm" flag: strconv.ParseBool: parsing "foo": invalid syntax"#,
            ),
            (
                &["-d=2", "x"],
                r#"invalid argument "2" for "-d, --detach" flag: strconv.ParseBool: parsing "2": invalid syntax"#,
            ),
            (
                &["--stop-timeout", "x", "y"],
                r#"invalid argument "x" for "--stop-timeout" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
        ] {
            match read::<RunArgs>(line) {
                Err(Refusal::Flag(text)) => {
                    let pointer =
                        "\n\nUsage:  docker run [OPTIONS] IMAGE\n\nRun 'docker run --help' for more information";
                    assert_eq!(text, format!("{expected}{pointer}"), "{line:?}");
                }
                other => panic!("{line:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_flag_that_is_nearly_right_has_a_hint() {
        for (flag, expected) in [("--memori", Some("--memory")), ("--naem=x", Some("--name")), ("--foo", None)] {
            let Err(Refusal::Flag(text)) = read::<RunArgs>(&[flag, "x"]) else { panic!("{flag} was taken") };
            let hint = text.lines().find_map(|line| line.strip_prefix("Hint: did you mean '")?.strip_suffix("'?"));
            assert_eq!(hint, expected, "{text}");
        }
    }

    #[test]
    fn what_docker_has_and_we_have_not_is_refused_by_name() {
        for (line, names) in [(&["--ip", "1.2.3.4", "x"][..], "--ip"), (&["-it", "--ip=1.2.3.4", "x"], "--ip")] {
            let expected = Refusal::Missing(format!("{names} comes with a later version"));
            assert_eq!(read::<RunArgs>(line).err(), Some(expected), "{line:?}");
        }
        assert_eq!(run(&["x", "--restart", "no"]).create.command, ["x", "--restart", "no"]);
    }

    #[test]
    fn arguments_are_counted() {
        for (count, given, expected) in [
            (Count::AtLeast(1), 0, Some("requires at least 1 argument")),
            (Count::AtLeast(2), 1, Some("requires at least 2 arguments")),
            (Count::Exactly(1), 2, Some("requires 1 argument")),
            (Count::Exactly(2), 2, None),
            (Count::AtMost(0), 1, Some("accepts no arguments")),
            (Count::AtMost(1), 2, Some("requires at most 1 argument")),
        ] {
            let words = vec!["x".to_owned(); given];
            let found = parse::<PsArgs>("docker", &Syntax { path: "ps", count, ..SYNTAX }, &words).err();
            match (found, expected) {
                (None, None) => {}
                (Some(Refusal::Arguments(text)), Some(expected)) => {
                    assert!(
                        text.starts_with(&format!("docker: 'docker ps' {expected}\n\nUsage:  docker ps ")),
                        "{text}"
                    );
                }
                other => panic!("{count:?} {given}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_is_wrapped_and_hides_what_is_refused() {
        let Err(Refusal::Help(text)) = read::<RunArgs>(&["--help"]) else { panic!("no help") };
        assert!(text.starts_with("Usage:  docker run [OPTIONS] IMAGE\n\nRun\n"));
        assert!(text.contains("\n  -v, --volume list") && text.contains("--sig-proxy "), "{text}");
        assert!(!text.contains("--publish"));
        assert!(text.lines().all(|line| line.len() <= 100));
        assert!(matches!(read::<PsArgs>(&["-h"]), Err(Refusal::Help(_))));
    }
}
