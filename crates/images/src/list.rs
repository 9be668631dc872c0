//! `images`: what is here, filtered, newest first.

use crate::resolve::{resolve, tag_reference};
use crate::{Error, Store};
use orlop_model::filter::Filters;
use orlop_model::{Digest, ImageRef, Timestamp};
use orlop_state::{ImageRow, TagRow};
use std::collections::BTreeMap;

/// One image with all its names.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its id.
    pub id: Digest,
    /// Sorted; empty for a dangling image. With a `reference` filter only those that match.
    pub names: Vec<ImageRef>,
    /// The digests that registries have it by, as `name@digest`; sorted.
    pub pinned: Vec<ImageRef>,
    /// Digest of the manifest, when it came with one.
    pub manifest: Option<Digest>,
    /// When its config says it was made.
    pub created: Option<Timestamp>,
    /// Sum of its layers in bytes.
    pub size: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Containers of it, running or not.
    pub containers: usize,
}

/// A row of the table: one for each name, or one with `<none>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLine {
    /// `n8nio/n8n`, or `<none>`.
    pub repository: String,
    /// `latest`, or `<none>`.
    pub tag: String,
    /// Of the manifest; `<none>` without one.
    pub digest: String,
    /// Full id.
    pub id: Digest,
    /// When its config says it was made.
    pub created: Option<Timestamp>,
    /// Bytes.
    pub size: u64,
    /// Containers of it.
    pub containers: usize,
}

/// What Docker writes where there is nothing.
pub const NONE: &str = "<none>";

/// Lists images, newest first. Filters: dangling, reference (globs), label, before, since, until.
pub fn list(store: Store<'_>, filters: &Filters) -> Result<Vec<Summary>, Error> {
    let rows = store.state.read(|tx| {
        let moment = |key: &str| -> Result<Vec<ImageRow>, Error> {
            filters.values(key).iter().map(|value| Ok(resolve(tx, value)?.row)).collect()
        };
        Ok::<_, Error>(Rows {
            images: tx.images().list()?,
            tags: tx.tags().list()?,
            containers: tx.containers().list()?.into_iter().map(|container| container.image).collect(),
            before: moment("before")?,
            since: moment("since")?,
        })
    })?;
    let dangling = filters.boolean("dangling")?;
    let until = filters.until(Timestamp::now())?;
    let mut summaries = Vec::new();
    for image in &rows.images {
        let (mut names, mut pinned) = names_of(&rows.tags, image.id);
        let is_excluded = dangling.is_some_and(|dangling| dangling != names.is_empty())
            || until.is_some_and(|until| image.created >= Some(until))
            || rows.before.iter().any(|before| age(image) >= age(before))
            || rows.since.iter().any(|since| age(image) <= age(since));
        if is_excluded {
            continue;
        }
        if filters.contains("reference") {
            let fits =
                |name: &ImageRef| filters.values("reference").iter().any(|pattern| matches_reference(pattern, name));
            names.retain(fits);
            pinned.retain(fits);
            if names.is_empty() && pinned.is_empty() {
                continue;
            }
        }
        // A list must not fail because of one damaged config; the image's own verbs tell.
        let labels = store.config(image.id).map(|config| config.config.labels).unwrap_or_default();
        if !filters.matches_labels(&labels) {
            continue;
        }
        summaries.push(Summary {
            id: image.id,
            names,
            pinned,
            manifest: image.manifest,
            created: image.created,
            size: image.size,
            labels,
            containers: rows.containers.iter().filter(|container| **container == image.id).count(),
        });
    }
    summaries.sort_by(|one, other| other.created.cmp(&one.created).then(one.id.cmp(&other.id)));
    Ok(summaries)
}

/// The rows of the table, one for each name.
pub fn lines(summaries: &[Summary]) -> Vec<ImageLine> {
    let mut lines = Vec::new();
    for summary in summaries {
        let digest = |name: &ImageRef| {
            let pinned = summary.pinned.iter().find(|pinned| pinned.name() == name.name());
            pinned.and_then(|pinned| pinned.digest).or(summary.manifest)
        };
        let mut add = |repository: String, tag: &str, digest: Option<Digest>| {
            lines.push(ImageLine {
                repository,
                tag: tag.to_owned(),
                digest: digest.map_or_else(|| NONE.to_owned(), |digest| digest.to_string()),
                id: summary.id,
                created: summary.created,
                size: summary.size,
                containers: summary.containers,
            });
        };
        for name in &summary.names {
            add(name.familiar_name(), name.tag.as_deref().unwrap_or(NONE), digest(name));
        }
        // A repository that knows it only by its digest.
        for pinned in &summary.pinned {
            if !summary.names.iter().any(|name| name.name() == pinned.name()) {
                add(pinned.familiar_name(), NONE, pinned.digest);
            }
        }
        if summary.names.is_empty() && summary.pinned.is_empty() {
            add(NONE.to_owned(), NONE, summary.manifest);
        }
    }
    lines
}

struct Rows {
    images: Vec<ImageRow>,
    tags: Vec<TagRow>,
    containers: Vec<Digest>,
    before: Vec<ImageRow>,
    since: Vec<ImageRow>,
}

/// What `before` and `since` compare: when it was made, then when it came here.
fn age(image: &ImageRow) -> (Option<Timestamp>, Timestamp) {
    (image.created, image.stored)
}

/// An image's names with a tag, and those that pin a digest; sorted.
pub(crate) fn names_of(tags: &[TagRow], image: Digest) -> (Vec<ImageRef>, Vec<ImageRef>) {
    let mut names: Vec<ImageRef> = tags.iter().filter(|tag| tag.image == image).filter_map(tag_reference).collect();
    names.sort_by_key(ImageRef::familiar);
    names.into_iter().partition(|name| name.digest.is_none())
}

/// Whether a name fits a pattern of `reference=` as Docker reads it: path.Match on the short name, with its tag or
/// without.
fn matches_reference(pattern: &str, name: &ImageRef) -> bool {
    let candidates = [name.familiar(), name.familiar_name(), name.to_string(), name.name()];
    candidates.iter().any(|candidate| glob(pattern.as_bytes(), candidate.as_bytes()))
}

/// Go's path.Match: `*` and `?` don't match a slash, `[a-z]` and `[^a-z]` are classes, a backslash quotes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', pattern @ ..], _) => {
            let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            // Several stars in a row are one; otherwise a long row of them would take for ever.
            let pattern = &pattern[pattern.iter().take_while(|byte| **byte == b'*').count()..];
            (0..=end).any(|skip| glob(pattern, &text[skip..]))
        }
        ([b'?', pattern @ ..], [byte, text @ ..]) => *byte != b'/' && glob(pattern, text),
        ([b'[', pattern @ ..], [byte, text @ ..]) => match class(pattern, *byte) {
            Some((true, rest)) => *byte != b'/' && glob(rest, text),
            _ => false,
        },
        ([b'\\', quoted, pattern @ ..], [byte, text @ ..]) => quoted == byte && glob(pattern, text),
        ([expected, pattern @ ..], [byte, text @ ..]) => expected == byte && glob(pattern, text),
        _ => false,
    }
}

/// Whether `byte` is in the class that begins after `[`, and the pattern after its `]`. None when it has no end.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    let mut first = true;
    loop {
        match rest {
            [b']', after @ ..] if !first => return Some((found != negated, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest = after;
            }
            [one, after @ ..] => {
                found |= *one == byte;
                rest = after;
            }
            [] => return None,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_as_gos_path_match() {
        for (pattern, name, expected) in [
            ("n8nio/n8n", "n8nio/n8n:2.0", true),
            ("n8nio/*", "n8nio/n8n:2.0", true),
            ("n8n", "n8nio/n8n:2.0", false),
            ("*", "n8nio/n8n:2.0", false),
            ("*/*:latest", "n8nio/n8n:latest", true),
            ("al*", "alpine:3", true),
            ("al*:3", "alpine:3", true),
            ("alpine:?", "alpine:3", true),
            ("alpine:[0-9]", "alpine:3", true),
            ("alpine:[^0-9]", "alpine:3", false),
            ("alpine:[", "alpine:3", false),
            ("docker.io/library/alpine", "alpine:3", true),
            ("******************a", "alpine:3", false),
        ] {
            assert_eq!(matches_reference(pattern, &ImageRef::parse(name).unwrap()), expected, "{pattern} {name}");
        }
    }
}
