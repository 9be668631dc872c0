//! Images and their names.

use crate::Row;
use orlop_model::{Digest, Id, Timestamp};
use serde::{Deserialize, Serialize};

/// One image. A row exists only when all of the image is on the disk and verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// Digest of the config blob, which lies in `content/blobs/sha256/`.
    pub id: Digest,
    /// Digest of the manifest blob, when the image came with one.
    pub manifest: Option<Digest>,
    /// When the config says it was made.
    pub created: Option<Timestamp>,
    /// When it was stored here.
    pub stored: Timestamp,
    /// Sum of its layers' sizes in bytes.
    pub size: u64,
    /// Its layers, lowest first.
    pub layers: Vec<Id>,
}

impl Row for ImageRow {
    const TABLE: &'static str = "image";

    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// A name of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRow {
    /// The full reference with its tag, `docker.io/library/alpine:latest`.
    pub name: String,
    /// The image it names.
    pub image: Digest,
    /// When the name was last given.
    pub tagged: Timestamp,
}

impl Row for TagRow {
    const TABLE: &'static str = "tag";

    fn key(&self) -> String {
        self.name.clone()
    }
}
