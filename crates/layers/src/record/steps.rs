//! A record is a list of steps, in the order of the archive. Numbers are LEB128.
//!
//! ```text
//! 1 LENGTH BYTES    these bytes
//! 2 LENGTH PATH     from now on ranges are of this file, below the layer's diff
//! 3 OFFSET LENGTH   so many bytes of the file from there on
//! 4 CRC32           of all ranges of the file: tells which file it is that has changed
//! 0                 the end
//! ```

use super::head::{self, Head, RECORD, create};
use crate::{Error, Result};
use flate2::Crc;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use zstd::stream::write::Encoder;

/// Literal bytes of one step at most; what a writer and a reader hold in memory.
const LITERAL: usize = 64 << 10;

/// Bytes of a path at most: what the kernel resolves and a name.
const PATH: u64 = 8192;

/// One step of a record.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// That many bytes follow, to be read by [`Steps::literal`].
    Literal(u64),
    /// Ranges are of [`Steps::file`] now.
    File,
    Range {
        offset: u64,
        length: u64,
    },
    Sum(u32),
    End,
}

/// Writes a record from left to right, in bounded memory.
pub(crate) struct Recorder {
    encoder: Encoder<'static, File>,
    path: PathBuf,
    literal: Vec<u8>,
    /// The file that content goes to.
    file: Option<Ranges>,
    /// Bytes of the archive so far.
    size: u64,
}

struct Ranges {
    offset: u64,
    length: u64,
    crc: Crc,
}

impl Recorder {
    /// Begins the file at `path`.
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let encoder = create(&path, &RECORD, 3)?;
        Ok(Self { encoder, path, literal: Vec::with_capacity(LITERAL), file: None, size: 0 })
    }

    /// Bytes that no file of the layer has.
    pub(crate) fn literal(&mut self, mut bytes: &[u8]) -> Result<()> {
        debug_assert!(self.file.is_none(), "a file ends before something else comes");
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let count = bytes.len().min(LITERAL - self.literal.len());
            self.literal.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.literal.len() == LITERAL {
                self.flush_literal()?;
            }
        }
        Ok(())
    }

    /// What [`Self::content`] brings from now on goes to the start of the file at `path`.
    pub(crate) fn begin_file(&mut self, path: &[u8]) -> Result<()> {
        self.end_file()?;
        self.flush_literal()?;
        self.number(2)?;
        self.number(path.len() as u64)?;
        self.bytes(path)?;
        self.file = Some(Ranges { offset: 0, length: 0, crc: Crc::new() });
        Ok(())
    }

    /// What comes next goes to this place in the file.
    pub(crate) fn seek(&mut self, offset: u64) -> Result<()> {
        match &self.file {
            Some(file) if file.offset + file.length != offset => self.flush_range(offset),
            _ => Ok(()),
        }
    }

    /// Bytes of the current file, or of none.
    pub(crate) fn content(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return self.literal(bytes) };
        file.crc.update(bytes);
        file.length += bytes.len() as u64;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Nothing more comes for the current file.
    pub(crate) fn end_file(&mut self) -> Result<()> {
        self.flush_range(0)?;
        let Some(file) = self.file.take() else { return Ok(()) };
        self.number(4)?;
        self.number(file.crc.sum().into())
    }

    /// Ends the record; it is valid once its head is written as well.
    pub(super) fn finish(mut self) -> Result<Unsealed> {
        self.end_file()?;
        self.flush_literal()?;
        self.number(0)?;
        let Self { encoder, path, size, .. } = self;
        let file = encoder.finish().map_err(|error| Error::io("write", &path, error))?;
        Ok(Unsealed { file, path, size })
    }

    fn flush_literal(&mut self) -> Result<()> {
        if self.literal.is_empty() {
            return Ok(());
        }
        self.number(1)?;
        self.number(self.literal.len() as u64)?;
        let literal = std::mem::take(&mut self.literal);
        self.bytes(&literal)?;
        self.literal = literal;
        self.literal.clear();
        Ok(())
    }

    fn flush_range(&mut self, next: u64) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let (offset, length) = (file.offset, file.length);
        (file.offset, file.length) = (next, 0);
        if length == 0 {
            return Ok(());
        }
        self.number(3)?;
        self.number(offset)?;
        self.number(length)
    }

    fn number(&mut self, number: u64) -> Result<()> {
        let mut bytes = [0; 10];
        let length = put_number(&mut bytes, number);
        self.bytes(&bytes[..length])
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.encoder.write_all(bytes).map_err(|error| Error::io("write", &self.path, error))
    }
}

/// A record that lacks its head.
pub(super) struct Unsealed {
    file: File,
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

impl Unsealed {
    pub(super) fn seal(mut self, diff_id: orlop_model::Digest) -> Result<()> {
        let head = Head { size: self.size, diff_id };
        head.write(&mut self.file, &RECORD).map_err(|error| Error::io("write", &self.path, error))
    }
}

/// Reads a record step by step.
pub(super) struct Steps<R> {
    /// Most reads are of a few bytes, for which a decoder takes as long as for many.
    reader: BufReader<R>,
    path: PathBuf,
    file: Vec<u8>,
    /// Of the literal that was announced, what has not been read.
    literal: u64,
}

impl<R: Read> Steps<R> {
    pub(super) fn new(reader: R, path: &Path) -> Self {
        Self { reader: BufReader::with_capacity(LITERAL, reader), path: path.to_owned(), file: Vec::new(), literal: 0 }
    }

    /// The next step. What is left of a literal is stepped over.
    pub(super) fn next(&mut self) -> Result<Step> {
        if self.literal > 0 {
            let mut rest = [0; 512];
            while self.literal(&mut rest)? > 0 {}
        }
        Ok(match self.number()? {
            0 => {
                // Beyond it lies the frame's checksum.
                match self.reader.read(&mut [0]) {
                    Ok(0) => Step::End,
                    Ok(_) => return Err(self.damaged("something follows its end")),
                    Err(error) => return Err(self.failed(error)),
                }
            }
            1 => {
                self.literal = self.number()?;
                Step::Literal(self.literal)
            }
            2 => {
                let length = self.number()?;
                if length == 0 || length > PATH {
                    return Err(self.damaged("it names a file by no path"));
                }
                self.file.resize(length as usize, 0);
                self.reader.read_exact(&mut self.file).map_err(|error| head::failed(&self.path, error))?;
                Step::File
            }
            3 => Step::Range { offset: self.number()?, length: self.number()? },
            4 => Step::Sum(self.number()?.try_into().map_err(|_| self.damaged("a sum is too large"))?),
            other => return Err(self.damaged(&format!("it has a step of the unknown kind {other}"))),
        })
    }

    /// The path that the last [`Step::File`] gave.
    pub(super) fn file(&self) -> &[u8] {
        &self.file
    }

    /// Bytes of the literal; 0 at its end.
    pub(super) fn literal(&mut self, into: &mut [u8]) -> Result<usize> {
        let most = into.len().min(usize::try_from(self.literal).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        self.exact(&mut into[..most])?;
        self.literal -= most as u64;
        Ok(most)
    }

    fn exact(&mut self, into: &mut [u8]) -> Result<()> {
        self.reader.read_exact(into).map_err(|error| self.failed(error))
    }

    fn number(&mut self) -> Result<u64> {
        let number = get_number(&mut self.reader).map_err(|error| self.failed(error))?;
        number.ok_or_else(|| self.damaged("a number is too large"))
    }

    fn failed(&self, error: io::Error) -> Error {
        head::failed(&self.path, error)
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Record { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// LEB128 into `bytes`; its length.
pub(super) fn put_number(bytes: &mut [u8; 10], mut number: u64) -> usize {
    let mut length = 0;
    loop {
        let more = number > 0x7f;
        bytes[length] = (number & 0x7f) as u8 | u8::from(more) << 7;
        length += 1;
        number >>= 7;
        if !more {
            return length;
        }
    }
}

/// LEB128; None when it doesn't fit.
pub(super) fn get_number(reader: &mut impl Read) -> io::Result<Option<u64>> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        let bits = u64::from(byte[0] & 0x7f);
        if shift == 63 && bits > 1 {
            return Ok(None);
        }
        number |= bits << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}
