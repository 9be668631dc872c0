//! `orlop`, also as `docker`: the command line of the engine.
//!
//! One binary plays three parts, and which one is decided before anything else happens: the shim beside a running
//! container (`internal shim`), the reaper of one that has ended (`internal reap`), and the door that does one verb.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod door;
mod failure;
mod output;
mod verbs;

use args::global::GlobalArgs;
use args::{Count, Refusal, Syntax};
use door::Door;
use failure::{Failure, Outcome};
use output::print::{note, out};
use std::process::ExitCode;

const GLOBAL: Syntax = Syntax {
    path: "",
    usage: "[OPTIONS] COMMAND [ARG...]",
    about: "Containers and their data, with nothing lost",
    count: Count::AtLeast(0),
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = program_name(arguments.next());
    let mut words = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(word) => words.push(word),
            Err(word) => {
                note(&format!("Error: argument {word:?} is not valid UTF-8"));
                return ExitCode::from(125);
            }
        }
    }
    if let [internal, shim, directory] = &words[..]
        && internal == "internal"
        && shim == "shim"
    {
        return ExitCode::from(commands::internal::shim(directory.as_ref()));
    }
    ExitCode::from(finish(&program, verb(&program, &words)))
}

/// `docker` when it was called by that name, so that help and errors speak of what the user typed.
fn program_name(argument: Option<std::ffi::OsString>) -> String {
    let name = argument.as_deref().map(std::path::Path::new).and_then(std::path::Path::file_name);
    match name.and_then(std::ffi::OsStr::to_str) {
        Some("docker") => "docker".to_owned(),
        _ => "orlop".to_owned(),
    }
}

/// Does the one verb that `words` ask for.
fn verb(program: &str, words: &[String]) -> Outcome {
    let mut globals: GlobalArgs = args::parse(program, &GLOBAL, words).map_err(|refusal| match refusal {
        Refusal::Help(_) => Refusal::Help(verbs::overview(program)),
        other => other,
    })?;
    let words = std::mem::take(&mut globals.command);
    if globals.version {
        out(&format!("Orlop version {}\n", env!("CARGO_PKG_VERSION")))?;
        return Ok(0);
    }
    for (given, flag) in [(globals.debug, "--debug"), (globals.log_level.is_some(), "--log-level")] {
        if given {
            return Err(Failure::unsupported(format!(
                "{flag} has no effect here: there is no daemon that keeps a log"
            )));
        }
    }
    let door = Door { program: program.to_owned(), globals };
    match &words[..] {
        [internal, shim, directory] if internal == "internal" && shim == "shim" => {
            Ok(commands::internal::shim(directory.as_ref()))
        }
        [internal, adopt, directory] if internal == "internal" && adopt == "adopt" => {
            Ok(commands::internal::adopt(directory.as_ref()))
        }
        [internal, complete, words @ ..] if internal == "internal" && complete == "complete" => {
            commands::complete::complete(&door, words)
        }
        [internal, man, directory] if internal == "internal" && man == "man" => {
            commands::man::pages(&door, directory.as_ref())
        }
        [internal, reap, id] if internal == "internal" && reap == "reap" => commands::internal::reap(&door, id),
        [internal, restart, id] if internal == "internal" && restart == "restart" => {
            commands::internal::restart(&door, id)
        }
        [internal, oom, id] if internal == "internal" && oom == "oom" => commands::internal::oom(&door, id),
        [internal, uncopy, id] if internal == "internal" && uncopy == "uncopy" => commands::internal::uncopy(&door, id),
        [internal, health, id, status] if internal == "internal" && health == "health" => {
            commands::internal::health(&door, id, status)
        }
        _ => verbs::dispatch(&door, &words),
    }
}

/// Says what is left to say, and gives the exit code.
fn finish(program: &str, outcome: Outcome) -> u8 {
    match outcome {
        Ok(code) | Err(Failure::Said(code)) => code,
        Err(Failure::BrokenPipe) => 0,
        Err(Failure::Refusal(Refusal::Help(text))) => {
            // Nothing is lost when the reader of a help text is gone.
            let _ = out(&text);
            0
        }
        Err(Failure::Refusal(Refusal::Flag(text))) => {
            note(&text);
            125
        }
        Err(Failure::Refusal(Refusal::Missing(text))) => {
            note(&format!("Error: {text}"));
            125
        }
        Err(Failure::Refusal(Refusal::Arguments(text))) => {
            note(&text);
            1
        }
        Err(Failure::Usage(text)) => {
            note(&format!("Error: {text}"));
            1
        }
        Err(Failure::Template(text)) => {
            note(&format!("Error: {text}"));
            64
        }
        Err(Failure::Message { text, kind }) => {
            failure::tell(program, &text, kind);
            1
        }
    }
}
