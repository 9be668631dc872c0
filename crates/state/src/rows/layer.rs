//! Layers of images.

use crate::Row;
use orlop_model::{Digest, Id};
use serde::{Deserialize, Serialize};

/// One stored layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Also the name of its directory; random and never used again.
    pub id: Id,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The chain below, for a layer whose content depends on it; None for one that fits everywhere.
    pub chain: Option<Digest>,
    /// Sum of the regular files' lengths in bytes.
    pub size: u64,
    /// Where it is in its life.
    pub phase: LayerPhase,
    /// A check found that it no longer is what it was. Images and containers that have it keep it until it is loaded or
    /// pulled again; no other takes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

/// A layer's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerPhase {
    /// Being unpacked by the holder of this lease; to be removed when the lease is dead.
    Creating(Id),
    /// Whole, verified and on the disk.
    Ready,
    /// Nothing refers to it; its directory is being deleted.
    Removing,
}

impl Row for LayerRow {
    const TABLE: &'static str = "layer";

    fn key(&self) -> String {
        self.id.hex()
    }
}
