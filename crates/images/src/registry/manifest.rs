//! From a name to an image whose layers can be read: manifests, indexes, configs.

use super::blob::RemoteLayer;
use super::{Failure, Registry, Session};
use crate::archive::oci::{self, Descriptor, Index, ManifestKind, assemble, parse_manifest};
use crate::archive::{ArchivedImage, LayerBlob, MAX_JSON, parse_json, sha256};
use crate::{Error, Store};
use orlop_model::image::ImageConfig;
use orlop_model::{Digest, ImageRef, Platform};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Indexes within indexes.
const MAX_DEPTH: usize = 4;
/// Tags of a repository, and answers that they come in.
const MAX_TAGS: usize = 10_000;
const MAX_PAGES: usize = 1_000;

/// What can be read, best first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    /// With a tag, a digest or both; the digest counts then.
    pub(crate) name: &'a ImageRef,
    /// None for this machine's.
    pub(crate) platform: Option<&'a Platform>,
    /// Whether blobs that an earlier pull kept are used.
    pub(crate) reuse: bool,
    /// Mirrors that have brought something else, by [`Session::place`], and what.
    pub(crate) without: BTreeMap<String, String>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Of what the name stands for: a manifest, or the index that it was chosen from.
    pub(crate) digest: Digest,
    pub(crate) image: ArchivedImage,
    pub(crate) layers: Vec<Arc<RemoteLayer>>,
}

/// Asks each of `sessions` in turn until one has it.
pub(crate) fn find(
    registry: &Arc<Registry>,
    sessions: &[Arc<Session>],
    wanted: &Wanted<'_>,
    store: Store<'_>,
) -> Result<Found, Error> {
    let mut failures = Vec::new();
    for (index, session) in sessions.iter().enumerate() {
        // Whoever has the manifest is asked for its layers first, and then the others.
        let order =
            std::iter::once(session).chain(sessions.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, s)| s));
        match find_at(registry, session, order.cloned().collect(), wanted, store) {
            Ok(found) => return Ok(found),
            Err(stop) => failures.push((session.place().to_owned(), stop)),
        }
    }
    Err(in_the_users_words(wanted.name, failures))
}

/// Why an endpoint didn't bring it; another one may.
enum Stop {
    /// It didn't answer, or said no.
    Asked(Failure),
    /// What it brought can't be used.
    Bad(Error),
}

/// For a list of all that were asked.
fn tried((place, stop): &(String, Stop)) -> String {
    match stop {
        Stop::Asked(failure @ (Failure::Connection { .. } | Failure::Status { .. } | Failure::Protocol { .. })) => {
            failure.to_string()
        }
        Stop::Asked(other) => format!("{place}: {other}"),
        Stop::Bad(error) => format!("{place}: {error}"),
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Asked(failure)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Bad(error)
    }
}

/// One error of all that were asked, in Docker's words where it has some.
fn in_the_users_words(name: &ImageRef, mut failures: Vec<(String, Stop)>) -> Error {
    let all: Vec<String> = failures.iter().map(tried).collect();
    // What the registry itself says counts before what a mirror says.
    if let Some((_, Stop::Bad(_))) = failures.last()
        && let Some((_, Stop::Bad(error))) = failures.pop()
    {
        return error.after(&all[..all.len() - 1]);
    }
    let failures: Vec<&Failure> = failures
        .iter()
        .filter_map(|(_, stop)| match stop {
            Stop::Asked(failure) => Some(failure),
            Stop::Bad(_) => None,
        })
        .collect();
    let others = match &all[..] {
        [_] | [] => String::new(),
        _ => format!(" (tried {})", all.join("; ")),
    };
    let not_found = failures.iter().rev().find_map(|failure| match failure {
        Failure::Status { status: 404, errors, .. } => Some(errors.to_string()),
        _ => None,
    });
    let words_of = |failure: &Failure| match failure {
        Failure::Denied(words) => Some(words.clone()),
        _ => None,
    };
    let anywhere = || failures.iter().rev().find_map(|failure| words_of(failure)).filter(|_| not_found.is_none());
    let denied = failures.last().and_then(|failure| words_of(failure)).or_else(anywhere);
    match (denied, &not_found) {
        (Some(words), _) => Error::PullDenied { name: name.familiar_name(), words: words + &others },
        (None, Some(words)) => {
            let words = if words.is_empty() { "manifest unknown" } else { words };
            Error::ManifestUnknown { name: name.familiar(), words: format!("{words}{others}") }
        }
        (None, None) => Error::Pull { name: name.familiar(), reason: all.join("; ") },
    }
}

fn find_at(
    registry: &Arc<Registry>,
    session: &Arc<Session>,
    order: Vec<Arc<Session>>,
    wanted: &Wanted<'_>,
    store: Store<'_>,
) -> Result<Found, Stop> {
    let name = wanted.name;
    let reference = match (&name.digest, &name.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
    };
    let (descriptor, bytes) = manifest(session, &reference, name.digest, name)?;
    let digest = descriptor.digest;
    let (descriptor, bytes) = choose(session, descriptor, bytes, wanted)?;
    let manifest = parse_manifest(descriptor.digest, &bytes)?;
    let config = small_blob(session, &manifest.config)?;
    let layers: Vec<Arc<RemoteLayer>> = manifest
        .layers
        .iter()
        .flatten()
        .map(|layer| RemoteLayer::new(registry, &order, layer.digest, layer.size, (store, wanted.reuse)))
        .collect();
    let find = |descriptor: &Descriptor| -> Result<Arc<dyn LayerBlob>, Error> {
        let found = layers.iter().find(|layer| layer.digest() == descriptor.digest);
        Ok(Arc::clone(found.expect("there is one for each descriptor")) as Arc<dyn LayerBlob>)
    };
    let image = assemble((descriptor.digest, bytes), manifest, config, find)?;
    if let Some(wanted) = wanted.platform {
        check_platform(&name.familiar(), wanted, &image.parsed)?;
    }
    Ok(Found { digest, image, layers })
}

/// Whether the image called `name` is for the platform that is wanted. A single manifest says nothing of that; the
/// config does.
pub fn check_platform(name: &str, wanted: &Platform, config: &ImageConfig) -> Result<(), Error> {
    let variant = config.variant.clone().unwrap_or_default();
    let actual = Platform { os: config.os.clone(), architecture: config.architecture.clone(), variant };
    match wanted.rank(&actual) {
        Some(_) => Ok(()),
        None => {
            Err(Error::OtherPlatform { name: name.to_owned(), wanted: wanted.to_string(), actual: actual.to_string() })
        }
    }
}

/// Follows indexes to the manifest of the platform.
fn choose(
    session: &Session,
    mut descriptor: Descriptor,
    mut bytes: Vec<u8>,
    wanted: &Wanted<'_>,
) -> Result<(Descriptor, Vec<u8>), Stop> {
    let host = Platform::host();
    let platform = wanted.platform.unwrap_or(&host);
    let mut seen = HashSet::new();
    for _ in 0..=MAX_DEPTH {
        match oci::kind(&descriptor, &bytes)? {
            ManifestKind::Manifest => return Ok((descriptor, bytes)),
            ManifestKind::Index => {}
        }
        if !seen.insert(descriptor.digest) {
            break;
        }
        let index: Index = parse_json(&descriptor.digest.to_string(), &bytes)?;
        let mut manifests = index.manifests.unwrap_or_default();
        manifests.retain(|manifest| !manifest.is_attestation());
        let Some(best) = oci::best(&manifests, platform) else {
            return Err(Error::NoMatchingManifest { platform: platform.to_string() }.into());
        };
        let (found, content) = manifest(session, &best.digest.to_string(), Some(best.digest), wanted.name)?;
        if content.len() as u64 != best.size {
            let name = best.digest.to_string();
            return Err(Error::WrongSize { name, expected: best.size, size: content.len() as u64 }.into());
        }
        (descriptor, bytes) = (found, content);
    }
    Err(Error::Pull {
        name: wanted.name.familiar(),
        reason: format!("its indexes are nested more than {MAX_DEPTH} deep"),
    }
    .into())
}

/// Only what says of which kind it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    schema_version: Option<u64>,
}

/// Fetches one manifest or index, verified where its digest is known.
fn manifest(
    session: &Session,
    reference: &str,
    expected: Option<Digest>,
    name: &ImageRef,
) -> Result<(Descriptor, Vec<u8>), Stop> {
    let response = session.get(&format!("manifests/{reference}"), &[("Accept", ACCEPT)])?;
    let content_type = response.header("content-type").unwrap_or_default().to_owned();
    let announced: Option<Digest> = response.header("docker-content-digest").and_then(|text| text.parse().ok());
    let bytes = response.read_all("the manifest", MAX_JSON)?;
    let kind: Kind = parse_json(&format!("the manifest of {}", name.familiar()), &bytes)?;
    if kind.schema_version == Some(1) || content_type.contains("docker.distribution.manifest.v1+") {
        return Err(Error::Schema1 { name: name.familiar() }.into());
    }
    let digest = sha256(&bytes);
    if let Some(expected) = expected.or(announced).filter(|expected| *expected != digest) {
        return Err(Error::WrongDigest { name: "the manifest".to_owned(), expected, digest }.into());
    }
    // The header may be that of any JSON; what the manifest says of itself is covered by its digest.
    let media_type = match kind.media_type {
        Some(own) if !own.is_empty() => own,
        _ => content_type
            .split(';')
            .next()
            .map(str::trim)
            .filter(|kind| kind.starts_with("application/vnd."))
            .unwrap_or_default()
            .to_owned(),
    };
    Ok((Descriptor::new(media_type, digest, bytes.len() as u64), bytes))
}

fn small_blob(session: &Session, descriptor: &Descriptor) -> Result<Vec<u8>, Stop> {
    if descriptor.size > MAX_JSON {
        let (size, digest) = (descriptor.size, descriptor.digest);
        return Err(
            Error::archive(format!("its config {digest} has {size} bytes; at most {MAX_JSON} are allowed")).into()
        );
    }
    let bytes =
        session.get(&format!("blobs/{}", descriptor.digest), &[])?.read_all("the image config", descriptor.size)?;
    if bytes.len() as u64 != descriptor.size {
        let name = descriptor.digest.to_string();
        return Err(Error::WrongSize { name, expected: descriptor.size, size: bytes.len() as u64 }.into());
    }
    match sha256(&bytes) {
        digest if digest == descriptor.digest => Ok(bytes),
        digest => {
            Err(Error::WrongDigest { name: "the image config".to_owned(), expected: descriptor.digest, digest }.into())
        }
    }
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// All tags of a repository, of the first endpoint that has any.
pub(crate) fn tags(sessions: &[Arc<Session>], name: &ImageRef) -> Result<Vec<String>, Error> {
    let mut failures = Vec::new();
    for session in sessions {
        match tags_at(session, name) {
            Ok(tags) => return Ok(tags),
            Err(stop) => failures.push((session.place().to_owned(), stop)),
        }
    }
    Err(in_the_users_words(name, failures))
}

fn tags_at(session: &Session, name: &ImageRef) -> Result<Vec<String>, Stop> {
    let mut all: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    let mut path = "tags/list".to_owned();
    for _ in 0..MAX_PAGES {
        let response = session.get(&path, &[])?;
        // `</v2/x/tags/list?n=100&last=a>; rel="next"`; only on the registry itself.
        let next = response.header("link").filter(|link| link.contains("rel=\"next\"") || link.contains("rel=next"));
        let next =
            next.and_then(|link| link.split(['<', '>']).nth(1)).filter(|link| link.starts_with('/')).map(str::to_owned);
        let bytes = response.read_all("the list of tags", MAX_JSON)?;
        let page: Tags = parse_json(&format!("the list of tags of {}", name.familiar_name()), &bytes)?;
        all.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| seen.insert(tag.clone())));
        match next {
            _ if all.len() > MAX_TAGS => break,
            Some(next) if next != path => path = next,
            Some(_) => break,
            None => return Ok(all),
        }
    }
    let reason = format!("it has more than {MAX_TAGS} tags, or its list of them has no end");
    Err(Error::Pull { name: name.familiar_name(), reason }.into())
}
