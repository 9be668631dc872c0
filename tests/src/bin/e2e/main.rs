//! The end-to-end runner: `e2e [FILTER]`, or `e2e --list`.
//!
//! It runs the acceptance list (`tests/acceptance.toml`) and the cases beside this file against a built binary:
//! `ORLOP_BIN`, else the `orlop` that lies beside this program. A complete run ends with two checks of its own: nothing
//! is left on the machine, and docs/acceptance.md says what was seen (`ORLOP_WRITE_DOCS=1` writes it anew).
#![forbid(unsafe_code)]

mod acceptance;
mod bad_input;
mod copy;
mod crowd;
mod files;
mod flags;
mod inspect;
mod kill;
mod life;
mod locks;
mod login;
mod pages;
mod postgres;
mod pull;
mod pull_blobs;
mod pull_mirrors;
mod scrub;
mod terminal;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use orlop_tests::world::{Session, World};
use orlop_tests::{Outcome, say};

/// A test of its own: a name, what this machine may lack for it, and what it does in a new world.
struct Case {
    name: &'static str,
    missing: Option<String>,
    run: fn(&mut World) -> Outcome,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            say(&format!("e2e: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    let mut arguments = Arguments::from_args();
    if !rustix::process::geteuid().is_root() {
        return Err("the end-to-end tests mount file systems and start containers: run them as root".to_owned());
    }
    // Two at a time overlap the waits; more would make the timed ones fail for nothing on a small machine.
    arguments.test_threads.get_or_insert(2);
    let complete = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let session = Session::begin(&program()?)?;
    let list = Arc::new(acceptance::read()?);
    let results = acceptance::Results::default();

    let mut trials = acceptance::trials(&session, &list, &results);
    for cases in [
        locks::cases(),
        tools::cases(),
        bad_input::cases(),
        copy::cases(),
        crowd::cases(),
        flags::cases(),
        files::cases(),
        inspect::cases(),
        kill::cases(),
        life::cases(),
        postgres::cases(),
        pull::cases(),
        pull_blobs::cases(),
        pull_mirrors::cases(),
        login::cases(),
        scrub::cases(),
        terminal::cases(),
        pages::cases(),
    ] {
        trials.extend(cases.into_iter().map(|case| trial(&session, case)));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);

    let mut good = !conclusion.has_failed();
    for leak in session.leaks() {
        good = false;
        say(&format!("left behind: {leak}"));
    }
    if complete && let Err(message) = acceptance::compare_with_docs(&list, &results) {
        good = false;
        say(&message);
    }
    say(&format!(
        "end to end: {} passed, {} failed, {} skipped or later{}",
        conclusion.num_passed,
        conclusion.num_failed,
        conclusion.num_ignored,
        if good { "" } else { "; FAILED" }
    ));
    Ok(good)
}

fn trial(session: &Arc<Session>, case: Case) -> Trial {
    let session = Arc::clone(session);
    if let Some(reason) = &case.missing {
        say(&format!("skipped: {}: {reason}", case.name));
    }
    let missing = case.missing.is_some();
    let run = move || {
        let mut world = World::new(&session, case.name)?;
        (case.run)(&mut world)?;
        Ok(())
    };
    Trial::test(case.name, run).with_ignored_flag(missing)
}

/// The binary under test.
fn program() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("ORLOP_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(own.with_file_name("orlop"))
}

/// What is missing of these programs on this machine, in one line.
fn missing_tools(tools: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let lacks = |tool: &&&str| !path.split(':').any(|dir| PathBuf::from(dir).join(tool).exists());
    let missing: Vec<&str> = tools.iter().filter(lacks).copied().collect();
    (!missing.is_empty()).then(|| format!("this machine has no {}", missing.join(", ")))
}

/// An expectation about two texts.
fn same(what: &str, seen: &str, expected: &str) -> Outcome {
    if seen == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, seen {seen:?}")) }
}

/// An expectation about one text.
fn contains(what: &str, seen: &str, part: &str) -> Outcome {
    if seen.contains(part) { Ok(()) } else { Err(format!("{what}: {part:?} is not in {seen:?}")) }
}
