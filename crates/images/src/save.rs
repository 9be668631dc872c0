//! `save`: images as an archive, an OCI layout that has Docker's manifest.json as well, as of Docker 25.
//!
//! ```text
//! blobs/sha256/HEX   configs, manifests, and layers uncompressed, each once
//! index.json         every image, with its names
//! manifest.json      the same in Docker's own words, for readers of before 25
//! oci-layout
//! ```
//!
//! Layers are made again from their files while they are written, and hashed on the way, so that what is written to its
//! end is right. The bytes are the same for the same images and names, whenever and wherever they are saved.

use crate::archive::sha256;
use crate::aside::Aside;
use crate::resolve::{resolve, tag_reference};
use crate::{Error, Store, blob};
use orlop_layers::{LayerArchive, store as layers};
use orlop_model::image::ImageConfig;
use orlop_model::{Digest, ErrorKind, Id, ImageRef, Kind};
use orlop_state::{ImageRow, ReadTx};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that was saved, with the names that went along.
pub type Saved = (Digest, BTreeSet<ImageRef>);

/// Writes the images that `names` mean to `output`. A name without a tag means every tag of its repository, as in
/// Docker; an id or a digest brings no name along. Nothing is written when one of them isn't there.
///
/// Other verbs may run beside: a lease holds what is being saved.
pub fn save(store: Store<'_>, names: &[String], output: &mut dyn Write) -> Result<Vec<Saved>, Error> {
    let lease = store.state.lease()?;
    let chosen = store.state.write(|tx| {
        let chosen = choose(tx, names)?;
        let layers: BTreeSet<Id> = chosen.values().flat_map(|(row, _)| row.layers.iter().copied()).collect();
        let mut stored = BTreeMap::new();
        for id in &layers {
            stored.extend(tx.layers().get(&id.hex())?.map(|row| (row.id, row.diff_id)));
        }
        lease.put(tx, "save", layers.into_iter().collect())?;
        Ok::<_, Error>(Chosen { images: chosen, stored })
    })?;
    let written = write(store, &chosen, output);
    let is_unneeded = store.state.write(|tx| {
        lease.end(tx)?;
        if let Err(Error::LayerDamaged { diff_id, .. }) = &written {
            // So that a load or pull stores it anew instead of taking it for whole.
            for (id, _) in chosen.stored.iter().filter(|(_, stored)| *stored == diff_id) {
                layers::set_damaged(tx, *id, true)?;
            }
        }
        let needed = layers::referenced(store.state, tx)?;
        Ok::<_, Error>(chosen.images.values().any(|(row, _)| row.layers.iter().any(|layer| !needed.contains(layer))))
    })?;
    if is_unneeded {
        // An image was removed meanwhile, and only this save still needed its layers.
        layers::remove_unreferenced(store.state, store.driver)?;
    }
    // A lease holds layers; the config goes with its image.
    if matches!(&written, Err(error) if error.kind() == ErrorKind::NotFound) {
        let known = store.state.read(|tx| tx.images().list())?;
        if let Some(id) = chosen.images.keys().find(|id| known.iter().all(|row| row.id != **id)) {
            return Err(Error::NotFound { name: id.to_string(), close_matches: Vec::new() });
        }
    }
    written?;
    Ok(chosen.images.into_iter().map(|(id, (_, names))| (id, names)).collect())
}

/// [`save`] into the file at `path`, which is whole and on the disk afterwards, or as it was before.
pub fn save_file(store: Store<'_>, names: &[String], path: &Path) -> Result<Vec<Saved>, Error> {
    let mut aside = Aside::beside(path)?;
    let saved = save(store, names, &mut aside.file)?;
    aside.replace()?;
    Ok(saved)
}

struct Chosen {
    images: BTreeMap<Digest, (ImageRow, BTreeSet<ImageRef>)>,
    stored: BTreeMap<Id, Digest>,
}

fn choose(tx: &ReadTx<'_>, names: &[String]) -> Result<BTreeMap<Digest, (ImageRow, BTreeSet<ImageRef>)>, Error> {
    let mut images: BTreeMap<Digest, (ImageRow, BTreeSet<ImageRef>)> = BTreeMap::new();
    let tags: Vec<(ImageRef, Digest)> =
        tx.tags().list()?.iter().filter_map(|tag| Some((tag_reference(tag)?, tag.image))).collect();
    let tags: Vec<(ImageRef, Digest)> = tags.into_iter().filter(|(name, _)| name.digest.is_none()).collect();
    for text in names {
        let mut of_repository = Vec::new();
        if is_bare(text)
            && let Ok(reference) = ImageRef::parse(text)
        {
            let fits = |(tag, _): &&(ImageRef, Digest)| tag.digest.is_none() && tag.name() == reference.name();
            of_repository = tags.iter().filter(fits).collect();
        }
        for (tag, image) in &of_repository {
            if let Some(row) = tx.images().get(&image.to_string())? {
                images.entry(row.id).or_insert_with(|| (row, BTreeSet::new())).1.insert(tag.clone());
            }
        }
        if of_repository.is_empty() {
            let found = resolve(tx, text)?;
            let names = &mut images.entry(found.row.id).or_insert_with(|| (found.row, BTreeSet::new())).1;
            names.extend(found.name.filter(|name| name.digest.is_none()));
        }
    }
    Ok(images)
}

/// Whether a name comes without tag and digest.
fn is_bare(text: &str) -> bool {
    !text.contains('@') && !text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Where the bytes of a blob come from.
enum Content {
    /// Configs as well, so that an image that is removed meanwhile is saved all the same.
    Bytes(Vec<u8>),
    Layer(PathBuf),
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Descriptor<'a>>,
}

/// An item of manifest.json.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn write(store: Store<'_>, chosen: &Chosen, output: &mut dyn Write) -> Result<(), Error> {
    let mut blobs: BTreeMap<Digest, (u64, Content)> = BTreeMap::new();
    let mut index = Index { schema_version: 2, media_type: INDEX, manifests: Vec::new() };
    let mut items = Vec::new();
    for (id, (row, names)) in &chosen.images {
        let bytes = blob(store.state.root(), *id)?;
        let size = bytes.len() as u64;
        let layers = layers_of(store, chosen, row, &bytes)?;
        let describe = |media_type, digest, size| Descriptor { media_type, digest, size, annotations: BTreeMap::new() };
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            config: describe(CONFIG, *id, size),
            layers: layers.iter().map(|(digest, size, _)| describe(LAYER, *digest, *size)).collect(),
        };
        let manifest = json(&manifest);
        let described = describe(MANIFEST, sha256(&manifest), manifest.len() as u64);
        items.push(Item {
            config: blob_name(*id),
            repo_tags: (!names.is_empty()).then(|| names.iter().map(ImageRef::familiar).collect()),
            layers: layers.iter().map(|(digest, ..)| blob_name(*digest)).collect(),
        });
        if names.is_empty() {
            index.manifests.push(described.clone());
        }
        for name in names {
            let mut annotations = BTreeMap::from([("io.containerd.image.name", name.to_string())]);
            annotations.extend(name.tag.clone().map(|tag| ("org.opencontainers.image.ref.name", tag)));
            index.manifests.push(Descriptor { annotations, ..described.clone() });
        }
        blobs.insert(described.digest, (described.size, Content::Bytes(manifest)));
        blobs.insert(*id, (size, Content::Bytes(bytes)));
        for (digest, size, directory) in layers {
            blobs.insert(digest, (size, Content::Layer(directory)));
        }
    }
    let mut tar = Tar { output };
    tar.directory("blobs/")?;
    tar.directory("blobs/sha256/")?;
    for (digest, (size, content)) in blobs {
        let name = blob_name(digest);
        match content {
            Content::Bytes(bytes) => tar.bytes_file(&name, &bytes)?,
            Content::Layer(directory) => {
                let mut archive = LayerArchive::open(&directory).map_err(|error| Error::of_layer(digest, error))?;
                let unreadable = |error| Error::of_layer(digest, orlop_layers::Error::of_reader(error));
                tar.file(&name, size, &mut archive, unreadable)?;
            }
        }
    }
    tar.bytes_file("index.json", &json(&index))?;
    tar.bytes_file("manifest.json", &json(&items))?;
    tar.bytes_file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.end()
}

/// Digest, size and directory of each layer as the config lists them.
fn layers_of(
    store: Store<'_>,
    chosen: &Chosen,
    row: &ImageRow,
    config: &[u8],
) -> Result<Vec<(Digest, u64, PathBuf)>, Error> {
    let directories: BTreeMap<Digest, PathBuf> =
        row.layers.iter().filter_map(|id| Some((*chosen.stored.get(id)?, store.driver.directory(*id)))).collect();
    let config: ImageConfig = serde_json::from_slice(config)
        .map_err(|source| Error::Json { name: format!("the config of image {}", row.id), source })?;
    let layer = |diff_id: &Digest| {
        let directory =
            directories.get(diff_id).ok_or(Error::LayerMissing { image: row.id, diff_id: *diff_id })?.clone();
        let archive = LayerArchive::open(&directory).map_err(|error| Error::of_layer(*diff_id, error))?;
        Ok((*diff_id, archive.size(), directory))
    };
    config.rootfs.diff_ids.iter().map(layer).collect()
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("names and numbers are always JSON")
}

/// Writes an archive whose entries say nothing but name, size and mode.
struct Tar<'a> {
    output: &'a mut dyn Write,
}

impl Tar<'_> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        self.header(name, tar::EntryType::Directory, 0o755, 0)
    }

    fn bytes_file(&mut self, name: &str, mut bytes: &[u8]) -> Result<(), Error> {
        self.file(name, bytes.len() as u64, &mut bytes, |source| Error::WriteArchive { source })
    }

    /// `unreadable` says what a failure of the reader means.
    fn file(
        &mut self,
        name: &str,
        size: u64,
        content: &mut dyn Read,
        unreadable: impl Fn(io::Error) -> Error,
    ) -> Result<(), Error> {
        self.header(name, tar::EntryType::Regular, 0o644, size)?;
        let mut buffer = vec![0; 256 << 10];
        let mut left = size;
        loop {
            let count = match content.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(&unreadable)?,
            };
            if count == 0 && left == 0 {
                break;
            }
            if count == 0 || count as u64 > left {
                let text = "it has another size than before";
                return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            self.bytes(&buffer[..count])?;
            left -= count as u64;
        }
        self.bytes(&[0; 512][..(size.wrapping_neg() % 512) as usize])
    }

    fn header(&mut self, name: &str, kind: tar::EntryType, mode: u32, size: u64) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        let failed = |source| Error::WriteArchive { source };
        header.set_path(name).map_err(failed)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.bytes(header.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write_all(bytes).map_err(|source| Error::WriteArchive { source })
    }

    fn end(mut self) -> Result<(), Error> {
        self.bytes(&[0; 1024])?;
        self.output.flush().map_err(|source| Error::WriteArchive { source })
    }
}
