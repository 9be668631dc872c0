//! Runs the acceptance list: the commands, what they need and what is expected stand in `tests/acceptance.toml`; here
//! is only what reads that file, runs a line of it, and writes the table in docs/acceptance.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::Trial;
use orlop_tests::world::{PATIENCE, Ran, Session, World};
use orlop_tests::{Outcome, images, registry, say};
use regex::Regex;
use serde::Deserialize;

use crate::missing_tools;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Paths of the documents and where they lie in a world.
    substitute: BTreeMap<String, String>,
    line: Vec<Line>,
}

/// One row of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    number: u32,
    /// As the document has it.
    command: String,
    /// The area of ROADMAP.md that brings the whole line.
    later: Option<String>,
    /// A part of the line that doesn't hold yet, and the area that brings it.
    later_part: Option<String>,
    /// Images of the generator, loaded first.
    #[serde(default)]
    images: Vec<String>,
    /// Images that a registry has, out of the generator's archive `n8n`; it is the mirror of Docker Hub.
    #[serde(default)]
    registry: Vec<String>,
    /// Bash that must succeed before the steps.
    setup: Option<String>,
    #[serde(default)]
    step: Vec<Step>,
}

/// One step: exactly one of `run`, `check`, `spawn`, `until`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// A command whose outcome the other fields describe. Its output is kept in `$W/out` and `$W/err`.
    run: Option<String>,
    /// Bash that must succeed: looks at the host.
    check: Option<String>,
    /// A command that goes on in the background; output in `$W/files/NUMBER.out` and `.err`.
    spawn: Option<String>,
    /// Bash that must succeed within 30 seconds.
    until: Option<String>,
    /// Exit code, 0 when not given.
    #[serde(default)]
    code: i32,
    #[serde(default)]
    stdin: String,
    /// Regular expressions; each must match.
    #[serde(default)]
    stdout: Vec<String>,
    #[serde(default)]
    stderr: Vec<String>,
    /// The whole text.
    stdout_is: Option<String>,
    stderr_is: Option<String>,
}

/// What became of each line.
pub type Results = Arc<Mutex<BTreeMap<u32, State>>>;

#[derive(Clone, PartialEq, Eq)]
pub enum State {
    Passed,
    Failed,
    Skipped(String),
}

/// Reads the list.
pub fn read() -> Outcome<List> {
    let path = root().join("tests/acceptance.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let list: List = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    for (index, line) in list.line.iter().enumerate() {
        if usize::try_from(line.number) != Ok(index + 1) {
            return Err(format!("{}: line {} stands at place {}", path.display(), line.number, index + 1));
        }
        if line.later.is_none() && line.step.is_empty() {
            return Err(format!("{}: line {} has no step", path.display(), line.number));
        }
    }
    Ok(list)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A trial for each line.
pub fn trials(session: &Arc<Session>, list: &Arc<List>, results: &Results) -> Vec<Trial> {
    let missing = |line: &Line| {
        let postgres = line.images.iter().any(|name| name == "postgres").then(images::postgres_home);
        let postgres = postgres.and_then(|home| home.err().map(|error| error.to_string()));
        let tools: &[&str] = if line.registry.is_empty() { &[] } else { &["docker-registry", "skopeo"] };
        postgres.or_else(|| missing_tools(tools))
    };
    let trial = |index: usize| {
        let line = &list.line[index];
        let name = format!("acceptance::{:03} {}", line.number, line.command.lines().next().unwrap_or_default());
        if line.later.is_some() {
            return Trial::test(name, || Ok(())).with_ignored_flag(true);
        }
        if let Some(reason) = missing(line) {
            say(&format!("skipped: {name}: {reason}"));
            set(results, line.number, State::Skipped(reason));
            return Trial::test(name, || Ok(())).with_ignored_flag(true);
        }
        set(results, line.number, State::Failed);
        let (session, list, results) = (Arc::clone(session), Arc::clone(list), Arc::clone(results));
        Trial::test(name, move || {
            let line = &list.line[index];
            let mut world = World::new(&session, &format!("acceptance {}", line.number))?;
            run_line(&mut world, &list, line)?;
            set(&results, line.number, State::Passed);
            Ok(())
        })
    };
    (0..list.line.len()).map(trial).collect()
}

fn set(results: &Results, number: u32, state: State) {
    results.lock().unwrap_or_else(PoisonError::into_inner).insert(number, state);
}

fn run_line(world: &mut World, list: &List, line: &Line) -> Outcome {
    let images: Vec<&str> = line.images.iter().map(String::as_str).collect();
    world.load(&images)?;
    if !line.registry.is_empty() {
        let names: Vec<&str> = line.registry.iter().map(String::as_str).collect();
        registry::debian(world, "n8n", &names)?;
    }
    if let Some(setup) = &line.setup {
        world.sh(&substituted(world, list, setup))?.ok().map_err(|said| format!("setup: {said}"))?;
    }
    for (index, step) in line.step.iter().enumerate() {
        let number = index + 1;
        run_step(world, list, step, number).map_err(|said| format!("step {number}: {said}"))?;
    }
    Ok(())
}

fn run_step(world: &mut World, list: &List, step: &Step, number: usize) -> Outcome {
    if let Some(command) = &step.run {
        let command = substituted(world, list, command);
        let ran = world.sh_with(&command, &step.stdin, PATIENCE)?;
        for (name, text) in [("out", &ran.stdout), ("err", &ran.stderr)] {
            fs::write(world.dir().join(name), text).map_err(|error| error.to_string())?;
        }
        return judge(step, &ran).map_err(|said| format!("{command}\n{said}"));
    }
    if let Some(script) = &step.check {
        let script = substituted(world, list, script);
        return world.sh(&script)?.ok().map(|_| ()).map_err(|said| format!("{script}\n{said}"));
    }
    if let Some(script) = &step.until {
        let script = substituted(world, list, script);
        return world.until(&script, Duration::from_secs(30)).map(|_| ());
    }
    match &step.spawn {
        Some(command) => {
            let command = substituted(world, list, command);
            world.spawn(&number.to_string(), &command)
        }
        None => Err("a step needs run, check, spawn or until".to_owned()),
    }
}

fn substituted(world: &World, list: &List, script: &str) -> String {
    list.substitute.iter().fold(script.to_owned(), |script, (from, to)| {
        let to =
            to.replace("{data}", &world.data().to_string_lossy()).replace("{world}", &world.dir().to_string_lossy());
        script.replace(from, &to)
    })
}

fn judge(step: &Step, ran: &Ran) -> Outcome {
    let seen = || format!("--- stdout\n{}--- stderr\n{}", ran.stdout, ran.stderr);
    if ran.code != step.code {
        return Err(format!("expected exit code {}, seen {}\n{}", step.code, ran.code, seen()));
    }
    for (name, text, exact, patterns) in
        [("stdout", &ran.stdout, &step.stdout_is, &step.stdout), ("stderr", &ran.stderr, &step.stderr_is, &step.stderr)]
    {
        if exact.as_ref().is_some_and(|exact| exact != text) {
            return Err(format!("expected {name} {:?}\n{}", exact.as_deref().unwrap_or_default(), seen()));
        }
        for pattern in patterns {
            let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
            if !regex.is_match(text) {
                return Err(format!("{name} doesn't match {pattern:?}\n{}", seen()));
            }
        }
    }
    Ok(())
}

/// Compares docs/acceptance.md with what this run saw, or writes it.
pub fn compare_with_docs(list: &List, results: &Results) -> Outcome {
    let path = root().join("docs/acceptance.md");
    let results = results.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if std::env::var_os("ORLOP_WRITE_DOCS").is_some() {
        return fs::write(&path, table(list, &results)).map_err(|error| format!("{}: {error}", path.display()));
    }
    let committed = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (committed, seen) = (lines(&committed), lines(&table(list, &results)));
    let mut differences = String::new();
    for index in 0..committed.len().max(seen.len()) {
        let (was, is) = (committed.get(index), seen.get(index));
        // A machine that can't run a line has said so above; that is no reason to change the page.
        if was != is && !is.is_some_and(|row| row.contains("| skipped: ")) {
            let line = |row: Option<&String>| row.map_or("(nothing)", String::as_str).to_owned();
            let _ = write!(differences, "\n  page: {}\n  seen: {}", line(was), line(is));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("docs/acceptance.md differs from this run (ORLOP_WRITE_DOCS=1 writes it anew):{differences}"))
}

fn table(list: &List, results: &BTreeMap<u32, State>) -> String {
    let mut page = String::from(
        "# The acceptance list, line by line\n\n\
         Written by the end-to-end tests (`cargo xtask test`) from `tests/acceptance.toml`; a run that sees something else\n\
         fails. `later` names the area of [ROADMAP.md](../ROADMAP.md) that brings it.\n\n\
         | # | Command | State |\n|---|---|---|\n",
    );
    for line in &list.line {
        let state = match (&line.later, results.get(&line.number)) {
            (Some(area), _) => format!("later: {area}"),
            (None, Some(State::Skipped(reason))) => format!("skipped: {reason}"),
            (None, Some(State::Passed)) => match &line.later_part {
                Some(part) => format!("passed; later: {part}"),
                None => "passed".to_owned(),
            },
            (None, Some(State::Failed) | None) => "failed".to_owned(),
        };
        let command = line.command.trim().replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(page, "| {} | `{command}` | {state} |", line.number);
    }
    page
}
