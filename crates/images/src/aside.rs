//! Files that users name for output (`save -o`, `export -o`): whole, or as they were before.

use crate::Error;
use orlop_model::Id;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A file that has no name until it is whole, where the file system allows that.
pub struct Aside {
    /// Open for reading and writing.
    pub file: File,
    /// Where it already has a name.
    named: Option<PathBuf>,
}

impl Aside {
    /// Refuses what Docker refuses, in its words.
    pub fn beside(path: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::FileTypeExt;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let invalid = |reason: String| Err(Error::Output { reason });
        if !parent.is_dir() {
            return invalid(format!("directory {:?} does not exist", parent.display().to_string()));
        }
        let kind = std::fs::metadata(path).ok().map(|metadata| metadata.file_type());
        match kind {
            Some(kind) if kind.is_dir() => return invalid(format!("{:?} is a directory", path.display().to_string())),
            Some(kind) if kind.is_char_device() || kind.is_block_device() => {
                let path = path.display().to_string();
                return invalid(format!("{path:?} must be a directory or a regular file: got a device"));
            }
            _ => {}
        }
        let failed = |source| Error::Io { action: "create", path: path.to_owned(), source };
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        match rustix::fs::open(parent, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok(Self { file: File::from(fd), named: None }),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let named = aside_name(path);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        let fd = rustix::fs::open(&named, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
        Ok(Self { file: File::from(fd), named: Some(named) })
    }

    /// Puts it in the place of `path`, on the disk.
    pub fn replace(mut self, path: &Path) -> Result<(), Error> {
        use rustix::fs::{AtFlags, CWD};
        use std::os::fd::AsRawFd;
        let failed = |action| move |source: io::Error| Error::Io { action, path: path.to_owned(), source };
        self.file.sync_all().map_err(failed("sync"))?;
        let named = match self.named.take() {
            Some(named) => named,
            None => {
                let named = aside_name(path);
                let descriptor = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, descriptor, CWD, &named, AtFlags::SYMLINK_FOLLOW)
                    .map_err(|error| failed("create")(error.into()))?;
                named
            }
        };
        self.named = Some(named.clone());
        orlop_sys::durable::rename(&named, path)?;
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

fn aside_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", Id::random().short()));
    path.with_file_name(name)
}
