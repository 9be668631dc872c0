//! `pull`: from a registry to layers, blobs and rows, on the same path as a load.
//!
//! Each layer is one stream from the socket to its files; what has come of a blob stays in `content/ingest` until all
//! layers are unpacked, so that neither a broken connection nor a kill makes anything come twice.

use crate::load::{Progress, load_all};
use crate::registry::{CredentialsOf, Found, Registry, Session, Settings, Wanted, find, tags};
use crate::{Error, Loaded, Store};
use orlop_model::{Digest, ErrorKind, ImageRef, Kind, Platform};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// What is to be pulled.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// With a tag, a digest or both.
    pub name: ImageRef,
    /// None for this machine's.
    pub platform: Option<Platform>,
    /// Every tag of the repository.
    pub all_tags: bool,
}

/// What a pull tells while it works; several threads call at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEvent {
    /// It begins with this name.
    Begin(ImageRef),
    /// What becomes of a layer, by its blob's digest.
    Layer(Digest, LayerEvent),
    /// Everything goes to the disk.
    Syncing,
    /// One name is done.
    Done(Pulled),
}

/// A layer's way, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerEvent {
    /// `Pulling fs layer`
    Begin,
    /// `Waiting`: another process is at it.
    Waiting,
    /// `Downloading`, unpacked on the way: bytes so far, and all of them.
    Downloading(u64, u64),
    /// `Retrying in … seconds`
    Retrying(u64),
    /// Everything has come; the rest is being unpacked and verified.
    Verifying,
    /// `Download complete`: unpacked and verified, too.
    Unpacked,
    /// `Already exists`
    Exists,
    /// `Pull complete`: on the disk, and part of an image.
    Complete,
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// As asked for; of all tags, one of them.
    pub name: ImageRef,
    /// The image.
    pub id: Digest,
    /// Of what the name stands for in the registry.
    pub digest: Digest,
    /// The name stood for this image already.
    pub up_to_date: bool,
    /// Extended attributes that the file system doesn't have, and how many files lost them.
    pub skipped_xattrs: std::collections::BTreeMap<String, u64>,
}

/// Pulls an image, or all images of a repository, each whole before the next.
pub fn pull(
    store: Store<'_>,
    settings: &Settings,
    credentials: &dyn CredentialsOf,
    request: &PullRequest,
    events: &(dyn Fn(PullEvent) + Sync),
) -> Result<Vec<Pulled>, Error> {
    crate::tag::check_name(&request.name)?;
    let names = match request.all_tags {
        false => vec![request.name.clone()],
        true => {
            let registry = Arc::new(Registry::new(settings.clone()));
            let tags = tags(&registry.sessions(&request.name, credentials), &request.name)?;
            let name = |tag: String| ImageRef::parse(&format!("{}:{tag}", request.name.name()));
            let named = tags
                .into_iter()
                .map(|tag| name(tag.clone()).map_err(|source| Error::NameInArchive { name: tag, source }));
            named.collect::<Result<Vec<_>, _>>()?
        }
    };
    let mut pulled = Vec::with_capacity(names.len());
    for name in &names {
        let mut wanted = Wanted { name, platform: request.platform.as_ref(), reuse: true, without: BTreeMap::new() };
        let done = loop {
            let Attempt { error, replayed, senders } = match pull_one(store, settings, credentials, &wanted, events) {
                Ok(done) => break done,
                Err(attempt) => attempt,
            };
            if is_content(&error) && replayed && wanted.reuse {
                // What an earlier pull left may have been damaged since.
                wanted.reuse = false;
            } else if is_content(&error) && !senders.is_empty() {
                // Which of the mirrors is to blame can't be told; the next ones or the registry itself are not.
                wanted.without.extend(senders.into_iter().map(|place| (place, error.to_string())));
            } else {
                let told: Vec<String> =
                    wanted.without.iter().map(|(place, reason)| format!("{place}: {reason}")).collect();
                return Err(error.after(&told));
            }
        };
        events(PullEvent::Done(done.clone()));
        pulled.push(done);
    }
    Ok(pulled)
}

/// How an attempt failed.
struct Attempt {
    error: Box<Error>,
    /// It had used what an earlier one left.
    replayed: bool,
    /// Mirrors that sent some of the layers.
    senders: BTreeSet<String>,
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self { error: Box::new(error), replayed: false, senders: BTreeSet::new() }
    }
}

/// Whether an error is about what the blobs hold.
fn is_content(error: &Error) -> bool {
    match error {
        Error::Tried { error, .. } => is_content(error),
        Error::WrongDigest { .. } | Error::WrongSize { .. } | Error::Layer { .. } => error.kind() == ErrorKind::Invalid,
        _ => false,
    }
}

fn pull_one(
    store: Store<'_>,
    settings: &Settings,
    credentials: &dyn CredentialsOf,
    wanted: &Wanted<'_>,
    events: &(dyn Fn(PullEvent) + Sync),
) -> Result<Pulled, Attempt> {
    let name = wanted.name;
    let registry = Arc::new(Registry::new(settings.clone()));
    let mut sessions: Vec<Arc<Session>> = registry.sessions(name, credentials);
    sessions.retain(|session| !wanted.without.contains_key(session.place()));
    let Found { digest, mut image, layers } = find(&registry, &sessions, wanted, store)?;
    events(PullEvent::Begin(name.clone()));
    let pinned = ImageRef { tag: None, digest: Some(digest), ..name.clone() };
    if name.digest.is_none() {
        image.names.push(name.to_string());
    }
    let before = current(store, if name.digest.is_none() { name } else { &pinned })?;
    image.pinned.push(pinned);
    let by_diff_id: HashMap<Digest, Digest> =
        image.layers.iter().filter_map(|layer| Some((layer.diff_id, layer.digest?))).collect();
    let made = Mutex::new(Vec::new());
    let is_known = store.state.read(|tx| tx.images().get(&image.id.to_string())).map_err(Error::from)?.is_some();
    let progress = |progress: Progress| {
        // Of an image that is there nothing is told but that.
        if is_known && matches!(progress, Progress::Present { .. }) {
            return;
        }
        if let Progress::Missing { diff_id } = progress {
            made.lock().unwrap_or_else(PoisonError::into_inner).extend(by_diff_id.get(&diff_id));
        }
        tell(progress, &by_diff_id, events);
    };
    let loaded = load_all(store, vec![image], settings.downloads.max(1), &progress);
    let loaded: Loaded = match loaded {
        Ok(mut loaded) => loaded.remove(0),
        Err(error) => {
            let replayed = layers.iter().any(|layer| layer.was_replayed());
            // Only what the next pull can go on with stays.
            if !matches!(error, Error::Layers { .. }) {
                layers.iter().for_each(|layer| layer.discard());
            }
            // The last one is the registry itself, which nobody can take the place of.
            let mirrors: BTreeSet<&str> = sessions.iter().rev().skip(1).map(|session| session.place()).collect();
            let senders = layers.iter().flat_map(|layer| layer.senders());
            let senders = senders.filter(|place| mirrors.contains(place.as_str())).collect();
            return Err(Attempt { error: Box::new(error), replayed, senders });
        }
    };
    for digest in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
        events(PullEvent::Layer(digest, LayerEvent::Complete));
    }
    let up_to_date = before == Some(loaded.id) && loaded.existed;
    Ok(Pulled { name: name.clone(), id: loaded.id, digest, up_to_date, skipped_xattrs: loaded.skipped_xattrs })
}

/// The image that has the name now.
fn current(store: Store<'_>, name: &ImageRef) -> Result<Option<Digest>, Error> {
    let tag = store.state.read(|tx| tx.tags().get(&name.to_string()))?;
    Ok(tag.map(|tag| tag.image))
}

fn tell(progress: Progress, blobs: &HashMap<Digest, Digest>, events: &(dyn Fn(PullEvent) + Sync)) {
    let layer = |diff_id: Digest, event: LayerEvent| {
        if let Some(digest) = blobs.get(&diff_id) {
            events(PullEvent::Layer(*digest, event));
        }
    };
    match progress {
        Progress::Waiting { digest } => layer(digest, LayerEvent::Waiting),
        Progress::Missing { diff_id } => layer(diff_id, LayerEvent::Begin),
        Progress::Present { diff_id } => layer(diff_id, LayerEvent::Exists),
        Progress::Retrying { diff_id, seconds } => layer(diff_id, LayerEvent::Retrying(seconds)),
        Progress::Unpacking { diff_id, done, total } if done == total => layer(diff_id, LayerEvent::Verifying),
        Progress::Unpacking { diff_id, done, total } => layer(diff_id, LayerEvent::Downloading(done, total)),
        Progress::Unpacked { diff_id } => layer(diff_id, LayerEvent::Unpacked),
        Progress::Syncing => events(PullEvent::Syncing),
    }
}
