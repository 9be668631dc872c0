//! Locks that die with their holder: flock(2) on a file.
//!
//! The kernel frees the lock when the last descriptor of it is closed, kill -9 included, so a lock that can be taken
//! proves that its former holder is gone. Pids prove nothing: they are reused, and another pid namespace has others.

use crate::Error;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct FileLock {
    file: OwnedFd,
    path: PathBuf,
}

impl FileLock {
    /// Waits until nobody else holds the lock.
    pub fn exclusive(path: &Path) -> Result<Self, Error> {
        take(path, FlockOperation::LockExclusive)
    }

    /// Waits until nobody holds the lock exclusively.
    pub fn shared(path: &Path) -> Result<Self, Error> {
        take(path, FlockOperation::LockShared)
    }

    /// Takes the lock, or says None when somebody holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, Error> {
        match take(path, FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.is(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Frees an exclusive lock whose object is gone for good, and removes its file. Whoever waits for it notices and
    /// locks a new file of that name.
    pub fn remove(self) {
        // Harmless when it fails: an unused lock file of no length stays.
        let _ = rustix::fs::unlink(&self.path);
        drop(self.file);
    }
}

fn take(path: &Path, operation: FlockOperation) -> Result<FileLock, Error> {
    loop {
        let file = open(path)?;
        match rustix::fs::flock(&file, operation) {
            Ok(()) if is_named(&file, path)? => return Ok(FileLock { file, path: path.to_owned() }),
            // The holder before us removed the file with its object; whoever comes next makes a new one.
            Ok(()) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::io("lock", path, error)),
        }
    }
}

/// Whether `path` still names this very file.
fn is_named(file: &OwnedFd, path: &Path) -> Result<bool, Error> {
    let held = rustix::fs::fstat(file).map_err(|error| Error::io("stat", path, error))?;
    match rustix::fs::lstat(path) {
        Ok(named) => Ok((held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::io("stat", path, error)),
    }
}

/// Opens an existing lock file without O_CREAT first, so that taking a known lock needs no free inode.
fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => rustix::fs::open(path, flags | OFlags::CREATE, Mode::from_raw_mode(0o600)),
        opened => opened,
    }
    .map_err(|error| Error::io("open lock", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::exclusive(&path).unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }
    #[test]
    fn a_removed_lock_is_never_held_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::exclusive(&path).unwrap();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || FileLock::exclusive(&path).unwrap()
        });
        held.remove();
        let waiter = waiter.join().unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(waiter);
    }
}
