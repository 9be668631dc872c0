//! docs/config.md: the settings with their defaults, out of the types that read them.

use super::{Config, Registry};
use serde_json::Value;
use std::fmt::Write;

const SOURCE: &str = include_str!("../config.rs");

const INTRODUCTION: &str = "# Settings

`/etc/orlop/config.toml`, or the file that `--config` or ORLOP_CONFIG names. A file that isn't there has no settings; a
key that isn't listed here is an error that names its line. Nothing needs a restart: each command reads the file.

Made from `crates/engine/src/config.rs`; a test keeps it so (`ORLOP_WRITE_DOCS=1 cargo test -p orlop-engine config`).
";

struct Field {
    name: String,
    kind: String,
    about: String,
}

/// The public fields of a struct of this module, with their comments.
fn fields(name: &str) -> Vec<Field> {
    let (_, rest) = SOURCE.split_once(&format!("pub struct {name} {{\n")).expect(name);
    let (body, _) = rest.split_once("\n}").expect("the struct's end");
    let (mut fields, mut about) = (Vec::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            about += comment;
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
            let (name, kind) = (name.replace('_', "-"), kind.trim_end_matches(',').to_owned());
            fields.push(Field { name, kind, about: std::mem::take(&mut about).trim().to_owned() });
        }
    }
    fields
}

fn kind(rust: &str) -> &str {
    match rust.trim_start_matches("Option<").trim_end_matches('>') {
        "String" => "text",
        "PathBuf" => "path",
        "bool" => "true or false",
        "Vec<String" => "list of texts",
        number if number.starts_with(['u', 'i']) => "number",
        other => panic!("a setting of type {other} has no name in {}", file!()),
    }
}

fn section(page: &mut String, heading: &str, about: &str, fields: &[Field], defaults: &Value) {
    let _ = write!(page, "\n## `{heading}`\n");
    if !about.is_empty() {
        let _ = write!(page, "\n{about}\n");
    }
    if fields.is_empty() {
        return;
    }
    page.push_str("\n| key | takes | default | what it is |\n|---|---|---|---|\n");
    for Field { name, kind: rust, about } in fields {
        let default = match &defaults[name] {
            Value::Null => String::new(),
            value => format!("`{value}`"),
        };
        let _ = writeln!(page, "| `{name}` | {} | {default} | {about} |", kind(rust));
    }
}

fn page() -> String {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let mut page = INTRODUCTION.to_owned();
    for top in fields("Config") {
        match top.kind.strip_prefix("BTreeMap<String, ").map(|kind| kind.trim_end_matches('>')) {
            None => section(&mut page, &format!("[{}]", top.name), "", &fields(&top.kind), &defaults[&top.name]),
            Some("String") => {
                let about = top.about.split_once("`: ").map_or(top.about.as_str(), |(_, about)| about);
                section(&mut page, &format!("[{}]", top.name), about, &[], &Value::Null);
            }
            Some("Registry") => {
                let defaults = serde_json::to_value(Registry::default()).unwrap();
                section(&mut page, "[registry.\"HOST\"]", &top.about, &fields("Registry"), &defaults);
            }
            Some(other) => panic!("a table of {other} has no place in {}", file!()),
        }
    }
    page
}

#[test]
fn the_page_is_what_the_code_reads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    if std::env::var_os("ORLOP_WRITE_DOCS").is_some() {
        return std::fs::write(path, page()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, page(), "docs/config.md differs from the settings; ORLOP_WRITE_DOCS=1 writes it anew");
}
