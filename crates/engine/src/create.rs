//! `create` and the first half of `run`.
//!
//! The row comes first, as the intent Creating, under the container's lock; then the writable layer. What fails after
//! that takes everything back, and what is killed is taken back by `tend`.

use crate::container::{ContainerConfig, Details, HostConfig, Phase, Status};
use crate::limits::{OwnLimits, Support};
use crate::open::remove_directory;
use crate::{Container, CreateRequest, Created, Engine, Error, Network, Result, limits};
use orlop_model::image::{ContainerDefaults, ImageConfig};
use orlop_model::mount::{MountKind, MountSpec};
use orlop_model::options::{HealthCheck, IpcMode, PidMode, UtsMode};
use orlop_model::{ContainerName, Id, Timestamp};
use orlop_mounts::{Entry, Inherited, Origin, Request, Resolved, ResolvedMount};
use orlop_state::rows::volume::VolumeOrigin;
use orlop_state::{ImageRow, WriteTx};
use orlop_sys::lock::FileLock;
use std::collections::BTreeSet;

/// How often a container is tried again whose volume or image was removed by another process at that moment.
const ATTEMPTS: u32 = 10;

/// A container whose row is there and whose lock is held.
pub(crate) struct Reserved {
    pub container: Container,
    pub warnings: Vec<String>,
    pub lock: FileLock,
}

impl Engine {
    /// Makes a container, to be started later.
    pub fn create(&self, request: &CreateRequest) -> Result<Created> {
        let mut reserved = self.reserve(request)?;
        self.update(&mut reserved.container, |container| container.details.status.phase = Phase::Created)?;
        self.emit_container(&reserved.container, "create", &[]);
        Ok(Created { id: reserved.container.id, warnings: reserved.warnings })
    }

    /// Everything up to a container that nobody has been told of.
    pub(crate) fn reserve(&self, request: &CreateRequest) -> Result<Reserved> {
        orlop_model::mount::check_duplicates(&all_specs(request)).map_err(orlop_mounts::Error::from)?;
        crate::logging::check(&request.options.log)?;
        request.options.check(&request.network.name(), request.hostname.as_deref())?;
        let (request, told) = &self.fitted(request)?;
        for attempt in 0.. {
            let (image, config) = self.image_for(request)?;
            let id = Id::random();
            let name = request.name.clone().unwrap_or_else(|| ContainerName::random(attempt));
            let origin = VolumeOrigin { container: id, container_name: name.to_string(), image: request.image.clone() };
            let resolved = match self.resolve_mounts(request, &image, &config, &origin) {
                // Its layers went while they were looked at.
                Err(_) if attempt < ATTEMPTS && self.image(&request.image).map_or(true, |(row, _)| row != image) => {
                    continue;
                }
                resolved => resolved?,
            };
            match self.insert(name, origin, request, (&image, &config), &resolved) {
                Ok((container, lock)) => {
                    for name in &resolved.created_volumes {
                        self.emit_volume("create", name, &[("driver", "local")]);
                    }
                    let Err(error) = self.prepare(&container) else {
                        let warnings = [&told[..], &resolved.warnings].concat();
                        return Ok(Reserved { container, warnings, lock });
                    };
                    self.undo_create(&container)?;
                    resolved.undo(&self.state)?;
                    lock.remove();
                    return Err(error);
                }
                Err(Vanished::Error(error)) => {
                    resolved.undo(&self.state)?;
                    if attempt < ATTEMPTS && self.leaves_its_name(&error)? {
                        continue;
                    }
                    return Err(error);
                }
                // Another process removed the image or a volume, or took the name, between our look and the
                // transaction.
                Err(Vanished::Object(error)) => {
                    resolved.undo(&self.state)?;
                    if attempt == ATTEMPTS {
                        return Err(error);
                    }
                }
            }
        }
        unreachable!("the loop returns in its last attempt")
    }

    /// Whether the container that has the name was on its way out, or was never told of, and is gone now: waits for who is
    /// at it, a reaper for one.
    fn leaves_its_name(&self, error: &Error) -> Result<bool> {
        let Error::NameTaken { holder, .. } = error else { return Ok(false) };
        let Ok(id) = holder.parse::<Id>() else { return Ok(false) };
        let is_passing =
            |container: &Container| matches!(container.details.status.phase, Phase::Creating | Phase::Removing { .. });
        if self.row(id)?.as_ref().is_some_and(|container| !is_passing(container)) {
            return Ok(false);
        }
        let lock = self.state.lock("container", holder)?;
        let gone = self.settled(id)?.is_none();
        if gone {
            lock.remove();
        }
        Ok(gone)
    }

    /// The request as this machine can keep it, and what it can't; containers whose namespaces are joined by id.
    fn fitted(&self, request: &CreateRequest) -> Result<(CreateRequest, Vec<String>)> {
        let mut request = request.clone();
        let support = Support::probe();
        limits::check_machine(&request.options, support)?;
        let warnings = limits::fit(&mut request.options, support, &OwnLimits::read());
        let options = &mut request.options;
        orlop_runtime::spec::capabilities(options.privileged, &options.cap_add, &options.cap_drop)?;
        self.named_runtime(&options.runtime)?;
        if let PidMode::Container(name) = &mut options.pid {
            self.join_by_id(name)?;
        }
        if let IpcMode::Container(name) = &mut options.ipc {
            self.join_by_id(name)?;
        }
        if let Network::Container(name) = &mut request.network {
            // Who shares a network is known by one name in it.
            request.hostname = Some(self.join_by_id(name)?.details.config.hostname);
        }
        Ok((request, warnings))
    }

    fn image_for(&self, request: &CreateRequest) -> Result<(ImageRow, ImageConfig)> {
        match (self.image(&request.image), &request.platform) {
            (Err(Error::Images(orlop_images::Error::NotFound { close_matches, .. })), _) => {
                Err(Error::ImageMissing(familiar(&request.image), close_matches))
            }
            (Ok((row, config)), Some(wanted)) => {
                orlop_images::check_platform(&familiar(&request.image), wanted, &config)?;
                Ok((row, config))
            }
            (found, _) => found,
        }
    }

    fn resolve_mounts(
        &self,
        request: &CreateRequest,
        image: &ImageRow,
        config: &ImageConfig,
        origin: &VolumeOrigin,
    ) -> Result<Resolved> {
        let mut inherited = Vec::new();
        for from in &request.volumes_from {
            let container = self.container(&from.container)?;
            inherited.push(Inherited { flag: from.clone(), mounts: container.details.mounts });
        }
        let chain = self.lower_directories(&image.layers)?;
        let image_entry = |path: &str| image_entry(&chain, path);
        let volumes: Vec<String> = config.config.volumes.keys().cloned().collect();
        Ok(orlop_mounts::resolve(
            &self.state,
            &Request {
                mounts: &all_specs(request),
                volumes_from: &inherited,
                image_volumes: &volumes,
                origin,
                image_entry: Some(&image_entry),
            },
        )?)
    }

    fn insert(
        &self,
        name: ContainerName,
        origin: VolumeOrigin,
        request: &CreateRequest,
        (image, config): (&ImageRow, &ImageConfig),
        resolved: &Resolved,
    ) -> std::result::Result<(Container, FileLock), Vanished> {
        let id = origin.container;
        let lock = self.state.lock("container", &id.hex()).map_err(Error::from)?;
        let driver = self.driver()?.kind().name().to_owned();
        let container = Container {
            id,
            name,
            image: image.id,
            layers: image.layers.clone(),
            writable: Id::random(),
            volumes: resolved.mounts.iter().filter_map(|mount| Some(mount.volume()?.name.clone())).collect(),
            running: false,
            details: Details {
                created: Timestamp::now(),
                image_name: request.image.clone(),
                driver,
                config: merge(id, request, config)?,
                host: host_config(request),
                mounts: resolved.mounts.clone(),
                status: Status::new(),
            },
        };
        let inserted = self.state.write(|tx| {
            check_image(tx, image)?;
            check_volumes(tx, &container)?;
            check_name(tx, request, &container)?;
            tx.table::<Container>().insert(&container).map_err(Error::from)?;
            Ok(())
        });
        match inserted {
            Ok(()) => Ok((container, lock)),
            Err(error) => {
                lock.remove();
                Err(error)
            }
        }
    }

    fn prepare(&self, container: &Container) -> Result<()> {
        self.driver()?.prepare(container.writable, &topmost_first(&container.layers))?;
        orlop_sys::durable::make_directory(&self.container_dir(container.id), 0o700)?;
        Ok(())
    }

    /// Takes back a container that nobody has been told of. The caller holds its lock.
    pub(crate) fn undo_create(&self, container: &Container) -> Result<()> {
        self.tear_down(container)?;
        self.driver()?.remove(container.writable)?;
        remove_directory(&self.container_dir(container.id))?;
        self.state.write(|tx| tx.table::<Container>().delete(&container.id.hex()))?;
        self.remove_anonymous(&anonymous_volumes(container));
        Ok(())
    }

    /// The directories of image layers, topmost first.
    pub(crate) fn lower_directories(&self, layers: &[Id]) -> Result<Vec<std::path::PathBuf>> {
        let driver = self.driver()?;
        Ok(layers.iter().rev().map(|id| driver.diff(*id)).collect())
    }
}

/// Why an insert didn't happen.
enum Vanished {
    /// Something that was there a moment ago is gone: look again.
    Object(Error),
    /// Anything else.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Vanished {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

fn check_image(tx: &WriteTx<'_>, image: &ImageRow) -> std::result::Result<(), Vanished> {
    match tx.images().get(&image.id.to_string()).map_err(Error::from)? {
        Some(row) if row.layers == image.layers => Ok(()),
        _ => Err(Vanished::Object(Error::ImageMissing(image.id.to_string(), Vec::new()))),
    }
}

fn check_volumes(tx: &WriteTx<'_>, container: &Container) -> std::result::Result<(), Vanished> {
    orlop_volumes::require(tx, &container.volumes).map_err(|error| match error {
        gone @ orlop_volumes::Error::NoSuchVolume(_) => Vanished::Object(gone.into()),
        error => Vanished::Error(error.into()),
    })
}

fn check_name(tx: &WriteTx<'_>, request: &CreateRequest, container: &Container) -> std::result::Result<(), Vanished> {
    let Some(holder) = tx.containers().named(&container.name).map_err(Error::from)? else { return Ok(()) };
    let taken = Error::NameTaken { name: container.name.to_string(), holder: holder.id.hex() };
    // A random name that is taken is no fault of the caller's.
    Err(if request.name.is_some() { Vanished::Error(taken) } else { Vanished::Object(taken) })
}

fn all_specs(request: &CreateRequest) -> Vec<MountSpec> {
    let typed = request.binds.iter().chain(&request.tmpfs).map(|(_, spec)| spec);
    typed.chain(&request.mounts).cloned().collect()
}

fn host_config(request: &CreateRequest) -> HostConfig {
    let tmpfs = |(text, _): &(String, MountSpec)| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), options.to_owned())
    };
    HostConfig {
        binds: request.binds.iter().filter(|bind| !is_anonymous(bind)).map(|(text, _)| text.clone()).collect(),
        mounts: request.mounts.clone(),
        tmpfs: request.tmpfs.iter().map(tmpfs).collect(),
        volumes_from: request.volumes_from.clone(),
        volume_driver: request.volume_driver.clone().unwrap_or_default(),
        network: request.network.clone(),
        auto_remove: request.auto_remove,
        read_only: request.read_only,
        options: request.options.clone(),
    }
}

/// The image's config with the user's flags over it, by Docker's rules.
fn merge(id: Id, request: &CreateRequest, image: &ImageConfig) -> Result<ContainerConfig> {
    let defaults = &image.config;
    // A new entrypoint makes the image's arguments meaningless.
    let (entrypoint, cmd) = match &request.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), request.command.clone()),
        None if request.command.is_empty() => (defaults.entrypoint.clone(), defaults.cmd.clone()),
        None => (defaults.entrypoint.clone(), request.command.clone()),
    };
    if entrypoint.iter().chain(&cmd).next().is_none() {
        return Err(Error::NoCommand);
    }
    let stop_signal = request.stop_signal.clone().unwrap_or_else(|| defaults.stop_signal.clone());
    if !stop_signal.is_empty() {
        crate::kill::signal_number(&stop_signal)?;
    }
    let working_dir = request.working_dir.clone().unwrap_or_else(|| defaults.working_dir.clone());
    if request.working_dir.is_some() && !working_dir.starts_with('/') {
        return Err(Error::Invalid(format!(
            "the working directory '{working_dir}' is invalid, it needs to be an absolute path"
        )));
    }
    let health = health(request, defaults)?;
    let mut exposed_ports: Vec<String> = defaults.exposed_ports.keys().chain(&request.exposed_ports).cloned().collect();
    exposed_ports.sort_unstable();
    exposed_ports.dedup();
    let mut labels = defaults.labels.clone();
    labels.extend(request.labels.clone());
    Ok(ContainerConfig {
        hostname: hostname(id, request)?,
        user: request.user.clone().unwrap_or_else(|| defaults.user.clone()),
        attach: request.attach,
        exposed_ports,
        tty: request.tty,
        open_stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        env: merge_env(&defaults.env, &request.env),
        cmd,
        entrypoint,
        volumes: declared_volumes(request, defaults),
        working_dir,
        labels,
        stop_signal,
        stop_timeout: request.stop_timeout,
        domainname: request.domainname.clone(),
        health,
    })
}

/// Whether a `-v` is a path alone.
fn is_anonymous((_, spec): &(String, MountSpec)) -> bool {
    matches!(&spec.kind, MountKind::Volume(volume) if volume.name.is_none())
}

/// The image's volumes, and `-v /path` as typed, as Docker has it; a commit makes them the new image's.
fn declared_volumes(request: &CreateRequest, defaults: &ContainerDefaults) -> Vec<String> {
    let typed = request.binds.iter().filter(|bind| is_anonymous(bind)).map(|(text, _)| text);
    typed.chain(defaults.volumes.keys()).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The image's health check with the user's over it. One of the image's that can't be read is none, as for Docker.
fn health(request: &CreateRequest, defaults: &ContainerDefaults) -> Result<Option<HealthCheck>> {
    let image = defaults.healthcheck.clone().and_then(|value| serde_json::from_value::<HealthCheck>(value).ok());
    let merged = match request.health.clone() {
        Some(own) => Some(own.over(image)),
        None => image,
    };
    if let Some(check) = &merged {
        check.check()?;
    }
    Ok(merged)
}

fn hostname(id: Id, request: &CreateRequest) -> Result<String> {
    let of_host = || Ok(rustix::system::uname().nodename().to_string_lossy().into_owned());
    match (request.hostname.as_ref().filter(|name| !name.is_empty()), &request.network) {
        (_, _) if request.options.uts == UtsMode::Host => of_host(),
        (Some(name), Network::Container(_)) => Ok(name.clone()),
        (Some(name), _) => {
            let is_valid = (1..=63).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
            if is_valid { Ok(name.clone()) } else { Err(Error::Invalid(format!("invalid hostname format: {name}"))) }
        }
        (None, Network::Host) => of_host(),
        (None, Network::None | Network::Container(_)) => Ok(id.short()),
    }
}

/// The user's variables, then the image's that they don't name: Docker's order. An entry of the image without `=` is
/// dropped: it would take the value of the process that starts the container. One of the user's without `=` removes the
/// variable.
fn merge_env(image: &[String], user: &[String]) -> Vec<String> {
    let name_of = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let mut env: Vec<String> = Vec::new();
    for entry in user {
        let name = name_of(entry);
        match env.iter().position(|present| name_of(present) == name) {
            Some(place) => env[place].clone_from(entry),
            None => env.push(entry.clone()),
        }
    }
    let named: Vec<String> = env.iter().map(|entry| name_of(entry)).collect();
    env.retain(|entry| entry.contains('='));
    env.extend(image.iter().filter(|entry| entry.contains('=') && !named.contains(&name_of(entry))).cloned());
    env
}

/// What an image has at a path, seen through its layers without a mount.
fn image_entry(chain: &[std::path::PathBuf], path: &str) -> std::result::Result<Entry, orlop_mounts::Error> {
    match orlop_layers::look_up(chain, std::path::Path::new(path)) {
        Ok(None) => Ok(Entry::Missing),
        Ok(Some(kind)) if kind.is_dir() => Ok(Entry::Directory),
        Ok(Some(_)) => Ok(Entry::File),
        Err(error) => {
            let source = std::io::Error::other(error.to_string());
            Err(orlop_sys::Error::io("look up in the image", path, source).into())
        }
    }
}

/// A chain as drivers take it.
pub(crate) fn topmost_first(layers: &[Id]) -> Vec<Id> {
    layers.iter().rev().copied().collect()
}

/// The anonymous volumes that were made for this container, not those that it has from others.
pub(crate) fn anonymous_volumes(container: &Container) -> Vec<orlop_model::VolumeName> {
    let own = |mount: &&ResolvedMount| !matches!(mount.origin, Origin::VolumesFrom(_));
    let volumes = container.details.mounts.iter().filter(own).filter_map(ResolvedMount::volume);
    volumes.filter(|volume| volume.anonymous).map(|volume| volume.name.clone()).collect()
}

fn familiar(name: &str) -> String {
    orlop_model::ImageRef::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_user_replace_and_remove_those_of_the_image() {
        let list = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        for (image, user, expected) in [
            (list(&["A=1", "SECRET", "C=3"]), list(&["A=2", "B="]), list(&["A=2", "B=", "C=3"])),
            (list(&["PATH=/bin", "A=1"]), list(&["A"]), list(&["PATH=/bin"])),
            (list(&[]), list(&["PATH=/x", "NOT", "PATH=/y"]), list(&["PATH=/y"])),
        ] {
            assert_eq!(merge_env(&image, &user), expected);
        }
    }
}
