//! `cargo xtask bench`: Orlop's static binary beside Docker, Podman and bare runc, taking turns in one run, so that what
//! else the machine does hits all of them. Peers that aren't installed are left out and named.

mod groups;
mod lab;
mod pull;
mod running;
mod table;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use lab::Lab;

use crate::shell::{capture, is_root, root, which};
use crate::{Outcome, packages};

/// A group of measurements: its name, and what runs it and hands back its section of the page.
type Group = (&'static str, fn(&Lab) -> Outcome<String>);

const GROUPS: [Group; 8] = [
    ("run", groups::run),
    ("lists", groups::lists),
    ("running", running::running),
    ("load", groups::load),
    ("pull", pull::pull),
    ("init", groups::volume_initialisation),
    ("throughput", groups::throughput),
    ("memory", groups::memory),
];

/// Runs the groups that are named, or all; only a whole run writes the page.
pub fn run(names: &[&str]) -> Outcome {
    if let Some(unknown) = names.iter().find(|name| !GROUPS.iter().any(|(known, _)| known == *name)) {
        let known = GROUPS.map(|(name, _)| name).join(", ");
        return Err(format!("there is no group {unknown}; there are {known}"));
    }
    if !is_root() {
        return Err("the bench starts containers: run it as root".to_owned());
    }
    packages::install(&["busybox-static", "docker-registry", "docker.io", "podman", "python3", "runc", "skopeo"])?;
    let lab = Lab::set(binary()?)?;
    let mut page = head(&lab);
    for (name, group) in GROUPS {
        if names.is_empty() || names.contains(&name) {
            println!("measuring: {name}");
            let section = group(&lab)?;
            println!("{section}");
            page.push_str(&section);
        }
    }
    if names.is_empty() {
        let path = root().join("docs/benchmarks.md");
        std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(())
}

/// The static binary that `cargo xtask dist` makes, or the one that `ORLOP_BIN` names.
fn binary() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("ORLOP_BIN") {
        return Ok(PathBuf::from(path));
    }
    crate::dist::build()
}

/// What a reader must know to judge the figures.
fn head(lab: &Lab) -> String {
    let first_line = |command: &mut Command| {
        capture(command)
            .ok()
            .and_then(|text| text.lines().next().map(str::to_owned))
            .unwrap_or_else(|| "not there".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut page = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench`; `cargo xtask bench GROUP` prints one group. All that stands in one table was \
         measured in\none run, taking turns; figures are medians. Times in milliseconds unless a unit is given; a ratio below 1 means \
         that\nOrlop is faster.\n\n",
    );
    let _ = writeln!(page, "- Linux {}, {cores} cores", first_line(Command::new("uname").arg("-r")));
    let _ = writeln!(page, "- data roots on {}", first_line(Command::new("stat").args(["-f", "-c", "%T", "/var/tmp"])));
    for peer in lab.peers() {
        let _ = writeln!(page, "- {}: {}", peer.name, first_line(&mut peer.version()));
    }
    let _ = writeln!(page, "- runc: {}", first_line(Command::new(which("runc").unwrap_or_default()).arg("--version")));
    page
}
