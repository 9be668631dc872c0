//! The driver over the kernel's overlay file system.
//!
//! ```text
//! ID/lower    the chain, topmost first
//! ID/diff     upperdir
//! ID/work     workdir
//! ID/merged   the mount
//! ID/empty    lowerdir of a layer without a chain: overlay needs one
//! ID/l/0 …    links to the chain's directories with short names, only where mount(2) is used
//! ```
//!
//! A mount is found again by its upperdir: the id in it is random and never used twice, so it means the same in every
//! mount namespace, whatever path leads there.

use super::{Driver, DriverKind, create_directory, lock, read_lower, visible, write_lower};
use crate::{Error, Result};
use orlop_model::Id;
use orlop_sys::copy::remove_tree;
use orlop_sys::mount::{MountInfo, attach, mount_info, mount_info_of, unmount};
use orlop_sys::overlay::{self, Attempt, MAX_LOWER, Overlay, mount2};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, major, minor, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const NAME: &str = DriverKind::Overlay2.name();

/// The upper directory must hold all of a file's content and name, so that it can be read without overlay, whatever
/// the kernel was built to do by default. `index` would bind it to the lower directories' file handles.
const OPTIONS: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

/// See the module.
#[derive(Debug)]
pub struct Overlay2 {
    home: PathBuf,
    force_mount2: bool,
}

impl Overlay2 {
    /// Opens the driver below `data_root`; its file system is tried out the first time.
    ///
    /// # Errors
    /// [`Error::DriverUnusable`] when overlay can't be used there.
    pub fn open(data_root: &Path, force_mount2: bool) -> Result<Self> {
        let home = data_root.join(NAME);
        let driver = Self { home, force_mount2 };
        let proven = driver.home.join("proven");
        if !proven.exists() {
            let existed = driver.home.is_dir();
            create_directory(&driver.home, 0o710)?;
            if let Err(error) = driver.probe() {
                if !existed {
                    // Otherwise the next start would take it for the driver in use. It is empty.
                    let _ = std::fs::remove_dir(&driver.home);
                }
                return Err(match error {
                    full @ Error::Io { .. } if orlop_model::Kind::kind(&full) == orlop_model::ErrorKind::NoSpace => {
                        full
                    }
                    other => {
                        let path = data_root.to_owned();
                        Error::DriverUnusable { driver: NAME, path, reason: other.to_string() }
                    }
                });
            }
            // Only saves time: without it the next start tries again.
            let _ = std::fs::write(&proven, b"");
        }
        Ok(driver)
    }

    /// A mount, a file removed in it and a directory replaced: does the upper directory say so?
    fn probe(&self) -> Result<()> {
        let base = self.home.join(format!(".probe-{}", Id::random().short()));
        let result = self.try_out(&base);
        let _ = unmount(&base.join("merged"), true);
        let removed = remove_tree(&base);
        result?;
        Ok(removed?)
    }

    fn try_out(&self, base: &Path) -> Result<()> {
        let paths = ["", "lower", "lower/directory", "upper", "work", "merged"].map(|name| base.join(name));
        for path in &paths {
            create_directory(path, 0o700)?;
        }
        let [_, lower, _, upper, work, merged] = paths;
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| Error::io(action, path, error)
        };
        std::fs::write(lower.join("file"), b"").map_err(io("write", &lower))?;
        let overlay = Overlay { lower: vec![lower], upper: upper.clone(), work, options: OPTIONS.to_vec() };
        self.mount_overlay(&overlay, base, &merged)?;
        std::fs::remove_file(merged.join("file")).map_err(io("remove a file in", &merged))?;
        std::fs::remove_dir(merged.join("directory")).map_err(io("remove a directory in", &merged))?;
        std::fs::create_dir(merged.join("directory")).map_err(io("create a directory in", &merged))?;
        let stat = statat(CWD, upper.join("file"), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::io("stat the whiteout in", &upper, error))?;
        let is_whiteout = FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0;
        if !is_whiteout || !crate::merged::is_opaque(&upper.join("directory"))? {
            return Err(Error::io("find whiteouts in", &upper, Errno::OPNOTSUPP));
        }
        rustix::fs::lsetxattr(&upper, "trusted.overlay.opaque", b"n", XattrFlags::empty())
            .map_err(|error| Error::io("set an attribute of", &upper, error))
    }

    fn mount_with(&self, id: Id, options: &[(&'static str, &'static str)]) -> Result<PathBuf> {
        let directory = self.directory(id);
        let merged = directory.join("merged");
        let _lock = lock(&directory, id)?;
        if self.is_mounted_at(id, &merged, &mount_info()?)? {
            return Ok(merged);
        }
        // Two mounts of one upper directory would each spoil what the other wrote. The kernel has made work/work in one
        // that was ever mounted, so that a new one needn't be looked for in every namespace.
        if directory.join("work/work").exists()
            && let Some(pid) = self.mounted_elsewhere(id)?
        {
            return Err(Error::MountedElsewhere { id, pid });
        }
        let chain = read_lower(&directory, id)?;
        let lower = match chain.is_empty() {
            true => vec![directory.join("empty")],
            false => chain.iter().map(|&layer| self.diff(layer)).collect(),
        };
        if let Some(missing) = chain.iter().find(|&&layer| !self.diff(layer).is_dir()) {
            return Err(Error::NotFound(*missing));
        }
        let overlay =
            Overlay { lower, upper: directory.join("diff"), work: directory.join("work"), options: options.to_vec() };
        match self.mount_overlay(&overlay, &directory, &merged) {
            Ok(()) => Ok(merged),
            Err(error) => match orlop_model::Kind::kind(&error) {
                orlop_model::ErrorKind::Internal => Err(Error::Mount { id, reason: error.to_string() }),
                _ => Err(error.into()),
            },
        }
    }

    fn mount_overlay(&self, overlay: &Overlay, directory: &Path, target: &Path) -> Result<(), orlop_sys::Error> {
        let refused = match self.force_mount2 {
            true => None,
            false => match overlay::open(overlay)? {
                Attempt::Mounted(mount) => return attach(mount, target),
                Attempt::UseMount2(error) => Some(error),
            },
        };
        let links = directory.join("l");
        let short = Overlay { lower: link(&links, &overlay.lower)?, ..overlay.clone() };
        // A kernel that refuses both had its reason the first time, unless it only lacked the new way.
        mount2(&short, &links, target).map_err(|error| match refused {
            Some(first) if error.is(Errno::INVAL) && !first.is(Errno::INVAL) => first,
            _ => error,
        })
    }

    /// Where this layer is mounted among these mounts.
    fn find<'a>(&self, id: Id, mounts: &'a [MountInfo]) -> impl Iterator<Item = &'a MountInfo> + use<'a> {
        // The kernel writes them one behind the other. A path may hold commas, so nothing is split at them.
        let upper = format!("/{}/diff,workdir=", id.hex()).into_bytes();
        mounts.iter().filter(move |mount| {
            let options = mount.super_options.as_bytes();
            mount.file_system == "overlay" && options.windows(upper.len()).any(|part| part == upper)
        })
    }

    /// Whether `merged` is this layer's mount: by what file system lies there, not by what a table says of its path.
    fn is_mounted_at(&self, id: Id, merged: &Path, mounts: &[MountInfo]) -> Result<bool> {
        let stat = match statat(CWD, merged, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(Error::io("stat", merged, error)),
        };
        let device = (major(stat.st_dev), minor(stat.st_dev));
        Ok(self.find(id, mounts).any(|mount| mount.device == device))
    }

    /// A process that uses this layer in another mount namespace: a container sees it as its root.
    ///
    /// A mount at `ID/merged` in another namespace is no use. Every namespace starts with a copy of all mounts, and one
    /// that was made while the layer was mounted, by a service or by a container that starts, may keep it.
    /// A process that may not be looked into has more rights than this one, so it is no container of ours, and what it
    /// sees is not ours to judge.
    fn mounted_elsewhere(&self, id: Id) -> Result<Option<u32>> {
        let proc = Path::new("/proc");
        let copy = Path::new(&id.hex()).join("merged");
        let mut seen = HashSet::new();
        for entry in std::fs::read_dir(proc).map_err(|error| Error::io("read", proc, error))? {
            let entry = entry.map_err(|error| Error::io("read", proc, error))?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(namespace) = std::fs::read_link(entry.path().join("ns/mnt")) else { continue };
            if seen.contains(&namespace) {
                continue;
            }
            // It may have ended since it was listed, and a zombie has no mounts: then another of its namespace counts.
            let Ok(mounts) = mount_info_of(pid) else { continue };
            if self.find(id, &mounts).any(|mount| !mount.mount_point.ends_with(&copy)) {
                return Ok(Some(pid));
            }
            if !mounts.is_empty() {
                seen.insert(namespace);
            }
        }
        Ok(None)
    }
}

impl Driver for Overlay2 {
    fn kind(&self) -> DriverKind {
        DriverKind::Overlay2
    }

    fn home(&self) -> &Path {
        &self.home
    }

    fn prepare(&self, id: Id, chain: &[Id]) -> Result<()> {
        let chain = visible(self, chain)?;
        if chain.len() > MAX_LOWER {
            return Err(Error::TooManyLayers { count: chain.len(), max: MAX_LOWER, driver: NAME });
        }
        let directory = self.directory(id);
        if read_lower(&directory, id).is_ok_and(|written| written == chain) {
            // It is written last, so everything else is there as well.
            return Ok(());
        }
        create_directory(&directory, 0o710)?;
        create_directory(&directory.join("diff"), 0o755)?;
        create_directory(&directory.join("work"), 0o700)?;
        create_directory(&directory.join("merged"), 0o700)?;
        if chain.is_empty() {
            create_directory(&directory.join("empty"), 0o755)?;
        }
        write_lower(&directory, &chain)
    }

    fn rebase(&self, id: Id, chain: &[Id]) -> Result<()> {
        let directory = self.directory(id);
        let _lock = lock(&directory, id)?;
        // What is mounted isn't changed by it: only the next mount reads the file.
        write_lower(&directory, &visible(self, chain)?)?;
        Ok(orlop_sys::durable::sync_file_system(&directory)?)
    }

    fn mount(&self, id: Id) -> Result<PathBuf> {
        self.mount_with(id, &OPTIONS)
    }

    fn mount_transient(&self, id: Id) -> Result<PathBuf> {
        // An earlier mount of this boot has left the kernel's mark that nothing was synced. Everything of it is in memory
        // still; after another boot such a layer is never mounted again.
        let mark = self.directory(id).join("work/work/incompat");
        match std::fs::remove_dir_all(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &mark, error));
            }
            _ => {}
        }
        let volatile = [&OPTIONS[..], &[("volatile", "")]].concat();
        // Kernels before 5.10 don't know the option.
        self.mount_with(id, &volatile).or_else(|_| self.mount(id))
    }

    fn unmount(&self, id: Id) -> Result<()> {
        let directory = self.directory(id);
        let merged = directory.join("merged");
        let _lock = match lock(&directory, id) {
            Err(Error::NotFound(_)) => return Ok(()),
            lock => lock?,
        };
        while self.is_mounted_at(id, &merged, &mount_info()?)? {
            match unmount(&merged, false) {
                Ok(()) => {}
                // Something on the host still has a file of it open; it goes when that is closed.
                Err(error) if error.is(Errno::BUSY) => unmount(&merged, true)?,
                // Another namespace's unmount was passed on to us.
                Err(error) if error.is(Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn is_mounted(&self, id: Id) -> Result<bool> {
        self.is_mounted_at(id, &self.directory(id).join("merged"), &mount_info()?)
    }

    fn data(&self, id: Id) -> Result<Vec<(&'static str, String)>> {
        let chain = read_lower(&self.directory(id), id)?;
        Ok(self.named(id, &chain))
    }

    fn image_data(&self, chain: &[Id]) -> Vec<(&'static str, String)> {
        chain.split_first().map(|(&top, below)| self.named(top, below)).unwrap_or_default()
    }

    fn release(&self, id: Id) -> Result<PathBuf> {
        self.unmount(id)?;
        match self.mounted_elsewhere(id)? {
            Some(pid) => Err(Error::MountedElsewhere { id, pid }),
            None => Ok(self.directory(id)),
        }
    }
}

impl Overlay2 {
    fn named(&self, id: Id, below: &[Id]) -> Vec<(&'static str, String)> {
        let directory = self.directory(id);
        let path = |name| directory.join(name).display().to_string();
        let mut data = Vec::with_capacity(4);
        if !below.is_empty() {
            let lower: Vec<String> = below.iter().map(|&layer| self.diff(layer).display().to_string()).collect();
            data.push(("LowerDir", lower.join(":")));
        }
        data.extend([("MergedDir", path("merged")), ("UpperDir", path("diff")), ("WorkDir", path("work"))]);
        data
    }
}

/// Links with short names to the lower directories, so that all of them fit into one page; returns the names.
fn link(links: &Path, lower: &[PathBuf]) -> Result<Vec<PathBuf>, orlop_sys::Error> {
    let io = |call, path: &Path, error: Errno| orlop_sys::Error::io(call, path, error);
    match rustix::fs::mkdir(links, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io("create", links, error)),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(links, flags, Mode::empty()).map_err(|error| io("open", links, error))?;
    let mut names = Vec::with_capacity(lower.len());
    for (number, target) in lower.iter().enumerate() {
        let name = PathBuf::from(number.to_string());
        match rustix::fs::symlinkat(target, &fd, &name) {
            Ok(()) => {}
            // Left by an earlier mount; a data root that was moved makes it wrong.
            Err(Errno::EXIST) => {
                let old = rustix::fs::readlinkat(&fd, &name, Vec::new()).map_err(|error| io("read", links, error))?;
                if old.as_bytes() != target.as_os_str().as_bytes() {
                    rustix::fs::unlinkat(&fd, &name, AtFlags::empty()).map_err(|error| io("remove", links, error))?;
                    rustix::fs::symlinkat(target, &fd, &name).map_err(|error| io("link", links, error))?;
                }
            }
            Err(error) => return Err(io("link", links, error)),
        }
        names.push(name);
    }
    Ok(names)
}
