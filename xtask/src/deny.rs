//! Licences, bans and sources of all dependencies by the rules of deny.toml: through cargo-deny where it is installed;
//! else the same three tables are read here and held against `cargo metadata`. Advisories need the network.

use serde::Deserialize;

use crate::Outcome;
use crate::shell::{capture, cargo, pass, root};

/// The part of deny.toml that is checked here.
#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    name: String,
}

/// The part of `cargo metadata` that is looked at.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks all dependencies that this platform builds.
pub fn run() -> Outcome {
    println!("skipped: advisories (their database is on the network: `cargo deny check advisories`)");
    if capture(&mut cargo(&["deny", "--version"])).is_ok() {
        return pass(&mut cargo(&["deny", "check", "licenses", "bans", "sources"]));
    }
    println!("cargo-deny is not installed: deny.toml is held against cargo metadata instead");
    let rules = std::fs::read_to_string(root().join("deny.toml")).map_err(|error| format!("deny.toml: {error}"))?;
    let rules: Rules = toml::from_str(&rules).map_err(|error| format!("deny.toml: {error}"))?;
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = capture(&mut cargo(&["metadata", "--format-version", "1", "--filter-platform", &platform]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let wrong = complaints(&rules, &metadata);
    if wrong.is_empty() {
        println!("licences, bans and sources of {} packages: nothing to complain about", metadata.resolve.nodes.len());
        return Ok(());
    }
    Err(wrong.join("\n"))
}

fn complaints(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let mut wrong = Vec::new();
    let built = |package: &&Package| metadata.resolve.nodes.iter().any(|node| node.id == package.id);
    for package in metadata.packages.iter().filter(built) {
        let name = &package.name;
        match package.license.as_deref() {
            None => wrong.push(format!("{name}: no licence")),
            Some(license) if !allowed(license, &rules.licenses.allow) => {
                wrong.push(format!("{name}: licence {license}"))
            }
            Some(_) => {}
        }
        if rules.bans.deny.iter().any(|banned| banned.name == *name) {
            wrong.push(format!("{name}: banned by deny.toml"));
        }
        match package.source.as_deref() {
            None | Some(CRATES_IO) => {}
            Some(source) => wrong.push(format!("{name}: from {source}")),
        }
    }
    wrong
}

/// Whether an SPDX expression can be fulfilled with these licences: OR binds weaker than AND, both weaker than WITH.
fn allowed(expression: &str, licenses: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest, licenses) && rest.is_empty()
}

fn either(words: &mut &[&str], licenses: &[String]) -> bool {
    let mut fulfilled = both(words, licenses);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        fulfilled |= both(words, licenses);
    }
    fulfilled
}

fn both(words: &mut &[&str], licenses: &[String]) -> bool {
    let mut fulfilled = single(words, licenses);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        fulfilled &= single(words, licenses);
    }
    fulfilled
}

fn single(words: &mut &[&str], licenses: &[String]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let fulfilled = either(words, licenses);
            let closed = words.first() == Some(&")");
            *words = words.get(1..).unwrap_or_default();
            fulfilled && closed
        }
        [license, "WITH", exception, rest @ ..] => {
            *words = rest;
            licenses.iter().any(|allowed| *allowed == format!("{license} WITH {exception}"))
        }
        [license, rest @ ..] => {
            *words = rest;
            licenses.iter().any(|allowed| allowed == license)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_fulfilled_or_not() {
        let licenses = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_owned);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(GPL-3.0 OR Apache-2.0) AND Unicode-3.0", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("Apache-2.0", false),
            ("(MIT", false),
            ("", false),
        ] {
            assert_eq!(allowed(expression, &licenses), expected, "{expression}");
        }
    }

    #[test]
    fn each_kind_of_complaint_is_made() {
        let rules: Rules = toml::from_str("[licenses]\nallow = ['MIT']\n[bans]\ndeny = [{ name = 'bad' }]\n").unwrap();
        let package = |name: &str, license: Option<&str>, source: &str| Package {
            id: name.to_owned(),
            name: name.to_owned(),
            license: license.map(str::to_owned),
            source: Some(source.to_owned()),
        };
        for (package, said) in [
            (package("good", Some("MIT"), CRATES_IO), None),
            (package("bad", Some("MIT"), CRATES_IO), Some("bad: banned by deny.toml")),
            (package("free", None, CRATES_IO), Some("free: no licence")),
            (package("gnu", Some("GPL-3.0"), CRATES_IO), Some("gnu: licence GPL-3.0")),
            (package("fork", Some("MIT"), "git+https://example.org"), Some("fork: from git+https://example.org")),
        ] {
            let nodes = vec![Node { id: package.id.clone() }];
            let metadata = Metadata { packages: vec![package], resolve: Resolve { nodes } };
            assert_eq!(complaints(&rules, &metadata), said.map(str::to_owned).into_iter().collect::<Vec<_>>());
        }
    }
}
