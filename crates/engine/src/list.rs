//! `ps`.

use crate::container::Phase;
use crate::{Container, Engine, Error, Result};
use orlop_layers::Usage;
use orlop_model::filter::Filters;
use orlop_model::options::names::parse_expose;
use orlop_model::{Digest, ImageRef};
use std::collections::BTreeMap;

/// `ps`.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// `-a`: also what doesn't run.
    pub all: bool,
    /// `-n`, `-l`: only this many of the newest, running or not.
    pub last: Option<usize>,
    /// `-s`: with sizes.
    pub size: bool,
    /// Keys of [`orlop_model::filter::CONTAINERS`].
    pub filters: Filters,
}

/// One line of `ps`.
#[derive(Clone, Debug)]
pub struct ContainerSummary {
    /// The container.
    pub container: Container,
    /// The image as it was named, or its short id when that name means another image now.
    pub image: String,
    /// Of the writable layer, when it was asked for.
    pub size: Option<ContainerSize>,
}

/// What a container takes.
#[derive(Clone, Copy, Debug)]
pub struct ContainerSize {
    /// Its writable layer.
    pub writable: Usage,
    /// Bytes of the image below it.
    pub image: u64,
}

impl Engine {
    /// Every container, newest first, as it is now.
    pub(crate) fn containers(&self) -> Result<Vec<Container>> {
        let mut containers = self.state.read(|tx| tx.table::<Container>().list())?;
        if containers.iter().any(|container| self.needs_reaping(container)) {
            for container in containers.iter().filter(|container| self.needs_reaping(container)) {
                // One whose lock is held is being reaped or started right now.
                if let Some(lock) = self.state.try_lock("container", &container.id.hex())? {
                    // One that can't be reaped is still listed; the verbs on it tell why.
                    let _ = self.reap_under(lock, container.id);
                }
            }
            containers = self.state.read(|tx| tx.table::<Container>().list())?;
        }
        containers.retain(|container| container.details.status.phase != Phase::Creating);
        containers.sort_by_key(|container| std::cmp::Reverse(container.details.created));
        Ok(containers)
    }

    /// The containers that `ps` shows.
    pub fn list(&self, request: &ListRequest) -> Result<Vec<ContainerSummary>> {
        let all = self.containers()?;
        let matcher = Matcher::new(self, &all, &request.filters)?;
        let show_all = request.all || request.last.is_some() || matcher.implies_all();
        let names = self.image_names()?;
        let chosen: Vec<&Container> = all
            .iter()
            .filter(|container| show_all || container.details.status.restarting.is_some() || self.is_running(container))
            .filter(|container| matcher.matches(self, container))
            .take(request.last.unwrap_or(usize::MAX))
            .collect();
        chosen
            .into_iter()
            .map(|container| {
                let size = if request.size { Some(self.container_size(container)?) } else { None };
                Ok(ContainerSummary { image: shown_image(container, &names), size, container: container.clone() })
            })
            .collect()
    }

    /// Whether a program runs in it now.
    pub fn is_running(&self, container: &Container) -> bool {
        container.details.status.phase == Phase::Running && self.is_alive(container)
    }

    /// What a container takes on the disk.
    pub fn container_size(&self, container: &Container) -> Result<ContainerSize> {
        let diff = self.driver()?.diff(container.writable);
        // One that a power cut took before it was first used takes nothing.
        let writable = if diff.exists() { orlop_layers::usage(&diff)? } else { Usage::default() };
        let image = self.state.read(|tx| {
            let layers = container.layers.iter().map(|id| tx.layers().get(&id.hex()));
            layers.map(|row| Ok::<_, Error>(row?.map_or(0, |row| row.size))).sum::<Result<u64>>()
        })?;
        Ok(ContainerSize { writable, image })
    }

    fn image_names(&self) -> Result<BTreeMap<String, Digest>> {
        Ok(self.state.read(|tx| tx.tags().list())?.into_iter().map(|tag| (tag.name, tag.image)).collect())
    }
}

fn shown_image(container: &Container, names: &BTreeMap<String, Digest>) -> String {
    let typed = &container.details.image_name;
    match ImageRef::parse(typed) {
        Ok(reference) if names.get(&reference.to_string()) == Some(&container.image) => typed.clone(),
        _ => container.image.short(),
    }
}

struct Matcher<'a> {
    filters: &'a Filters,
    images: Option<Vec<Digest>>,
    before: Option<orlop_model::Timestamp>,
    since: Option<orlop_model::Timestamp>,
    exposed: Vec<String>,
    published: Vec<String>,
    is_task: Option<bool>,
}

impl<'a> Matcher<'a> {
    fn new(engine: &Engine, all: &[Container], filters: &'a Filters) -> Result<Self> {
        const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        if let Some(bad) = filters.values("status").iter().find(|value| !STATES.contains(&value.as_str())) {
            return Err(Error::Invalid(format!("invalid filter 'status={bad}'")));
        }
        const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];
        if let Some(bad) = filters.values("health").iter().find(|value| !HEALTH.contains(&value.as_str())) {
            return Err(Error::Invalid(format!("invalid filter 'health={bad}'")));
        }
        let is_task = filters.boolean("is-task").map_err(|error| Error::Invalid(error.to_string()))?;
        let ports = |key: &str| -> Result<Vec<String>> {
            let lists = filters
                .values(key)
                .iter()
                .map(|text| parse_expose(text).map_err(|_| Error::Invalid(format!("invalid filter '{key}={text}'"))));
            Ok(lists.collect::<Result<Vec<_>>>()?.concat())
        };
        for code in filters.values("exited") {
            code.parse::<i32>().map_err(|_| Error::Invalid(format!("invalid filter 'exited={code}'")))?;
        }
        let created = |key: &str| -> Result<Option<orlop_model::Timestamp>> {
            let Some(name) = filters.values(key).first() else { return Ok(None) };
            let found = engine.container(name)?;
            Ok(all.iter().find(|container| container.id == found.id).map(|container| container.details.created))
        };
        let images = match filters.values("ancestor") {
            [] => None,
            // An ancestor that isn't there has no containers.
            names => Some(names.iter().filter_map(|name| engine.image(name).ok()).map(|(row, _)| row.id).collect()),
        };
        Ok(Self {
            filters,
            images,
            before: created("before")?,
            since: created("since")?,
            exposed: ports("expose")?,
            published: ports("publish")?,
            is_task,
        })
    }

    /// These ask about containers that may have ended.
    fn implies_all(&self) -> bool {
        self.filters.contains("status")
            || self.filters.contains("exited")
            || self.before.is_some()
            || self.since.is_some()
    }

    fn matches(&self, engine: &Engine, container: &Container) -> bool {
        let status = &container.details.status;
        let word = if status.phase == Phase::Running && !engine.is_alive(container) { "exited" } else { status.word() };
        let name = format!("/{}", container.name);
        let exited = !self.filters.contains("exited")
            || (status.phase == Phase::Exited && self.filters.equals("exited", &status.exit_code.to_string()));
        let name_matches = self.filters.matches("name", &name) || self.filters.matches("name", container.name.as_str());
        let volumes = !self.filters.contains("volume")
            || container.details.mounts.iter().any(|mount| {
                self.filters.equals("volume", &mount.target)
                    || mount.volume().is_some_and(|volume| self.filters.equals("volume", volume.name.as_str()))
            });
        let config = &container.details.config;
        let exposes = self.exposed.is_empty() || config.exposed_ports.iter().any(|port| self.exposed.contains(port));
        let network = container.details.host.network.name();
        let health = || engine.health(container).map_or("none".to_owned(), |health| health.status.word().to_owned());
        name_matches
            && exited
            && exposes
            // No port is published yet, nothing is a task of Swarm's, and only Windows isolates otherwise.
            && self.published.is_empty()
            && self.is_task != Some(true)
            && self.filters.equals("isolation", "")
            && self.filters.equals("network", &network)
            && (!self.filters.contains("health") || self.filters.equals("health", &health()))
            && volumes
            && self.filters.equals("status", word)
            && self.filters.matches("id", &container.id.hex())
            && self.filters.matches_labels(&container.details.config.labels)
            && self.images.as_ref().is_none_or(|images| images.contains(&container.image))
            && self.before.is_none_or(|before| container.details.created < before)
            && self.since.is_none_or(|since| container.details.created > since)
    }
}
