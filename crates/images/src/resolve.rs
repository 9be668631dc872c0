//! From what a person types to an image.

use crate::Error;
use orlop_model::{Digest, ImageRef};
use orlop_state::{ImageRow, ReadTx, TagRow};

/// An image and the name by which it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The image.
    pub row: ImageRow,
    /// None when it was found by its id.
    pub name: Option<ImageRef>,
}

/// How many names a hint shows.
const MAX_MATCHES: usize = 3;

/// Finds the image that `text` means: `name[:tag]`, `name@digest`, an id with or without `sha256:`, or the first
/// digits of one when they fit no other. A name wins over an id, as in Docker.
pub fn resolve(tx: &ReadTx<'_>, text: &str) -> Result<Resolved, Error> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if let Ok(id) = format!("sha256:{hex}").parse::<Digest>() {
        let row = tx.images().get(&id.to_string())?;
        return row.map(|row| Resolved { row, name: None }).ok_or_else(|| missing(text.to_owned()));
    }
    let reference = ImageRef::parse(text);
    if let Ok(reference) = &reference
        && let Some(row) = named(tx, reference)?
    {
        return Ok(Resolved { row, name: Some(reference.clone()) });
    }
    if !hex.is_empty() && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        let mut rows = tx.images().with_prefix(&format!("sha256:{hex}"))?;
        match rows.len() {
            0 => {}
            1 => return Ok(Resolved { row: rows.remove(0), name: None }),
            count => return Err(Error::Ambiguous { prefix: hex.to_owned(), count }),
        }
    }
    match reference {
        Ok(reference) => {
            let close_matches = close_matches(&tx.tags().list()?, &reference);
            Err(Error::NotFound { name: reference.familiar(), close_matches })
        }
        Err(source) => Err(Error::Reference { name: text.to_owned(), source }),
    }
}

fn missing(name: String) -> Error {
    Error::NotFound { name, close_matches: Vec::new() }
}

fn named(tx: &ReadTx<'_>, reference: &ImageRef) -> Result<Option<ImageRow>, Error> {
    let Some(digest) = reference.digest else {
        let Some(tag) = tx.tags().get(&reference.to_string())? else { return Ok(None) };
        return Ok(tx.images().get(&tag.image.to_string())?);
    };
    let pinned = ImageRef { tag: None, ..reference.clone() };
    if let Some(tag) = tx.tags().get(&pinned.to_string())? {
        return Ok(tx.images().get(&tag.image.to_string())?);
    }
    // A pinned name that came with no registry: an image that some tag of this repository names, and whose manifest or config has the digest.
    for tag in tx.tags().list()? {
        if tag_reference(&tag).is_some_and(|tag| tag.name() == reference.name())
            && let Some(row) = tx.images().get(&tag.image.to_string())?
            && (row.manifest == Some(digest) || row.id == digest)
        {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The name of a tag's row. Rows are written from references, so None is a row that a later version wrote.
pub(crate) fn tag_reference(tag: &TagRow) -> Option<ImageRef> {
    ImageRef::parse(&tag.name).ok()
}

/// Names that may have been meant: other tags of the repository first, then repositories with the same last part
/// (`n8n` for `n8nio/n8n`), then those that differ by a letter.
fn close_matches(tags: &[TagRow], wanted: &ImageRef) -> Vec<String> {
    let base = last_part(&wanted.repository);
    let distance = |tag: &ImageRef| {
        if tag.name() == wanted.name() {
            return Some(0);
        }
        match last_part(&tag.repository) {
            part if part == base => Some(if tag.tag == wanted.tag { 1 } else { 2 }),
            part if base.len() > 3 && is_one_edit(part, base) => Some(3),
            _ => None,
        }
    };
    let mut matches: Vec<(u8, String)> = tags
        .iter()
        .filter_map(tag_reference)
        .filter(|tag| tag.digest.is_none())
        .filter_map(|tag| Some((distance(&tag)?, tag.familiar())))
        .collect();
    matches.sort();
    matches.into_iter().map(|(_, name)| name).take(MAX_MATCHES).collect()
}

fn last_part(repository: &str) -> &str {
    repository.rsplit('/').next().unwrap_or(repository)
}

/// Whether one letter was added, left out, changed, or swapped with its neighbour.
fn is_one_edit(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (one, other) = (&one[same..], &other[same..]);
    match (one, other) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) | (b, [_, a @ ..]) if a == b => true,
        ([a, b, x @ ..], [c, d, y @ ..]) => a == d && b == c && x == y,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::sha256;
    use orlop_model::Timestamp;
    use orlop_state::State;

    #[test]
    fn names_ids_prefixes_and_what_was_meant() {
        let root = tempfile::tempdir().unwrap();
        let state = State::open(root.path()).unwrap();
        let id = |text: &str| format!("sha256:{}", text.repeat(64 / text.len())).parse::<Digest>().unwrap();
        let (one, two, manifest) = (id("ab"), id("abcd"), sha256(b"manifest"));
        state
            .write(|tx| {
                for id in [one, two] {
                    let (stored, manifest) = (Timestamp::now(), Some(manifest).filter(|_| id == one));
                    tx.images().put(&ImageRow { id, manifest, created: None, stored, size: 0, layers: vec![] })?;
                }
                for (name, image) in [("n8nio/n8n:latest", one), ("alpine:3", two), ("postgres:latest", two)] {
                    let name = ImageRef::parse(name).unwrap().to_string();
                    tx.tags().put(&TagRow { name, image, tagged: Timestamp::now() })?;
                }
                Ok::<_, Error>(())
            })
            .unwrap();
        let check = |text: &str| match state.read(|tx| resolve(tx, text)) {
            Ok(found) if found.row.id == one => "one".to_owned(),
            Ok(_) => "two".to_owned(),
            Err(Error::NotFound { name, close_matches }) => format!("No such image: {name} {close_matches:?}"),
            Err(error) => error.to_string(),
        };
        for (text, expected) in [
            ("n8nio/n8n", "one"),
            ("docker.io/n8nio/n8n:latest", "one"),
            (&format!("n8nio/n8n@{manifest}"), "one"),
            (&format!("alpine@{manifest}"), "No such image: alpine@sha256:"),
            (&one.to_string(), "one"),
            (&two.hex(), "two"),
            ("sha256:abab", "one"),
            ("abcd", "two"),
            ("ab", "image id prefix ab is ambiguous: 2 images begin with it"),
            ("n8n", "No such image: n8n:latest [\"n8nio/n8n:latest\"]"),
            ("alpine", "No such image: alpine:latest [\"alpine:3\"]"),
            ("postgers", "No such image: postgers:latest [\"postgres:latest\"]"),
            ("ffff", "No such image: ffff:latest []"),
            ("UPPER", "invalid reference format"),
        ] {
            let found = check(text);
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }
}
