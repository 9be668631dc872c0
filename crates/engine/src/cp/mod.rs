//! `cp`: files between a container and the host, or a tar archive.
//!
//! Paths in the container are resolved by descriptor inside its root, as its programs see it: through /proc while it
//! runs, else with its layer and volumes mounted in a mount namespace of this process alone, which leaves nothing when
//! it is killed. A file appears under its name when it is whole, and not before.

mod archive;
mod hidden;
mod place;
mod root;
mod tree;

use crate::{Engine, Error, Result};
use hidden::Hidden;
use place::{Located, Place};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How `cp` copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyRequest {
    /// `-a`: owners and attributes stay the source's; otherwise everything belongs to root there, or to the caller here.
    pub archive: bool,
    /// `-L`: of a source that is a symlink, what it points to.
    pub follow: bool,
}

impl Engine {
    /// Copies `source` in a container to `target` on the host; the bytes copied. To be called while this process has one
    /// thread.
    pub fn copy_from(&self, name: &str, source: &str, target: &Path, request: CopyRequest) -> Result<u64> {
        let view = self.root_view(name)?;
        let from = self.source(name, view.fd(), source, request)?;
        let host = host_root()?;
        let to = Place::new(&host, target);
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let hidden = Hidden::new(&view.dir(self), None)?;
        copy(&from, &to, request, owner, &hidden).map_err(|error| unless_missing(error, target))
    }

    /// Copies `source` on the host to `target` in a container; the bytes copied. To be called while this process has one
    /// thread.
    pub fn copy_to(&self, name: &str, source: &Path, target: &str, request: CopyRequest) -> Result<u64> {
        let host = host_root()?;
        let from = Place::new(&host, source).locate(request.follow)?;
        if matches!(from, Located::Missing { .. }) {
            let missing = std::io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error());
            return Err(Error::io("lstat", source)(missing));
        }
        let view = self.root_view(name)?;
        let to = Place::new(view.fd(), Path::new(target));
        view.require_writable(&to)?;
        let hidden = Hidden::new(&view.dir(self), Some(view.fd()))?;
        copy(&from, &to, request, (0, 0), &hidden).map_err(|error| self.missing_in(name, error, target))
    }

    /// Writes `source` in a container as a tar archive.
    pub fn copy_out(&self, name: &str, source: &str, request: CopyRequest, out: impl Write) -> Result<()> {
        let view = self.root_view(name)?;
        archive::write(&self.source(name, view.fd(), source, request)?, out)
    }

    /// Extracts a tar archive into the directory `target` of a container.
    pub fn copy_in(&self, name: &str, archive: impl Read, target: &str) -> Result<u64> {
        let view = self.root_view(name)?;
        let to = Place::new(view.fd(), Path::new(target));
        view.require_writable(&to)?;
        match to.locate(true).map_err(|error| self.missing_in(name, error, target))? {
            Located::Directory { .. } => {
                let hidden = Hidden::new(&view.dir(self), Some(view.fd()))?;
                archive::extract(view.fd(), &to, archive, &hidden)
            }
            Located::Missing { .. } => Err(not_in(name, target)),
            Located::Entry { .. } => Err(Error::Invalid("extraction point is not a directory".to_owned())),
        }
    }

    fn source(&self, name: &str, root: &OwnedFd, source: &str, request: CopyRequest) -> Result<Located> {
        let place = Place::new(root, Path::new(source));
        match place.locate(request.follow).map_err(|error| self.missing_in(name, error, source))? {
            Located::Missing { .. } => Err(not_in(name, source)),
            found => Ok(found),
        }
    }

    fn missing_in(&self, name: &str, error: Error, path: &str) -> Error {
        if is_missing(&error) { not_in(name, path) } else { error }
    }
}

fn not_in(name: &str, path: &str) -> Error {
    Error::NoSuchPath(format!("Could not find the file {path} in container {name}"))
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Sys(error) if error.is(rustix::io::Errno::NOENT) || error.is(rustix::io::Errno::NOTDIR))
}

fn unless_missing(error: Error, target: &Path) -> Error {
    match is_missing(&error) {
        true => Error::Invalid(format!(
            "invalid output path: directory {:?} does not exist",
            target.parent().unwrap_or(target)
        )),
        false => error,
    }
}

fn host_root() -> Result<OwnedFd> {
    Ok(orlop_sys::path::open_directory(Path::new("/"))?)
}

/// Docker's rules of what becomes what (docs, `docker cp`).
fn copy(from: &Located, to: &Place<'_>, request: CopyRequest, owner: (u32, u32), hidden: &Hidden) -> Result<u64> {
    let options = tree::Options { owner: (!request.archive).then_some(owner), hidden };
    let (parent, name) = from.entry();
    let from_directory = matches!(from, Located::Directory { .. });
    match to.locate(true)? {
        Located::Directory { fd, .. } => match from {
            Located::Directory { fd: source, content: true, .. } => {
                tree::merge_content(source.as_fd(), fd.as_fd(), options)
            }
            _ => tree::merge(parent, name, fd.as_fd(), from.shown(), options),
        },
        Located::Entry { .. } if from_directory => Err(Error::Invalid("cannot copy directory".to_owned())),
        Located::Missing { slash: true, .. } if !from_directory => {
            Err(Error::Invalid("destination directory must exist and be a directory".to_owned()))
        }
        Located::Entry { parent: into, name: target, .. } | Located::Missing { parent: into, name: target, .. } => {
            tree::merge(parent, name, into.as_fd(), &target, options)
        }
    }
}
