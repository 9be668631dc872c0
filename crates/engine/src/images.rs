//! The verbs on images: the engine's part is to open the store and to tell of what happened.

use crate::{Engine, Error, Result};
use orlop_images::{
    HistoryLine, ImageInspect, ImageLine, Loaded, Progress, PrunePlan, Removal, Removed, Saved, Source, Store,
};
use orlop_model::filter::Filters;
use orlop_model::image::ImageConfig;
use orlop_model::{Digest, ImageRef};
use orlop_state::ImageRow;
use orlop_state::events::Event;

impl Engine {
    pub(crate) fn image_store(&self) -> Result<Store<'_>> {
        Ok(Store { state: &self.state, driver: self.driver()? })
    }

    /// The image that the user means, and its config.
    pub fn image(&self, name: &str) -> Result<(ImageRow, ImageConfig)> {
        let row = self.state.read(|tx| orlop_images::resolve(tx, name))?.row;
        let config = orlop_images::config(self.state.root(), row.id)?;
        Ok((row, config))
    }

    /// Every tag, as a user writes it.
    pub fn image_tags(&self) -> Result<Vec<String>> {
        let rows = self.state.read(|tx| tx.tags().list())?;
        let references = rows.iter().filter_map(|row| ImageRef::parse(&row.name).ok());
        Ok(references.map(|reference| reference.familiar()).collect())
    }

    /// `load`.
    pub fn load(&self, source: Source, progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<Loaded>> {
        let loaded = orlop_images::load(self.image_store()?, source, progress)?;
        for image in &loaded {
            let name = image.names.first().map_or_else(|| image.id.to_string(), ImageRef::familiar);
            self.emit_image("load", image.id, &name);
        }
        Ok(loaded)
    }

    /// `save` to a stream.
    pub fn save(&self, names: &[String], output: &mut dyn std::io::Write) -> Result<()> {
        self.emit_saved(&orlop_images::save(self.image_store()?, names, output)?);
        Ok(())
    }

    /// `save -o`: the file is whole, or as it was before.
    pub fn save_file(&self, names: &[String], path: &std::path::Path) -> Result<()> {
        self.emit_saved(&orlop_images::save_file(self.image_store()?, names, path)?);
        Ok(())
    }

    fn emit_saved(&self, saved: &[Saved]) {
        for (id, names) in saved {
            let name = names.first().map_or_else(|| id.to_string(), ImageRef::familiar);
            self.emit_image("save", id, &name);
        }
    }

    /// `image from-host`: an image of this machine's own tools.
    pub fn image_from_host(
        &self,
        name: &ImageRef,
        binaries: &[String],
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Loaded> {
        let loaded = orlop_images::from_host(self.image_store()?, name, binaries, progress)?;
        self.emit_image("import", loaded.id, &name.familiar());
        Ok(loaded)
    }

    /// `images`, a line for each name.
    pub fn image_lines(&self, all: bool, filters: &Filters) -> Result<Vec<ImageLine>> {
        // There are no intermediate images, so `all` shows the same.
        let _ = all;
        Ok(orlop_images::lines(&orlop_images::list(self.image_store()?, filters)?))
    }

    /// `image inspect`.
    pub fn image_inspect(&self, name: &str) -> Result<ImageInspect> {
        Ok(orlop_images::inspect(self.image_store()?, name)?)
    }

    /// `history`, newest step first.
    pub fn image_history(&self, name: &str) -> Result<Vec<HistoryLine>> {
        Ok(orlop_images::history(self.image_store()?, name)?)
    }

    /// `tag`.
    pub fn tag(&self, source: &str, target: &ImageRef) -> Result<()> {
        let id = orlop_images::tag(self.image_store()?, source, target)?;
        self.emit_image("tag", id, &target.familiar());
        Ok(())
    }

    /// `rmi`.
    pub fn image_remove(&self, name: &str, force: bool) -> Result<Removed> {
        let id = self.state.read(|tx| orlop_images::resolve(tx, name))?.row.id;
        let removed = orlop_images::remove(self.image_store()?, name, force)?;
        self.emit_removed(&removed, Some(id));
        Ok(removed)
    }

    /// What `image prune` would remove.
    pub fn image_prune_plan(&self, all: bool, filters: &Filters) -> Result<PrunePlan> {
        Ok(orlop_images::plan_prune(self.image_store()?, all, filters)?)
    }

    /// Removes what the plan names, except what was put to use since.
    pub fn image_prune(&self, plan: &PrunePlan) -> Result<Removed> {
        let removed = orlop_images::apply_prune(self.image_store()?, plan)?;
        self.emit_removed(&removed, None);
        Ok(removed)
    }

    fn emit_removed(&self, removed: &Removed, id: Option<Digest>) {
        for line in &removed.lines {
            match line {
                Removal::Untagged(name) => self.emit_image("untag", id.map_or(name.clone(), |id| id.to_string()), name),
                Removal::Deleted(id) => self.emit_image("delete", id, &id.to_string()),
            }
        }
    }

    pub(crate) fn emit_image(&self, action: &str, id: impl ToString, name: &str) {
        self.state.emit(&Event::now("image", action, id, &[("name", name)]));
    }
}

impl Error {
    /// Names that are close to the one that wasn't found; for a hint.
    pub fn close_matches(&self) -> &[String] {
        match self {
            Self::Images(orlop_images::Error::NotFound { close_matches, .. })
            | Self::ImageMissing(_, close_matches)
            | Self::Near(_, close_matches) => close_matches,
            _ => &[],
        }
    }
}
