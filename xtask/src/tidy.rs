//! `cargo xtask tidy`: what eyes miss. Each check is a function of texts, so that a test can show it failing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::root;
use crate::{COMMANDS, Outcome};

/// Crates and the crates of the workspace that they import.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Who may import whom; beside these, `model` may be imported by all, and `sys` by all but `model`.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("sys", &[]),
    ("state", &[]),
    ("layers", &["state"]),
    ("images", &["layers", "state"]),
    ("volumes", &["state"]),
    ("mounts", &["volumes", "layers", "state"]),
    ("runtime", &[]),
    ("engine", &["images", "layers", "mounts", "runtime", "state", "volumes"]),
    ("cli", &["api", "compose", "engine"]),
];

/// Words that mark unfinished work; taken apart here so that this file doesn't hold them itself.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];

/// Runs every check and lists all that is wrong.
pub fn run() -> Outcome {
    let root = root();
    let edges = cargo_edges(&root)?;
    let mut wrong = map_differs(&read(&root.join("ARCHITECTURE.md"))?, &edges);
    wrong.extend(forbidden_imports(&edges));
    for path in files(&root, &["rs", "md", "toml"])? {
        let text = read(&path)?;
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        wrong.extend(unfinished(&name, &text));
        if name.ends_with(".md") {
            wrong.extend(unknown_commands(&name, &text));
        }
        if is_crate_root(&name) {
            wrong.extend(unsafe_allowed(&name, &text));
        }
    }
    wrong.extend(no_command(&read(&root.join("docs/benchmarks.md"))?));
    if wrong.is_empty() {
        println!("tidy: {} crates, nothing to complain about", edges.len());
        return Ok(());
    }
    Err(format!("tidy: {} complaints\n  {}", wrong.len(), wrong.join("\n  ")))
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The edges that the crates' Cargo.toml files have, dev-dependencies aside.
fn cargo_edges(root: &Path) -> Outcome<Edges> {
    let mut edges = Edges::new();
    let crates = root.join("crates");
    for entry in fs::read_dir(&crates).map_err(|error| format!("{}: {error}", crates.display()))? {
        let entry = entry.map_err(|error| format!("{}: {error}", crates.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        edges.insert(name, imports(&read(&entry.path().join("Cargo.toml"))?)?);
    }
    Ok(edges)
}

/// What a crate is built of: its dependencies, those of its build script, and both for certain targets.
fn imports(manifest: &str) -> Outcome<BTreeSet<String>> {
    let manifest: toml::Table = manifest.parse().map_err(|error| format!("Cargo.toml: {error}"))?;
    let table = |value: &toml::Value| value.as_table().cloned().unwrap_or_default();
    let targets = manifest.get("target").map(table).unwrap_or_default();
    let mut names = BTreeSet::new();
    for section in std::iter::once(manifest).chain(targets.iter().map(|(_, target)| table(target))) {
        for kind in ["dependencies", "build-dependencies"] {
            let dependencies = section.get(kind).map(table).unwrap_or_default();
            names.extend(dependencies.keys().filter_map(|name| name.strip_prefix("orlop-")).map(str::to_owned));
        }
    }
    Ok(names)
}

/// The map of ARCHITECTURE.md: the lines of its first fenced block, each `crate -> crate, crate` and perhaps more
/// behind two spaces and a `#`.
fn map_of(page: &str) -> Edges {
    let block = page.split("```").nth(1).unwrap_or_default();
    let lines = block.lines().filter_map(|line| line.split("  #").next()?.split_once("->"));
    let names =
        |text: &str| text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    lines.map(|(name, imports)| (name.trim().to_owned(), names(imports))).collect()
}

fn map_differs(page: &str, edges: &Edges) -> Vec<String> {
    let map = map_of(page);
    let mut wrong = Vec::new();
    for (name, imports) in edges {
        match map.get(name) {
            None => wrong.push(format!("ARCHITECTURE.md: the map omits the crate {name}")),
            Some(mapped) if mapped != imports => wrong.push(format!(
                "ARCHITECTURE.md: the map has `{name} -> {}`, Cargo.toml has `{name} -> {}`",
                list(mapped),
                list(imports)
            )),
            Some(_) => {}
        }
    }
    let invented = map.keys().filter(|name| !edges.contains_key(*name));
    wrong.extend(invented.map(|name| format!("ARCHITECTURE.md: the map invents the crate {name}")));
    wrong
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn forbidden_imports(edges: &Edges) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, imports) in edges {
        let Some((_, may)) = MAY_IMPORT.iter().find(|(known, _)| known == name) else {
            wrong.push(format!("no rule says what the crate {name} may import (xtask/src/tidy.rs)"));
            continue;
        };
        let allowed = |import: &str| match import {
            "model" => true,
            "sys" => name != "model",
            other => may.contains(&other),
        };
        let forbidden = imports.iter().filter(|import| !allowed(import));
        wrong.extend(forbidden.map(|import| format!("{name} must not import {import}")));
    }
    wrong
}

/// A file from which the compiler starts: only there an attribute speaks for the whole crate.
fn is_crate_root(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["crates", "sys", ..] => false,
        [.., "src", "lib.rs" | "main.rs"] | [.., "src", "bin", _, "main.rs"] => true,
        [.., "src", "bin", file] => file.ends_with(".rs"),
        _ => false,
    }
}

fn unsafe_allowed(name: &str, text: &str) -> Vec<String> {
    match text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
        true => Vec::new(),
        false => vec![format!("{name}: #![forbid(unsafe_code)] is missing")],
    }
}

fn unfinished(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let found = lines.flat_map(|(index, line)| {
        let words = UNFINISHED.iter().filter(move |word| line.contains(*word));
        words.map(move |word| format!("{name}:{}: {word}", index + 1))
    });
    found.collect()
}

/// `cargo xtask NAME` in a page must be a command that exists.
fn unknown_commands(name: &str, text: &str) -> Vec<String> {
    let mentions = text.split("cargo xtask ").skip(1);
    let words = mentions.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default());
    let unknown = words.filter(|word| !word.is_empty() && !COMMANDS.iter().any(|(known, _)| known == word));
    unknown.map(|word| format!("{name}: there is no `cargo xtask {word}`")).collect()
}

/// Figures without the command that makes them can't be checked.
fn no_command(page: &str) -> Vec<String> {
    match page.contains("cargo xtask bench") {
        true => Vec::new(),
        false => vec!["docs/benchmarks.md: names no command that makes its figures".to_owned()],
    }
}

/// The files of the repository with one of these endings.
fn files(dir: &Path, endings: &[&str]) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", dir.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && (!name.starts_with('.') || name == ".cargo") {
                found.extend(files(&path, endings)?);
            }
        } else if endings.iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(of: &[(&str, &[&str])]) -> Edges {
        of.iter()
            .map(|(name, imports)| ((*name).to_owned(), imports.iter().map(|import| (*import).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn the_map_must_list_exactly_the_crates_and_edges() {
        let page = "# A\n\n```text\nmodel ->          # nouns\nstate -> model, sys  # rows\n```\n";
        let real = edges(&[("model", &[]), ("state", &["model", "sys"])]);
        assert_eq!(map_differs(page, &real), Vec::<String>::new());
        for (other, said) in [
            (edges(&[("model", &[]), ("state", &["model"])]), "the map has"),
            (edges(&[("model", &[]), ("state", &["model", "sys"]), ("sys", &[])]), "omits the crate sys"),
            (edges(&[("model", &[])]), "invents the crate state"),
        ] {
            let wrong = map_differs(page, &other);
            assert!(wrong.len() == 1 && wrong[0].contains(said), "{wrong:?}");
        }
    }

    #[test]
    fn imports_follow_the_rules() {
        assert_eq!(
            forbidden_imports(&edges(&[("mounts", &["volumes", "layers", "state", "model", "sys"])])),
            Vec::<String>::new()
        );
        for (name, import) in [("runtime", "state"), ("model", "sys"), ("state", "volumes"), ("cli", "volumes")] {
            assert_eq!(forbidden_imports(&edges(&[(name, &[import])])), [format!("{name} must not import {import}")]);
        }
        assert!(forbidden_imports(&edges(&[("utils", &[])]))[0].contains("no rule"));
    }

    #[test]
    fn edges_are_read_from_manifests_without_dev_dependencies() {
        let manifest =
            "[dependencies]\norlop-model.workspace = true\nserde = \"1\"\n[dev-dependencies]\norlop-state = \"1\"\n";
        assert_eq!(imports(manifest), Ok(BTreeSet::from(["model".to_owned()])));
        for section in ["build-dependencies", "target.'cfg(unix)'.dependencies", "target.x.build-dependencies"] {
            let manifest =
                format!("[{section}]\norlop-state = \"1\"\n[target.x.dev-dependencies]\norlop-sys = \"1\"\n");
            assert_eq!(imports(&manifest), Ok(BTreeSet::from(["state".to_owned()])), "{section}");
        }
    }

    #[test]
    fn unsafe_code_is_forbidden_in_each_root_but_that_of_sys() {
        for (name, is_root) in [
            ("crates/state/src/lib.rs", true),
            ("crates/cli/src/main.rs", true),
            ("crates/runtime/src/bin/probe.rs", true),
            ("tests/src/bin/e2e/main.rs", true),
            ("tests/src/bin/e2e/kill.rs", false),
            ("crates/sys/src/lib.rs", false),
            ("crates/state/src/rows/mod.rs", false),
        ] {
            assert_eq!(is_crate_root(name), is_root, "{name}");
        }
        assert_eq!(unsafe_allowed("a", "//! A.\n#![forbid(unsafe_code)]\n"), Vec::<String>::new());
        assert_eq!(unsafe_allowed("a", "// #![forbid(unsafe_code)]\n").len(), 1);
    }

    #[test]
    fn unfinished_places_are_found() {
        for word in UNFINISHED {
            assert_eq!(unfinished("a", &format!("x\n// {word} later\n")), [format!("a:2: {word}")]);
        }
        assert_eq!(unfinished("a", "all done\n"), Vec::<String>::new());
    }

    #[test]
    fn pages_name_commands_that_exist() {
        assert_eq!(unknown_commands("README.md", "`cargo xtask test`, `cargo xtask\u{20}demo`"), Vec::<String>::new());
        assert_eq!(unknown_commands("README.md", "cargo xtask fly"), ["README.md: there is no `cargo xtask fly`"]);
    }

    #[test]
    fn figures_need_the_command_that_makes_them() {
        assert_eq!(no_command("made by `cargo xtask bench`"), Vec::<String>::new());
        assert_eq!(no_command("fast!").len(), 1);
    }
}
