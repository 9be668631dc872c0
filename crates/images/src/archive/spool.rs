//! A layer that is made here: written once, hashed on the way.

use super::blob::Blob;
use super::source::unnamed_file;
use crate::Error;
use orlop_model::Digest;
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file without a name, so that nothing of it is left when the process dies.
pub(crate) struct Spool {
    ingest: PathBuf,
    file: BufWriter<File>,
    hash: sha2::Sha256,
    length: u64,
}

impl Spool {
    pub(crate) fn new(ingest: &Path) -> Result<Self, Error> {
        let file = BufWriter::with_capacity(1 << 18, unnamed_file(ingest)?);
        Ok(Self { ingest: ingest.to_owned(), file, hash: sha2::Sha256::new(), length: 0 })
    }

    /// What was written, as a blob that messages call `name`, and its digest.
    pub(crate) fn end(self, name: &str) -> Result<(Blob, Digest), Error> {
        let file = self
            .file
            .into_inner()
            .map_err(|error| Error::Spool { path: self.ingest.clone(), source: error.into_error() })?;
        let blob = Blob::new(name.to_owned(), Arc::new(file), 0, self.length);
        Ok((blob, Digest::from_sha256(self.hash.finalize().into())))
    }
}

impl Write for Spool {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
