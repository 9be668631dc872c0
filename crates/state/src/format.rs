//! `format.json`: the promise about everything else in the data root.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version that this program writes. It changes only when an older program must not touch the data.
const VERSION: u32 = 1;

/// Features beyond the version that this program can read.
const FEATURES: [&str; 0] = [];

#[derive(Serialize, Deserialize)]
struct Format {
    version: u32,
    /// A reader that doesn't know one of these must not touch the data.
    #[serde(default)]
    features: Vec<String>,
}

/// Checks the data root's format; false for a root that has none yet.
pub(crate) fn check(root: &Path) -> Result<bool, Error> {
    let path = root.join("format.json");
    match std::fs::read(&path) {
        Ok(bytes) => check_text(&path, &bytes).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(orlop_sys::Error::io("read", &path, error).into()),
    }
}

/// Writes the format into a new root, as the last of what makes it one; checks it when somebody else did that.
pub(crate) fn ensure(root: &Path) -> Result<(), Error> {
    if check(root)? { Ok(()) } else { write(&root.join("format.json")) }
}

fn check_text(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let format: Format = serde_json::from_slice(bytes)
        .map_err(|error| Error::Format { path: path.to_owned(), reason: error.to_string() })?;
    if format.version > VERSION {
        return Err(Error::TooNew { path: path.to_owned(), found: format.version, known: VERSION });
    }
    match format.features.into_iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        Some(feature) => Err(Error::UnknownFeature { path: path.to_owned(), feature }),
        None => Ok(()),
    }
}

fn write(path: &Path) -> Result<(), Error> {
    let format = Format { version: VERSION, features: Vec::new() };
    let mut bytes = serde_json::to_vec(&format).expect("a struct of numbers and strings is JSON");
    bytes.push(b'\n');
    Ok(orlop_sys::durable::write_file(path, &bytes, 0o644)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_or_an_unknown_feature_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path()).unwrap();
        ensure(dir.path()).unwrap();
        let path = dir.path().join("format.json");
        for (text, part) in
            [(r#"{"version":2}"#, "format 2"), (r#"{"version":1,"features":["chunks"]}"#, "\"chunks\""), ("{", "EOF")]
        {
            std::fs::write(&path, text).unwrap();
            let error = ensure(dir.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
