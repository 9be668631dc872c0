//! The paths of a layer in the order of its list, in bounded memory.

use super::tree::{Line, XATTR_MAX};
use crate::{Error, Result};
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat, statat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Depths whose directories stay open.
const OPEN: usize = 64;

/// Bytes that the names of a tree may take in memory. A directory has at most half of it; what it has beyond is read
/// again, once the names before were walked.
const NAMES: usize = 32 << 20;

/// A tree in order: a directory, then what is in it, then its neighbours.
pub(super) struct Walk {
    path: PathBuf,
    root: OwnedFd,
    levels: Vec<Level>,
    started: bool,
    buffer: Vec<u8>,
    /// [`NAMES`].
    limit: usize,
    /// Bytes of the names of all levels.
    memory: usize,
}

struct Level {
    path: Vec<u8>,
    /// Those that come next, last one first.
    names: Vec<Box<[u8]>>,
    /// Whether the directory may have more than these.
    has_more: bool,
    /// The name that was walked last.
    last: Box<[u8]>,
    fd: Option<OwnedFd>,
}

/// Bytes that a name takes, about: with its place in a list, and as the allocator rounds.
fn memory_of(name: &[u8]) -> usize {
    name.len() + 56
}

impl Walk {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let root = orlop_sys::path::open_directory(path)?;
        let (levels, buffer) = (Vec::new(), vec![0; XATTR_MAX]);
        Ok(Self { path: path.to_owned(), root, levels, started: false, buffer, limit: NAMES, memory: 0 })
    }

    /// The next path; None after the last.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        if !self.started {
            self.started = true;
            let stat = rustix::fs::fstat(&self.root).map_err(|error| Error::io("stat", &self.path, error))?;
            let path = format!("/proc/self/fd/{}/.", self.root.as_raw_fd());
            let line = self.line(Vec::new(), &stat, Path::new(&path))?;
            self.enter(Vec::new())?;
            return Ok(Some(line));
        }
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.pop() else {
                match level.has_more {
                    true => self.read_names()?,
                    false => drop(self.levels.pop()),
                }
                continue;
            };
            self.memory -= memory_of(&name);
            let path = if level.path.is_empty() { name.to_vec() } else { [&level.path, &b"/"[..], &name].concat() };
            if level.fd.is_none() {
                level.fd = Some(open_directory(&self.root, &level.path)?);
            }
            let Some(fd) = &level.fd else { return Ok(None) };
            level.last = name;
            let name = OsStr::from_bytes(&level.last);
            let stat = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| Error::io("stat", self.path.join(OsStr::from_bytes(&path)), error))?;
            let at = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name);
            let line = self.line(path, &stat, &at)?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                self.enter(line.path.clone())?;
            }
            return Ok(Some(line));
        }
    }

    fn enter(&mut self, path: Vec<u8>) -> Result<()> {
        let depth = self.levels.len();
        if let Some(parent) = self.levels.last_mut().filter(|_| depth >= OPEN) {
            parent.fd = None;
        }
        self.levels.push(Level { path, names: Vec::new(), has_more: true, last: Box::default(), fd: None });
        self.read_names()
    }

    /// Reads the names of the innermost directory that come next. Where all levels have too many, the outermost forget
    /// theirs, which are needed last.
    fn read_names(&mut self) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let fd = open_directory(&self.root, &level.path)?;
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut memory = 0;
        // Names from this one on come later.
        let mut end: Option<Box<[u8]>> = None;
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); 32 << 10];
        let mut entries = RawDir::new(&fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let path = || self.path.join(OsStr::from_bytes(&level.path));
            let entry = entry.map_err(|error| Error::io("list", path(), error))?;
            let name = entry.file_name().to_bytes();
            let is_later = end.as_deref().is_some_and(|end| name >= end);
            if name == b"." || name == b".." || is_later || *name <= *level.last {
                continue;
            }
            memory += memory_of(name);
            names.push(Box::from(name));
            if memory > self.limit / 2 && names.len() > 1 {
                let half = names.len() / 2;
                names.select_nth_unstable(half);
                names.truncate(half + 1);
                end = names.pop();
                memory = names.iter().map(|name| memory_of(name)).sum();
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        level.names = names;
        level.has_more = end.is_some();
        level.fd = Some(fd);
        self.memory += memory;
        let outer = self.levels.len() - 1;
        for level in &mut self.levels[..outer] {
            if self.memory <= self.limit {
                break;
            }
            if !level.names.is_empty() {
                self.memory -= level.names.iter().map(|name| memory_of(name)).sum::<usize>();
                level.names = Vec::new();
                level.has_more = true;
            }
        }
        Ok(())
    }

    /// `at` is a way to the file for calls that take no descriptor.
    fn line(&mut self, path: Vec<u8>, stat: &Stat, at: &Path) -> Result<Line> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let failed = |action: &'static str, error: Errno| Error::io(action, at, error);
        let target = match kind {
            FileType::Symlink => {
                rustix::fs::readlink(at, Vec::new()).map_err(|error| failed("read the link", error))?.into_bytes()
            }
            _ => Vec::new(),
        };
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        Ok(Line {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: if kind.is_dir() { 0 } else { stat.st_nlink },
            size: if kind.is_file() { stat.st_size.cast_unsigned() } else { 0 },
            seconds: stat.st_mtime,
            nanos: stat.st_mtime_nsec,
            device: if is_device { stat.st_rdev } else { 0 },
            target,
            xattrs: self.xattrs(at).map_err(|error| failed("list the attributes of", error))?,
            path,
        })
    }

    fn xattrs(&mut self, at: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let mut xattrs = BTreeMap::new();
        let length = match rustix::fs::llistxattr(at, &mut self.buffer) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(xattrs),
            length => length?,
        };
        let names = self.buffer[..length].to_vec();
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            // A label belongs to the place where the file lies.
            if name == b"security.selinux" {
                continue;
            }
            let length = rustix::fs::lgetxattr(at, OsStr::from_bytes(name), &mut self.buffer)?;
            xattrs.insert(name.to_vec(), self.buffer[..length].to_vec());
        }
        Ok(xattrs)
    }
}

fn open_directory(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    let inside = if path.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(path)) };
    Ok(orlop_sys::path::open_beneath(root, inside, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::super::tree::order;
    use super::*;

    #[test]
    fn few_names_at_a_time_come_in_the_same_order() {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        for outer in ["a", "b", "b-", "c"] {
            for inner in 0..30 {
                let directory = base.path().join(format!("{outer}/{}", inner * 7 % 30));
                std::fs::create_dir_all(&directory).unwrap();
                for file in 0..inner {
                    std::fs::write(directory.join(format!("{:x}", file * 11 % 30)), b"").unwrap();
                }
            }
        }
        let walked = |limit| {
            let mut walk = Walk { limit, ..Walk::open(base.path()).unwrap() };
            let mut paths = Vec::new();
            while let Some(line) = walk.next().unwrap() {
                assert!(walk.memory <= limit.max(2 * memory_of(b"xx")), "{} of {limit}", walk.memory);
                paths.push(line.path);
            }
            assert_eq!(walk.memory, 0);
            paths
        };
        let whole = walked(NAMES);
        assert_eq!(whole.len(), 1 + 4 + 4 * 30 + 4 * (0..30).sum::<usize>());
        assert!(whole.is_sorted_by(|one, other| order(one, other).is_lt()));
        for limit in [0, 100, 300, 1000, 2000, 5000] {
            assert_eq!(walked(limit), whole, "{limit}");
        }
    }
}
