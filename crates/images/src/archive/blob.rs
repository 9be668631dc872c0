//! A range of bytes in an open file, and readers that count and hash what passes through them.

use crate::Error;
use crate::load::Progress;
use orlop_model::Digest;
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Who reads a layer.
#[derive(Clone, Copy)]
pub struct Listener<'a> {
    /// Which layer it is for.
    pub diff_id: Digest,
    /// Nobody wants it any more.
    pub cancelled: &'a AtomicBool,
    /// Is told what happens besides reading.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// A layer's archive where it lies: plain or compressed, and read from its beginning as often as it is needed.
pub trait LayerBlob: std::fmt::Debug + Send + Sync {
    /// For messages.
    fn name(&self) -> String;

    /// Bytes, as its descriptor says.
    fn size(&self) -> u64;

    /// Reads it from its beginning. A reader that waits for anything looks at `cancelled` meanwhile. An error of this
    /// crate inside of a reader's error is what the user gets to see.
    fn open<'a>(&'a self, listener: Listener<'a>) -> Result<Box<dyn Read + Send + 'a>, Error>;

    /// Everything is unpacked and verified, and goes to the disk next: a copy of the blob goes there too, or goes away.
    fn unpacked(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Bytes of it that are not on this machine yet.
    fn to_fetch(&self) -> u64 {
        0
    }

    /// Another layer has failed: wakes a reader that waits.
    fn cancel(&self) {}
}

impl LayerBlob for Blob {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn open<'a>(&'a self, _: Listener<'a>) -> Result<Box<dyn Read + Send + 'a>, Error> {
        Ok(Box::new(self.reader()))
    }
}

/// The content of one file of an archive. Reading it moves no shared position, so any number may read at once.
#[derive(Clone, Debug)]
pub struct Blob {
    /// How the archive calls it; for messages.
    pub name: String,
    file: Arc<File>,
    offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Blob {
    pub(crate) fn new(name: String, file: Arc<File>, offset: u64, size: u64) -> Self {
        Self { name, file, offset, size }
    }

    /// A reader over the content, from its beginning.
    pub fn reader(&self) -> BlobReader {
        BlobReader { file: Arc::clone(&self.file), position: self.offset, end: self.offset + self.size }
    }

    /// The whole content, when it is not longer than `limit` bytes.
    pub fn read_all(&self, limit: u64) -> Result<Vec<u8>, Error> {
        if self.size > limit {
            return Err(Error::archive(format!(
                "{:?} has {} bytes; at most {limit} are allowed",
                self.name, self.size
            )));
        }
        let mut bytes = vec![0; usize::try_from(self.size).expect("limited above")];
        self.file.read_exact_at(&mut bytes, self.offset).map_err(|source| Error::ReadArchive { source })?;
        Ok(bytes)
    }
}

/// Reads a [`Blob`] with pread. A file that became shorter meanwhile is an error, not the end.
#[derive(Debug)]
pub struct BlobReader {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive became shorter while it was read"));
        }
        self.position += read as u64;
        Ok(read)
    }
}

/// The SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}
