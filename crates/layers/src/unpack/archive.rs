//! The loop over a tar archive: headers and what extends them become entries.
//!
//! Whatever is read passes through [`Archive::block`] (headers, maps) or [`Archive::take`] (content, which may end up in
//! files), in the order of the stream; there it also goes into the record from which the archive is made again.

use super::Limits;
use super::header::{BLOCK, Field, Header, Piece, sparse_extension};
use super::pax::{self, Extended, Time};
use super::stream::Chunks;
use crate::record::Recorder;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// One entry, with everything that extended headers say about it.
#[derive(Debug)]
pub(super) struct Entry {
    /// As the archive gives it.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// The low twelve bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug)]
pub(super) enum Kind {
    File {
        /// The file's size.
        size: u64,
        /// Where its content goes; None: it is one piece.
        pieces: Option<Vec<Piece>>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    Hardlink {
        target: Vec<u8>,
    },
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// A tar archive that is read from its start to its end marker.
pub(super) struct Archive<'a> {
    chunks: &'a mut Chunks,
    limits: Limits,
    recorder: Option<Recorder>,
    /// Bytes of the stream that are read, to say where something is wrong.
    position: u64,
    /// What is left of the current entry's content, and of the padding behind it.
    content: u64,
    padding: u64,
    global: Extended,
    /// Bytes of all global headers so far.
    global_size: u64,
}

/// Bytes of all global headers of an archive together: each entry starts with a copy of what they say.
const MAX_GLOBAL: u64 = 64 << 10;

/// The content of the entry that was read last.
pub(super) struct Content<'a, 'b> {
    archive: &'a mut Archive<'b>,
    name: Vec<u8>,
}

impl<'a> Archive<'a> {
    pub(super) fn new(chunks: &'a mut Chunks, limits: Limits, recorder: Option<Recorder>) -> Self {
        Self {
            chunks,
            limits,
            recorder,
            position: 0,
            content: 0,
            padding: 0,
            global: Extended::default(),
            global_size: 0,
        }
    }

    /// The next entry; None at the end marker, or at the end of a stream that has none.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        self.skip_content()?;
        let mut extended = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        let mut dangling = false;
        // All headers that extend one entry share one limit.
        let mut extensions = 0;
        loop {
            let Some(block) = self.block()? else { return self.end(dangling) };
            if block == [0; BLOCK] {
                return match self.block()? {
                    Some(second) if second != [0; BLOCK] => Err(self.damaged("a block of zeros stands alone")),
                    _ => self.end(dangling),
                };
            }
            let header = Header(&block);
            if !header.checksum_holds() {
                return Err(self.damaged("the checksum of a header is wrong"));
            }
            let size = self.size_of(header)?;
            if matches!(header.kind(), b'x' | b'X' | b'L' | b'K' | b'V') {
                extensions += size.min(1 << 40) + BLOCK as u64;
                self.check_extension(extensions, self.limits.header)?;
            }
            match header.kind() {
                b'x' | b'X' => {
                    let records = self.extension(size)?;
                    extended.read(&records, self.limits.pieces).map_err(|reason| self.damaged(&reason))?;
                }
                b'g' => {
                    self.global_size += size.min(1 << 40);
                    self.check_extension(self.global_size, MAX_GLOBAL)?;
                    let records = self.extension(size)?;
                    let mut global = std::mem::take(&mut self.global);
                    global.read(&records, self.limits.pieces).map_err(|reason| self.damaged(&reason))?;
                    self.global = global;
                    // A global header between an entry's own and the entry itself leaves the entry's own in force.
                    if !dangling {
                        extended = self.global.clone();
                    }
                    continue;
                }
                b'L' => long_name = Some(until_nul(self.extension(size)?)),
                b'K' => long_link = Some(until_nul(self.extension(size)?)),
                // The name of the volume, in GNU's format.
                b'V' => self.extension(size).map(drop)?,
                _ => return self.entry(header, extended, long_name, long_link).map(Some),
            }
            dangling = true;
        }
    }

    /// The content of the entry that [`Self::next`] returned.
    pub(super) fn content(&mut self, name: &[u8]) -> Content<'_, 'a> {
        Content { name: name.to_vec(), archive: self }
    }

    /// Reads what follows the archive's end, which belongs to the layer's digest, and gives the record back.
    pub(super) fn finish(mut self) -> Result<Option<Recorder>> {
        while let Some(bytes) = self.chunks.peek() {
            let count = bytes.len();
            if let Some(recorder) = &mut self.recorder {
                recorder.literal(bytes)?;
            }
            self.chunks.consume(count);
        }
        Ok(self.recorder)
    }

    /// Bytes of content that the archive holds for the entry.
    pub(super) fn stored(&self) -> u64 {
        self.content
    }

    fn end(&self, dangling: bool) -> Result<Option<Entry>> {
        if dangling { Err(self.damaged("it ends behind an extended header")) } else { Ok(None) }
    }

    fn size_of(&self, header: Header<'_>) -> Result<u64> {
        let size = header.number(Field::Size).map_err(|reason| self.damaged(&reason))?.unwrap_or(0);
        u64::try_from(size).map_err(|_| self.damaged("a header's size is negative"))
    }

    fn entry(
        &mut self,
        header: Header<'_>,
        extended: Extended,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let Extended { path, link, size, uid, gid, mtime, atime, major, minor, xattrs, sparse } = extended;
        let name = sparse.name.or(path).or(long_name).unwrap_or_else(|| header.name());
        let link = link.or(long_link).unwrap_or_else(|| header.link().to_vec());
        let fail = |reason: String| Error::entry(&name, reason);
        let field = |field| header.number(field).map_err(fail);
        let id = |what: &str, given: Option<u64>, field: Field| {
            let number = match given {
                Some(number) => Some(number),
                None => header
                    .number(field)
                    .map_err(fail)?
                    .map(u64::try_from)
                    .transpose()
                    .map_err(|_| fail(format!("its {what} id is negative")))?,
            };
            // The highest number means "leave as it is" to chown(2).
            match u32::try_from(number.unwrap_or(0)) {
                Ok(u32::MAX) | Err(_) => Err(fail(format!("its {what} id is too large"))),
                Ok(id) => Ok(id),
            }
        };
        let device = |given: Option<u64>, place| {
            let number = given.map_or_else(
                || field(place).map(|number| number.unwrap_or(0)),
                |n| i64::try_from(n).map_err(|_| fail("its device number is too large".to_owned())),
            )?;
            u32::try_from(number).map_err(|_| fail("its device number is out of range".to_owned()))
        };
        let uid = id("user", uid, Field::Uid)?;
        let gid = id("group", gid, Field::Gid)?;
        let mode = (field(Field::Mode)?.unwrap_or(0) & 0o7777) as u32;
        let mtime = match mtime {
            Some(time) => time,
            None => Time { seconds: field(Field::Mtime)?.unwrap_or(0), nanos: 0 },
        };
        let stored = match size {
            Some(size) => size,
            None => self.size_of(header)?,
        };
        let is_file = matches!(header.kind(), b'0' | b'\0' | b'7') && !name.ends_with(b"/");
        let kind = match header.kind() {
            b'S' => self.gnu_sparse(header, stored).map_err(|error| error.in_entry(&name))?,
            _ if is_file && sparse.major == Some(1) && sparse.minor == Some(0) => {
                let size = sparse.size.ok_or_else(|| fail("its sparse map has no size".to_owned()))?;
                self.set_content(stored);
                let pieces = self.leading_map().map_err(|error| error.in_entry(&name))?;
                Kind::File { size, pieces: Some(pieces) }
            }
            _ if is_file && sparse.map.is_some() => {
                self.set_content(stored);
                let size = sparse.size.ok_or_else(|| fail("its sparse map has no size".to_owned()))?;
                Kind::File { size, pieces: sparse.map }
            }
            _ if is_file && sparse.major.is_some() => {
                return Err(fail("its sparse map has a version that is not known".to_owned()));
            }
            _ if is_file => {
                self.set_content(stored);
                Kind::File { size: stored, pieces: None }
            }
            // What follows has no content, whatever the size says, as in Go's reader, which Docker uses.
            b'0' | b'\0' | b'7' | b'5' => Kind::Directory,
            // A directory of GNU's incremental dumps: its content is a list of names.
            b'D' => {
                self.set_content(stored);
                self.skip_content()?;
                Kind::Directory
            }
            b'1' => Kind::Hardlink { target: link },
            b'2' => Kind::Symlink { target: link },
            b'3' => Kind::Char { major: device(major, Field::Major)?, minor: device(minor, Field::Minor)? },
            b'4' => Kind::Block { major: device(major, Field::Major)?, minor: device(minor, Field::Minor)? },
            b'6' => Kind::Fifo,
            other => return Err(fail(format!("its type {:?} is not supported", char::from(other)))),
        };
        if let Kind::File { size, pieces: Some(pieces) } = &kind {
            check_pieces(pieces, *size, self.content).map_err(fail)?;
        }
        if [
            &name,
            match &kind {
                Kind::Symlink { target } | Kind::Hardlink { target } => target,
                _ => &name,
            },
        ]
        .iter()
        .any(|text| text.contains(&0))
        {
            return Err(fail("a name contains NUL".to_owned()));
        }
        Ok(Entry { path: name, kind, mode, uid, gid, mtime, atime, xattrs })
    }

    /// Old GNU sparse: four pieces in the header, more in blocks behind it, then the content.
    fn gnu_sparse(&mut self, header: Header<'_>, stored: u64) -> Result<Kind> {
        let size = header.number(Field::RealSize).map_err(|reason| self.damaged(&reason))?.unwrap_or(0);
        let size = u64::try_from(size).map_err(|_| self.damaged("a sparse file's size is negative"))?;
        let (mut pieces, mut more) = header.sparse().map_err(|reason| self.damaged(&reason))?;
        while more {
            let block = self.block()?.ok_or_else(|| self.damaged("it ends within a sparse map"))?;
            let (further, again) = sparse_extension(&block).map_err(|reason| self.damaged(&reason))?;
            pieces.extend(further);
            more = again;
            pax::limit(pieces.len(), self.limits.pieces).map_err(Error::Limit)?;
        }
        self.set_content(stored);
        Ok(Kind::File { size, pieces: Some(pieces) })
    }

    /// GNU sparse 1.0: decimal numbers, one a line, in blocks before the content.
    fn leading_map(&mut self) -> Result<Vec<Piece>> {
        let mut numbers = Vec::new();
        let mut expected = None;
        let mut digits = Vec::new();
        while expected.is_none_or(|count: usize| numbers.len() < count) {
            if self.content < BLOCK as u64 {
                return Err(self.damaged("a sparse map is larger than its file"));
            }
            let block = self.block()?.ok_or_else(|| self.damaged("it ends within a sparse map"))?;
            self.content -= BLOCK as u64;
            for &byte in &block {
                if expected.is_some_and(|count| numbers.len() == count) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number = pax::whole(&digits).map_err(|reason| self.damaged(&reason))?;
                digits.clear();
                if expected.is_some() {
                    numbers.push(number);
                } else {
                    let count = usize::try_from(number).unwrap_or(usize::MAX);
                    pax::limit(count, self.limits.pieces).map_err(Error::Limit)?;
                    expected = Some(2 * count);
                }
            }
            if digits.len() > 20 {
                return Err(self.damaged("a sparse map is not made of numbers"));
            }
        }
        Ok(numbers.chunks_exact(2).map(|pair| Piece { offset: pair[0], length: pair[1] }).collect())
    }

    /// The content of an extended header, whole.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        self.set_content(size);
        let mut all = Vec::with_capacity(size as usize);
        while let Some(part) = self.take(u64::MAX)? {
            all.extend_from_slice(part);
        }
        self.skip_content()?;
        Ok(all)
    }

    fn check_extension(&self, size: u64, limit: u64) -> Result<()> {
        if size > limit {
            return Err(Error::Limit(format!("an extended header of {size} bytes is larger than {limit}")));
        }
        Ok(())
    }

    fn set_content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Some of the content, at most `most` bytes; None when there is none left.
    fn take(&mut self, most: u64) -> Result<Option<&[u8]>> {
        let most = most.min(self.content);
        if most == 0 {
            return Ok(None);
        }
        let position = self.position;
        // Two look-ups, since the borrow of the first would last as long as what is returned.
        let Some(available) = self.chunks.peek().map(|bytes| (bytes.len() as u64).min(most)) else {
            return Err(Error::Archive(format!("it ends at byte {position}, within a file")));
        };
        self.position += available;
        self.content -= available;
        let bytes = self.chunks.take(available as usize);
        if let Some(recorder) = &mut self.recorder {
            recorder.content(bytes)?;
        }
        Ok(Some(bytes))
    }

    fn skip_content(&mut self) -> Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.end_file()?;
        }
        while self.take(u64::MAX)?.is_some() {}
        while self.padding > 0 {
            // A last file without its padding is as good as an archive without its end marker.
            let Some(available) = self.chunks.peek().map(|bytes| (bytes.len() as u64).min(self.padding)) else {
                self.padding = 0;
                break;
            };
            let bytes = self.chunks.take(available as usize);
            if let Some(recorder) = &mut self.recorder {
                recorder.literal(bytes)?;
            }
            self.position += available;
            self.padding -= available;
        }
        Ok(())
    }

    /// A whole block; None at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let Some(bytes) = self.chunks.peek() else {
                return if filled == 0 { Ok(None) } else { Err(self.damaged("it ends within a header")) };
            };
            let count = bytes.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.chunks.consume(count);
            if let Some(recorder) = &mut self.recorder {
                recorder.literal(&block[filled..filled + count])?;
            }
            filled += count;
            self.position += count as u64;
        }
        Ok(Some(block))
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Archive(format!("{reason} (at byte {})", self.position))
    }
}

impl Content<'_, '_> {
    /// Whether it has to be told where the content goes.
    pub(super) fn is_recorded(&self) -> bool {
        self.archive.recorder.is_some() && self.archive.content > 0
    }

    /// All that is taken from now on goes into the file at `path`, below the layer.
    pub(super) fn goes_to(&mut self, path: &[u8]) -> Result<()> {
        self.archive.recorder.as_mut().map_or(Ok(()), |recorder| recorder.begin_file(path))
    }

    /// What is taken next goes to this place in that file.
    pub(super) fn seek(&mut self, offset: u64) -> Result<()> {
        self.archive.recorder.as_mut().map_or(Ok(()), |recorder| recorder.seek(offset))
    }

    /// Some more of it, at most `most` bytes; None at its end.
    pub(super) fn take(&mut self, most: u64) -> Result<Option<&[u8]>> {
        let Self { archive, name } = self;
        match archive.take(most) {
            Err(error) => Err(error.in_entry(name)),
            part => part,
        }
    }
}

/// The pieces must be in order, within the file, and hold exactly what is stored.
fn check_pieces(pieces: &[Piece], size: u64, stored: u64) -> Result<(), String> {
    let mut end = 0;
    let mut sum = 0_u64;
    for piece in pieces {
        let piece_end = piece.offset.checked_add(piece.length).filter(|&end| end <= size);
        if piece.offset < end || piece_end.is_none() {
            return Err("its sparse map is out of order or larger than the file".to_owned());
        }
        end = piece_end.unwrap_or(size);
        sum += piece.length;
    }
    if sum != stored {
        return Err(format!("its sparse map speaks of {sum} bytes, but {stored} are stored"));
    }
    Ok(())
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(nul) = text.iter().position(|&byte| byte == 0) {
        text.truncate(nul);
    }
    text
}
