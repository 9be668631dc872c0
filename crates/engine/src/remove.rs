//! `rm`, `container prune`, and the end of a `--rm` container.
//!
//! The row says Removing with the id of its place in the trash; then the writable layer is renamed there; then one
//! transaction deletes the container's row and adds the trash's. Whoever finds it half done goes on from there.

use crate::container::Phase;
use crate::create::anonymous_volumes;
use crate::open::remove_directory;
use crate::{Container, Engine, Error, Result};
use orlop_model::filter::Filters;
use orlop_model::options::RestartName;
use orlop_model::{ContainerName, Id, Timestamp, VolumeName};
use orlop_state::TrashRow;
use orlop_state::rows::trash::TrashContent;

/// `rm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveRequest {
    /// `-f`: kills what runs.
    pub force: bool,
    /// `-v`: with its anonymous volumes.
    pub volumes: bool,
}

impl Engine {
    /// Removes a container; its writable layer goes to the trash.
    pub fn remove(&self, name: &str, request: RemoveRequest) -> Result<()> {
        let found = self.container(name)?;
        let running = |name: &ContainerName| {
            Error::Conflict(format!(
                "cannot remove container \"/{name}\": container is running: stop the container before removing or force remove"
            ))
        };
        if found.details.status.restarting.is_some() && !request.force {
            return Err(Error::Conflict(format!(
                "cannot remove container \"/{}\": container is restarting: stop the container before removing or force remove",
                found.name
            )));
        }
        if found.details.status.phase == Phase::Running && found.details.status.paused && !request.force {
            return Err(Error::Conflict(format!(
                "cannot remove container \"/{}\": container is paused and must be unpaused first",
                found.name
            )));
        }
        if found.details.status.phase == Phase::Running && !request.force {
            return Err(running(&found.name));
        }
        // Forced, its policy has no say any more.
        if request.force && found.details.host.options.restart.name != RestartName::No {
            self.note(found.id, |status| {
                status.stopping = true;
                status.restarting = None;
            })?;
        }
        self.leave_to_its_namespace(&found)?;
        let lock = self.state.lock("container", &found.id.hex())?;
        let Some(mut container) = self.settled(found.id)? else {
            lock.remove();
            // A `--rm` container that was killed here went by itself; any other was removed by somebody else.
            let went_by_itself = request.force && found.details.host.auto_remove;
            return if went_by_itself { Ok(()) } else { Err(Error::NoSuchContainer(name.to_owned())) };
        };
        // Under the lock, so that nobody starts it again in between.
        if container.details.status.phase == Phase::Running {
            if !request.force && self.is_alive(&container) {
                return Err(running(&container.name));
            }
            self.kill_hard(&container)?;
            self.reap_locked(&mut container)?;
        }
        if self.row(found.id)?.is_some() {
            self.remove_locked(&mut container, request.volumes)?;
        }
        lock.remove();
        Ok(())
    }

    /// Deletes a `--rm` container that has ended and was torn down; nobody was promised its files. Its row goes last, so
    /// one that is killed half-way is found again.
    pub(crate) fn delete_auto_removed(&self, container: &mut Container) -> Result<()> {
        self.driver()?.remove(container.writable)?;
        remove_directory(&self.container_dir(container.id))?;
        self.let_go_of_volumes(container)?;
        self.state.write(|tx| tx.table::<Container>().delete(&container.id.hex()))?;
        self.emit_container(container, "destroy", &[]);
        self.clear_layers_of(container)
    }

    /// The caller holds the lock, and nothing runs.
    pub(crate) fn remove_locked(&self, container: &mut Container, with_volumes: bool) -> Result<()> {
        if container.details.host.auto_remove {
            self.tear_down(container)?;
            return self.delete_auto_removed(container);
        }
        let removing = Phase::Removing { trash: Id::random(), volumes: with_volumes };
        self.update(container, |container| container.details.status.phase = removing)?;
        self.finish_removal(container)
    }

    /// Goes on with a removal from wherever it stands. The caller holds the lock.
    pub(crate) fn finish_removal(&self, container: &mut Container) -> Result<()> {
        let Phase::Removing { trash, volumes } = container.details.status.phase else { return Ok(()) };
        self.tear_down(container)?;
        let directory = self.driver()?.release(container.writable)?;
        let place = orlop_volumes::trash::path(&self.state, trash);
        // A power cut may have taken a layer that was never used; then there is nothing to keep.
        let look_at = |path: &std::path::Path| path.try_exists().map_err(Error::io("look at", path));
        if look_at(&directory)? {
            let what = format!("container {}", container.name);
            orlop_volumes::trash::take_in(&self.state, trash, &directory, &what)?;
        }
        let is_kept = look_at(&place)?;
        remove_directory(&self.container_dir(container.id))?;
        if volumes {
            self.let_go_of_volumes(container)?;
        }
        self.state.write(|tx| {
            if is_kept {
                tx.trash().put(&trash_row(trash, container))?;
            }
            tx.table::<Container>().delete(&container.id.hex())
        })?;
        self.emit_container(container, "destroy", &[]);
        self.clear_layers_of(container)
    }

    /// Removes the anonymous volumes of a container whose row stays until that is done, so that a kill forgets none.
    fn let_go_of_volumes(&self, container: &mut Container) -> Result<()> {
        let volumes = anonymous_volumes(container);
        if !volumes.is_empty() {
            self.update(container, |container| container.volumes.clear())?;
            self.remove_anonymous(&volumes);
        }
        Ok(())
    }

    /// The layers of an image that was removed by force go with its last container.
    fn clear_layers_of(&self, container: &Container) -> Result<()> {
        if self.state.read(|tx| tx.images().get(&container.image.to_string()))?.is_none() {
            orlop_layers::store::remove_unreferenced(&self.state, self.driver()?)?;
        }
        Ok(())
    }

    /// Removes anonymous volumes with the container that they were made for; one that another container uses stays.
    pub(crate) fn remove_anonymous(&self, names: &[VolumeName]) {
        for name in names {
            // A volume in use stays by design; any other failure leaves a dangling volume that `volume prune` shows.
            let _ = self.volume_remove(name.as_str(), false);
        }
    }

    /// Stopped containers that `container prune` removes.
    pub fn prunable_containers(&self, filters: &Filters) -> Result<Vec<Container>> {
        let until = filters.until(Timestamp::now()).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(self
            .containers()?
            .into_iter()
            .filter(|container| matches!(container.details.status.phase, Phase::Created | Phase::Exited))
            .filter(|container| until.is_none_or(|until| container.details.created < until))
            .filter(|container| filters.matches_labels(&container.details.config.labels))
            .collect())
    }
}

fn trash_row(id: Id, container: &Container) -> TrashRow {
    TrashRow {
        id,
        removed: Timestamp::now(),
        content: TrashContent::WritableLayer {
            container: container.id,
            name: container.name.clone(),
            image: container.image,
            layers: container.layers.clone(),
        },
        emptying: false,
    }
}
