//! `commit`: a container's changes as an image.

use crate::create::topmost_first;
use crate::{Container, Engine, Error, Result};
use orlop_images::{NewImage, apply_instruction};
use orlop_layers::changes::changes;
use orlop_layers::pack::pack_changes;
use orlop_model::image::{ContainerDefaults, Empty, History, ImageConfig};
use orlop_model::{Digest, Id, ImageRef, Platform};
use std::path::PathBuf;

/// What `commit` is asked for.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The image's name; None makes one without.
    pub name: Option<ImageRef>,
    /// `-a`
    pub author: String,
    /// `-m`
    pub message: String,
    /// `-c`: Dockerfile instructions.
    pub changes: Vec<String>,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
}

impl Engine {
    /// Makes an image of the container's image and what the container changed, volumes not included; it runs as the
    /// container does. Returns its id, and files that changed while they were read.
    pub fn commit(&self, name: &str, request: CommitRequest) -> Result<(Digest, Vec<PathBuf>)> {
        let container = self.container(name)?;
        let mut config = defaults(&container);
        let base = self.base(&container, &mut config);
        for change in &request.changes {
            apply_instruction(&mut config, change)?;
        }
        // What the image says, which has a layer as often as it is in it; a container has each once.
        let below = match &base {
            Some(base) => base.rootfs.diff_ids.clone(),
            None => self.stored_diff_ids(&container)?,
        };
        let base = base.unwrap_or_else(|| crate::import::on(Platform::host()));
        let step = History {
            created_by: Some(container.details.arguments().join(" ")),
            author: Some(request.author.clone()).filter(|author| !author.is_empty()),
            comment: Some(request.message).filter(|message| !message.is_empty()),
            ..History::default()
        };
        let base = ImageConfig { author: Some(request.author).filter(|author| !author.is_empty()), ..base };
        let image = NewImage { name: request.name.clone(), config, base, below, step };
        let mut torn = Vec::new();
        let (store, driver) = (self.image_store()?, self.driver()?);
        let loaded = orlop_images::commit(store, image, |out| {
            self.held(&container, request.pause, |container| {
                let changes = changes(driver, container.writable, &topmost_first(&container.layers))?;
                let root = orlop_sys::path::open_directory(&driver.diff(container.writable))?;
                torn = pack_changes(&root, &changes, out)?;
                Ok(())
            })
        })?;
        self.emit_container(&container, "commit", &[("comment", "")]);
        if let Some(name) = &request.name {
            self.emit_image("tag", loaded.id, &name.familiar());
        }
        Ok((loaded.id, torn))
    }

    /// The config of the container's image, and from it what a container's own config doesn't have. None when the image
    /// was removed by force.
    fn base(&self, container: &Container, config: &mut ContainerDefaults) -> Option<ImageConfig> {
        let base = orlop_images::config(self.state.root(), container.image).ok()?;
        config.on_build.clone_from(&base.config.on_build);
        config.shell.clone_from(&base.config.shell);
        Some(base)
    }

    fn stored_diff_ids(&self, container: &Container) -> Result<Vec<Digest>> {
        self.state.read(|tx| {
            let gone = || Error::Conflict(format!("a layer of container {} is gone", container.name));
            let diff_id = |id: &Id| Ok(tx.layers().get(&id.hex())?.ok_or_else(gone)?.diff_id);
            container.layers.iter().map(diff_id).collect()
        })
    }
}

/// How the container runs, as an image says it.
fn defaults(container: &Container) -> ContainerDefaults {
    let config = &container.details.config;
    let set = |names: &[String]| names.iter().map(|name| (name.clone(), Empty {})).collect();
    ContainerDefaults {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: config.health.as_ref().and_then(|health| serde_json::to_value(health).ok()),
        ..ContainerDefaults::default()
    }
}
