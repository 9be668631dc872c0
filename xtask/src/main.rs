//! The project's own commands: `cargo xtask demo | test | tidy | bench | dist`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what these commands print is what they are for")]

mod bench;
mod demo;
mod deny;
mod dist;
mod packages;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

/// What may go wrong, as a line for the person who asked.
type Outcome<T = ()> = Result<T, String>;

/// Each command, its arguments, and what it does.
const COMMANDS: [(&str, &str); 5] = [
    ("demo", "builds, and shows data that outlives its container, with the bytes on disk"),
    ("test", "installs what the tests need (Debian, root), and runs them all"),
    ("tidy", "checks what eyes miss: the map, import rules, unsafe code, unfinished places"),
    ("bench", "measures beside Docker, Podman and runc, and writes docs/benchmarks.md; `bench GROUP` prints one group"),
    ("dist", "makes one static binary in target/dist"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        ["tidy"] => tidy::run(),
        ["bench", groups @ ..] => bench::run(groups),
        ["dist"] => dist::run(),
        _ => Err(usage()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let lines = COMMANDS.map(|(name, what)| format!("  {name:6} {what}"));
    format!("usage: cargo xtask COMMAND\n\n{}", lines.join("\n"))
}
