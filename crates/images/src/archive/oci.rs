//! OCI image layouts (OCI image-spec: image-layout.md, image-index.md, manifest.md).

use crate::Error;
use crate::archive::blob::{Blob, sha256};
use crate::archive::source::Files;
use crate::archive::{ArchivedImage, ArchivedLayer, MAX_JSON, parse_config, parse_json, push};
use orlop_model::Digest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Indexes within indexes; real ones have two levels.
const MAX_DEPTH: usize = 4;
/// `buildctl` and containerd put the full name here.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// A tag or a full name (OCI image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks a manifest that describes another one and is no image.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// A pointer to a blob: what it is, how long, and its digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

impl Descriptor {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is_attestation(&self) -> bool {
        self.annotation(REFERENCE_TYPE).is_some()
    }

    /// The full name of the image. A bare tag (`latest`, `1.2`, as umoci and skopeo write) names no repository.
    fn name(&self) -> Option<String> {
        let name = self.annotation(IMAGE_NAME).or_else(|| self.annotation(REF_NAME).filter(|name| !is_bare_tag(name)));
        name.map(str::to_owned)
    }
}

fn is_bare_tag(name: &str) -> bool {
    let version = name.strip_prefix('v').unwrap_or(name);
    let bare = !name.contains(['/', ':', '@']);
    bare && (name == "latest" || version.starts_with(|first: char| first.is_ascii_digit()))
}

/// The images that the top index names, one for each name, of this machine's platform where there is a choice.
pub(crate) fn images(files: &Files) -> Result<Vec<ArchivedImage>, Error> {
    let layout: Layout = parse_json("oci-layout", &files.need("oci-layout")?.read_all(MAX_JSON)?)?;
    if !layout.version.starts_with("1.") {
        return Err(Error::archive(format!("its layout version is {:?}; 1.0.0 is known", layout.version)));
    }
    let index: Index = parse_json("index.json", &files.need("index.json")?.read_all(MAX_JSON)?)?;
    let mut groups: Vec<(Option<String>, Vec<Descriptor>)> = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        if descriptor.is_attestation() {
            continue;
        }
        // The same manifest may stand there once for each of its tags.
        let name = descriptor.name();
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, group)) => group.push(descriptor),
            None => groups.push((name, vec![descriptor])),
        }
    }
    let mut images: Vec<ArchivedImage> = Vec::new();
    for (name, group) in groups {
        // Descriptors without a name and without a platform are images of their own.
        let chosen = match name {
            None if group.iter().any(|descriptor| descriptor.platform.is_none()) => group,
            _ => vec![choose(group)?],
        };
        for descriptor in chosen {
            let mut image = image(files, &descriptor, 0)?;
            match images.iter_mut().find(|other| other.id == image.id) {
                Some(other) => other.names.extend(name.clone()),
                None => {
                    image.names.extend(name.clone());
                    push(&mut images, image)?;
                }
            }
        }
    }
    if images.is_empty() {
        return Err(Error::archive("its index.json names no image".to_owned()));
    }
    Ok(images)
}

fn image(files: &Files, descriptor: &Descriptor, depth: usize) -> Result<ArchivedImage, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::archive(format!("its indexes are nested more than {MAX_DEPTH} deep")));
    }
    let bytes = read_verified(files, descriptor)?;
    match kind(descriptor, &bytes)? {
        ManifestKind::Index => {
            let index: Index = parse_json(&descriptor.digest.to_string(), &bytes)?;
            let mut manifests = index.manifests.unwrap_or_default();
            manifests.retain(|manifest| !manifest.is_attestation());
            image(files, &choose(manifests)?, depth + 1)
        }
        ManifestKind::Manifest => from_manifest(files, descriptor.digest, bytes),
    }
}

enum ManifestKind {
    Index,
    Manifest,
}

fn kind(descriptor: &Descriptor, bytes: &[u8]) -> Result<ManifestKind, Error> {
    match descriptor.media_type.as_str() {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            Ok(ManifestKind::Index)
        }
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
            Ok(ManifestKind::Manifest)
        }
        "" => {
            let value: serde_json::Value = parse_json(&descriptor.digest.to_string(), bytes)?;
            Ok(if value.get("manifests").is_some() { ManifestKind::Index } else { ManifestKind::Manifest })
        }
        other => Err(Error::MediaType { what: "manifest", media_type: other.to_owned() }),
    }
}

fn from_manifest(files: &Files, digest: Digest, bytes: Vec<u8>) -> Result<ArchivedImage, Error> {
    let manifest: Manifest = parse_json(&digest.to_string(), &bytes)?;
    match manifest.config.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {}
        other => return Err(Error::MediaType { what: "image config", media_type: other.to_owned() }),
    }
    let config = read_verified(files, &manifest.config)?;
    let parsed = parse_config(&config)?;
    let descriptors = manifest.layers.unwrap_or_default();
    if descriptors.len() != parsed.rootfs.diff_ids.len() {
        return Err(Error::LayerCount {
            id: manifest.config.digest,
            diff_ids: parsed.rootfs.diff_ids.len(),
            layers: descriptors.len(),
        });
    }
    let mut layers = Vec::with_capacity(descriptors.len());
    for (descriptor, diff_id) in descriptors.iter().zip(&parsed.rootfs.diff_ids) {
        check_layer_type(&descriptor.media_type)?;
        let blob = verified_size(files, descriptor)?;
        layers.push(ArchivedLayer { diff_id: *diff_id, blob: Arc::new(blob), digest: Some(descriptor.digest) });
    }
    let manifest = Some((digest, bytes));
    Ok(ArchivedImage { id: manifest_config_id(&config), names: Vec::new(), config, parsed, manifest, layers })
}

fn manifest_config_id(config: &[u8]) -> Digest {
    sha256(config)
}

/// Refuses by name what is not a layer or lies elsewhere.
pub(crate) fn check_layer_type(media_type: &str) -> Result<(), Error> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(()),
        other if other.contains("foreign") || other.contains("nondistributable") => {
            Err(Error::ForeignLayer { media_type: other.to_owned() })
        }
        other => Err(Error::MediaType { what: "layer", media_type: other.to_owned() }),
    }
}

/// The blob of `descriptor`, when it is as long as that says.
pub(crate) fn verified_size(files: &Files, descriptor: &Descriptor) -> Result<Blob, Error> {
    let blob = files.need(&format!("blobs/sha256/{}", descriptor.digest.hex()))?;
    if blob.size != descriptor.size {
        return Err(Error::WrongSize {
            name: descriptor.digest.to_string(),
            expected: descriptor.size,
            size: blob.size,
        });
    }
    Ok(blob)
}

fn read_verified(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let bytes = verified_size(files, descriptor)?.read_all(MAX_JSON)?;
    match sha256(&bytes) {
        digest if digest == descriptor.digest => Ok(bytes),
        digest => Err(Error::WrongDigest { name: "the blob".to_owned(), expected: descriptor.digest, digest }),
    }
}

/// The manifest for this machine; a single one whatever it is for, as Docker loads it too.
fn choose(mut manifests: Vec<Descriptor>) -> Result<Descriptor, Error> {
    if manifests.len() == 1 {
        return Ok(manifests.remove(0));
    }
    let machine = machine_architecture();
    let best = manifests
        .iter()
        .filter_map(|manifest| Some((rank(manifest.platform.as_ref(), machine)?, manifest)))
        .min_by_key(|(rank, _)| *rank);
    if let Some((_, manifest)) = best {
        return Ok(manifest.clone());
    }
    let found = manifests.iter().filter_map(|manifest| manifest.platform.as_ref()).map(show_platform).collect();
    Err(Error::Platform { wanted: format!("linux/{machine}"), found })
}

/// How well a platform fits, 0 best; None when it doesn't. An amd64 variant above v1 may need what this processor
/// lacks, so it comes last.
fn rank(platform: Option<&Platform>, machine: &str) -> Option<u8> {
    let Some(platform) = platform else { return Some(3) };
    if platform.os != "linux" || platform.architecture != machine {
        return None;
    }
    match (machine, platform.variant.as_deref().unwrap_or("")) {
        (_, "") | ("amd64", "v1") | ("arm64", "v8") | ("arm", "v7") => Some(0),
        _ => Some(1),
    }
}

fn show_platform(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// This machine's GOARCH.
pub fn machine_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fitting_platform_is_chosen() {
        let descriptor = |platform: &str| -> Descriptor {
            let parts: Vec<&str> = platform.split('/').collect();
            Descriptor {
                media_type: String::new(),
                digest: sha256(platform.as_bytes()),
                size: 0,
                annotations: None,
                platform: Some(Platform {
                    os: parts[0].to_owned(),
                    architecture: parts[1].to_owned(),
                    variant: parts.get(2).map(|&variant| variant.to_owned()),
                }),
            }
        };
        let machine = machine_architecture();
        let native = format!("linux/{machine}");
        let newer = format!("linux/{machine}/v9");
        for (list, expected) in [
            (vec!["windows/amd64", &native, "linux/s390x"], Some(native.as_str())),
            (vec![&newer, "linux/s390x", &native], Some(native.as_str())),
            (vec![&newer, "linux/s390x"], Some(newer.as_str())),
            (vec!["linux/s390x"], Some("linux/s390x")),
            (vec!["windows/amd64", "linux/s390x"], None),
        ] {
            let chosen = choose(list.iter().map(|platform| descriptor(platform)).collect());
            assert_eq!(
                chosen.ok().map(|chosen| chosen.digest),
                expected.map(|text| sha256(text.as_bytes())),
                "{list:?}"
            );
        }
    }

    #[test]
    fn a_bare_tag_is_no_name() {
        for (name, bare) in [
            ("latest", true),
            ("3.19", true),
            ("v2.0-rc1", true),
            ("alpine", false),
            ("vault", false),
            ("alpine:3", false),
            ("docker.io/library/alpine:latest", false),
        ] {
            assert_eq!(is_bare_tag(name), bare, "{name}");
        }
    }
}
