//! The verbs that take files out of a container or make an image of them.

use super::image::reference;
use super::request::platform;
use crate::args::files as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::print::{foreign, out, warn};
use orlop_engine::{ChangeKind, CommitRequest, ImportRequest};
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// `diff`
pub fn diff(door: &Door, args: args::DiffArgs) -> Outcome {
    let changes = door.engine()?.diff(&args.container[0])?;
    let mut text = String::new();
    for change in changes {
        let letter = match change.kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        text += &format!("{letter} /{}\n", foreign(&change.path.to_string_lossy()));
    }
    out(&text)?;
    Ok(0)
}

/// `export`
pub fn export(door: &Door, args: args::ExportArgs) -> Outcome {
    let container = &args.container[0];
    let torn = match args.output.filter(|output| !output.is_empty()) {
        Some(path) => door.engine()?.export_file(container, path.as_ref())?,
        None if std::io::stdout().is_terminal() => {
            return Err(Failure::invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        None => {
            // Past the line buffer of the usual way out.
            let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
            door.engine()?.export(container, &mut stdout)?
        }
    };
    tell_torn(&torn);
    Ok(0)
}

/// `import`
pub fn import(door: &Door, args: args::ImportArgs) -> Outcome {
    let source = &args.arguments[0];
    let name = args.arguments.get(1).map(|name| reference(name)).transpose()?;
    let archive = if source == "-" {
        if std::io::stdin().is_terminal() {
            return Err(Failure::invalid("requested import from stdin, but stdin is a terminal"));
        }
        File::from(std::io::stdin().as_fd().try_clone_to_owned()?)
    } else if source.starts_with("http://") || source.starts_with("https://") {
        return Err(Failure::unsupported(format!(
            "{source}: an address can't be imported; fetch it, and import the file"
        )));
    } else {
        File::open(source).map_err(|error| Failure::invalid(format!("open {source}: {error}")))?
    };
    let message = args.message.unwrap_or_else(|| format!("Imported from {source}"));
    let platform = args.platform.as_deref().filter(|text| !text.is_empty()).map(platform).transpose()?;
    let request = ImportRequest { name, message, changes: args.change, platform };
    let id = door.engine()?.import(archive, request)?;
    out(&format!("{id}\n"))?;
    Ok(0)
}

/// `commit`
pub fn commit(door: &Door, args: args::CommitArgs) -> Outcome {
    let name = args.arguments.get(1).map(|name| reference(name)).transpose()?;
    let request = CommitRequest {
        name,
        author: args.author.unwrap_or_default(),
        message: args.message.unwrap_or_default(),
        changes: args.change,
        pause: args.pause,
    };
    let (id, torn) = door.engine()?.commit(&args.arguments[0], request)?;
    tell_torn(&torn);
    out(&format!("{id}\n"))?;
    Ok(0)
}

fn tell_torn(paths: &[PathBuf]) {
    for path in paths {
        warn(&format!("/{} changed while it was read, and may be torn in the archive", path.display()));
    }
}
