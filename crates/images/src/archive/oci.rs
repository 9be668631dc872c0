//! OCI image layouts (OCI image-spec: image-layout.md, image-index.md, manifest.md).

use crate::Error;
use crate::archive::blob::{Blob, LayerBlob, sha256};
use crate::archive::source::Files;
use crate::archive::{ArchivedImage, ArchivedLayer, MAX_JSON, check_count, parse_config, parse_json, push};
use orlop_model::{Digest, Platform};
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
    platform: Option<WrittenPlatform>,
}

/// A platform as an index writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct WrittenPlatform {
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
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Descriptor>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Option<Vec<Descriptor>>,
}

impl Descriptor {
    /// Of what was fetched by its name.
    pub(crate) fn new(media_type: String, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, annotations: None, platform: None }
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether it describes another one and is no image.
    pub(crate) fn is_attestation(&self) -> bool {
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

/// The two kinds of what a tag can name.
pub(crate) enum ManifestKind {
    Index,
    Manifest,
}

/// What bytes of this media type are, or of none.
pub(crate) fn kind(descriptor: &Descriptor, bytes: &[u8]) -> Result<ManifestKind, Error> {
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
    let manifest = parse_manifest(digest, &bytes)?;
    let config = read_verified(files, &manifest.config)?;
    assemble((digest, bytes), manifest, config, |descriptor| Ok(Arc::new(verified_size(files, descriptor)?)))
}

/// Reads the manifest of an image; of something else, it says of what.
pub(crate) fn parse_manifest(digest: Digest, bytes: &[u8]) -> Result<Manifest, Error> {
    let manifest: Manifest = parse_json(&digest.to_string(), bytes)?;
    match manifest.config.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => Ok(manifest),
        other => Err(Error::MediaType { what: "image config", media_type: other.to_owned() }),
    }
}

/// An image of its manifest and its config, both verified.
pub(crate) fn assemble(
    manifest_blob: (Digest, Vec<u8>),
    manifest: Manifest,
    config: Vec<u8>,
    blob: impl Fn(&Descriptor) -> Result<Arc<dyn LayerBlob>, Error>,
) -> Result<ArchivedImage, Error> {
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
        layers.push(ArchivedLayer { diff_id: *diff_id, blob: blob(descriptor)?, digest: Some(descriptor.digest) });
    }
    check_count(sha256(&config), layers.len())?;
    let manifest = Some(manifest_blob);
    Ok(ArchivedImage { id: sha256(&config), names: Vec::new(), pinned: Vec::new(), config, parsed, manifest, layers })
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
    let wanted = Platform::host();
    let found = || platforms(&manifests).iter().map(ToString::to_string).collect();
    best(&manifests, &wanted).cloned().ok_or_else(|| Error::Platform { wanted: wanted.to_string(), found: found() })
}

/// The manifest that fits `wanted` best; one that doesn't say what it is for comes after all others.
pub(crate) fn best<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let rank = |manifest: &Descriptor| match &manifest.platform {
        Some(platform) => wanted.rank(&platform.read()),
        None => Some(u8::MAX),
    };
    let ranked = manifests.iter().filter_map(|manifest| Some((rank(manifest)?, manifest)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, manifest)| manifest)
}

fn platforms(manifests: &[Descriptor]) -> Vec<Platform> {
    manifests.iter().filter_map(|manifest| manifest.platform.as_ref()).map(WrittenPlatform::read).collect()
}

impl WrittenPlatform {
    fn read(&self) -> Platform {
        let variant = self.variant.clone().unwrap_or_default();
        let written = Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant };
        // Other names of the same; what isn't known is compared as it stands.
        written.to_string().parse().unwrap_or(written)
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
                platform: Some(WrittenPlatform {
                    os: parts[0].to_owned(),
                    architecture: parts[1].to_owned(),
                    variant: parts.get(2).map(|&variant| variant.to_owned()),
                }),
            }
        };
        let machine = Platform::host().architecture;
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
