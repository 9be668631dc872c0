//! `cp`.

use crate::args::container::CpArgs;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::print::note;
use orlop_engine::CopyRequest;
use orlop_model::size::human;
use std::io::IsTerminal;
use std::path::PathBuf;

/// One side of a copy.
enum Side<'a> {
    Container(&'a str, &'a str),
    /// Absolute, as typed behind that: a slash or a dot at its end says something.
    Host(PathBuf),
    Stream,
}

/// Docker's rule: what begins with a slash or a dot is a path, and so is what has no colon.
fn side(text: &str) -> Result<Side<'_>, Failure> {
    if text == "-" {
        return Ok(Side::Stream);
    }
    match text.split_once(':') {
        Some((name, path)) if !text.starts_with(['/', '.']) => Ok(Side::Container(name, path)),
        _ => Ok(Side::Host(std::env::current_dir()?.join(text))),
    }
}

/// `cp`
pub fn cp(door: &Door, args: CpArgs) -> Outcome {
    let [source, target] = &args.paths[..] else { unreachable!("the number of arguments was checked") };
    if source.is_empty() || target.is_empty() {
        let which = if source.is_empty() { "source" } else { "destination" };
        return Err(Failure::invalid(format!("{which} can not be empty")));
    }
    let request = CopyRequest { archive: args.archive, follow: args.follow_link };
    let bytes = match (side(source)?, side(target)?) {
        (Side::Container(..), Side::Container(..)) => {
            return Err(Failure::invalid("copying between containers is not supported"));
        }
        (Side::Container(name, path), Side::Host(host)) => door.engine()?.copy_from(name, path, &host, request)?,
        (Side::Host(host), Side::Container(name, path)) => door.engine()?.copy_to(name, &host, path, request)?,
        (Side::Container(name, path), Side::Stream) => {
            if std::io::stdout().is_terminal() {
                return Err(Failure::invalid("cowardly refusing to copy to a terminal; redirect stdout"));
            }
            door.engine()?.copy_out(name, path, request, std::io::stdout().lock())?;
            return Ok(0);
        }
        (Side::Stream, Side::Container(name, path)) => {
            door.engine()?.copy_in(name, std::io::stdin().lock(), path)?;
            return Ok(0);
        }
        _ => return Err(Failure::invalid("must specify at least one container source")),
    };
    if !args.quiet {
        note(&format!("Successfully copied {} to {target}", human(bytes)));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        for (text, expected) in [
            ("box:/etc", Some(("box", "/etc"))),
            ("box:etc/x:y", Some(("box", "etc/x:y"))),
            ("./box:/etc", None),
            ("/a:b", None),
            ("file", None),
        ] {
            let found = match side(text).unwrap() {
                Side::Container(name, path) => Some((name, path)),
                _ => None,
            };
            assert_eq!(found, expected, "{text}");
        }
        assert!(matches!(side("-").unwrap(), Side::Stream));
    }
}
