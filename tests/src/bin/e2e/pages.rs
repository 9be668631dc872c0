//! The commands that the pages show are there.

use std::collections::BTreeSet;
use std::path::Path;

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::Case;

pub fn cases() -> Vec<Case> {
    vec![Case { name: "pages::commands_of_the_readme", missing: None, run: commands_of_the_readme }]
}

fn commands_of_the_readme(world: &mut World) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let verbs: BTreeSet<String> = page.lines().filter_map(verb).collect();
    if verbs.len() < 5 {
        return Err(format!("the README shows only {verbs:?}"));
    }
    for verb in verbs {
        world.sh(&format!("orlop {verb} --help"))?.ok().map_err(|said| format!("orlop {verb}: {said}"))?;
    }
    Ok(())
}

/// The verb of a shown command line: one word, or two below `volume`, `image`, `container` and `system`.
fn verb(line: &str) -> Option<String> {
    let words = line.strip_prefix("$ orlop ").or_else(|| line.strip_prefix("# orlop "))?;
    let mut words = words.split_whitespace();
    let first = words.next()?;
    let two = matches!(first, "volume" | "image" | "container" | "system");
    Some(if two { format!("{first} {}", words.next()?) } else { first.to_owned() })
}
