//! Sources of binds on the host: which may be missing, and making those that are.

use crate::{Entry, Error};
use orlop_model::mount::BindMount;
use std::fs::DirBuilder;
use std::io::ErrorKind::{AlreadyExists, NotADirectory, NotFound};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Whether the source has to be made, by the rules for who asked. `at_target` is what the image has there, where that
/// is known. The path is followed as the user typed it.
pub(crate) fn must_create(bind: &BindMount, target: &str, at_target: Option<Entry>) -> Result<bool, Error> {
    let path = &bind.source;
    match std::fs::metadata(path) {
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == NotFound => {}
        Err(source) => return Err(Error::Source { path: path.clone(), source }),
    }
    if !bind.create_source {
        return Err(Error::SourceMissing(path.clone()));
    }
    if path.ends_with(".sock") {
        return Err(Error::SocketMissing(path.clone()));
    }
    if at_target == Some(Entry::File) {
        return Err(Error::FileMissing { path: path.clone(), target: target.to_owned() });
    }
    Ok(true)
}

/// Refuses a file on a directory and the other way round, which the runtime would say in three lines.
pub(crate) fn check_fit(bind: &BindMount, target: &str, at_target: Option<Entry>) -> Result<(), Error> {
    let path = &bind.source;
    let source = std::fs::metadata(path).map_err(|source| Error::Source { path: path.clone(), source })?;
    match at_target {
        Some(at_target) => fit(source.is_dir(), at_target, path, target),
        None => Ok(()),
    }
}

/// The same for a source that is open already.
pub(crate) fn fit(source_is_directory: bool, at_target: Entry, path: &str, target: &str) -> Result<(), Error> {
    match (source_is_directory, at_target) {
        (true, Entry::File) | (false, Entry::Directory) => {
            Err(Error::Mismatch { source_path: path.to_owned(), target: target.to_owned(), source_is_directory })
        }
        _ => Ok(()),
    }
}

/// Makes the directory and its missing parents, root's and 0755, and returns what it made, outermost first. Takes them
/// back itself when it can't make all.
pub(crate) fn create(path: &str) -> Result<Vec<PathBuf>, Error> {
    let mut missing: Vec<&Path> = Path::new(path).ancestors().take_while(|parent| !parent.is_dir()).collect();
    missing.reverse();
    let mut made = Vec::new();
    for directory in missing {
        match make(directory) {
            Ok(true) => made.push(directory.to_owned()),
            Ok(false) => {}
            Err(source) => {
                remove(&made);
                return Err(Error::CreateSource { path: path.to_owned(), source });
            }
        }
    }
    Ok(made)
}

/// Removes directories that `create` made, as far as they are still empty.
pub(crate) fn remove(made: &[PathBuf]) {
    for directory in made.iter().rev() {
        // Whoever put something there meanwhile keeps it.
        let _ = std::fs::remove_dir(directory);
    }
}

/// False when somebody else made it at the same moment.
fn make(directory: &Path) -> std::io::Result<bool> {
    match DirBuilder::new().mode(0o755).create(directory) {
        // The caller's umask doesn't count.
        Ok(()) => std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).map(|()| true),
        Err(error) if error.kind() == AlreadyExists && directory.is_dir() => Ok(false),
        Err(error) if error.kind() == AlreadyExists => Err(NotADirectory.into()),
        Err(error) => Err(error),
    }
}
