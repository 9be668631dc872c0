//! Storage drivers: a root file system out of a chain of layers.

mod overlay2;
mod vfs;

pub use overlay2::Overlay2;
pub use vfs::Vfs;

use crate::merged::is_opaque;
use crate::{Error, Result};
use orlop_model::Id;
use orlop_sys::copy::remove_tree;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Which driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// The kernel's overlay file system.
    Overlay2,
    /// Plain copies, for file systems where overlay can't be used.
    Vfs,
}

impl DriverKind {
    /// Docker's name of it, and the name of its directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay2 => "overlay2",
            Self::Vfs => "vfs",
        }
    }
}

impl std::str::FromStr for DriverKind {
    type Err = String;

    /// By Docker's name; the error is a whole sentence.
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "overlay2" | "overlay" => Ok(Self::Overlay2),
            "vfs" => Ok(Self::Vfs),
            other => Err(format!("unknown storage driver {other:?}: overlay2 and vfs are there")),
        }
    }
}

/// Makes the root file system of a container out of a chain of layers.
///
/// Used in this order: [`prepare`](Self::prepare) once, then [`mount`](Self::mount) and
/// [`unmount`](Self::unmount) as often as the container starts and stops, at last [`release`](Self::release) and a
/// rename into the trash, or [`remove`](Self::remove). All may be called again after a crash. Nothing here is synced;
/// who acknowledges something syncs the file system before.
pub trait Driver: Send + Sync {
    /// Which driver this is.
    fn kind(&self) -> DriverKind;

    /// `<data root>/<driver>`.
    fn home(&self) -> &Path;

    /// The directory of a layer.
    fn directory(&self, id: Id) -> PathBuf {
        self.home().join(id.hex())
    }

    /// The files of a layer.
    fn diff(&self, id: Id) -> PathBuf {
        self.directory(id).join("diff")
    }

    /// Makes a writable layer over `chain` (topmost first, may be empty). Called again it finishes what it began.
    fn prepare(&self, id: Id, chain: &[Id]) -> Result<()>;

    /// Puts a writable layer over another chain that shows the same (topmost first), for its next mount. Where it holds
    /// whole files there is nothing to do.
    fn rebase(&self, _id: Id, _chain: &[Id]) -> Result<()> {
        Ok(())
    }

    /// Mounts a writable layer, or finds it mounted; returns the root file system.
    fn mount(&self, id: Id) -> Result<PathBuf>;

    /// The same for a layer that goes with its container (`run --rm`): what is written needn't reach the disk, fsync(2)
    /// included, and after a crash it can only be removed.
    fn mount_transient(&self, id: Id) -> Result<PathBuf> {
        self.mount(id)
    }

    /// Unmounts a writable layer; not mounted is no error.
    fn unmount(&self, id: Id) -> Result<()>;

    /// Whether it is mounted in this mount namespace.
    fn is_mounted(&self, id: Id) -> Result<bool>;

    /// `GraphDriver.Data` of a container's `inspect`: names and values as Docker prints them, in its order.
    fn data(&self, id: Id) -> Result<Vec<(&'static str, String)>>;

    /// `GraphDriver.Data` of an image's `inspect`; `chain` is topmost first.
    fn image_data(&self, chain: &[Id]) -> Vec<(&'static str, String)>;

    /// Unmounts and returns the directory that may now be renamed into the trash.
    fn release(&self, id: Id) -> Result<PathBuf> {
        self.unmount(id)?;
        Ok(self.directory(id))
    }

    /// Removes a layer, image layers included; not there is no error. Needs no free space.
    fn remove(&self, id: Id) -> Result<()> {
        if !self.directory(id).exists() {
            return Ok(());
        }
        Ok(remove_tree(&self.release(id)?)?)
    }
}

/// Makes the directory of an image layer that is to be unpacked, and returns its empty `diff`. What an earlier attempt
/// with this id left is removed.
pub fn create_image_layer(driver: &dyn Driver, id: Id) -> Result<PathBuf> {
    let directory = driver.directory(id);
    remove_tree(&directory)?;
    create_directory(&directory, 0o710)?;
    let diff = driver.diff(id);
    create_directory(&diff, 0o755)?;
    Ok(diff)
}

/// Opens the driver `wanted`, or the best that works on the file system of `data_root`.
///
/// A data root that has layers of one driver keeps it. Whether overlay works there is found out by a mount, once, and
/// remembered beside the layers. ORLOP_FORCE_MOUNT2=1 mounts overlay as kernels before 6.5 need it.
pub fn open(data_root: &Path, wanted: Option<DriverKind>) -> Result<Box<dyn Driver>> {
    let force_mount2 = std::env::var_os("ORLOP_FORCE_MOUNT2").is_some_and(|value| value == "1");
    let in_use = |kind: DriverKind| data_root.join(kind.name()).is_dir();
    let kind = match wanted {
        Some(kind) => kind,
        None if in_use(DriverKind::Vfs) && !in_use(DriverKind::Overlay2) => DriverKind::Vfs,
        None => match Overlay2::open(data_root, force_mount2) {
            Ok(driver) => return Ok(Box::new(driver)),
            Err(Error::DriverUnusable { .. }) if !in_use(DriverKind::Overlay2) => DriverKind::Vfs,
            Err(error) => return Err(error),
        },
    };
    Ok(match kind {
        DriverKind::Overlay2 => Box::new(Overlay2::open(data_root, force_mount2)?),
        DriverKind::Vfs => Box::new(Vfs::open(data_root)?),
    })
}

/// Makes a directory with exactly this mode, or gives it to the one that is there.
fn create_directory(path: &Path, mode: u32) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(Error::io("create", path, error)),
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(|error| Error::io("chmod", path, error))
}

/// Holds off other processes that mount or unmount the same layer, until it is dropped.
fn lock(directory: &Path, id: Id) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(directory, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Err(Error::NotFound(id)),
        Err(error) => return Err(Error::io("open", directory, error)),
    };
    loop {
        match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::io("lock", directory, error)),
        }
    }
}

/// Checks that every layer of the chain is there, and cuts off what an opaque root hides: overlay itself looks for that
/// mark on every directory but the root.
fn visible(driver: &dyn Driver, chain: &[Id]) -> Result<Vec<Id>> {
    let mut visible = Vec::with_capacity(chain.len());
    for &id in chain {
        let diff = driver.diff(id);
        if !diff.is_dir() {
            return Err(Error::NotFound(id));
        }
        visible.push(id);
        if is_opaque(&diff)? {
            break;
        }
    }
    Ok(visible)
}

fn write_lower(directory: &Path, chain: &[Id]) -> Result<()> {
    let text = chain.iter().map(Id::hex).collect::<Vec<_>>().join(":");
    Ok(orlop_sys::durable::write_file_volatile(&directory.join("lower"), text.as_bytes(), 0o644)?)
}

fn read_lower(directory: &Path, id: Id) -> Result<Vec<Id>> {
    let path = directory.join("lower");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Error::NotFound(id)),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let damaged = |error| Error::io("read", &path, std::io::Error::new(std::io::ErrorKind::InvalidData, error));
    text.split(':').filter(|id| !id.is_empty()).map(|id| id.parse::<Id>().map_err(damaged)).collect()
}
