//! `rename`.

use crate::container::Phase;
use crate::{Container, Engine, Error, Result};
use orlop_model::ContainerName;

impl Engine {
    /// Gives a container another name. Nothing on disk is called by it, so one transaction does it.
    pub fn rename(&self, name: &str, new_name: &ContainerName) -> Result<()> {
        let id = self.container(name)?.id;
        let _lock = self.state.lock("container", &id.hex())?;
        let mut container = self.settled(id)?.ok_or_else(|| Error::NoSuchContainer(name.to_owned()))?;
        if matches!(container.details.status.phase, Phase::Removing { .. }) {
            return Err(Error::Conflict("container is marked for removal and cannot be renamed".to_owned()));
        }
        if container.name == *new_name {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".to_owned()));
        }
        let old_name = std::mem::replace(&mut container.name, new_name.clone());
        self.state.write(|tx| {
            let containers = tx.table::<Container>();
            match containers.named(new_name)? {
                Some(holder) => Err(Error::NameTaken { name: new_name.to_string(), holder: holder.id.hex() }),
                None => Ok(containers.put(&container)?),
            }
        })?;
        self.emit_container(&container, "rename", &[("oldName", &format!("/{old_name}"))]);
        Ok(())
    }
}
