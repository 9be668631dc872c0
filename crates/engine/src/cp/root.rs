//! A container's root as its programs see it, whether it runs or not.

use super::place::Place;
use crate::container::Phase;
use crate::create::topmost_first;
use crate::{Container, Engine, Error, Result};
use orlop_mounts::{AppliedKind, ResolvedMount};
use orlop_sys::lock::FileLock;
use orlop_sys::{mount, path};
use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// An open root; what holds it in place goes with it.
pub(super) struct RootView {
    root: OwnedFd,
    container: Container,
    /// Of a container that doesn't run: nobody starts or removes it meanwhile.
    lock: Option<FileLock>,
}

impl RootView {
    pub fn fd(&self) -> &OwnedFd {
        &self.root
    }

    /// Where the container's own files lie.
    pub fn dir(&self, engine: &Engine) -> PathBuf {
        engine.container_dir(self.container.id)
    }

    /// `--read-only` holds for `cp` too, but for what is mounted over it. Of a running container the kernel says so.
    pub fn require_writable(&self, place: &Place<'_>) -> Result<()> {
        let inside = |mount: &ResolvedMount| place.path().starts_with(&mount.target);
        if self.lock.is_some()
            && self.container.details.host.read_only
            && !self.container.details.mounts.iter().any(inside)
        {
            return Err(Error::Conflict("container rootfs is marked read-only".to_owned()));
        }
        Ok(())
    }
}

impl Engine {
    /// Opens a container's root. One that doesn't run is mounted in a mount namespace that this process enters, so it
    /// must have one thread; its mounts end with it.
    pub(super) fn root_view(&self, name: &str) -> Result<RootView> {
        let found = self.container(name)?;
        if found.details.status.phase == Phase::Running {
            let root = self.root_of_running(&found)?;
            return Ok(RootView { root, container: found, lock: None });
        }
        let lock = self.state.lock("container", &found.id.hex())?;
        let container = self.settled(found.id)?.ok_or_else(|| Error::NoSuchContainer(name.to_owned()))?;
        match container.details.status.phase {
            // It was started in between.
            Phase::Running => {
                let root = self.root_of_running(&container)?;
                Ok(RootView { root, container, lock: None })
            }
            Phase::Removing { .. } => Err(Error::Conflict("container is marked for removal".to_owned())),
            _ => {
                let root = self.mount_privately(&container)?;
                Ok(RootView { root, container, lock: Some(lock) })
            }
        }
    }

    /// Mounts the files of a container that doesn't run in a mount namespace that this process enters, so it must have
    /// one thread; the mount ends with it. The caller holds the container's lock.
    pub(crate) fn mount_files_privately(&self, container: &Container) -> Result<OwnedFd> {
        mount::enter_private_namespace()?;
        // Other containers' mounts were copied with the namespace; nobody shall wait for them to go.
        for info in mount::mount_info()?.into_iter().rev() {
            if info.mount_point.starts_with(&self.roots.run)
                || info.mount_point.starts_with(self.roots.data.join("overlay2"))
            {
                // What lies below one that is gone is gone too.
                let _ = mount::unmount(&info.mount_point, true);
            }
        }
        let driver = self.driver()?;
        // A power cut may have taken a layer that was made but never used.
        driver.prepare(container.writable, &topmost_first(&container.layers))?;
        Ok(path::open_directory(&driver.mount(container.writable)?)?)
    }

    fn mount_privately(&self, container: &Container) -> Result<OwnedFd> {
        let root = self.mount_files_privately(container)?;
        let place = orlop_mounts::Place {
            container: container.id,
            rootfs: root.as_fd(),
            run_dir: &self.mounts_dir(container.id),
            owner: None,
        };
        let applied = orlop_mounts::apply(&self.state, &container.details.mounts, &place)?;
        for mounted in applied {
            let AppliedKind::Bind { source, .. } = mounted.kind else { continue };
            let source = rustix::fs::open(&source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| Error::Sys(orlop_sys::Error::io("open", &source, error)))?;
            let target = Path::new(&mounted.target);
            let is_directory =
                rustix::fs::fstat(&source).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
            if is_directory {
                // As the first start would.
                super::archive::directory_for(&root, Path::new("/"), target.strip_prefix("/").unwrap_or(target))?;
            }
            if let Ok(target) = path::open_in_root(&root, target, OFlags::PATH) {
                mount::attach_at(mount::clone_tree(&source, true)?, target)?;
            }
        }
        // Opened again: the first descriptor looks below what was mounted since.
        Ok(path::open_in_root(&root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?)
    }
}
