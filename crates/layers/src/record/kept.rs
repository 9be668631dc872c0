//! The archive itself, compressed, beside a layer that it can't be made again from.

use super::head::{Head, KEPT, create};
use crate::unpack::inflate;
use crate::{Error, Limits, Result};
use orlop_model::Digest;
use std::io::{Read, Write};
use std::path::Path;

/// Keeps the archive in `reader` (plain, gzip or zstd, as [`crate::unpack`] takes it) as `layer.tar.zst` in a layer's
/// directory, and checks that it is the one of `diff_id`. Nothing is synced.
///
/// # Errors
/// When the stream can't be read or is another archive; then nothing is kept.
pub fn keep(directory: &Path, reader: impl Read + Send, diff_id: Digest, limits: Limits) -> Result<()> {
    let path = directory.join(KEPT.file);
    let written = write(&path, reader, diff_id, limits);
    if written.is_err() {
        // The error is the one to tell; what is left of the file goes with the layer.
        let _ = std::fs::remove_file(&path);
    }
    written
}

fn write(path: &Path, reader: impl Read + Send, diff_id: Digest, limits: Limits) -> Result<()> {
    let failed = |error| Error::io("write", path, error);
    let mut encoder = create(path, &KEPT, 1)?;
    let found = inflate(reader, &limits, |bytes| encoder.write_all(bytes).map_err(failed))?;
    let mut file = encoder.finish().map_err(failed)?;
    if found.diff_id != diff_id {
        return Err(Error::Archive(format!("it is {}, but should be {diff_id}", found.diff_id)));
    }
    Head { size: found.size, diff_id }.write(&mut file, &KEPT).map_err(failed)
}
