//! `internal man DIR`: a manual page for each verb, out of the same table as the help. `cargo xtask dist` packs them.

use crate::args::Refusal;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::verbs::{self, VERBS};
use std::fs;
use std::path::Path;

/// Writes the pages into `directory`, which is made.
pub fn pages(door: &Door, directory: &Path) -> Outcome {
    let write = |name: &str, text: String| {
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, text).map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))
    };
    fs::create_dir_all(directory).map_err(|error| Failure::invalid(format!("{}: {error}", directory.display())))?;
    write("orlop", page("orlop", "containers and their data, with nothing lost", &verbs::overview("orlop")))?;
    for verb in VERBS {
        // The table's own help; no verb gets so far as to do anything.
        if let Err(Failure::Refusal(Refusal::Help(help))) = verb.run(door, &["--help".to_owned()]) {
            let name = format!("orlop-{}", verb.syntax.path.replace(' ', "-"));
            write(&name, page(&name, verb.syntax.about, &help))?;
        }
    }
    Ok(0)
}

/// A page around a help text (man(7)).
fn page(name: &str, about: &str, help: &str) -> String {
    let mut lines = help.lines();
    let usage = lines.next().and_then(|line| line.strip_prefix("Usage:")).unwrap_or_default().trim();
    let title = name.to_uppercase();
    let mut text = format!(
        ".TH {} 1 \"\" \"Orlop {}\" \"Orlop\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n",
        escaped(&title),
        env!("CARGO_PKG_VERSION"),
        escaped(name),
        escaped(about),
        escaped(usage)
    );
    let mut in_block = false;
    for line in lines.skip_while(|line| line.is_empty() || *line == about) {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ') && !heading.is_empty()) {
            Some(heading) => {
                text += if in_block { ".fi\n" } else { "" };
                text += &format!(".SH {}\n.nf\n", escaped(&heading.to_uppercase()));
                in_block = true;
            }
            None => {
                if !in_block && !line.is_empty() {
                    text += ".SH DESCRIPTION\n.nf\n";
                    in_block = true;
                }
                text += &escaped(line);
                text.push('\n');
            }
        }
    }
    text += if in_block { ".fi\n" } else { "" };
    text + ".SH SEE ALSO\norlop(1), docs/cli.md\n"
}

/// A line that roff prints as it stands.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::global::GlobalArgs;

    #[test]
    fn every_verb_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let door = Door { program: "orlop".to_owned(), globals: GlobalArgs::default() };
        pages(&door, directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), VERBS.len() + 1);
        let run = fs::read_to_string(directory.path().join("orlop-run.1")).unwrap();
        assert!(run.starts_with(".TH ORLOP\\-RUN 1") && run.contains(".SH RESOURCES\n.nf\n"), "{run}");
        assert!(run.contains("\\-\\-memory bytes"));
        assert_eq!(escaped(".a\\b-c"), "\\&.a\\eb\\-c");
    }
}
