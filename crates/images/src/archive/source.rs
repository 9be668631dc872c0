//! Where an archive comes from: a file, a directory, a pipe; plain, gzip or zstd.

use crate::Error;
use crate::archive::blob::Blob;
use crate::archive::tar_index::{self, TarIndex};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `load` reads.
#[derive(Debug)]
pub enum Source {
    /// A file, or a directory in OCI layout (`load -i`).
    Path(PathBuf),
    /// An open file or pipe, usually standard input.
    Stream(OwnedFd),
}

/// Decoder windows above 128 MiB are refused, as DESIGN.md says.
const ZSTD_WINDOW_LOG: u32 = 27;
/// An archive that unpacks to more than this is looked at for its ratio.
const RATIO_MATTERS_FROM: u64 = 1 << 30;
/// Real images stay below 20; a bomb of zeros reaches 1,000 with gzip and more with zstd.
const MAX_RATIO: u64 = 200;

/// The files of an archive or of a layout directory, by name.
#[derive(Debug)]
pub(crate) enum Files {
    Tar(TarIndex),
    Directory { root: OwnedFd },
}

impl Files {
    /// Opens `source`. What can't be read at any position is copied to a file without a name in `ingest` first, so
    /// that nothing of it is left when the process dies.
    pub(crate) fn open(source: Source, ingest: &Path) -> Result<Self, Error> {
        let file = match source {
            Source::Path(path) => {
                let open = |source| Error::Open { path: path.clone(), source };
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| open(error.into()))?;
                let file = File::from(fd);
                if file.metadata().map_err(open)?.is_dir() {
                    return Ok(Self::Directory { root: file.into() });
                }
                file
            }
            Source::Stream(fd) => {
                if rustix::termios::isatty(&fd) {
                    return Err(Error::Terminal);
                }
                File::from(fd)
            }
        };
        let (file, length) = plain_file(file, ingest)?;
        Ok(Self::Tar(TarIndex::read(Arc::new(file), length)?))
    }

    /// The content of a regular file, or None when there is no such name.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Blob>, Error> {
        match self {
            Self::Tar(index) => index.get(name),
            Self::Directory { root } => open_below(root, name),
        }
    }

    /// As `get`, but its absence is an error that says whether the archive was cut off.
    pub(crate) fn need(&self, name: &str) -> Result<Blob, Error> {
        self.get(name)?.ok_or_else(|| Error::Missing {
            name: name.to_owned(),
            hint: match self {
                Self::Tar(index) if !index.ended => "; the archive has no end and may be cut off",
                _ => "",
            },
        })
    }
}

fn open_below(root: &OwnedFd, name: &str) -> Result<Option<Blob>, Error> {
    let clean = tar_index::clean(name)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::archive(format!("the path {name:?} leads out of it")))?;
    let fd = match rustix::fs::openat2(
        root,
        &clean,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    ) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(rustix::io::Errno::XDEV) => return Err(Error::archive(format!("the link {clean:?} leads out of it"))),
        Err(error) => return Err(Error::Open { path: PathBuf::from(clean), source: error.into() }),
    };
    let file = File::from(fd);
    let metadata = file.metadata().map_err(|source| Error::ReadArchive { source })?;
    if !metadata.is_file() {
        return Err(Error::archive(format!("{clean:?} is not a regular file")));
    }
    Ok(Some(Blob::new(clean, Arc::new(file), 0, metadata.len())))
}

/// A tar header: enough to tell what is coming.
const HEAD: u64 = 512;

/// The archive as an uncompressed file that pread can read, with its length.
pub(crate) fn plain_file(mut file: File, ingest: &Path) -> Result<(File, u64), Error> {
    let read = |source| Error::ReadArchive { source };
    let metadata = file.metadata().map_err(read)?;
    let is_seekable = metadata.is_file() && file.stream_position().map_err(read)? == 0;
    let mut head = Vec::new();
    (&mut file).take(HEAD).read_to_end(&mut head).map_err(read)?;
    if head.is_empty() {
        return Err(Error::Empty);
    }
    let compression = compression(&head)?;
    if compression == Compression::None && is_seekable {
        return Ok((file, metadata.len()));
    }
    let mut spool = unnamed_file(ingest)?;
    let length = match compression {
        Compression::None => {
            check_begin(&head)?;
            let write = |source| Error::Spool { path: ingest.to_owned(), source };
            spool.write_all(&head).map_err(write)?;
            // From a pipe to a file this stays in the kernel.
            head.len() as u64 + io::copy(&mut file, &mut spool).map_err(write)?
        }
        Compression::Gzip => {
            let input = Counted { inner: io::Cursor::new(head).chain(file), read: 0 };
            let decoder = flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(1 << 17, input));
            expand(decoder, |decoder| decoder.get_ref().get_ref().read, &mut spool, ingest)?
        }
        Compression::Zstd => {
            let input = Counted { inner: io::Cursor::new(head).chain(file), read: 0 };
            let mut decoder = zstd::stream::read::Decoder::new(input).map_err(read)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(read)?;
            expand(decoder, |decoder| decoder.get_ref().get_ref().read, &mut spool, ingest)?
        }
    };
    Ok((spool, length))
}

/// Refuses what can't become an archive before the disk is filled with it.
pub(crate) fn check_begin(head: &[u8]) -> Result<(), Error> {
    match tar_index::is_header(head) {
        true => Ok(()),
        false => Err(Error::NotAnArchive),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

fn compression(head: &[u8]) -> Result<Compression, Error> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A skippable frame, as pzstd and zstd:chunked begin with.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(Error::Compression { name: "xz", tool: "xz -dc" }),
        [b'B', b'Z', b'h', ..] => Err(Error::Compression { name: "bzip2", tool: "bzip2 -dc" }),
        _ => Ok(Compression::None),
    }
}

struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

fn expand<D: Read>(
    mut decoder: D,
    consumed: impl Fn(&D) -> u64,
    spool: &mut File,
    ingest: &Path,
) -> Result<u64, Error> {
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let read = fill(&mut decoder, &mut buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated { at: length },
            _ => Error::Decompress { source: error },
        })?;
        if length == 0 {
            check_begin(&buffer[..read.min(usize::try_from(HEAD).expect("it is small"))])?;
        }
        length += read as u64;
        if length > RATIO_MATTERS_FROM && length / MAX_RATIO > consumed(&decoder) {
            return Err(Error::archive(format!("it expands more than {MAX_RATIO} times")));
        }
        spool.write_all(&buffer[..read]).map_err(|source| Error::Spool { path: ingest.to_owned(), source })?;
        if read < buffer.len() {
            return Ok(length);
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// A file that has no name from the first moment, or from the next where the file system has no O_TMPFILE.
pub(crate) fn unnamed_file(directory: &Path) -> Result<File, Error> {
    let failed = |source| Error::Spool { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => return Ok(File::from(fd)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {}
        Err(error) => return Err(failed(error.into())),
    }
    let path = directory.join(orlop_model::Id::random().hex());
    let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}
