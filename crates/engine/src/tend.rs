//! `system tend`: finishes or undoes what a killed process left. Idempotent, safe beside anything else: each object is
//! taken under its lock, and one whose lock is held is being worked on.

use crate::container::Phase;
use crate::open::remove_file;
use crate::{Container, Engine, Error, Result};
use orlop_model::Id;
use orlop_runtime::oci::OciRuntime;
use orlop_sys::durable;
use std::time::Duration;

/// Bytes kept back for a full disk.
const RESERVE: u64 = 8 << 20;

/// What is under way in living processes looks unsettled as well, and no crowd of commands shall start a crowd of tends.
const TEND_AT_MOST_EVERY: Duration = Duration::from_secs(2);

impl Engine {
    /// Everything that `tend` does.
    pub fn tend(&self) -> Result<()> {
        let settled = self.settle().and(self.keep_running()).and(self.sweep_copies_in_background());
        self.expire_trash()?;
        self.state.restore_headroom()?;
        self.restore_reserve()?;
        settled
    }

    /// Finishes or undoes every change that nobody is at, and reaps what has ended unnoticed. One object that fails keeps
    /// no other from it; the first failure is returned.
    fn settle(&self) -> Result<()> {
        let containers = self.settle_containers();
        let volumes = orlop_volumes::recover(&self.state).map(drop).map_err(Error::from);
        containers.and(volumes).and(self.settle_images())
    }

    /// Gives containers that have lost their shim another, and takes up planned starts that nobody waits for any more.
    fn keep_running(&self) -> Result<()> {
        let mut first = Ok(());
        let containers = self.state.read(|tx| tx.table::<Container>().list())?;
        for container in containers.iter().filter(|container| self.is_running(container)) {
            first = first.and(self.ensure_shim(container));
        }
        first.and(self.take_up_restarts(&containers))
    }

    fn settle_images(&self) -> Result<()> {
        Ok(orlop_images::recover(self.image_store()?).map(drop)?)
    }

    fn settle_containers(&self) -> Result<()> {
        let mut first = Ok(());
        for container in self.state.read(|tx| tx.table::<Container>().list())? {
            let status = &container.details.status;
            let settled = matches!(status.phase, Phase::Created | Phase::Exited);
            let alive = status.phase == Phase::Running && self.is_alive(&container);
            if settled || (alive && !status.held) {
                continue;
            }
            let Some(lock) = self.state.try_lock("container", &container.id.hex())? else { continue };
            if alive {
                first = first.and(self.settled(container.id).map(drop));
                continue;
            }
            first = first.and(self.reap_under(lock, container.id));
        }
        first
    }

    /// Has another process do what may take long: deleting what a killed command was emptying out of the trash.
    fn tend_in_background(&self) -> Result<()> {
        let mark = self.roots.run.join("tending");
        let age = std::fs::metadata(&mark).ok().and_then(|mark| mark.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age < TEND_AT_MOST_EVERY) {
            return Ok(());
        }
        durable::write_file_volatile(&mark, b"", 0o600)?;
        self.spawn_detached(self.command.iter().cloned().chain(["system", "tend"].map(str::to_owned)).collect())
    }

    /// Gives the reserve up when a database on a copying file system couldn't commit without.
    ///
    /// On ext4 and XFS a commit writes over blocks that it has; btrfs needs new ones for it.
    pub(crate) fn give_up_reserve_when_full(&self) {
        const BTRFS_SUPER_MAGIC: i64 = 0x9123_683e;
        let Ok(stat) = rustix::fs::statfs(&self.roots.data) else { return };
        let free = stat.f_bavail.saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(0));
        if stat.f_type == BTRFS_SUPER_MAGIC
            && free < RESERVE
            && std::fs::remove_file(self.roots.data.join("reserve")).is_ok()
        {
            // Its blocks are free once that is committed. When it fails, the verb itself says that the disk is full.
            let _ = durable::sync_file_system(&self.roots.data);
        }
    }

    /// Makes the file again whose blocks a removal takes when the disk is full, as soon as they can be spared.
    fn restore_reserve(&self) -> Result<()> {
        let path = self.roots.data.join("reserve");
        let (free, _) = durable::free_space(&self.roots.data)?;
        if path.exists() || free < 16 * RESERVE {
            return Ok(());
        }
        let reserved = std::fs::File::create(&path)
            .and_then(|file| Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE)?));
        match reserved {
            Ok(()) => Ok(()),
            Err(error) => {
                // A file without its blocks would pass for a reserve.
                remove_file(&path)?;
                // Some file systems can't allocate in advance; there is no reserve on those.
                if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) {
                    return Ok(());
                }
                Err(Error::io("allocate", path)(error))
            }
        }
    }

    /// The check at the start of every command: everything once after each boot, when the run root is empty, and
    /// otherwise what some index says is half done. What living processes are at stays theirs: its locks are held.
    ///
    /// A failure here fails no command: whoever needs the very object meets its intent and the reason itself.
    pub(crate) fn tend_cheaply(&self) -> Result<()> {
        let mark = self.roots.run.join("tended");
        // Another data root may come to this run root.
        let data = rustix::fs::stat(&self.roots.data).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
        let stamp = format!("{} {}:{}\n", self.boot(), data.0, data.1);
        let is_tended = || std::fs::read_to_string(&mark).is_ok_and(|read| read == stamp);
        if is_tended() {
            if self.state.read(|tx| tx.is_unsettled())? {
                let _ = self.settle_containers();
                let _ = orlop_volumes::recover_volumes(&self.state);
                let _ = self.settle_images();
                let _ = self.tend_in_background();
            }
            return Ok(());
        }
        let _lock = self.state.lock("engine", "boot")?;
        if !is_tended() {
            // The trash isn't emptied here: right after a boot the clock may be wrong.
            let _ = self.settle();
            let _ = self.restore_reserve();
            let _ = durable::write_file_volatile(&mark, stamp.as_bytes(), 0o600);
        }
        Ok(())
    }

    /// The container's row once nothing is under way any more: finishes or undoes what the row says. None when there is
    /// no container, or none any more. The caller holds the container's lock, so nobody else is at it.
    pub(crate) fn settled(&self, id: Id) -> Result<Option<Container>> {
        let Some(mut container) = self.row(id)? else { return Ok(None) };
        match container.details.status.phase {
            Phase::Running if container.details.status.held => self.release_held(&mut container)?,
            Phase::Created | Phase::Exited | Phase::Running => {}
            Phase::Removing { .. } => {
                self.finish_removal(&mut container)?;
                return Ok(None);
            }
            Phase::Creating => {
                self.delete_from_runtime(&container)?;
                self.undo_create(&container)?;
                return Ok(None);
            }
            Phase::Starting => {
                self.delete_from_runtime(&container)?;
                self.tear_down(&container)?;
                // Its row may still name the damaged layers and what came in their place.
                self.leave_damaged_layers(&mut container)?;
                self.update(&mut container, |container| {
                    let status = &mut container.details.status;
                    status.phase = if status.started.is_some() { Phase::Exited } else { Phase::Created };
                    status.restarting = None;
                    status.error = "the command that started it was killed".to_owned();
                })?;
            }
        }
        Ok(Some(container))
    }

    /// Kills and forgets whatever the OCI runtime still knows of a container.
    pub(crate) fn delete_from_runtime(&self, container: &Container) -> Result<()> {
        let (runtime, id) = (self.runtime_of(container)?, container.id.hex());
        // Without its directory there it knows nothing, and needs not even be installed.
        if runtime.state_dir(&id).exists() {
            runtime.delete(&id, true)?;
        }
        Ok(())
    }

    /// By the OCI runtime, for a container whose shim is gone.
    pub(crate) fn signal_by_runtime(&self, container: &Container, signal: i32) -> Result<()> {
        Ok(self.runtime_of(container)?.kill(&container.id.hex(), signal)?)
    }
}
