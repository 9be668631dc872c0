//! The local driver: a plain directory, or something mounted at `_data` for as long as a container uses it.

use crate::error::InvalidOptions;
use crate::mounted::is_mount_point;
use crate::store::is_there;
use crate::{Error, VolumeDriver, crash};
use orlop_state::VolumeRow;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// What a volume's `_data` stands for, read from its options.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LocalSource {
    /// Itself.
    Directory,
    /// A path of the host (`type=none,o=bind,device=PATH`).
    Bind { device: PathBuf, recursive: bool, flags: MountFlags },
    /// Memory (`type=tmpfs,device=tmpfs,o=size=…`).
    Tmpfs { device: String, flags: MountFlags, data: String },
}

impl LocalSource {
    fn of(volume: &VolumeRow) -> Result<Self, Error> {
        parse(volume).map_err(|source| Error::Options { name: volume.name.clone(), source })
    }
}

/// The driver `local`.
#[derive(Clone, Copy, Debug)]
pub struct LocalDriver;

impl VolumeDriver for LocalDriver {
    fn check(&self, volume: &VolumeRow) -> Result<(), Error> {
        LocalSource::of(volume).map(drop)
    }

    fn needs_mount(&self, volume: &VolumeRow) -> Result<bool, Error> {
        Ok(LocalSource::of(volume)? != LocalSource::Directory)
    }

    fn root_is_ours(&self, volume: &VolumeRow) -> Result<bool, Error> {
        Ok(!matches!(LocalSource::of(volume)?, LocalSource::Bind { .. }))
    }

    fn attach(&self, volume: &VolumeRow, data: &Path) -> Result<(), Error> {
        attach(&LocalSource::of(volume)?, data)
    }

    fn detach(&self, volume: &VolumeRow, data: &Path) -> Result<(), Error> {
        if LocalSource::of(volume)? == LocalSource::Directory { Ok(()) } else { detach(data) }
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
    let given = options.get("o").map_or("", String::as_str);
    // First the type: the words of `o` are those of its file system.
    let binds = given.split(',').any(|word| matches!(word, "bind" | "rbind"));
    if !binds && !["none", "bind", "tmpfs"].contains(&kind) {
        let instead = "use type=none with o=bind for a directory that is mounted already, or type=tmpfs";
        return Err(InvalidOptions::Unsupported { key: "type", value: kind.to_owned(), instead });
    }
    let flags = parse_flags(given, kind == "tmpfs")?;
    if flags.bind {
        if !device.starts_with('/') {
            return Err(InvalidOptions::Device(device.to_owned()));
        }
        return Ok(LocalSource::Bind { device: device.into(), recursive: flags.recursive, flags: flags.flags });
    }
    if kind == "tmpfs" {
        return Ok(LocalSource::Tmpfs { device: device.to_owned(), flags: flags.flags, data: flags.data.join(",") });
    }
    let instead = "with type=none also give o=bind";
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

/// Mounts a source at `_data`, unless that is done already.
fn attach(source: &LocalSource, path: &Path) -> Result<(), Error> {
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
fn detach(path: &Path) -> Result<(), Error> {
    while is_there(path)? && is_mount_point(path)? {
        match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
            // Somebody on the host stands in it; it goes when he leaves.
            Err(Errno::BUSY) => rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
            result => result,
        }
        .map_err(|error| Error::io("unmount", path, error))?;
    }
    Ok(())
}
