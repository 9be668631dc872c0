//! What a container's writable layer changed against its image: for `diff` and `commit`.

use crate::merged::{Directory, Found, Merged, is_opaque, is_whiteout};
use crate::{Driver, DriverKind, Error, Result};
use orlop_model::Id;
use orlop_sys::copy::{open_below, xattrs};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What happened to a path (Docker Engine API, ContainerChanges: 0, 1 and 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is in the image and is another now.
    Modified,
    /// It is not in the image.
    Added,
    /// It is in the image only.
    Deleted,
}

/// One path that the writable layer has a say in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Below the root file system, without a leading `/`.
    pub path: PathBuf,
    /// What happened.
    pub kind: ChangeKind,
    /// Whether anything about the entry itself differs from the image's, as far as lstat(2) and extended attributes tell.
    /// An overlay also holds directories above a change, and files that were only opened for writing.
    pub differs: bool,
}

/// Where the runtime puts what every container has; made when it isn't in the image, and none of the user's doing. Docker
/// has them in a layer of their own.
const RUNTIMES: [&str; 11] = [
    "dev",
    "dev/console",
    "dev/mqueue",
    "dev/pts",
    "dev/shm",
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
];

/// Everything that the writable layer `id` holds over `chain` (topmost first), in the order of the paths, each after the
/// directory it is in. The layer may be mounted and in use meanwhile.
pub fn changes(driver: &dyn Driver, id: Id, chain: &[Id]) -> Result<Vec<Change>> {
    let lower: Vec<PathBuf> = chain.iter().map(|id| driver.diff(*id)).collect();
    let upper = orlop_sys::path::open_directory(&driver.diff(id))?;
    let whole = match driver.kind() {
        DriverKind::Overlay2 => is_opaque(&driver.diff(id))?,
        DriverKind::Vfs => true,
    };
    let walk = Walk { upper, lower: Merged::open(&lower)?, copies: driver.kind() == DriverKind::Vfs };
    let mut changes = walk.run(whole)?;
    drop_runtimes(&walk.upper, &mut changes);
    Ok(changes)
}

/// The changes as `diff` shows them: what differs, and the directories above it.
pub fn shown(changes: Vec<Change>) -> Vec<Change> {
    let mut shown: BTreeMap<PathBuf, Change> = BTreeMap::new();
    for change in changes.into_iter().filter(|change| change.differs) {
        for above in change.path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            let modified = || Change { path: above.to_owned(), kind: ChangeKind::Modified, differs: false };
            shown.entry(above.to_owned()).or_insert_with(modified);
        }
        shown.insert(change.path.clone(), change);
    }
    shown.into_values().collect()
}

struct Walk {
    upper: OwnedFd,
    lower: Merged,
    /// The writable layer is a copy of everything, so an entry in it need not be a change.
    copies: bool,
}

/// A directory of the writable layer.
struct Pending {
    path: PathBuf,
    lower: Option<Directory>,
    /// The image's entries don't show through here.
    hidden: bool,
}

impl Walk {
    fn run(&self, hidden: bool) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut pending = vec![Pending { path: PathBuf::new(), lower: Some(self.lower.root()), hidden }];
        while let Some(directory) = pending.pop() {
            self.directory(&directory, &mut changes, &mut pending)?;
        }
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(changes)
    }

    fn directory(&self, at: &Pending, changes: &mut Vec<Change>, pending: &mut Vec<Pending>) -> Result<()> {
        let opened = match open_below(&self.upper, &at.path) {
            // Gone since it was listed.
            Err(error) if error.is(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        let mut seen: BTreeSet<OsString> = BTreeSet::new();
        for name in names(&opened, &at.path)? {
            let stat = match statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|error| Error::io("stat", at.path.join(&name), error))?,
            };
            let lower = match &at.lower {
                Some(lower) => self.lower.entry(lower, &name)?,
                None => None,
            };
            let path = at.path.join(&name);
            seen.insert(name.clone());
            if is_whiteout(&stat) && !self.copies {
                if lower.is_some() {
                    changes.push(Change { path, kind: ChangeKind::Deleted, differs: true });
                }
                continue;
            }
            let differs = match &lower {
                None => true,
                Some(lower) => self.differs(&opened, &name, &stat, lower)?,
            };
            let kind = if lower.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                let hidden = at.hidden || is_opaque_at(&opened, &name)?;
                let below = lower.as_ref().and_then(|lower| lower.directory.clone());
                pending.push(Pending { path: path.clone(), lower: below, hidden });
            }
            let is_touched =
                |lower: &Found| (stat.st_mtime, stat.st_mtime_nsec) != (lower.stat.st_mtime, lower.stat.st_mtime_nsec);
            if differs || !self.copies || lower.as_ref().is_some_and(is_touched) {
                changes.push(Change { path, kind, differs });
            }
        }
        if let (true, Some(lower)) = (at.hidden, &at.lower) {
            for found in self.lower.list(lower)? {
                if !found.path.file_name().is_some_and(|name| seen.contains(name)) {
                    changes.push(Change { path: found.path, kind: ChangeKind::Deleted, differs: true });
                }
            }
        }
        Ok(())
    }

    /// As Docker compares (pkg/archive, statDifferent), with every attribute instead of the capability only.
    fn differs(&self, directory: &OwnedFd, name: &OsStr, stat: &Stat, lower: &Found) -> Result<bool> {
        let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        if of(stat) != of(&lower.stat) {
            return Ok(true);
        }
        let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if !file_type.is_dir() && content(stat) != content(&lower.stat) {
            return Ok(true);
        }
        let (place, lower_name) = self.lower.place_of(lower)?;
        if xattrs(directory, name)? != xattrs(&place, lower_name)? {
            return Ok(true);
        }
        // Nothing but its bytes tells whether a copy was changed by who set the time back.
        match self.copies && file_type.is_file() && stat.st_size > 0 {
            true => self.content_differs(directory, name, lower),
            false => Ok(false),
        }
    }

    fn content_differs(&self, directory: &OwnedFd, name: &OsStr, lower: &Found) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let (mut one, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut upper = std::fs::File::from(orlop_sys::path::open_beneath(directory, Path::new(name), flags)?);
        let mut lower = std::fs::File::from(self.lower.open_found(lower, flags)?);
        loop {
            let read = upper.read(&mut one).map_err(Error::Read)?;
            if read == 0 {
                return Ok(false);
            }
            if lower.read_exact(&mut other[..read]).is_err() || one[..read] != other[..read] {
                return Ok(true);
            }
        }
    }
}

/// The names in a directory but `.` and `..`.
pub(crate) fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
    let failed = |error| Error::io("list", path, error);
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn is_opaque_at(directory: &OwnedFd, name: &OsStr) -> Result<bool> {
    use std::os::fd::AsRawFd;
    is_opaque(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

/// Leaves out the empty files and directories that the runtime mounts over, and directories made only for them.
fn drop_runtimes(upper: &OwnedFd, changes: &mut Vec<Change>) {
    // From the end: a directory comes after what is in it.
    for at in (0..changes.len()).rev() {
        let change = &changes[at];
        if change.kind != ChangeKind::Added || !RUNTIMES.iter().any(|path| Path::new(path) == change.path) {
            continue;
        }
        let is_empty = match statat(upper, &change.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
                changes.get(at + 1).is_none_or(|next| !next.path.starts_with(&change.path))
            }
            Ok(stat) => stat.st_size == 0,
            Err(_) => true,
        };
        if is_empty {
            changes.remove(at);
        }
    }
}
