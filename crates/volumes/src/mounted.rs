//! Whether the kernel has a directory mounted somewhere.
//!
//! A container's mounts are not in our mount namespace, so the mountinfo of every distinct one is read, and what is
//! compared is the device and the directory on it: a path means nothing in another namespace.

use crate::Error;
use orlop_model::VolumeName;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A place where a directory, or a part of it, is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountedAt {
    pub(crate) at: PathBuf,
    pub(crate) process: String,
}

/// An error when `_data` or a part of it is mounted anywhere, or something is mounted inside of it.
pub(crate) fn refuse(name: &VolumeName, path: &Path) -> Result<(), Error> {
    match find(path)? {
        None => Ok(()),
        Some(MountedAt { at, process }) => {
            Err(Error::MountedElsewhere { name: name.clone(), at: at.display().to_string(), process })
        }
    }
}

/// The first mount of `path`, or of something below it, in any mount namespace; also the first mount inside of it in
/// ours. None when the path doesn't exist.
pub(crate) fn find(path: &Path) -> Result<Option<MountedAt>, Error> {
    let own = read("self")?;
    let Some(place) = locate(path, &own)? else { return Ok(None) };
    if let Some(inside) = own.iter().find(|mount| mount.point.starts_with(&place.path)) {
        return Ok(Some(MountedAt { at: inside.point.clone(), process: "1".to_owned() }));
    }
    let mut seen = HashSet::new();
    for process in processes()? {
        let Ok(namespace) = std::fs::read_link(format!("/proc/{process}/ns/mnt")) else { continue };
        if seen.contains(&namespace) {
            continue;
        }
        // The process may have ended meanwhile; another one in its namespace is asked then.
        let Ok(mounts) = read(&process) else { continue };
        if mounts.is_empty() {
            continue;
        }
        seen.insert(namespace);
        let is_it = |mount: &&Mount| mount.device == place.device && mount.root.starts_with(&place.root);
        if let Some(mount) = mounts.iter().find(is_it) {
            return Ok(Some(MountedAt { at: mount.point.clone(), process }));
        }
    }
    Ok(None)
}

struct Place {
    path: PathBuf,
    device: String,
    /// The directory's path in its own file system.
    root: PathBuf,
}

fn locate(path: &Path, own: &[Mount]) -> Result<Option<Place>, Error> {
    let Ok(path) = path.canonicalize() else { return Ok(None) };
    let stat = rustix::fs::statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)
        .map_err(|error| Error::io("stat", &path, error))?;
    // By id where the kernel tells it (Linux 5.8), since several mounts may cover each other.
    let by_id = own.iter().find(|mount| mount.id == stat.stx_mnt_id);
    let by_path =
        || own.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.as_os_str().len());
    let Some(mount) = by_id.or_else(by_path) else { return Ok(None) };
    let below = path.strip_prefix(&mount.point).unwrap_or(Path::new(""));
    Ok(Some(Place { device: mount.device.clone(), root: mount.root.join(below), path }))
}

/// One line of mountinfo(5).
struct Mount {
    id: u64,
    device: String,
    root: PathBuf,
    point: PathBuf,
}

fn read(process: &str) -> Result<Vec<Mount>, Error> {
    let path = format!("/proc/{process}/mountinfo");
    let text = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
    Some(Mount { id, device, root: unescape(fields.next()?), point: unescape(fields.next()?) })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code =
            (byte == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn processes() -> Result<Vec<String>, Error> {
    let entries = std::fs::read_dir("/proc").map_err(|error| Error::io("read", "/proc", error))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let numeric = |name: &OsString| name.as_bytes().iter().all(u8::is_ascii_digit);
    Ok(names.filter(numeric).filter_map(|name| name.into_string().ok()).collect())
}

/// Whether something is mounted at this very path.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat =
        rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS).map_err(|error| Error::io("stat", path, error))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes() {
        let mount = parse(br"36 35 98:0 /mnt\0401 /mnt\134\0112 rw,noatime master:1 - ext3 /dev/root rw").unwrap();
        assert_eq!((mount.id, mount.device.as_str()), (36, "98:0"));
        assert_eq!(mount.root, Path::new("/mnt 1"));
        assert_eq!(mount.point, Path::new("/mnt\\\t2"));
        assert!(parse(b"").is_none());
    }
}
