//! The local driver: a plain directory, or something mounted at `_data` for as long as a container uses it.

use crate::error::InvalidOptions;
use crate::recover::settle;
use crate::store::data_path;
use crate::{Error, crash};
use orlop_model::{Id, VolumeName};
use orlop_state::{State, VolumeRow};
use orlop_sys::lock::FileLock;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// What a volume's `_data` stands for, read from its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalSource {
    /// Itself.
    Directory,
    /// A path of the host (`type=none,o=bind,device=PATH`).
    Bind { device: PathBuf, recursive: bool, flags: MountFlags },
    /// Memory (`type=tmpfs,device=tmpfs,o=size=…`).
    Tmpfs { device: String, flags: MountFlags, data: String },
}

impl LocalSource {
    /// Reads a volume's driver and options.
    pub(crate) fn of(volume: &VolumeRow) -> Result<Self, Error> {
        let name = &volume.name;
        if volume.driver != "local" {
            return Err(Error::NoSuchDriver { name: name.clone(), driver: volume.driver.clone() });
        }
        parse(volume).map_err(|source| Error::Options { name: name.clone(), source })
    }
}

/// Docker's checks of the local driver's options, and what of them is not here yet.
fn parse(volume: &VolumeRow) -> Result<LocalSource, InvalidOptions> {
    let options = &volume.options;
    if options.is_empty() {
        return Ok(LocalSource::Directory);
    }
    if let Some(key) = options.keys().find(|key| !["type", "o", "device", "size"].contains(&key.as_str())) {
        return Err(InvalidOptions::Key(key.clone()));
    }
    if let Some(size) = options.get("size") {
        let instead = "for a volume in memory write type=tmpfs, device=tmpfs and o=size=BYTES";
        return Err(InvalidOptions::Unsupported { key: "size", value: size.clone(), instead });
    }
    for required in ["device", "type"] {
        if options.get(required).is_none_or(String::is_empty) {
            return Err(InvalidOptions::Missing(required));
        }
    }
    let (kind, device) = (options["type"].as_str(), options["device"].as_str());
    let flags = parse_flags(options.get("o").map_or("", String::as_str), kind == "tmpfs")?;
    if flags.bind {
        if !device.starts_with('/') {
            return Err(InvalidOptions::Device(device.to_owned()));
        }
        return Ok(LocalSource::Bind { device: device.into(), recursive: flags.recursive, flags: flags.flags });
    }
    if kind == "tmpfs" {
        return Ok(LocalSource::Tmpfs { device: device.to_owned(), flags: flags.flags, data: flags.data.join(",") });
    }
    let instead = match kind {
        "none" | "bind" => "with type=none also give o=bind",
        _ => "use type=none with o=bind for a directory that is mounted already, or type=tmpfs",
    };
    Err(InvalidOptions::Unsupported { key: "type", value: kind.to_owned(), instead })
}

struct ParsedFlags<'a> {
    bind: bool,
    recursive: bool,
    flags: MountFlags,
    data: Vec<&'a str>,
}

/// The words of mount(8) in option `o`; for a tmpfs also those of tmpfs(5).
fn parse_flags(text: &str, tmpfs: bool) -> Result<ParsedFlags<'_>, InvalidOptions> {
    let mut parsed = ParsedFlags { bind: false, recursive: false, flags: MountFlags::empty(), data: Vec::new() };
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (set, clear) = match word {
            "bind" | "rbind" if !tmpfs => {
                parsed.bind = true;
                parsed.recursive = word == "rbind";
                continue;
            }
            "defaults" => (MountFlags::empty(), MountFlags::empty()),
            "ro" => (MountFlags::RDONLY, MountFlags::empty()),
            "rw" => (MountFlags::empty(), MountFlags::RDONLY),
            "nosuid" => (MountFlags::NOSUID, MountFlags::empty()),
            "suid" => (MountFlags::empty(), MountFlags::NOSUID),
            "nodev" => (MountFlags::NODEV, MountFlags::empty()),
            "dev" => (MountFlags::empty(), MountFlags::NODEV),
            "noexec" => (MountFlags::NOEXEC, MountFlags::empty()),
            "exec" => (MountFlags::empty(), MountFlags::NOEXEC),
            "noatime" => (MountFlags::NOATIME, MountFlags::RELATIME | MountFlags::STRICTATIME),
            "relatime" => (MountFlags::RELATIME, MountFlags::NOATIME | MountFlags::STRICTATIME),
            "strictatime" => (MountFlags::STRICTATIME, MountFlags::NOATIME | MountFlags::RELATIME),
            "atime" => (MountFlags::empty(), MountFlags::NOATIME),
            "nodiratime" => (MountFlags::NODIRATIME, MountFlags::empty()),
            "diratime" => (MountFlags::empty(), MountFlags::NODIRATIME),
            _ if tmpfs && is_tmpfs_option(word) => {
                parsed.data.push(word);
                continue;
            }
            _ => return Err(InvalidOptions::Flag(word.to_owned())),
        };
        parsed.flags.remove(clear);
        parsed.flags.insert(set);
    }
    Ok(parsed)
}

fn is_tmpfs_option(word: &str) -> bool {
    let Some((key, value)) = word.split_once('=') else { return ["noswap", "inode32", "inode64"].contains(&word) };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match key {
        "uid" | "gid" => value.parse::<u32>().is_ok(),
        "mode" => !value.is_empty() && value.bytes().all(|byte| (b'0'..=b'7').contains(&byte)),
        "size" => digits(value.strip_suffix(['%', 'k', 'm', 'g', 't', 'K', 'M', 'G', 'T']).unwrap_or(value)),
        "nr_inodes" | "nr_blocks" => digits(value.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G']).unwrap_or(value)),
        "huge" => ["never", "always", "within_size", "advise"].contains(&value),
        "mpol" => !value.is_empty(),
        _ => false,
    }
}

/// A volume whose `_data` can be used now. It holds the volume's lock: nobody else initialises, removes or unmounts the
/// volume before this is dropped, so drop it once `_data` is cloned to where the container finds it, and before the
/// next volume is mounted.
#[derive(Debug)]
pub struct Mounted {
    /// The volume's row.
    pub volume: VolumeRow,
    /// `_data`.
    pub path: PathBuf,
    pub(crate) _lock: FileLock,
}

/// Makes a volume's `_data` usable for a container: mounts what the options say, unless another container has that
/// already. The container's row must exist, and its lock `container/ID` be held until the row says running: that is
/// how others know that this use is alive.
pub fn mount(state: &State, name: &VolumeName, container: Id) -> Result<Mounted, Error> {
    let lock = state.lock("volume", name.as_str())?;
    let mut volume = settle(state, name)?.ok_or_else(|| Error::NoSuchVolume(name.clone()))?;
    let path = data_path(state, name);
    if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Error::Missing { name: name.clone(), path });
    }
    let source = LocalSource::of(&volume)?;
    if source != LocalSource::Directory {
        // The row first, so that a mount without a user is one that somebody may end.
        if !volume.mounted_for.contains(&container) {
            volume.mounted_for.push(container);
            state.write(|tx| tx.volumes().put(&volume))?;
        }
        crash::point("mount: row");
        if let Err(error) = attach(&source, &path) {
            volume.mounted_for.retain(|user| *user != container);
            state.write(|tx| tx.volumes().put(&volume))?;
            return Err(error);
        }
    }
    Ok(Mounted { volume, path, _lock: lock })
}

/// Ends a container's use of a volume; after the last one what was mounted at `_data` is unmounted. A volume that is
/// gone, or that the container doesn't use, is no error.
pub fn unmount(state: &State, name: &VolumeName, container: Id) -> Result<(), Error> {
    let found = state.read(|tx| tx.volumes().get(name.as_str()))?;
    if found.is_none_or(|volume| volume.mounted_for.is_empty()) {
        return Ok(());
    }
    let _lock = state.lock("volume", name.as_str())?;
    end_uses(state, name, |user| user == container).map(drop)
}

/// Ends the uses of containers that are gone. The caller holds the volume's lock.
pub(crate) fn forget_dead_users(state: &State, name: &VolumeName) -> Result<bool, Error> {
    end_uses(state, name, |_| false)
}

/// Takes users from the row, those that `ended` names and those that are dead; the mount goes before the last user, so
/// that a crash in between leaves somebody who ends it again. Says whether anything changed.
fn end_uses(state: &State, name: &VolumeName, ended: impl Fn(Id) -> bool) -> Result<bool, Error> {
    let Some(mut volume) = state.read(|tx| tx.volumes().get(name.as_str()))? else { return Ok(false) };
    let before = volume.mounted_for.clone();
    let mut alive = Vec::new();
    for user in &before {
        if !ended(*user) && is_alive(state, *user)? {
            alive.push(*user);
        }
    }
    if alive == before {
        return Ok(false);
    }
    if alive.is_empty() {
        detach(&data_path(state, name))?;
    }
    crash::point("unmount: detached");
    volume.mounted_for = alive;
    state.write(|tx| tx.volumes().put(&volume))?;
    Ok(true)
}

/// Whether a container runs, or is being started or stopped right now.
fn is_alive(state: &State, container: Id) -> Result<bool, Error> {
    let row = state.read(|tx| tx.containers().get(&container.hex()))?;
    Ok(match row {
        None => false,
        Some(row) if row.running => true,
        Some(_) => state.try_lock("container", &container.hex())?.is_none(),
    })
}

/// Unmounts what a volume that no container refers to still has at its `_data`.
pub(crate) fn release(state: &State, volume: &VolumeRow) -> Result<(), Error> {
    match LocalSource::of(volume) {
        Ok(LocalSource::Directory) => Ok(()),
        _ => detach(&data_path(state, &volume.name)),
    }
}

/// Mounts a source at `_data`, unless that is done already.
pub(crate) fn attach(source: &LocalSource, path: &Path) -> Result<(), Error> {
    let mounted = is_mount_point(path)?;
    let failed = |device: &Path, error: Errno| Error::Mount {
        path: path.to_owned(),
        device: device.display().to_string(),
        source: error.into(),
    };
    match source {
        LocalSource::Directory => Ok(()),
        LocalSource::Bind { device, recursive, flags } => {
            if !mounted {
                let bind = if *recursive { rustix::mount::mount_bind_recursive } else { rustix::mount::mount_bind };
                bind(device, path).map_err(|error| failed(device, error))?;
            }
            crash::point("mount: bound");
            // A bind ignores flags; they come with a second call, which is repeated in case a crash came in between.
            if !flags.is_empty() {
                rustix::mount::mount_remount(path, MountFlags::BIND | *flags, c"").map_err(|error| {
                    let _ = detach(path);
                    failed(device, error)
                })?;
            }
            Ok(())
        }
        LocalSource::Tmpfs { device, flags, data } if !mounted => {
            let data = CString::new(data.as_str()).unwrap_or_default();
            rustix::mount::mount(device.as_str(), path, "tmpfs", *flags, Some(data.as_c_str()))
                .map_err(|error| failed(Path::new(device), error))
        }
        LocalSource::Tmpfs { .. } => Ok(()),
    }
}

/// Unmounts what lies over `_data`, if anything does.
pub(crate) fn detach(path: &Path) -> Result<(), Error> {
    while path.exists() && is_mount_point(path)? {
        match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
            // Somebody on the host stands in it; it goes when he leaves.
            Err(Errno::BUSY) => rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
            result => result,
        }
        .map_err(|error| Error::io("unmount", path, error))?;
    }
    Ok(())
}

/// Whether something is mounted at this very path.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat =
        rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS).map_err(|error| Error::io("stat", path, error))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
