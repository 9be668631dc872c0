//! The name under which an entry is made that then takes the place of another.
//!
//! rename(2) needs one, and a copy that is killed in between leaves it. So each copy has one name of its own, and writes
//! the directories in which it is about to use it into a file of the container that it keeps locked: `cp-NAME`. A record
//! that isn't locked is what a killed copy left, and `tend` removes what it tells of.

use super::tree::failed;
use crate::{Engine, Error, Result};
use orlop_model::Id;
use orlop_sys::lock::FileLock;
use orlop_sys::path::open_in_root;
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const RECORD: &str = "cp-";
/// In a record: paths of the host, or of the container.
const HOST: &[u8] = b"host";
const CONTAINER: &[u8] = b"container";

/// The hidden name of one copy.
pub(super) struct Hidden {
    token: String,
    record: PathBuf,
    /// What the kernel says of the container's root; none when the copy goes to the host.
    root: Option<PathBuf>,
    written: RefCell<Option<Written>>,
}

struct Written {
    lock: Option<FileLock>,
    file: File,
    last: PathBuf,
}

impl Hidden {
    /// Of a copy into the directory `root` of the container that `dir` belongs to, or to the host.
    pub fn new(dir: &Path, root: Option<&OwnedFd>) -> Result<Self> {
        let token = Id::random().hex();
        let root = root.map(path_of).transpose()?;
        Ok(Self { record: dir.join(format!("{RECORD}{token}")), token, root, written: RefCell::new(None) })
    }

    /// The name, for use in `target`. One at a time.
    pub fn name(&self, target: BorrowedFd<'_>) -> Result<OsString> {
        let path = path_of(target)?;
        let mut written = self.written.borrow_mut();
        if written.as_ref().is_none_or(|written| written.last != path) {
            let record = || Error::io("write", &self.record);
            let mut next = match written.take() {
                Some(written) => written,
                None => {
                    let lock = Some(FileLock::exclusive(&self.record)?);
                    let mut file = File::options().append(true).open(&self.record).map_err(record())?;
                    file.write_all(&[if self.root.is_some() { CONTAINER } else { HOST }, b"\0"].concat())
                        .map_err(record())?;
                    Written { lock, file, last: PathBuf::new() }
                }
            };
            let inside = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok()).unwrap_or(&path);
            next.file.write_all(&[inside.as_os_str().as_bytes(), b"\0"].concat()).map_err(record())?;
            next.last = path;
            *written = Some(next);
        }
        Ok(hidden_name(&self.token))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
    }
}

fn hidden_name(token: &str) -> OsString {
    format!(".orlop-cp-{token}").into()
}

fn path_of(fd: impl std::os::fd::AsFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    fs::read_link(&link).map_err(Error::io("read the link", link))
}

/// The tokens of the records in a container's directory.
fn tokens(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Some(name.to_str()?.strip_prefix(RECORD)?.to_owned())).collect()
}

impl Engine {
    /// Has another process remove what killed copies left: it needs a mount namespace of its own.
    pub(crate) fn sweep_copies_in_background(&self) -> Result<()> {
        for container in self.state.read(|tx| tx.table::<crate::Container>().list())? {
            if !tokens(&self.container_dir(container.id)).is_empty() {
                self.spawn_detached(self.internal(&["uncopy", &container.id.hex()]))?;
            }
        }
        Ok(())
    }

    /// Removes what killed copies of a container left in it, or on the host. To be called while this process has one
    /// thread.
    pub fn sweep_copies(&self, id: &str) -> Result<()> {
        let dir = self.container_dir(self.container(id)?.id);
        let mut dead = Vec::new();
        for token in tokens(&dir) {
            let path = dir.join(format!("{RECORD}{token}"));
            if let Some(lock) = FileLock::try_exclusive(&path)? {
                dead.push((token, fs::read(&path).map_err(Error::io("read", &path))?, lock));
            }
        }
        if dead.is_empty() {
            return Ok(());
        }
        // Opened before this process enters another mount namespace.
        let host = super::host_root()?;
        let view = self.root_view(id)?;
        for (token, record, lock) in dead {
            let mut parts = record.split(|byte| *byte == 0).filter(|part| !part.is_empty());
            let root = if parts.next() == Some(HOST) { &host } else { view.fd() };
            for directory in parts {
                remove(root, Path::new(OsStr::from_bytes(directory)), &hidden_name(&token))?;
            }
            lock.remove();
        }
        Ok(())
    }
}

fn remove(root: &OwnedFd, directory: &Path, name: &OsStr) -> Result<()> {
    let directory = match open_in_root(root, directory, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => return Ok(()),
        opened => opened?,
    };
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("remove", name)(error)),
    }
}
