//! Copies one entry, or a directory with all that is in it, over what is there: directories are merged, anything else is
//! replaced in one step.

use super::hidden::Hidden;
use super::place::open_directory;
use crate::{Error, Result};
use orlop_sys::copy::{copy_file, copy_metadata};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// How entries are made.
#[derive(Clone, Copy)]
pub(super) struct Options<'a> {
    /// Who gets what is copied; None for the source's owner, and its attributes too.
    pub owner: Option<(u32, u32)>,
    /// What takes the place of something is made under this name.
    pub hidden: &'a Hidden,
}

/// How many files with several names are remembered, each with an open directory.
const KEPT_LINKS: usize = 512;

struct Copy<'a> {
    options: Options<'a>,
    bytes: u64,
    links: HashMap<(u64, u64), (OwnedFd, OsString)>,
}

/// Copies the entry `name` of `source` to `target_name` in `target`; the bytes copied.
pub(super) fn merge(
    source: BorrowedFd<'_>,
    name: &OsStr,
    target: BorrowedFd<'_>,
    target_name: &OsStr,
    options: Options<'_>,
) -> Result<u64> {
    let mut copy = Copy { options, bytes: 0, links: HashMap::new() };
    copy.entry(source, name, target, target_name)?;
    Ok(copy.bytes)
}

/// Copies what is in the directory `source` into the directory `target`.
pub(super) fn merge_content(source: BorrowedFd<'_>, target: BorrowedFd<'_>, options: Options<'_>) -> Result<u64> {
    let mut copy = Copy { options, bytes: 0, links: HashMap::new() };
    copy.content(source, target)?;
    Ok(copy.bytes)
}

pub(super) fn failed<'a>(action: &'static str, name: &'a OsStr) -> impl Fn(Errno) -> Error + 'a {
    move |error| Error::Sys(orlop_sys::Error::io(action, name, error))
}

impl Copy<'_> {
    fn content(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
        for name in names(source)? {
            self.entry(source, &name, target, &name)?;
        }
        Ok(())
    }

    fn entry(&mut self, source: BorrowedFd<'_>, name: &OsStr, target: BorrowedFd<'_>, to: &OsStr) -> Result<()> {
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("stat", name))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.directory(source, name, target, to, &stat);
        }
        refuse_directory(target, to)?;
        if stat.st_nlink > 1 && self.link(target, to, &stat)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file(source, name, target, to, &stat)?,
            // A socket without its server is of no use to anybody.
            FileType::Socket | FileType::Unknown => return Ok(()),
            _ => self.special(source, name, target, to, &stat, kind)?,
        }
        if stat.st_nlink > 1 && self.links.len() < KEPT_LINKS {
            let directory = rustix::io::fcntl_dupfd_cloexec(target, 3).map_err(failed("open", to))?;
            self.links.insert((stat.st_dev, stat.st_ino), (directory, to.to_owned()));
        }
        Ok(())
    }

    fn directory(
        &mut self,
        source: BorrowedFd<'_>,
        name: &OsStr,
        target: BorrowedFd<'_>,
        to: &OsStr,
        stat: &Stat,
    ) -> Result<()> {
        let from = open_directory(source, name).map_err(failed("open", name))?;
        match rustix::fs::mkdirat(target, to, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("create directory", to)(error)),
        }
        let into = open_directory(target, to).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => {
                Error::Invalid(format!("cannot overwrite non-directory {to:?} with directory {name:?}"))
            }
            error => failed("open", to)(error),
        })?;
        self.content(from.as_fd(), into.as_fd())?;
        // Last, since writing into it changes its time.
        self.metadata(from.as_fd(), into.as_fd(), stat, to)
    }

    fn file(
        &mut self,
        source: BorrowedFd<'_>,
        name: &OsStr,
        target: BorrowedFd<'_>,
        to: &OsStr,
        stat: &Stat,
    ) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = rustix::fs::openat(source, name, flags, Mode::empty()).map_err(failed("open", name))?;
        let new = NewFile::create(target, to, self.options.hidden)?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        self.bytes += copy_file(&from, &new.file, length).map_err(|source| Error::Io {
            action: "write",
            path: to.into(),
            source,
        })?;
        self.metadata(from.as_fd(), new.file.as_fd(), stat, to)?;
        new.appear(target, to, self.options.hidden)
    }

    fn special(
        &mut self,
        source: BorrowedFd<'_>,
        name: &OsStr,
        target: BorrowedFd<'_>,
        to: &OsStr,
        stat: &Stat,
        kind: FileType,
    ) -> Result<()> {
        let link = match kind {
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, Vec::new()).map_err(failed("read the link", name))?;
                Some(OsStr::from_bytes(link.as_bytes()).to_owned())
            }
            _ => None,
        };
        let owner = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        replace(self.options.hidden, target, to, |hidden| {
            match &link {
                Some(link) => rustix::fs::symlinkat(link.as_os_str(), target, hidden)?,
                None => {
                    rustix::fs::mknodat(target, hidden, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
                    rustix::fs::chmodat(target, hidden, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
                }
            }
            own_at(target, hidden, owner)?;
            rustix::fs::utimensat(target, hidden, &times(stat.st_mtime, stat.st_mtime_nsec), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Another name of a file that was copied already.
    fn link(&self, target: BorrowedFd<'_>, to: &OsStr, stat: &Stat) -> Result<bool> {
        let Some((directory, first)) = self.links.get(&(stat.st_dev, stat.st_ino)) else { return Ok(false) };
        replace(self.options.hidden, target, to, |hidden| {
            rustix::fs::linkat(directory, first, target, hidden, AtFlags::empty())
        })?;
        Ok(true)
    }

    fn metadata(&self, from: BorrowedFd<'_>, into: BorrowedFd<'_>, stat: &Stat, name: &OsStr) -> Result<()> {
        let Some(owner) = self.options.owner else { return Ok(copy_metadata(from, into)?) };
        own(into, owner, stat.st_mode & 0o7777, name)?;
        rustix::fs::futimens(into, &times(stat.st_mtime, stat.st_mtime_nsec)).map_err(failed("set the time of", name))
    }
}

/// Owner first: a change of it takes the setuid bit away.
pub(super) fn own(file: BorrowedFd<'_>, owner: (u32, u32), mode: u32, name: &OsStr) -> Result<()> {
    let (user, group) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
    rustix::fs::fchown(file, Some(user), Some(group)).map_err(failed("set the owner of", name))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(failed("set the mode of", name))
}

pub(super) fn own_at(directory: BorrowedFd<'_>, name: &OsStr, owner: (u32, u32)) -> std::result::Result<(), Errno> {
    let (user, group) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
    rustix::fs::chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn times(seconds: i64, nanos: u64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) },
    }
}

pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    let listing = Dir::read_from(directory).map_err(failed("read", OsStr::new(".")))?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(failed("read", OsStr::new(".")))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// A directory is never replaced by something else.
pub(super) fn refuse_directory(target: BorrowedFd<'_>, to: &OsStr) -> Result<()> {
    match rustix::fs::statat(target, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
            Err(Error::Invalid(format!("cannot overwrite directory {to:?} with non-directory")))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("stat", to)(error)),
    }
}

/// Makes an entry under a hidden name and lets it take the place of `to`.
pub(super) fn replace(
    hidden: &Hidden,
    target: BorrowedFd<'_>,
    to: &OsStr,
    make: impl FnOnce(&OsStr) -> std::result::Result<(), Errno>,
) -> Result<()> {
    let hidden = hidden.name(target)?;
    let made = make(&hidden).and_then(|()| rustix::fs::renameat(target, &hidden, target, to));
    // Two names of one file are left as they are by rename(2), so the hidden one may still be there.
    let _ = rustix::fs::unlinkat(target, &hidden, AtFlags::empty());
    made.map_err(failed("create", to))
}

/// A file that has no name until it is whole, so that one that is killed half-way leaves nothing.
pub(super) struct NewFile {
    pub file: OwnedFd,
    /// On file systems without O_TMPFILE.
    hidden: Option<OsString>,
}

impl NewFile {
    pub fn create(target: BorrowedFd<'_>, to: &OsStr, hidden: &Hidden) -> Result<Self> {
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(target, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(Self { file, hidden: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let hidden = hidden.name(target)?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(target, &hidden, flags, mode).map_err(failed("create", to))?;
                Ok(Self { file, hidden: Some(hidden) })
            }
            Err(error) => Err(failed("create", to)(error)),
        }
    }

    /// Gives it its name, in the place of whatever has it.
    pub fn appear(mut self, target: BorrowedFd<'_>, to: &OsStr, names: &Hidden) -> Result<()> {
        if let Some(hidden) = self.hidden.take() {
            return rustix::fs::renameat(target, &hidden, target, to).map_err(failed("create", to));
        }
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.file));
        let link =
            |name: &OsStr| rustix::fs::linkat(rustix::fs::CWD, own.as_str(), target, name, AtFlags::SYMLINK_FOLLOW);
        match link(to) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => replace(names, target, to, link),
            Err(error) => Err(failed("create", to)(error)),
        }
    }
}
