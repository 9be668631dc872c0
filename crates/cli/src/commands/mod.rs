//! The verbs of the command line, a module per noun.

pub mod change;
pub mod complete;
pub mod container;
pub mod copy;
pub mod files;
mod foreground;
pub mod image;
pub mod internal;
pub mod login;
pub mod man;
mod options;
pub mod port;
pub mod pull;
mod request;
pub mod scrub;
pub mod system;
pub mod volume;
pub mod watch;

use crate::failure::{Failure, Outcome};
use crate::output::inspect;
use crate::output::print::{note, out};
use orlop_engine::Engine;
use orlop_model::size::human;
use orlop_model::{ErrorKind, Timestamp};

/// Does something with each of several objects: what fails is told, the others are done, and the exit code is 1.
fn each_name(names: &[String], mut verb: impl FnMut(&str) -> Result<(), Failure>) -> Outcome {
    let mut code = 0;
    for name in names {
        match verb(name) {
            Ok(()) => {}
            Err(Failure::Message { text, .. }) => {
                note(&format!("Error: {text}"));
                code = 1;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(code)
}

/// `inspect` of each of several objects: those that are there on stdout, an error for each of the others.
fn inspected(
    names: &[String],
    format: &str,
    mut find: impl FnMut(&str) -> Result<serde_json::Value, Failure>,
) -> Outcome {
    let mut objects = Vec::with_capacity(names.len());
    let mut errors = Vec::new();
    for name in names {
        match find(name) {
            Ok(object) => objects.push(object),
            Err(Failure::Message { text, kind: ErrorKind::NotFound | ErrorKind::Invalid }) => errors.push(text),
            Err(other) => return Err(other),
        }
    }
    out(&inspect::render(&objects, format)?)?;
    for error in &errors {
        note(&format!("Error: {error}"));
    }
    Ok(u8::from(!errors.is_empty()))
}

/// What a store knows, as JSON.
fn value_of(object: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(object)
        .map_err(|error| Failure::Message { text: error.to_string(), kind: ErrorKind::Internal })
}

/// Docker's last line of a prune, with true numbers: what is free now, and what waits in the trash (None when nothing
/// went there).
fn reclaimed(engine: &Engine, freed: u64, trashed: Option<u64>) -> String {
    let waits = trashed.map(|bytes| {
        let date = engine.trash_expiry(Timestamp::now()).to_local_string();
        let date = date.split(' ').next().unwrap_or_default();
        format!(" ({} in the trash until {date}; orlop volume trash empty frees it now)", human(bytes))
    });
    format!("Total reclaimed space: {}{}\n", human(freed), waits.unwrap_or_default())
}

/// A section of what a prune with `--dry-run` shows.
fn planned(what: &str, names: impl Iterator<Item = String>) -> String {
    let lines: String = names.map(|name| name + "\n").collect();
    if lines.is_empty() { String::new() } else { format!("Would delete {what}:\n{lines}\n") }
}

/// All sections, or that there are none.
fn tell_plan(sections: &str) -> Outcome {
    out(if sections.is_empty() { "Nothing to delete\n" } else { sections.trim_end_matches('\n') })?;
    if !sections.is_empty() {
        out("\n")?;
    }
    Ok(0)
}
