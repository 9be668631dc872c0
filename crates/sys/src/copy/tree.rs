//! A whole directory tree with everything that makes up its files.

use super::directory::{self, Entry, Root, entries, file_type, identity, is_mount_point, stat_at};
use super::file::FileCopier;
use super::metadata::{self, Xattrs, copy_xattrs};
use super::pool::{self, Stack};
use crate::Error;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Statx, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many entries of one directory are one piece of work.
const BATCH: usize = 96;

/// What to do where more than one answer is right.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Whether the target's root gets the owner, mode, attributes and times of the source's root.
    pub root_metadata: bool,
    /// Whether the copy goes on into file systems that are mounted inside the source. Otherwise a directory that is a
    /// mount point becomes an empty one, and any other mount point is left out.
    pub cross_mounts: bool,
    /// What an entry means that is listed but gone when its turn comes.
    pub vanished: Vanished,
    /// What an extended attribute means that the target's file system can't hold.
    pub unsupported_xattrs: UnsupportedXattrs,
}

/// An entry of the source that was removed while it was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vanished {
    /// It is left out and counted.
    Skip,
    /// It is an error.
    Fail,
}

/// An extended attribute that can't be set on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsupportedXattrs {
    /// It is left out and counted.
    Skip,
    /// It is an error.
    Fail,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyStats {
    /// Directories, without the root.
    pub directories: u64,
    /// Regular files, each hardlinked one once.
    pub files: u64,
    /// Symlinks, devices, FIFOs and sockets.
    pub others: u64,
    /// Further names of files that were copied already.
    pub hardlinks: u64,
    /// Bytes of data; holes are not counted.
    pub bytes: u64,
    /// Entries that were gone when their turn came.
    pub vanished: u64,
    /// Mount points that the copy did not enter.
    pub mount_points: u64,
    /// Extended attributes that the target's file system can't hold.
    pub refused_xattrs: u64,
}

/// Copies everything below the directory `source` into the directory `target`: owners, modes, times in nanoseconds,
/// extended attributes (ACLs and file capabilities among them), hardlinks, symlinks, devices, FIFOs and sockets; holes
/// stay holes. Nothing that is there is replaced: an existing name is an error (EEXIST).
///
/// An error leaves what was copied so far; whoever wants all or nothing copies aside. Nothing is synced.
pub fn copy_tree(source: impl AsFd, target: impl AsFd, options: CopyOptions) -> Result<CopyStats, Error> {
    let target = Root::new(&target, false);
    // Opened again because the caller's descriptor may be an O_PATH one.
    let opened = target.open(Path::new("")).map_err(|error| target.error("open", Path::new(""), error))?;
    let copy = Copy {
        source: Root::new(&source, options.cross_mounts),
        target,
        options,
        content: FileCopier::new(),
        inherits_acl: metadata::has_default_acl(opened.as_fd()),
        linked: Mutex::new(HashMap::new()),
        total: Mutex::new(CopyStats::default()),
    };
    pool::run(Job::Directory(PathBuf::new()), |job, stack| match job {
        Job::Directory(path) => copy.directory(path, stack),
        Job::Entries(directory, entries) => copy.entries(&directory, &entries),
    })?;
    Ok(copy.total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

enum Job {
    /// A directory whose target exists already.
    Directory(PathBuf),
    /// Some entries of one that are not directories.
    Entries(Arc<Opened>, Vec<Entry>),
}

/// A directory that is being copied.
struct Opened {
    path: PathBuf,
    source: OwnedFd,
    target: OwnedFd,
    /// Taken before its entries were read, so that its times are those from before the copy.
    stat: Statx,
    /// Pieces of work that still make entries in it; its times are set after the last.
    pending: AtomicUsize,
}

struct Copy<'a> {
    source: Root<'a>,
    target: Root<'a>,
    options: CopyOptions,
    content: FileCopier,
    /// The target's root hands its default ACL to new entries, from which it has to be taken again.
    inherits_acl: bool,
    /// Where a file that has several names was copied to.
    linked: Mutex<HashMap<(u64, u64), PathBuf>>,
    total: Mutex<CopyStats>,
}

/// Why one entry was not copied.
enum Failure {
    /// The source's entry is gone, or something else is there now.
    Gone(Errno),
    Source(&'static str, Errno),
    Target(&'static str, Errno),
}

impl Copy<'_> {
    fn directory(&self, path: PathBuf, stack: &Stack<Job, Error>) -> Result<(), Error> {
        let source = match self.source.open(&path) {
            Ok(source) => source,
            Err(Errno::XDEV) => return self.mount_point(&path),
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => return self.vanished_directory(&path, error),
            Err(error) => return Err(self.source.error("open", &path, error)),
        };
        let stat = directory::stat(&source).map_err(|error| self.source.error("stat", &path, error))?;
        let target = self.target.open(&path).map_err(|error| self.target.error("open", &path, error))?;
        if self.inherits_acl && !path.as_os_str().is_empty() {
            metadata::remove_acls(Xattrs::Open(target.as_fd()))
                .map_err(|error| self.target.error("remove the inherited acl of", &path, error))?;
        }

        let (mut directories, mut others) = (Vec::new(), Vec::new());
        for mut entry in entries(&source).map_err(|error| self.source.error("read", &path, error))? {
            if entry.file_type == FileType::Unknown {
                // Some file systems don't say in the list.
                entry.file_type = stat_at(&source, entry.name()).map_or(FileType::Unknown, |stat| file_type(&stat));
            }
            if entry.file_type == FileType::Directory {
                let path = path.join(entry.name());
                // Nobody else may look into it before it has its own mode.
                rustix::fs::mkdirat(&target, entry.name(), Mode::RWXU)
                    .map_err(|error| self.target.error("create directory", &path, error))?;
                directories.push(Job::Directory(path));
            } else {
                others.push(entry);
            }
        }
        self.count(|total| total.directories += directories.len() as u64);
        stack.push(directories);

        let batches = others.len().div_ceil(BATCH).max(1);
        let opened = Arc::new(Opened { path, source, target, stat, pending: AtomicUsize::new(batches) });
        let mut batches = Vec::with_capacity(batches);
        while others.len() > BATCH {
            batches.push(Job::Entries(opened.clone(), others.split_off(others.len() - BATCH)));
        }
        stack.push(batches);
        self.entries(&opened, &others)
    }

    fn entries(&self, directory: &Opened, entries: &[Entry]) -> Result<(), Error> {
        let mut stats = CopyStats::default();
        for entry in entries {
            let failure = match self.entry(directory, entry, &mut stats) {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            let path = directory.path.join(entry.name());
            match failure {
                Failure::Gone(_) if self.options.vanished == Vanished::Skip => stats.vanished += 1,
                Failure::Gone(error) => return Err(self.source.error("open", &path, error)),
                Failure::Source(call, error) => return Err(self.source.error(call, &path, error)),
                Failure::Target(call, error) => return Err(self.target.error(call, &path, error)),
            }
        }
        if directory.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(directory, &mut stats)?;
        }
        self.count(|total| {
            total.files += stats.files;
            total.others += stats.others;
            total.hardlinks += stats.hardlinks;
            total.bytes += stats.bytes;
            total.vanished += stats.vanished;
            total.mount_points += stats.mount_points;
            total.refused_xattrs += stats.refused_xattrs;
        });
        Ok(())
    }

    /// Gives a directory its metadata, after its last entry was made.
    fn finish(&self, directory: &Opened, stats: &mut CopyStats) -> Result<(), Error> {
        if directory.path.as_os_str().is_empty() && !self.options.root_metadata {
            return Ok(());
        }
        let target = directory.target.as_fd();
        metadata::set_owner_and_mode(target, &directory.stat)
            .map_err(|error| self.target.error("set the owner of", &directory.path, error))?;
        self.xattrs(Xattrs::Open(directory.source.as_fd()), Xattrs::Open(target), stats)
            .map_err(|error| self.target.error("copy attributes to", &directory.path, error))?;
        metadata::set_times(target, &directory.stat)
            .map_err(|error| self.target.error("set the times of", &directory.path, error))
    }

    fn entry(&self, directory: &Opened, entry: &Entry, stats: &mut CopyStats) -> Result<(), Failure> {
        match entry.file_type {
            FileType::RegularFile => self.regular(directory, entry, stats),
            FileType::Unknown => Err(Failure::Gone(Errno::NOENT)),
            _ => self.other(directory, entry, stats),
        }
    }

    fn regular(&self, directory: &Opened, entry: &Entry, stats: &mut CopyStats) -> Result<(), Failure> {
        let source = open_regular(directory, entry)?;
        let stat = directory::stat(&source).map_err(|error| Failure::Source("stat", error))?;
        if file_type(&stat) != FileType::RegularFile {
            return Err(Failure::Gone(Errno::NOENT));
        }
        if is_mount_point(&stat) && !self.options.cross_mounts {
            stats.mount_points += 1;
            return Ok(());
        }
        let create = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&directory.target, entry.name(), flags, Mode::RUSR | Mode::WUSR)
        };
        let Some(target) = self.create_or_link(directory, entry, &stat, create, stats)? else { return Ok(()) };

        // Files without holes, nearly all, need no search for them.
        let may_have_holes = stat.stx_blocks.saturating_mul(512) < stat.stx_size;
        stats.bytes += self
            .content
            .copy(source.as_fd(), target.as_fd(), stat.stx_size, may_have_holes)
            .map_err(|error| Failure::Target("write", error))?;
        let target = target.as_fd();
        let set = |stats: &mut CopyStats| {
            if self.inherits_acl {
                metadata::remove_acls(Xattrs::Open(target))?;
            }
            metadata::set_owner_and_mode(target, &stat)?;
            self.xattrs(Xattrs::Open(source.as_fd()), Xattrs::Open(target), stats)?;
            metadata::set_times(target, &stat)
        };
        set(stats).map_err(|error| Failure::Target("copy attributes to", error))?;
        stats.files += 1;
        Ok(())
    }

    /// Symlinks, devices, FIFOs and sockets.
    fn other(&self, directory: &Opened, entry: &Entry, stats: &mut CopyStats) -> Result<(), Failure> {
        let name = entry.name();
        let stat = match stat_at(&directory.source, name) {
            Err(error @ Errno::NOENT) => return Err(Failure::Gone(error)),
            stat => stat.map_err(|error| Failure::Source("stat", error))?,
        };
        if file_type(&stat) != entry.file_type {
            return Err(Failure::Gone(Errno::NOENT));
        }
        if is_mount_point(&stat) && !self.options.cross_mounts {
            stats.mount_points += 1;
            return Ok(());
        }
        let target = directory.target.as_fd();
        if entry.file_type == FileType::Symlink {
            let goal = match rustix::fs::readlinkat(&directory.source, name, Vec::new()) {
                Err(error @ (Errno::NOENT | Errno::INVAL)) => return Err(Failure::Gone(error)),
                goal => goal.map_err(|error| Failure::Source("read link", error))?,
            };
            let create = || rustix::fs::symlinkat(goal.as_c_str(), target, name);
            if self.create_or_link(directory, entry, &stat, create, stats)?.is_none() {
                return Ok(());
            }
        } else {
            let device = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
            let create = || rustix::fs::mknodat(target, name, entry.file_type, Mode::RUSR | Mode::WUSR, device);
            if self.create_or_link(directory, entry, &stat, create, stats)?.is_none() {
                return Ok(());
            }
        }
        let set = |stats: &mut CopyStats| {
            let (uid, gid) = (Uid::from_raw(stat.stx_uid), Gid::from_raw(stat.stx_gid));
            rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            if entry.file_type != FileType::Symlink {
                if self.inherits_acl {
                    metadata::remove_acls(Xattrs::Entry(target, name))?;
                }
                metadata::set_mode_at(target, name, &stat)?;
            }
            let source = Xattrs::Entry(directory.source.as_fd(), name);
            self.xattrs(source, Xattrs::Entry(target, name), stats)?;
            metadata::set_times_at(target, name, &stat)
        };
        set(stats).map_err(|error| Failure::Target("copy attributes to", error))?;
        stats.others += 1;
        Ok(())
    }

    /// Makes a new entry; or a further name, when the same file was copied already, and returns None.
    fn create_or_link<Created>(
        &self,
        directory: &Opened,
        entry: &Entry,
        stat: &Statx,
        create: impl FnOnce() -> Result<Created, Errno>,
        stats: &mut CopyStats,
    ) -> Result<Option<Created>, Failure> {
        if stat.stx_nlink < 2 {
            return Ok(Some(create().map_err(|error| Failure::Target("create", error))?));
        }
        // Held while the first name is made, so that nobody else makes a second first one.
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = linked.get(&identity(stat)).cloned() {
            drop(linked);
            match self.link(&first, directory, entry.name()) {
                Ok(()) => {
                    stats.hardlinks += 1;
                    return Ok(None);
                }
                // The target's file system allows fewer names for one file.
                Err(Errno::MLINK) => {}
                Err(error) => return Err(Failure::Target("link", error)),
            }
            return Ok(Some(create().map_err(|error| Failure::Target("create", error))?));
        }
        let created = create().map_err(|error| Failure::Target("create", error))?;
        linked.insert(identity(stat), directory.path.join(entry.name()));
        Ok(Some(created))
    }

    fn link(&self, first: &Path, directory: &Opened, name: &OsStr) -> Result<(), Errno> {
        let first_name = first.file_name().ok_or(Errno::NOENT)?;
        let parent = first.parent().unwrap_or(Path::new(""));
        if parent == directory.path {
            return rustix::fs::linkat(&directory.target, first_name, &directory.target, name, AtFlags::empty());
        }
        let parent = self.target.open(parent)?;
        rustix::fs::linkat(&parent, first_name, &directory.target, name, AtFlags::empty())
    }

    fn xattrs(&self, source: Xattrs<'_>, target: Xattrs<'_>, stats: &mut CopyStats) -> Result<(), Errno> {
        let refused = copy_xattrs(source, target)?;
        stats.refused_xattrs += u64::from(refused);
        match self.options.unsupported_xattrs {
            UnsupportedXattrs::Fail if refused > 0 => Err(Errno::OPNOTSUPP),
            _ => Ok(()),
        }
    }

    /// Leaves the directory made for a mount point empty, with the owner and mode that are seen there.
    fn mount_point(&self, path: &Path) -> Result<(), Error> {
        self.count(|total| total.mount_points += 1);
        let parent = path.parent().unwrap_or(Path::new(""));
        let stat = self.source.open(parent).and_then(|parent| stat_at(&parent, path.file_name().unwrap_or_default()));
        let stat = stat.map_err(|error| self.source.error("stat", path, error))?;
        let set = || {
            let target = self.target.open(path)?;
            metadata::set_owner_and_mode(target.as_fd(), &stat)?;
            metadata::set_times(target.as_fd(), &stat)
        };
        set().map_err(|error| self.target.error("set the owner of", path, error))
    }

    fn vanished_directory(&self, path: &Path, error: Errno) -> Result<(), Error> {
        if self.options.vanished == Vanished::Fail {
            return Err(self.source.error("open", path, error));
        }
        self.count(|total| {
            total.vanished += 1;
            total.directories = total.directories.saturating_sub(1);
        });
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(self.source.error("open", path, error));
        };
        self.target
            .open(parent)
            .and_then(|parent| rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR))
            .map_err(|error| self.target.error("remove directory", path, error))
    }

    fn count(&self, add: impl FnOnce(&mut CopyStats)) {
        let mut total: MutexGuard<'_, CopyStats> = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut total);
    }
}

/// Opens what was listed as a regular file. It may be something else by now, so this neither follows nor blocks.
fn open_regular(directory: &Opened, entry: &Entry) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(&directory.source, entry.name(), flags, Mode::empty());
    match open(flags | OFlags::NOATIME) {
        // Only the owner may open without changing the access time.
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
    .map_err(|error| match error {
        Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV => Failure::Gone(error),
        error => Failure::Source("open", error),
    })
}

#[cfg(test)]
mod tests;
