//! Files that users name for output (`save -o`, `export -o`): whole, or as they were before.

use crate::Error;
use orlop_model::Id;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A file that takes the place of another when it is whole; it has no name until then where the file system allows that.
pub struct Aside {
    /// Open for writing.
    pub file: File,
    /// Where it goes: a regular file or nothing, with no symlink at its end. None for a pipe, which is written at once.
    target: Option<PathBuf>,
    /// Where it already has a name.
    named: Option<PathBuf>,
}

impl Aside {
    /// Refuses what Docker refuses, in its words. Symlinks are followed, and what they lead to is replaced.
    pub fn beside(path: &Path) -> Result<Self, Error> {
        let invalid = |reason: String| Err(Error::Output { reason });
        let shown = path.display().to_string();
        let failed = |source| Error::Io { action: "create", path: path.to_owned(), source };
        if !parent(path).is_dir() {
            return invalid(format!("directory {:?} does not exist", parent(path).display().to_string()));
        }
        let target = match std::fs::metadata(path).map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_dir() => return invalid(format!("{shown:?} is a directory")),
            Ok(kind) if kind.is_file() => std::fs::canonicalize(path).map_err(failed)?,
            Ok(kind) if kind.is_fifo() => {
                let file = File::options().write(true).open(path).map_err(failed)?;
                return Ok(Self { file, target: None, named: None });
            }
            Ok(_) => return invalid(format!("{shown:?} must be a directory or a regular file: got a device")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.is_symlink() {
                true => return invalid(format!("{shown:?} is a symbolic link to nothing")),
                false => path.to_owned(),
            },
            Err(error) => return Err(failed(error)),
        };
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(parent(&target), flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok(Self { file: File::from(fd), target: Some(target), named: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let named = aside_name(&target);
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        let fd = rustix::fs::open(&named, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
        Ok(Self { file: File::from(fd), target: Some(target), named: Some(named) })
    }

    /// Puts it in its place, on the disk.
    pub fn replace(mut self) -> Result<(), Error> {
        let Some(target) = self.target.take() else { return Ok(()) };
        let failed = |action| {
            let path = target.clone();
            move |source: io::Error| Error::Io { action, path, source }
        };
        self.file.sync_all().map_err(failed("sync"))?;
        if self.named.is_none() {
            let named = aside_name(&target);
            let descriptor = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, descriptor, CWD, &named, AtFlags::SYMLINK_FOLLOW)
                .map_err(|error| failed("create")(error.into()))?;
            self.named = Some(named);
        }
        if let Some(named) = &self.named {
            orlop_sys::durable::rename(named, &target)?;
        }
        self.named = None;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(named) = &self.named {
            // What failed before this is what is told.
            let _ = std::fs::remove_file(named);
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn aside_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", Id::random().short()));
    path.with_file_name(name)
}
