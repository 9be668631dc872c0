//! Deletion of whole trees.

use super::directory::{self, DEEP, DeepWalk, Entry, Root, entries, file_type, open_child, stat_at, walk_deep};
use super::pool::{self, Stack};
use crate::Error;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Deletes what lies at `path`, a tree or a single entry; nothing there is success.
///
/// The path itself must be one of our own; below it no symlink is ever followed.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| Error::io("remove", path, Errno::INVAL))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => remove_at(parent, name),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::io("open", parent, error)),
    }
}

/// Deletes the entry `name` of `parent`, a tree or a single one; nothing there is success.
///
/// Needs no free space. A mount point is an error (EBUSY) and stays as it is, with the directories above it.
pub fn remove_at(parent: impl AsFd, name: &OsStr) -> Result<(), Error> {
    let parent = parent.as_fd();
    let failed = |call, error| Error::io(call, directory::shown(parent, Path::new(name)), error);
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, POSIX EPERM, for a directory.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(failed("remove", error)),
    }
    match open_child(parent, name) {
        Ok(tree) => remove_content(&tree)?,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(mounted(error), error)),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("remove directory", error)),
    }
}

/// Deletes everything in a directory, which itself stays.
pub fn remove_content(directory: impl AsFd) -> Result<(), Error> {
    let root = Root::new(&directory, false);
    let first = Arc::new(Node { parent: None, name: OsString::new(), depth: 0, pending: AtomicUsize::new(1) });
    pool::run(first, |node, stack| empty(root, &node, stack))
}

/// A directory that goes once the last of `pending`, its own listing and its directories, is done.
struct Node {
    parent: Option<Arc<Node>>,
    name: OsString,
    depth: usize,
    pending: AtomicUsize,
}

impl Node {
    fn path(&self) -> PathBuf {
        let mut names = Vec::with_capacity(self.depth);
        let mut node = self;
        while let Some(parent) = &node.parent {
            names.push(&node.name);
            node = parent;
        }
        names.into_iter().rev().collect()
    }
}

fn empty(root: Root<'_>, node: &Arc<Node>, stack: &Stack<Arc<Node>, Error>) -> Result<(), Error> {
    let path = node.path();
    let opened = match root.open(&path) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return finish(root, node),
        Err(error) => return Err(root.error(mounted(error), &path, error)),
    };
    if node.depth >= DEEP {
        walk_deep(opened, &mut DeepRemoval)?;
        return finish(root, node);
    }
    for entry in entries(&opened).map_err(|error| root.error("read", &path, error))? {
        if remove_unless_directory(&opened, &entry)
            .map_err(|error| root.error("remove", &path.join(entry.name()), error))?
        {
            continue;
        }
        node.pending.fetch_add(1, Ordering::Relaxed);
        stack.push([Arc::new(Node {
            parent: Some(node.clone()),
            name: entry.name().to_owned(),
            depth: node.depth + 1,
            pending: AtomicUsize::new(1),
        })]);
    }
    finish(root, node)
}

/// Counts one piece of a directory as done, and removes it, and those above it, when that was the last.
fn finish(root: Root<'_>, node: &Arc<Node>) -> Result<(), Error> {
    let mut node = node;
    while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
        let Some(parent) = &node.parent else { return Ok(()) };
        let removed =
            root.open(&parent.path()).and_then(|parent| rustix::fs::unlinkat(&parent, &node.name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT) => node = parent,
            Err(error) => return Err(root.error("remove directory", &node.path(), error)),
        }
    }
    Ok(())
}

/// Removes one entry; false when it is a directory.
fn remove_unless_directory(directory: &OwnedFd, entry: &Entry) -> Result<bool, Errno> {
    let known = match entry.file_type {
        FileType::Unknown => match stat_at(directory, entry.name()) {
            Err(Errno::NOENT) => return Ok(true),
            stat => file_type(&stat?),
        },
        known => known,
    };
    if known == FileType::Directory {
        return Ok(false);
    }
    match rustix::fs::unlinkat(directory, entry.name(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes a tree that is too deep for the stack of work.
struct DeepRemoval;

impl DeepWalk for DeepRemoval {
    fn enter(&mut self, directory: &OwnedFd) -> Result<Vec<OsString>, Error> {
        remove_files(directory)
    }

    fn leave(&mut self, above: &OwnedFd, name: &OsStr) -> Result<(), Error> {
        match rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("remove directory", directory::shown(above, Path::new(name)), error)),
        }
    }

    fn fail(&mut self, above: &OwnedFd, name: &OsStr, errno: Errno) -> Result<(), Error> {
        match errno {
            Errno::NOENT => Ok(()),
            // Going on would delete elsewhere.
            Errno::STALE => Err(Error::io("remove (moved meanwhile)", directory::shown(above, Path::new(name)), errno)),
            errno => Err(Error::io(mounted(errno), directory::shown(above, Path::new(name)), errno)),
        }
    }
}

/// Removes all entries but directories, whose names are returned.
fn remove_files(directory: &OwnedFd) -> Result<Vec<OsString>, Error> {
    let fail = |name: &OsStr, call, error| Error::io(call, directory::shown(directory, Path::new(name)), error);
    let mut directories = Vec::new();
    for entry in entries(directory).map_err(|error| fail(OsStr::new(""), "read", error))? {
        if !remove_unless_directory(directory, &entry).map_err(|error| fail(entry.name(), "remove", error))? {
            directories.push(entry.name().to_owned());
        }
    }
    Ok(directories)
}

/// What was tried, for the person who reads that it failed.
fn mounted(error: Errno) -> &'static str {
    if error == Errno::XDEV { "remove what is mounted elsewhere (unmount it first):" } else { "open" }
}
