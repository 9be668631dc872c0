//! Reading image archives: docker-archive, OCI layout (directory or tar), and Docker 25's mix of both.
//!
//! An archive is opened once: its headers are indexed, and every blob of it is then read at its place, any number at
//! the same time. Nothing of it is trusted: names resolve within the index, sizes and digests are verified before or
//! while a blob is read.

mod blob;
mod docker;
pub(crate) mod oci;
mod source;
mod spool;
mod tar_index;

pub use blob::{Blob, BlobReader, LayerBlob, Listener};
pub use source::Source;

pub(crate) use blob::sha256;
pub(crate) use source::{check_begin, plain_file, unnamed_file};
pub(crate) use spool::Spool;

use crate::Error;
use orlop_model::image::ImageConfig;
use orlop_model::{Digest, ImageRef};
use source::Files;
use std::path::Path;
use std::sync::Arc;

/// Manifests, indexes and configs are not longer than this (DESIGN.md, "Unpacking has limits").
pub(crate) const MAX_JSON: u64 = 4 * 1024 * 1024;
/// Values in one JSON file; an image of 500 layers has some thousands.
const MAX_VALUES: usize = 100_000;
/// Bytes of the configs of all images of an archive.
const MAX_CONFIGS: usize = 16 * 1024 * 1024;
/// Images of an archive.
const MAX_IMAGES: usize = 1000;
/// The kernel mounts no more.
const MAX_LAYERS: usize = 500;

/// An image as an archive describes it; its layers have not been read yet.
#[derive(Debug)]
pub struct ArchivedImage {
    /// Digest of the config.
    pub id: Digest,
    /// As the archive writes them, not parsed.
    pub names: Vec<String>,
    /// `name@digest` as a registry has it; an archive vouches for none.
    pub pinned: Vec<ImageRef>,
    /// Byte for byte.
    pub config: Vec<u8>,
    /// The same, read.
    pub parsed: ImageConfig,
    /// Digest and bytes of the manifest; a docker-archive has none.
    pub manifest: Option<(Digest, Vec<u8>)>,
    /// Lowest first.
    pub layers: Vec<ArchivedLayer>,
}

/// A layer in an archive or a registry.
#[derive(Clone, Debug)]
pub struct ArchivedLayer {
    /// Digest of the uncompressed layer, as the config says; verified when it is unpacked.
    pub diff_id: Digest,
    /// The layer as it lies there: tar, plain or compressed; its size is what the descriptor says.
    pub blob: Arc<dyn LayerBlob>,
    /// Digest of the blob as it lies there, where the archive tells one.
    pub digest: Option<Digest>,
}

/// Opens `source` and reads what images it holds. `ingest` is a directory of ours for what has to be copied first.
///
/// Errors name the file of the archive that is missing, damaged or not as announced.
pub fn open(source: Source, ingest: &Path) -> Result<Vec<ArchivedImage>, Error> {
    let files = Files::open(source, ingest)?;
    let images = if let Some(manifest) = files.get("manifest.json")? {
        docker::images(&files, &manifest)?
    } else if files.get("index.json")?.is_some() {
        oci::images(&files)?
    } else if matches!(&files, Files::Tar(index) if !index.ended) {
        return Err(Error::Missing { name: "manifest.json".to_owned(), hint: "; the archive may be cut off" });
    } else {
        return Err(Error::NotAnImage);
    };
    for image in &images {
        check_count(image.id, image.layers.len())?;
    }
    Ok(images)
}

fn check_count(id: Digest, layers: usize) -> Result<(), Error> {
    match layers <= MAX_LAYERS {
        true => Ok(()),
        false => Err(Error::archive(format!("{id} has {layers} layers; {MAX_LAYERS} can be mounted"))),
    }
}

/// Reads JSON that an archive supplies. Each value in it takes memory by far larger than its text, so their number is
/// limited: every one but the first stands after a comma.
pub(crate) fn parse_json<'a, T: serde::Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T, Error> {
    if bytes.iter().filter(|byte| **byte == b',').count() > MAX_VALUES {
        return Err(Error::archive(format!("{name} has more than {MAX_VALUES} values")));
    }
    serde_json::from_slice(bytes).map_err(|source| Error::Json { name: name.to_owned(), source })
}

/// Adds an image to those of an archive, whose configs are all kept in memory until they are stored.
fn push(images: &mut Vec<ArchivedImage>, image: ArchivedImage) -> Result<(), Error> {
    images.push(image);
    let bytes: usize = images.iter().map(|image| image.config.len()).sum();
    match bytes <= MAX_CONFIGS && images.len() <= MAX_IMAGES {
        true => Ok(()),
        false => Err(Error::archive(format!("it has more than {MAX_IMAGES} images or {MAX_CONFIGS} bytes of configs"))),
    }
}

fn parse_config(bytes: &[u8]) -> Result<ImageConfig, Error> {
    let config: ImageConfig = parse_json("the image config", bytes)?;
    match config.rootfs.kind.as_str() {
        "layers" => Ok(config),
        other => Err(Error::archive(format!("its config has a root file system of type {other:?}; `layers` is known"))),
    }
}
