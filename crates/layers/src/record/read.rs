//! A layer's archive, made again.

use super::head::{self, Head, KEPT, RECORD};
use super::steps::{Step, Steps};
use crate::{Error, Result};
use orlop_model::Digest;
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use zstd::stream::read::Decoder;

pub(super) type Stream = Decoder<'static, BufReader<File>>;

/// The uncompressed archive of a stored layer, byte for byte as it came. Its end is only reached when all of it hashes
/// to the layer's diff_id; otherwise reading fails.
pub struct LayerArchive {
    head: Head,
    source: Source,
    hash: Sha256,
    read: u64,
}

enum Source {
    Record(Box<Assembly>),
    Kept(Box<Stream>),
}

impl LayerArchive {
    /// Opens the archive of the layer in `directory` (`<driver>/ID`).
    ///
    /// # Errors
    /// [`Error::NoRecord`] for a layer that was stored without one, [`Error::Record`] for one whose record is damaged.
    pub fn open(directory: &Path) -> Result<Self> {
        let (head, source) = match head::open(&directory.join(KEPT.file), &KEPT)? {
            Some((head, stream)) => (head, Source::Kept(Box::new(stream))),
            None => {
                let (head, assembly) = Assembly::open(directory)?;
                (head, Source::Record(Box::new(assembly)))
            }
        };
        Ok(Self { head, source, hash: Sha256::new(), read: 0 })
    }

    /// Bytes of the archive.
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// SHA-256 of the archive.
    pub fn diff_id(&self) -> Digest {
        self.head.diff_id
    }
}

impl Read for LayerArchive {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.source {
            Source::Record(assembly) => assembly.read(into).map_err(io::Error::other)?,
            Source::Kept(stream) => stream.read(into)?,
        };
        self.hash.update(&into[..count]);
        self.read += count as u64;
        let found = || Digest::from_sha256(self.hash.clone().finalize().into());
        if count == 0 && (self.read != self.head.size || found() != self.head.diff_id) {
            let text = format!("the files of layer {} are not what they were", self.head.diff_id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}

/// Runs a record.
struct Assembly {
    steps: Steps<Stream>,
    files: Files,
    file: Option<File>,
    state: State,
}

enum State {
    Literal,
    Range { offset: u64, left: u64 },
    Ended,
}

impl Assembly {
    fn open(directory: &Path) -> Result<(Head, Self)> {
        let (head, steps) = open_steps(directory)?;
        let files = Files::open(directory)?;
        Ok((head, Self { steps, files, file: None, state: State::Literal }))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(0),
                State::Literal => {
                    let count = self.steps.literal(into)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
                State::Range { offset, left } if *left > 0 => {
                    let most = into.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let Some(file) = &self.file else { return Err(self.files.wrong("has a range of no file")) };
                    let count = file.read_at(&mut into[..most], *offset);
                    let count = count.map_err(|error| Error::io("read", self.files.current(), error))?;
                    if count == 0 {
                        return Err(self.files.wrong("is shorter than it was"));
                    }
                    *offset += count as u64;
                    *left -= count as u64;
                    return Ok(count);
                }
                State::Range { .. } => {}
            }
            match self.steps.next()? {
                Step::Literal(_) => self.state = State::Literal,
                Step::File => self.file = Some(self.files.open_file(self.steps.file())?),
                Step::Range { offset, length } => self.state = State::Range { offset, left: length },
                Step::Sum(_) => {}
                Step::End => self.state = State::Ended,
            }
        }
    }
}

/// The steps of a layer's record.
pub(super) fn open_steps(directory: &Path) -> Result<(Head, Steps<Stream>)> {
    let path = directory.join(RECORD.file);
    let Some((head, stream)) = head::open(&path, &RECORD)? else {
        return Err(Error::NoRecord { directory: directory.to_owned() });
    };
    Ok((head, Steps::new(stream, &path)))
}

/// Opens the files of a tree; neighbours share their directory's descriptor.
pub(super) struct Files {
    path: PathBuf,
    root: OwnedFd,
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// What was opened last.
    current: Vec<u8>,
}

impl Files {
    /// The files of a layer.
    fn open(directory: &Path) -> Result<Self> {
        Self::below(&directory.join("diff"))
    }

    pub(super) fn below(path: &Path) -> Result<Self> {
        let root = orlop_sys::path::open_directory(path)?;
        Ok(Self { path: path.to_owned(), root, parent: None, current: Vec::new() })
    }

    /// A regular file. No link is followed, and nothing that would block is opened.
    pub(super) fn open_file(&mut self, path: &[u8]) -> Result<File> {
        self.current.clear();
        self.current.extend_from_slice(path);
        let (above, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = OsStr::from_bytes(name);
        let fd = if above.is_empty() {
            rustix::fs::openat(&self.root, name, flags, Mode::empty())
        } else {
            let is_known = self.parent.as_ref().is_some_and(|(known, _)| known == above);
            if !is_known {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let fd = orlop_sys::path::open_beneath(&self.root, Path::new(OsStr::from_bytes(above)), flags)?;
                self.parent = Some((above.to_vec(), fd));
            }
            let Some((_, parent)) = &self.parent else { return Err(self.wrong("has no directory")) };
            rustix::fs::openat(parent, name, flags, Mode::empty())
        };
        let fd = fd.map_err(|error| Error::io("open", self.current(), error))?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| Error::io("stat", self.current(), error))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(self.wrong("is no regular file any more"));
        }
        Ok(File::from(fd))
    }

    fn current(&self) -> PathBuf {
        self.path.join(OsStr::from_bytes(&self.current))
    }

    fn wrong(&self, reason: &'static str) -> Error {
        Error::Changed { path: self.current(), reason }
    }
}
