//! `docker save`'s format: manifest.json names the config, the tags and the layers (Docker image spec v1.2).
//!
//! Layers are `<id>/layer.tar` (Docker up to 24, second copies as symlinks), `<digest>.tar` (podman, skopeo) or
//! `blobs/sha256/<digest>` (Docker 25 and later, where index.json stands beside it for readers of OCI layouts).

use crate::Error;
use crate::archive::blob::{Blob, sha256};
use crate::archive::oci::{Descriptor, check_layer_type};
use crate::archive::source::Files;
use crate::archive::{ArchivedImage, ArchivedLayer, MAX_JSON, parse_config, parse_json, push};
use orlop_model::Digest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// By diff_id; Docker writes it for foreign layers, and for all since 25.
    #[serde(default)]
    layer_sources: Option<BTreeMap<String, Descriptor>>,
}

/// The images that manifest.json names.
pub(crate) fn images(files: &Files, manifest: &Blob) -> Result<Vec<ArchivedImage>, Error> {
    let items: Vec<ManifestItem> = parse_json("manifest.json", &manifest.read_all(MAX_JSON)?)?;
    if items.is_empty() {
        return Err(Error::archive("its manifest.json names no image".to_owned()));
    }
    let mut images = Vec::new();
    for item in items {
        push(&mut images, image(files, item)?)?;
    }
    Ok(images)
}

fn image(files: &Files, item: ManifestItem) -> Result<ArchivedImage, Error> {
    let config = files.need(&item.config)?.read_all(MAX_JSON)?;
    let id = sha256(&config);
    match digest_in_name(&item.config) {
        Some(expected) if expected != id => {
            return Err(Error::WrongDigest { name: format!("the config {:?}", item.config), expected, digest: id });
        }
        _ => {}
    }
    let parsed = parse_config(&config)?;
    let names = item.layers.unwrap_or_default();
    if names.len() != parsed.rootfs.diff_ids.len() {
        return Err(Error::LayerCount { id, diff_ids: parsed.rootfs.diff_ids.len(), layers: names.len() });
    }
    let mut layers = Vec::with_capacity(names.len());
    for (name, diff_id) in names.iter().zip(&parsed.rootfs.diff_ids) {
        let blob = files.need(name)?;
        let source = item.layer_sources.as_ref().and_then(|sources| sources.get(&diff_id.to_string()));
        let is_blob = name.starts_with("blobs/sha256/");
        if let Some(source) = source {
            check_layer_type(&source.media_type)?;
            if is_blob && Some(source.digest) == digest_in_name(name) && source.size != blob.size {
                return Err(Error::WrongSize { name: name.clone(), expected: source.size, size: blob.size });
            }
        }
        // `<digest>.tar` is the diff_id, which is verified anyway.
        let digest = digest_in_name(name).filter(|_| is_blob);
        layers.push(ArchivedLayer { diff_id: *diff_id, blob: Arc::new(blob), digest });
    }
    Ok(ArchivedImage {
        id,
        names: item.repo_tags.unwrap_or_default(),
        pinned: Vec::new(),
        config,
        parsed,
        manifest: None,
        layers,
    })
}

/// The digest that a file's name claims: `<64 hex>.json`, `blobs/sha256/<64 hex>`.
fn digest_in_name(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"))?;
    format!("sha256:{hex}").parse().ok()
}
