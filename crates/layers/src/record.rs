//! What brings a layer's archive back, byte for byte, out of the layer's files.
//!
//! ```text
//! <driver>/ID/tar-split.zst   every byte of the archive that lies in no file of the layer, and where the others lie
//! <driver>/ID/layer.tar.zst   instead: the archive itself, where a record can't be made or doesn't hold
//! <driver>/ID/tree.zst        what every path of the layer looked like when it was stored
//! <driver>/ID/replaced/       files that later entries of the archive replaced; only while it is unpacked or settled
//! ```
//!
//! [`crate::unpack`] writes the record while it unpacks, and proves it: the archive is made again from it and hashed.
//! Who unpacks looks at [`crate::Unpacked::archived`] (and at what [`crate::settle`] returns): only when that is
//! [`Archived::No`] the caller, who has the archive at hand (a file to read again, or the blob that was fetched), gives
//! a second stream of it to [`keep`]. Nothing here is synced; one syncfs covers the layer and what lies beside it.

mod check;
mod head;
mod kept;
mod moves;
mod read;
mod seal;
mod steps;
mod tree;
mod walk;

pub use check::check;
pub use kept::keep;
pub use read::LayerArchive;
pub use tree::Difference;

pub(crate) use moves::Moves;
pub(crate) use seal::{Recorded, seal, seal_settled};
pub(crate) use steps::Recorder;

use crate::Result;
use std::path::Path;

/// Where replaced files wait until their content is in the record.
const REPLACED: &str = "replaced";

/// Begins the record of the layer in `directory`.
pub(crate) fn begin(directory: &Path) -> Result<Recorder> {
    Recorder::create(directory.join(head::RECORD.file))
}

/// Whether something beside the layer at `diff` depends on where its files are; its directory then.
pub(crate) fn directory_of(diff: &Path) -> Option<&Path> {
    let directory = diff.parent()?;
    let has = |format: &head::Format| directory.join(format.file).exists();
    (has(&head::RECORD) || has(&head::KEPT) || has(&head::TREE)).then_some(directory)
}

/// Whether a layer's archive can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archived {
    /// Yes: shown by its hash.
    Yes,
    /// No, for this reason; [`keep`] has to keep the archive itself.
    No(String),
    /// Nobody asked for it.
    NotAsked,
}
