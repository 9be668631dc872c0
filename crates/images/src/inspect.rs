//! `image inspect` and `history`, in Docker's words (Engine API, `ImageInspect` and `HistoryResponseItem`).

use crate::list::names_of;
use crate::resolve::resolve;
use crate::store::{blob, config};
use crate::{Error, Store};
use orlop_layers::DriverKind;
use orlop_model::image::{ContainerDefaults, Empty, ImageConfig};
use orlop_model::{Digest, Id, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Serialises to the object that `docker image inspect` prints, fields in its order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// Its id.
    pub id: Digest,
    /// Names, in short form.
    pub repo_tags: Vec<String>,
    /// `name@digest` of the manifest, when it came with one.
    pub repo_digests: Vec<String>,
    /// Always empty: there are no intermediate images.
    pub parent: String,
    /// Of the last step of its history.
    pub comment: String,
    /// As the config says; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Which Docker made it.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// How containers of it run.
    pub config: InspectConfig,
    /// GOARCH.
    pub architecture: String,
    /// GOARM and its like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// GOOS.
    pub os: String,
    /// Sum of its layers in bytes.
    pub size: u64,
    /// Where its layers lie.
    pub graph_driver: GraphDriver,
    /// Digests of its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What isn't part of the image itself.
    pub metadata: Metadata,
}

/// `Config` with every field that a template of Docker's may ask for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "Docker's names, most of them without a meaning for an image")]
pub struct InspectConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Vec<String>,
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
    pub entrypoint: Option<Vec<String>>,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// `GraphDriver`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Directories, by Docker's names; null for drivers that mount nothing.
    pub data: Option<BTreeMap<&'static str, String>>,
    /// `overlay2` or `vfs`.
    pub name: &'static str,
}

/// `RootFS`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    /// Always `layers`.
    pub r#type: &'static str,
    /// diff_ids, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Digest>,
}

/// `Metadata`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// When a name was last given to it; Go's zero time when it has none.
    pub last_tag_time: String,
}

/// What only the config's own bytes tell.
#[derive(Deserialize)]
struct Extra {
    #[serde(default)]
    docker_version: Option<String>,
}

/// Describes the image that `name` means.
pub fn inspect(store: Store<'_>, name: &str) -> Result<ImageInspect, Error> {
    let (row, tags) = store.state.read(|tx| Ok::<_, Error>((resolve(tx, name)?.row, tx.tags().list()?)))?;
    let bytes = blob(store.state.root(), row.id)?;
    let config: ImageConfig = parse(&row.id, &bytes)?;
    let extra: Extra = parse(&row.id, &bytes)?;
    let (names, pinned) = names_of(&tags, row.id);
    let mut repo_digests: Vec<String> = pinned.iter().map(orlop_model::ImageRef::familiar).collect();
    // Of an archive only the manifest is known, and no registry.
    let unpinned = names.iter().filter(|name| !pinned.iter().any(|pinned| pinned.name() == name.name()));
    let of_manifest = |name: &orlop_model::ImageRef| Some(format!("{}@{}", name.familiar_name(), row.manifest?));
    repo_digests.extend(unpinned.filter_map(of_manifest));
    repo_digests.dedup();
    let tagged = tags.iter().filter(|tag| tag.image == row.id).map(|tag| tag.tagged).max();
    Ok(ImageInspect {
        id: row.id,
        repo_tags: names.iter().map(orlop_model::ImageRef::familiar).collect(),
        repo_digests,
        parent: String::new(),
        comment: config.history.last().and_then(|last| last.comment.clone()).unwrap_or_default(),
        created: config.created.clone(),
        docker_version: extra.docker_version.unwrap_or_default(),
        author: config.author.clone().unwrap_or_default(),
        config: inspect_config(config.config),
        architecture: config.architecture,
        variant: config.variant,
        os: config.os,
        size: row.size,
        graph_driver: graph_driver(store, &row.layers),
        root_fs: RootFs { r#type: "layers", layers: config.rootfs.diff_ids },
        metadata: Metadata {
            last_tag_time: tagged.map_or_else(|| Timestamp::NEVER.to_owned(), |time| time.to_string()),
        },
    })
}

fn parse<'a, T: Deserialize<'a>>(id: &Digest, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { name: format!("the config of image {id}"), source })
}

fn inspect_config(config: ContainerDefaults) -> InspectConfig {
    InspectConfig {
        hostname: String::new(),
        domainname: String::new(),
        user: config.user,
        attach_stdin: false,
        attach_stdout: false,
        attach_stderr: false,
        exposed_ports: config.exposed_ports,
        tty: false,
        open_stdin: false,
        stdin_once: false,
        env: config.env,
        cmd: Some(config.cmd).filter(|cmd| !cmd.is_empty()),
        healthcheck: config.healthcheck,
        image: String::new(),
        volumes: Some(config.volumes).filter(|volumes| !volumes.is_empty()),
        working_dir: config.working_dir,
        entrypoint: Some(config.entrypoint).filter(|entrypoint| !entrypoint.is_empty()),
        on_build: Some(config.on_build).filter(|on_build| !on_build.is_empty()),
        labels: Some(config.labels).filter(|labels| !labels.is_empty()),
        stop_signal: config.stop_signal,
        shell: config.shell,
    }
}

fn graph_driver(store: Store<'_>, layers: &[Id]) -> GraphDriver {
    let name = store.driver.kind().name();
    let Some((top, below)) = layers.split_last().filter(|_| store.driver.kind() == DriverKind::Overlay2) else {
        return GraphDriver { data: None, name };
    };
    let directory = store.driver.directory(*top);
    let below: Vec<String> = below.iter().rev().map(|id| store.driver.diff(*id).display().to_string()).collect();
    let mut data = BTreeMap::from([
        ("MergedDir", directory.join("merged").display().to_string()),
        ("UpperDir", store.driver.diff(*top).display().to_string()),
        ("WorkDir", directory.join("work").display().to_string()),
    ]);
    if !below.is_empty() {
        data.insert("LowerDir", below.join(":"));
    }
    GraphDriver { data: Some(data), name }
}

/// A line of `history`, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryLine {
    /// The image, for the first line; None is shown as `<missing>`.
    pub id: Option<Digest>,
    /// When the step was made.
    pub created: Option<Timestamp>,
    /// The command.
    pub created_by: String,
    /// Bytes of its layer; 0 for a step that changed the config only.
    pub size: u64,
    /// A message.
    pub comment: String,
    /// The image's names, for the first line.
    pub tags: Vec<String>,
}

/// How the image that `name` means came to be. Layers that the config's history doesn't mention get a line each.
pub fn history(store: Store<'_>, name: &str) -> Result<Vec<HistoryLine>, Error> {
    let (row, tags, sizes) = store.state.read(|tx| {
        let row = resolve(tx, name)?.row;
        let mut sizes = HashMap::new();
        for layer in &row.layers {
            sizes.extend(tx.layers().get(&layer.hex())?.map(|layer| (layer.diff_id, layer.size)));
        }
        Ok::<_, Error>((row, tx.tags().list()?, sizes))
    })?;
    let config = config(store.state.root(), row.id)?;
    // A layer that the image has twice stands in its row once.
    let mut sizes = config.rootfs.diff_ids.iter().map(|diff_id| sizes.get(diff_id).copied().unwrap_or(0));
    let mut lines: Vec<HistoryLine> = config
        .history
        .into_iter()
        .map(|step| HistoryLine {
            id: None,
            created: step.created.as_deref().and_then(Timestamp::parse),
            created_by: step.created_by.unwrap_or_default(),
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            comment: step.comment.unwrap_or_default(),
            tags: Vec::new(),
        })
        .collect();
    let unmentioned: Vec<u64> = sizes.collect();
    lines.extend(unmentioned.into_iter().map(|size| HistoryLine {
        id: None,
        created: None,
        created_by: String::new(),
        size,
        comment: String::new(),
        tags: Vec::new(),
    }));
    lines.reverse();
    if let Some(first) = lines.first_mut() {
        first.id = Some(row.id);
        first.tags = names_of(&tags, row.id).0.iter().map(orlop_model::ImageRef::familiar).collect();
    }
    Ok(lines)
}
