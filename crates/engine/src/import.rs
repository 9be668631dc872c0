//! `import`: an image out of any archive of files.

use crate::{Engine, Result};
use orlop_images::{NewImage, apply_instruction};
use orlop_model::image::{ContainerDefaults, History, ImageConfig};
use orlop_model::{Digest, ImageRef, Platform};
use std::fs::File;

/// What `import` is asked for.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// The image's name; None makes one without.
    pub name: Option<ImageRef>,
    /// `-m`; empty says where it came from.
    pub message: String,
    /// `-c`: Dockerfile instructions.
    pub changes: Vec<String>,
    /// `--platform`; None is this machine's.
    pub platform: Option<Platform>,
}

impl Engine {
    /// Makes an image of one layer out of a tar archive, plain or compressed with gzip or zstd.
    pub fn import(&self, archive: File, request: ImportRequest) -> Result<Digest> {
        let mut config = ContainerDefaults::default();
        for change in &request.changes {
            apply_instruction(&mut config, change)?;
        }
        let base = on(request.platform.unwrap_or_else(Platform::host));
        let step = History { comment: Some(request.message), ..History::default() };
        let image = NewImage { name: request.name.clone(), config, base, below: Vec::new(), step };
        let loaded = orlop_images::import(self.image_store()?, image, archive)?;
        self.emit_image(
            "import",
            loaded.id,
            &request.name.map_or_else(|| loaded.id.to_string(), |name| name.familiar()),
        );
        Ok(loaded.id)
    }
}

/// What an image says of the platform that it is for.
pub(crate) fn on(platform: Platform) -> ImageConfig {
    let Platform { os, architecture, variant } = platform;
    let variant = Some(variant).filter(|variant| !variant.is_empty());
    ImageConfig { os, architecture, variant, ..ImageConfig::default() }
}
