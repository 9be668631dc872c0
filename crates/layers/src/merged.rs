//! What a chain of layers shows, without a mount: whiteouts hide, opaque directories hide everything below them.
//!
//! Layers are in overlay's format and nobody changes them meanwhile. A path is looked up in a layer only after every
//! directory above it was seen to be a directory there, so no symlink is ever followed by the kernel.

mod copy;

pub(crate) use copy::{copy_directory_metadata, copy_entry};

use crate::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// As the kernel's own limit (MAXSYMLINKS).
const MAX_SYMLINKS: u32 = 40;

const OPAQUE: &str = "trusted.overlay.opaque";

/// The layers of a chain, topmost first.
pub(crate) struct Merged {
    layers: Vec<Layer>,
}

struct Layer {
    path: PathBuf,
    root: OwnedFd,
}

/// A directory that the chain shows, and the layers that have a part in it, topmost first.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    layers: Vec<usize>,
}

/// An entry that the chain shows.
#[derive(Debug)]
pub(crate) struct Found {
    /// Without symlinks above it.
    pub(crate) path: PathBuf,
    layer: usize,
    pub(crate) stat: Stat,
    /// When it is a directory.
    pub(crate) directory: Option<Directory>,
}

impl Found {
    fn is_symlink(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode).is_symlink()
    }
}

impl Merged {
    /// Opens the diff directories of a chain, topmost first.
    pub(crate) fn open(parents: &[PathBuf]) -> Result<Self> {
        let mut layers = Vec::with_capacity(parents.len());
        for path in parents {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Error::io("open", path, error))?;
            layers.push(Layer { path: path.clone(), root });
            if is_opaque(path)? {
                break;
            }
        }
        Ok(Self { layers })
    }

    /// The root directory.
    pub(crate) fn root(&self) -> Directory {
        Directory { path: PathBuf::new(), layers: (0..self.layers.len()).collect() }
    }

    /// The entry `name` of a directory.
    pub(crate) fn entry(&self, directory: &Directory, name: &OsStr) -> Result<Option<Found>> {
        let path = directory.path.join(name);
        let mut found: Option<Found> = None;
        for &layer in &directory.layers {
            let stat = match statat(&self.layers[layer].root, &path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(Error::io("stat", self.layers[layer].path.join(&path), error)),
            };
            if !FileType::from_raw_mode(stat.st_mode).is_dir() {
                // A file hides what is below it, and a directory above it hides the file.
                if found.is_none() && !is_whiteout(&stat) {
                    found = Some(Found { path, layer, stat, directory: None });
                }
                break;
            }
            let opaque = is_opaque(&self.layers[layer].path.join(&path))?;
            let entry = found.get_or_insert_with(|| Found {
                path: path.clone(),
                layer,
                stat,
                directory: Some(Directory { path: path.clone(), layers: Vec::new() }),
            });
            if let Some(directory) = &mut entry.directory {
                directory.layers.push(layer);
            }
            if opaque {
                break;
            }
        }
        Ok(found)
    }

    /// What is at `path`; symlinks above it are not followed.
    pub(crate) fn exact(&self, path: &Path) -> Result<Option<Found>> {
        let mut directory = self.root();
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            let Some(found) = self.entry(&directory, component.as_os_str())? else { return Ok(None) };
            if components.peek().is_none() {
                return Ok(Some(found));
            }
            match found.directory {
                Some(below) => directory = below,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What is at `path`, symlinks above it followed inside the chain; with `last` one at its end too. The root itself
    /// is never found.
    pub(crate) fn follow(&self, path: &Path, last: bool) -> Result<Option<Found>> {
        let mut above = vec![self.root()];
        let mut rest: Vec<OsString> = names(path);
        rest.reverse();
        let mut symlinks = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            let Some(current) = above.last() else { return Ok(None) };
            let Some(found) = self.entry(current, &name)? else { return Ok(None) };
            if found.is_symlink() && (last || !rest.is_empty()) {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(Error::Chain(format!("{} is a loop of symbolic links", path.display())));
                }
                let target = self.read_link(&found)?;
                if target.is_absolute() {
                    above.truncate(1);
                }
                rest.extend(names(&target).into_iter().rev());
                continue;
            }
            match found.directory.clone() {
                Some(directory) if !rest.is_empty() => above.push(directory),
                _ if rest.is_empty() => return Ok(Some(found)),
                _ => return Ok(None),
            }
        }
        // It ended in `..`: the directory found there.
        match above.last() {
            Some(directory) if above.len() > 1 => self.exact(&directory.path),
            _ => Ok(None),
        }
    }

    /// Everything that a directory shows.
    pub(crate) fn list(&self, directory: &Directory) -> Result<Vec<Found>> {
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        for &layer in &directory.layers {
            let path = self.layers[layer].path.join(&directory.path);
            let fd = self.open_in(layer, &directory.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            for entry in Dir::new(fd).map_err(|error| Error::io("list", &path, error))? {
                let entry = entry.map_err(|error| Error::io("list", &path, error))?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." || !seen.insert(name.to_vec()) {
                    continue;
                }
                entries.extend(self.entry(directory, OsStr::from_bytes(name))?);
            }
        }
        Ok(entries)
    }

    pub(crate) fn read_link(&self, found: &Found) -> Result<PathBuf> {
        let layer = &self.layers[found.layer];
        let target = rustix::fs::readlinkat(&layer.root, &found.path, Vec::new())
            .map_err(|error| Error::io("read the link", layer.path.join(&found.path), error))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Opens what was found, in the layer that has it.
    pub(crate) fn open_found(&self, found: &Found, flags: OFlags) -> Result<OwnedFd> {
        self.open_in(found.layer, &found.path, flags)
    }

    /// The directory, in its layer, that has what was found, and its name there.
    pub(crate) fn place_of<'a>(&self, found: &'a Found) -> Result<(OwnedFd, &'a OsStr)> {
        let parent = found.path.parent().unwrap_or(Path::new(""));
        let fd = self.open_in(found.layer, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((fd, found.path.file_name().unwrap_or_default()))
    }

    /// Which layer, and which inode in it: what makes two names one file.
    pub(crate) fn identity(found: &Found) -> (usize, u64) {
        (found.layer, found.stat.st_ino)
    }

    fn open_in(&self, layer: usize, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let layer = &self.layers[layer];
        let inside = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(orlop_sys::path::open_beneath(&layer.root, inside, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC)?)
    }
}

/// The names in a path that is resolved by hand: `..` stays, the root and `.` don't.
fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

/// Whether this is a whiteout in overlay's format.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0
}

/// Whether a directory of a layer hides everything below it; one that is not there hides nothing.
pub(crate) fn is_opaque(path: &Path) -> Result<bool> {
    let mut value = [0; 2];
    match rustix::fs::lgetxattr(path, OPAQUE, &mut value) {
        Ok(1) => Ok(value[0] == b'y'),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE | Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(Error::io("read an attribute of", path, error)),
    }
}
