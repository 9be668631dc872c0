//! Writes that are on the disk before anyone is told of them.
//!
//! The order is always: write aside in the same file system, sync, rename, sync the parent directory. A row that
//! refers to the file is committed after that, and only then is the caller answered.

use crate::Error;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Replaces the file at `path` by `bytes`, so that after a crash it holds either the old content or the new.
///
/// The temporary file lies beside it as `.NAME.tmp`; callers hold a lock on the object that the file belongs to.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let aside = aside(path);
    let written = write_aside(&aside, bytes, mode, Sync::Data);
    if let Err(error) = written.and_then(|()| rename(&aside, path)) {
        // Harmless when it fails: the next writer truncates the same temporary file.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    Ok(())
}

/// Like [`write_file`] without waiting for the disk: whole or absent after a kill, but not after a power cut.
pub fn write_file_volatile(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let aside = aside(path);
    let written = write_aside(&aside, bytes, mode, Sync::None)
        .and_then(|()| std::fs::rename(&aside, path).map_err(|error| Error::io("rename", &aside, error)));
    if let Err(error) = written {
        // Harmless when it fails: the next writer truncates the same temporary file.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    Ok(())
}

#[derive(PartialEq)]
enum Sync {
    Data,
    None,
}

fn aside(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

fn write_aside(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd =
        rustix::fs::open(path, flags, Mode::from_raw_mode(mode)).map_err(|error| Error::io("create", path, error))?;
    let mut file = File::from(fd);
    file.write_all(bytes).map_err(|error| Error::io("write", path, error))?;
    if sync == Sync::Data {
        file.sync_all().map_err(|error| Error::io("sync", path, error))?;
    }
    Ok(())
}

/// Renames and makes the new name durable. Both lie in one file system; an existing target is replaced.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|error| Error::io("rename", from, error))?;
    sync_parents(from, to)
}

/// Renames, refusing to replace what is at the target (EEXIST), and makes both names durable.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Error> {
    rename_new_volatile(from, to)?;
    sync_parents(from, to)
}

/// Like [`rename_new`] without waiting for the disk.
pub fn rename_new_volatile(from: &Path, to: &Path) -> Result<(), Error> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|error| Error::io("rename", from, error))
}

/// Exchanges two names atomically (RENAME_EXCHANGE) and makes it durable.
pub fn exchange(one: &Path, other: &Path) -> Result<(), Error> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| Error::io("exchange", one, error))?;
    sync_parents(one, other)
}

/// fsync(2) of the directories that two paths lie in: a rename from one to the other is on the disk.
pub fn sync_parents(one: &Path, other: &Path) -> Result<(), Error> {
    sync_parent(other)?;
    if one.parent() != other.parent() {
        sync_parent(one)?;
    }
    Ok(())
}

/// Makes a file's or a directory's new name durable.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// fsync(2) of a directory: its entries are on the disk.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    sync_file(path)
}

/// fsync(2) of a file: its content is on the disk.
pub fn sync_file(path: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    file.sync_all().map_err(|error| Error::io("sync", path, error))
}

/// syncfs(2) of the file system that holds `path`: everything written there is on the disk. Reports a write error that
/// happened since the last call (Linux 5.8 and later).
pub fn sync_file_system(path: &Path) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Error::io("open", path, error))?;
    rustix::fs::syncfs(&fd).map_err(|error| Error::io("sync", path, error))
}

/// Makes a directory with exactly `mode`, whatever the umask; one that is there is left as it is.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(|error| Error::io("chmod", path, error)),
        Err(rustix::io::Errno::EXIST) if is_directory(path) => Ok(()),
        Err(error) => Err(Error::io("create directory", path, error)),
    }
}

fn is_directory(path: &Path) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Bytes that the file system of `path` still gives to an unprivileged writer, and its size.
pub fn free_space(path: &Path) -> Result<(u64, u64), Error> {
    let stat = rustix::fs::statvfs(path).map_err(|error| Error::io("statvfs", path, error))?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        write_file(&path, b"one", 0o600).unwrap();
        write_file(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("directory");
        std::fs::create_dir(&taken).unwrap();
        std::fs::write(taken.join("inside"), b"x").unwrap();
        let error = write_file(&taken, b"x", 0o600).unwrap_err().to_string();
        assert!(error.contains("directory"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn rename_new_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, b"1").unwrap();
        std::fs::write(&two, b"2").unwrap();
        assert!(rename_new(&one, &two).unwrap_err().is(rustix::io::Errno::EXIST));
        exchange(&one, &two).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), b"2");
    }
}
