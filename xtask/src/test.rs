//! `cargo xtask test`: everything that must hold, in one target folder and one profile.

use std::process::Command;
use std::time::Instant;

use crate::shell::{capture, cargo, is_root, pass, target};
use crate::{Outcome, deny, packages, tidy};

type Step = (&'static str, fn() -> Outcome);

const STEPS: [Step; 7] = [
    ("packages", || packages::install(&packages::FOR_TESTS)),
    ("format", || pass(&mut cargo(&["fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("dependencies", deny::run),
    ("lints", || pass(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))),
    ("tests of the crates", crates),
    ("end to end", end_to_end),
];

/// Runs every step, also after one has failed, so that one run shows all that is wrong.
pub fn run() -> Outcome {
    let started = Instant::now();
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let began = Instant::now();
        if let Err(message) = step() {
            println!("{message}");
            failed.push(name);
        }
        println!("== {name}: {} s", began.elapsed().as_secs());
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    if failed.is_empty() {
        println!("all of {} steps passed in {minutes:.1} minutes", STEPS.len());
        return Ok(());
    }
    Err(format!("failed: {} ({minutes:.1} minutes)", failed.join(", ")))
}

/// The tests that lie in the crates: by nextest where it is, else by cargo itself.
fn crates() -> Outcome {
    if capture(&mut cargo(&["nextest", "--version"])).is_ok() {
        return pass(&mut cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "fail"]));
    }
    pass(&mut cargo(&["test", "--workspace", "--no-fail-fast", "--quiet"]))
}

fn end_to_end() -> Outcome {
    if !is_root() {
        return Err("the end-to-end tests mount file systems and start containers: run this as root".to_owned());
    }
    pass(&mut cargo(&["build", "--workspace", "--bins", "--quiet"]))?;
    let debug = target().join("debug");
    pass(Command::new(debug.join("e2e")).arg("--quiet").env("ORLOP_BIN", debug.join("orlop")))
}
