//! What the files beside a layer begin with: a skippable frame (RFC 8878, 3.1.2), so that zstd(1) reads them as well.

use crate::{Error, Result};
use orlop_model::Digest;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zstd::stream::{read::Decoder, write::Encoder};

/// A kind of file beside a layer.
pub(super) struct Format {
    /// Its name.
    pub(super) file: &'static str,
    mark: [u8; 8],
    /// Raised by each change that an older reader wouldn't understand.
    version: u32,
}

/// A record.
pub(super) const RECORD: Format = Format { file: "tar-split.zst", mark: *b"tarsplit", version: 1 };
/// A kept archive.
pub(super) const KEPT: Format = Format { file: "layer.tar.zst", mark: *b"layertar", version: 1 };
/// The list of a layer's paths.
pub(super) const TREE: Format = Format { file: "tree.zst", mark: *b"filetree", version: 1 };

/// Magic number and length of a skippable frame.
const FRAME: [u8; 8] = [0x5f, 0x2a, 0x4d, 0x18, LENGTH as u8, 0, 0, 0];
const LENGTH: usize = 8 + 4 + 8 + 32;

/// What is known once all of the archive was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the archive.
    pub(super) size: u64,
    /// SHA-256 of the archive.
    pub(super) diff_id: Digest,
}

impl Head {
    /// Writes it where [`create`] left room, last of all.
    pub(super) fn write(&self, file: &mut File, format: &Format) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(FRAME.len() + LENGTH);
        bytes.extend_from_slice(&FRAME);
        bytes.extend_from_slice(&format.mark);
        bytes.extend_from_slice(&format.version.to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(self.diff_id.bytes());
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&bytes)
    }
}

/// A new file with room for its head; each frame has a checksum.
pub(super) fn create(path: &Path, format: &Format, level: i32) -> Result<Encoder<'static, File>> {
    let failed = |error| Error::io("write", path, error);
    let mut options = File::options();
    // The unpacking thread has no umask.
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(|error| Error::io("create", path, error))?;
    // A head of zeros after the frame's own start is one that was never written.
    file.write_all(&[&FRAME[..], &[0; LENGTH]].concat()).map_err(failed)?;
    let mut encoder = Encoder::new(file, level).map_err(failed)?;
    encoder.include_checksum(true).map_err(failed)?;
    debug_assert!(path.to_string_lossy().contains(format.file), "named by its format");
    Ok(encoder)
}

/// What a failure to read what follows the head means: the kernel's own errors stay what they are.
pub(super) fn failed(path: &Path, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => Error::io("read", path, error),
        None => Error::Record { path: path.to_owned(), reason: error.to_string() },
    }
}

/// Opens a file and reads its head; None when there is no such file.
pub(super) fn open(path: &Path, format: &Format) -> Result<Option<(Head, Decoder<'static, BufReader<File>>)>> {
    let failed = |error| Error::io("read", path, error);
    let damaged = |what: &str| Error::Record { path: path.to_owned(), reason: what.to_owned() };
    // Nothing else that may have come into its place shall make us wait, or lead elsewhere.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(damaged("it is a symbolic link")),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    let mut bytes = [0; FRAME.len() + LENGTH];
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(damaged("it is cut off")),
        read => read.map_err(failed)?,
    }
    let field = |at: usize, length: usize| &bytes[FRAME.len() + at..FRAME.len() + at + length];
    if bytes[..FRAME.len()] != FRAME || *field(0, 8) != format.mark {
        return Err(damaged("it doesn't begin as it should"));
    }
    let version = u32::from_le_bytes(field(8, 4).try_into().expect("four bytes"));
    if version != format.version {
        return Err(damaged(&format!("it has version {version}, but version {} is known", format.version)));
    }
    let head = Head {
        size: u64::from_le_bytes(field(12, 8).try_into().expect("eight bytes")),
        diff_id: Digest::from_sha256(field(20, 32).try_into().expect("32 bytes")),
    };
    let decoder = Decoder::new(file).map_err(failed)?;
    Ok(Some((head, decoder)))
}
