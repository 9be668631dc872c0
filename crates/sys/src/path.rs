//! Opening paths that a user, an image or an archive supplies, by openat2(2).
//!
//! Inside a container's root an absolute symlink (`/var/run -> /run`) must lead to the same place as it does for the
//! program in the container, so those paths are resolved with RESOLVE_IN_ROOT. Inside our own stores there are no
//! symlinks, so there RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS refuse whatever somebody planted.

use crate::Error;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How often a resolution that raced with a rename (EAGAIN) is tried again before it is given up.
const ATTEMPTS: u32 = 128;

/// Opens `path` as a program chrooted to `root` would; `..` and symlinks never lead out of it.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    open(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `directory`, refusing symlinks anywhere in it and every way out.
pub fn open_beneath(directory: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    open(directory, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Opens a directory of the host as a root or a base for the two functions above.
pub fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Error::io("open", path, error))
}

/// Reads a whole regular file out of a root that isn't trusted: never follows it out, never blocks on a FIFO, never
/// reads more than `limit` bytes. None when nothing is there.
pub fn read_in_root(root: impl AsFd, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read;
    let fd = match open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(fd) => fd,
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|error| Error::io("stat", path, error))?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Error::NotRegular { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(limit + 1).read_to_end(&mut bytes).map_err(|error| Error::io("read", path, error))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

fn open(base: impl AsFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Error> {
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat2(&base, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(fd) => return Ok(fd),
            // Something was renamed or mounted during the look-up; the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(Error::io("open", path, error)),
        }
    }
    Err(Error::io("open", path, Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn absolute_links_and_dots_stay_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("run/file"), b"inside").unwrap();
        symlink("/run", dir.path().join("var")).unwrap();
        symlink("../../../run/file", dir.path().join("up")).unwrap();
        let root = open_directory(dir.path()).unwrap();
        for path in ["/var/file", "../../run/file", "up", "run/file"] {
            assert_eq!(read_in_root(&root, Path::new(path), 100).unwrap().unwrap(), b"inside", "{path}");
        }
        assert!(open_beneath(&root, Path::new("var/file"), OFlags::RDONLY).is_err());
        assert!(read_in_root(&root, Path::new("/etc/passwd"), 100).unwrap().is_none());
    }

    #[test]
    fn a_fifo_or_a_large_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        std::fs::write(dir.path().join("large"), [0; 11]).unwrap();
        let root = open_directory(dir.path()).unwrap();
        assert!(matches!(read_in_root(&root, Path::new("fifo"), 10), Err(Error::NotRegular { .. })));
        assert!(matches!(read_in_root(&root, Path::new("large"), 10), Err(Error::TooLarge { .. })));
    }
}
