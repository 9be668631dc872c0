//! `pull`, and the check of a login: the engine's part is its config, the store and the events.

use crate::{Config, Engine, Error, Result};
use orlop_images::registry::{self, Credentials, CredentialsOf};
use orlop_images::{PullEvent, PullRequest, Pulled};

impl Engine {
    /// `pull`. What it needs to show to a registry it asks `credentials` for, which no mirror of that registry gets.
    pub fn pull(
        &self,
        request: &PullRequest,
        credentials: &dyn CredentialsOf,
        events: &(dyn Fn(PullEvent) + Sync),
    ) -> Result<Vec<Pulled>> {
        let done = |event: PullEvent| {
            if let PullEvent::Done(pulled) = &event {
                self.emit_image("pull", pulled.name.familiar(), &pulled.name.familiar());
            }
            events(event);
        };
        Ok(orlop_images::pull(self.image_store()?, &self.config.registries(), credentials, request, &done)?)
    }
}

/// Whether the registry (`docker.io`, `registry.example:5000`) takes the credentials; returns what is to be stored.
/// Needs no engine.
pub fn login(config: &Config, registry: &str, given: &Credentials) -> Result<Credentials> {
    registry::login(&config.registries(), registry, given).map_err(|failure| Error::Images(failure.into()))
}
