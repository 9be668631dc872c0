//! Devices in a container: which it sees, and which its cgroup lets it use (moby `oci/devices_linux.go`).

use crate::Error;
use orlop_model::options::{DeviceMapping, Resources};
use rustix::fs::FileType;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A device node of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// `b` or `c`.
    pub kind: char,
    /// Number of the driver.
    pub major: u32,
    /// Number of the device.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner on the host.
    pub uid: u32,
    /// Group on the host.
    pub gid: u32,
    /// Of `r`, `w`, `m`: what the cgroup allows.
    pub permissions: String,
}

impl Device {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "type": self.kind.to_string(),
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }
}

/// The device at `host`, to be seen at `path`; None when that is no device.
fn device(host: &Path, path: PathBuf, permissions: &str) -> io::Result<Option<Device>> {
    let found = fs::metadata(host)?;
    let kind = match FileType::from_raw_mode(found.mode()) {
        FileType::BlockDevice => 'b',
        FileType::CharacterDevice => 'c',
        _ => return Ok(None),
    };
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
    Ok(Some(Device { path, kind, major, minor, mode, uid, gid, permissions: permissions.to_owned() }))
}

/// What `--device` asks for: one device, or all below a directory.
pub fn mapped(mapping: &DeviceMapping) -> Result<Vec<Device>, Error> {
    let failed = |source: io::Error| refused(&mapping.host, &source);
    let host = Path::new(&mapping.host);
    if let Some(device) = device(host, mapping.container.clone().into(), &mapping.permissions).map_err(failed)? {
        return Ok(vec![device]);
    }
    if !host.is_dir() {
        return Err(failed(io::Error::other("not a device node")));
    }
    let mut found = Vec::new();
    walk(host, &mut |path| {
        let below = path.strip_prefix(host).unwrap_or(path);
        let target = Path::new(&mapping.container).join(below);
        // One that has just gone isn't there.
        found.extend(device(path, target, &mapping.permissions).ok().flatten());
    });
    match found.is_empty() {
        true => Err(failed(io::Error::other("no device in this directory"))),
        false => Ok(found),
    }
}

/// Every device of the host, for `--privileged`; what a container has of its own is left out.
pub fn all_of_host() -> Vec<Device> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), &mut |path| {
        if path != Path::new("/dev/console") {
            found.extend(device(path, path.to_owned(), "rwm").ok().flatten());
        }
    });
    found
}

/// Calls `visit` with what isn't a directory below `directory`; links are not followed.
fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) {
    const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !OWN.iter().any(|own| entry.file_name() == *own) {
                walk(&entry.path(), visit);
            }
        } else if !kind.is_symlink() {
            visit(&entry.path());
        }
    }
}

/// Major and minor number of a block device, for its limits.
pub fn number_of(path: &str) -> Result<(u32, u32), Error> {
    let found = fs::metadata(path).map_err(|error| refused(path, &error))?;
    match FileType::from_raw_mode(found.mode()) {
        FileType::BlockDevice => Ok((rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()))),
        _ => Err(refused(path, &io::Error::other("not a block device"))),
    }
}

fn refused(path: &str, error: &io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => error.to_string(),
    };
    Error::Invalid(format!("error gathering device information while adding custom device {path:?}: {reason}"))
}

/// The rules of the devices cgroup.
pub(super) fn rules(resources: &Resources, devices: &[Device], privileged: bool) -> Vec<Value> {
    if privileged {
        return vec![json!({ "allow": true, "access": "rwm" })];
    }
    let character = |allow: bool, major: u32, minor: u32| json!({ "allow": allow, "type": "c", "major": major, "minor": minor, "access": "rwm" });
    // zero, null, urandom, random, tty, console; not fuse.
    let mut rules = vec![
        json!({ "allow": false, "access": "rwm" }),
        character(true, 1, 5),
        character(true, 1, 3),
        character(true, 1, 9),
        character(true, 1, 8),
        character(true, 5, 0),
        character(true, 5, 1),
        character(false, 10, 229),
    ];
    rules.extend(devices.iter().map(|device| {
        json!({
            "allow": true,
            "type": device.kind.to_string(),
            "major": device.major,
            "minor": device.minor,
            "access": device.permissions,
        })
    }));
    rules.extend(resources.device_rules.iter().map(|rule| {
        json!({
            "allow": true,
            "type": rule.kind.to_string(),
            // -1 is every one.
            "major": rule.major.unwrap_or(-1),
            "minor": rule.minor.unwrap_or(-1),
            "access": rule.permissions,
        })
    }));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found() {
        let mapping = |text: &str| mapped(&DeviceMapping::parse(text).unwrap());
        let null = mapping("/dev/null:/dev/nothing:r").unwrap().remove(0);
        assert_eq!((null.kind, null.major, null.minor, null.permissions.as_str()), ('c', 1, 3, "r"));
        assert_eq!(null.path, Path::new("/dev/nothing"));
        for (text, part) in [("/dev/no-such-device", "no such file"), ("/etc/passwd", "not a device node")] {
            assert!(mapping(text).unwrap_err().to_string().contains(part), "{text}");
        }
        assert!(all_of_host().iter().any(|device| device.path == Path::new("/dev/null")));
        assert!(number_of("/dev/null").is_err());
    }
}
