//! From the stream as given to chunks of plain tar: read, hashed and inflated on one thread, hashed again on a second,
//! unpacked on a third.

use super::{Limits, Options};
use crate::{Error, Result};
use flate2::bufread::GzDecoder;
use orlop_model::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

/// Bytes of a chunk. Most files of an image fit into one, so they reach the disk without being copied in memory.
const CHUNK: usize = 256 << 10;

/// Chunks waiting for each reader; with those in work at most 3 MiB for a layer.
const WAITING: usize = 4;

/// The largest window of a zstd frame, and of all that are decoded at a time together.
const MAX_WINDOW: u64 = 128 << 20;

/// Bytes of zstd windows in use; who needs more than is left waits.
static WINDOWS: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

/// What the stream was, known at its end.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) diff_id: Digest,
    pub(super) blob: Option<Digest>,
    pub(super) blob_size: u64,
}

/// What a whole uncompressed stream was.
pub(crate) struct Inflated {
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
}

/// Gives `each` the uncompressed stream, piece by piece.
pub(crate) fn inflate(
    reader: impl Read + Send,
    limits: &Limits,
    mut each: impl FnMut(&[u8]) -> Result<()> + Send,
) -> Result<Inflated> {
    let options = Options { blob_digest: false, record: false };
    let (size, digests) = run(reader, options, limits, move |chunks| {
        let mut size = 0;
        while let Some(bytes) = chunks.peek() {
            let count = bytes.len();
            each(bytes)?;
            size += count as u64;
            chunks.consume(count);
        }
        Ok(size)
    })?;
    Ok(Inflated { diff_id: digests.diff_id, size })
}

/// The unpacking side: chunks of the uncompressed stream, in order.
pub(super) struct Chunks {
    chunks: Receiver<Arc<Vec<u8>>>,
    used: Sender<Vec<u8>>,
    current: Option<Arc<Vec<u8>>>,
    offset: usize,
}

/// Runs `unpack` on a thread of its own over the uncompressed stream, while others read, inflate and hash it.
pub(super) fn run<T: Send>(
    reader: impl Read + Send,
    options: Options,
    limits: &Limits,
    unpack: impl FnOnce(&mut Chunks) -> Result<T> + Send,
) -> Result<(T, Digests)> {
    std::thread::scope(|scope| {
        let (used, free) = channel();
        let (to_hash, hashed) = sync_channel::<Arc<Vec<u8>>>(WAITING);
        let (to_unpack, unpacked) = sync_channel(WAITING);
        let hashing_used = used.clone();
        let hashing = scope.spawn(move || {
            let mut hash = Sha256::new();
            for chunk in hashed {
                hash.update(&*chunk);
                recycle(chunk, &hashing_used);
            }
            Digest::from_sha256(hash.finalize().into())
        });
        let unpacking = scope.spawn(move || {
            let mut chunks = Chunks { chunks: unpacked, used, current: None, offset: 0 };
            let result = unpack(&mut chunks)?;
            // Whatever is left belongs to the diff_id.
            while chunks.next().is_some() {}
            Ok(result)
        });
        let mut source = Source::new(reader, options.blob_digest);
        let sink = Sink { free, to_hash, to_unpack, written: 0 };
        let inflating = source.inflate(sink, limits);
        let join = |panic| std::panic::resume_unwind(panic);
        let diff_id = hashing.join().unwrap_or_else(join);
        let unpacked = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match inflating {
            // A stream that breaks off makes the unpacker fail as well, but this is the cause.
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::NobodyReads) => Err(unpacked.err().unwrap_or_else(|| {
                Error::Archive("unpacking ended before the stream did".to_owned()) // not reached: it drains the stream
            })),
            Ok(compressed) => {
                let blob = match compressed {
                    true => source.tap.hash.map(|hash| Digest::from_sha256(hash.finalize().into())),
                    false => options.blob_digest.then_some(diff_id),
                };
                Ok((unpacked?, Digests { diff_id, blob, blob_size: source.tap.count }))
            }
        }
    })
}

impl Chunks {
    /// The bytes at hand, never empty; None at the end of the stream.
    pub(super) fn peek(&mut self) -> Option<&[u8]> {
        if self.current.as_ref().is_none_or(|chunk| self.offset == chunk.len()) {
            self.next()?;
        }
        self.current.as_ref().map(|chunk| &chunk[self.offset..])
    }

    /// Steps over bytes that [`Self::peek`] has shown.
    pub(super) fn consume(&mut self, count: usize) {
        self.offset += count;
    }

    /// Steps over bytes that [`Self::peek`] has shown, and returns them.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let start = self.offset;
        self.offset += count;
        self.current.as_ref().map_or(&[], |chunk| &chunk[start..start + count])
    }

    fn next(&mut self) -> Option<()> {
        if let Some(chunk) = self.current.take() {
            recycle(chunk, &self.used);
        }
        self.offset = 0;
        self.current = Some(self.chunks.recv().ok()?);
        Some(())
    }
}

/// The last of the two readers gives a chunk's memory back.
fn recycle(chunk: Arc<Vec<u8>>, used: &Sender<Vec<u8>>) {
    if let Some(memory) = Arc::into_inner(chunk) {
        // Nobody takes it any more once the stream has ended.
        let _ = used.send(memory);
    }
}

/// Why inflating ended early.
enum Stop {
    Failed(Error),
    NobodyReads,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Where uncompressed chunks go.
struct Sink {
    free: Receiver<Vec<u8>>,
    to_hash: SyncSender<Arc<Vec<u8>>>,
    to_unpack: SyncSender<Arc<Vec<u8>>>,
    written: u64,
}

impl Sink {
    /// Memory for a chunk, used before or new. The channels bound how much is in use.
    fn chunk(&self) -> Vec<u8> {
        let mut chunk = self.free.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        chunk
    }

    fn send(&mut self, chunk: Vec<u8>) -> Result<(), Stop> {
        self.written += chunk.len() as u64;
        let chunk = Arc::new(chunk);
        self.to_hash.send(chunk.clone()).map_err(|_| Stop::NobodyReads)?;
        self.to_unpack.send(chunk).map_err(|_| Stop::NobodyReads)
    }
}

struct Source<R> {
    tap: Tap<R>,
}

impl<R: Read> Source<R> {
    fn new(reader: R, hash: bool) -> Self {
        let hash = hash.then(Sha256::new);
        Self {
            tap: Tap { reader, buffer: vec![0; CHUNK], start: 0, end: 0, ended: false, hash, count: 0, failure: None },
        }
    }

    /// Feeds the sink to the end of the stream; says whether it was compressed.
    fn inflate(&mut self, mut sink: Sink, limits: &Limits) -> Result<bool, Stop> {
        match Compression::of(self.tap.peek(16)?)? {
            Compression::None => {
                // The hash of what is read is the hash of what is written: once is enough.
                self.tap.hash = None;
                self.copy(&mut sink)?;
                Ok(false)
            }
            Compression::Gzip => self.gzip(&mut sink, limits).map(|()| true),
            Compression::Zstd => self.zstd(&mut sink, limits).map(|()| true),
        }
    }

    fn copy(&mut self, sink: &mut Sink) -> Result<(), Stop> {
        loop {
            let mut chunk = sink.chunk();
            let filled = fill(&mut chunk, |rest| self.tap.read(rest).map_err(Error::Read))?;
            chunk.truncate(filled);
            if filled > 0 {
                sink.send(chunk)?;
            }
            if filled < CHUNK {
                return Ok(());
            }
        }
    }

    /// One gzip member after another, as gzip(1) reads them; zeros after the last are padding.
    fn gzip(&mut self, sink: &mut Sink, limits: &Limits) -> Result<(), Stop> {
        let mut chunk = sink.chunk();
        let mut filled = 0;
        let damaged = |error| Error::Archive(format!("damaged gzip stream: {error}"));
        loop {
            let next = self.tap.peek(2)?;
            if next.is_empty() {
                break;
            }
            if next[0] == 0 {
                self.zeros_to_the_end()?;
                break;
            }
            if !next.starts_with(&GZIP) {
                return Err(damaged(std::io::Error::other("something else follows its end")).into());
            }
            let mut member = GzDecoder::new(&mut self.tap);
            loop {
                let read = match member.read(&mut chunk[filled..]) {
                    Ok(read) => read,
                    Err(error) => {
                        return Err(member.get_mut().failure.take().map_or(damaged(error), Error::Read).into());
                    }
                };
                filled += read;
                if read == 0 {
                    break;
                }
                if filled == chunk.len() {
                    sink.send(std::mem::replace(&mut chunk, sink.chunk()))?;
                    filled = 0;
                    check_ratio(sink.written, member.get_ref().count, limits)?;
                }
            }
        }
        chunk.truncate(filled);
        if filled > 0 { sink.send(chunk) } else { Ok(()) }
    }

    fn zeros_to_the_end(&mut self) -> Result<()> {
        loop {
            let rest = self.tap.fill_buf().map_err(Error::Read)?;
            let count = rest.len();
            if count == 0 {
                return Ok(());
            }
            if rest.iter().any(|&byte| byte != 0) {
                return Err(Error::Archive("damaged gzip stream: something else follows its end".to_owned()));
            }
            self.tap.consume(count);
        }
    }

    fn zstd(&mut self, sink: &mut Sink, limits: &Limits) -> Result<(), Stop> {
        let damaged = |error: std::io::Error| Error::Archive(format!("damaged zstd stream: {error}"));
        let new = || {
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW.ilog2()))?;
            Ok(decoder)
        };
        let mut decoder = new().map_err(damaged)?;
        let mut memory = Memory(0);
        let mut chunk = sink.chunk();
        let mut filled = 0;
        let mut between_frames = true;
        loop {
            if between_frames {
                let header = self.tap.peek(18)?;
                if header.is_empty() {
                    break;
                }
                let needed = window(header)?;
                if needed > memory.0 {
                    // Whoever waits holds nothing, so that nobody waits for one who waits.
                    drop(decoder);
                    drop(memory);
                    memory = Memory::take(needed);
                    decoder = new().map_err(damaged)?;
                }
            }
            let input = self.tap.fill_buf().map_err(Error::Read)?;
            let at_end = input.is_empty();
            let mut input = InBuffer::around(input);
            let mut output = OutBuffer::around_pos(&mut chunk, filled);
            let hint = decoder.run(&mut input, &mut output).map_err(damaged)?;
            let (read, written) = (input.pos(), output.pos() - filled);
            filled += written;
            self.tap.consume(read);
            between_frames = hint == 0;
            if at_end && written == 0 && !between_frames {
                return Err(damaged(std::io::Error::other("it ends too early")).into());
            }
            if filled == chunk.len() {
                sink.send(std::mem::replace(&mut chunk, sink.chunk()))?;
                filled = 0;
                check_ratio(sink.written, self.tap.count, limits)?;
            }
        }
        chunk.truncate(filled);
        if filled > 0 { sink.send(chunk) } else { Ok(()) }
    }
}

/// A share of the memory for windows, given back when it is dropped.
struct Memory(u64);

impl Memory {
    fn take(bytes: u64) -> Self {
        let used = WINDOWS.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |used: &mut u64| *used + bytes > MAX_WINDOW;
        let mut used = WINDOWS.1.wait_while(used, wait).unwrap_or_else(PoisonError::into_inner);
        *used += bytes;
        Self(bytes)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        *WINDOWS.0.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        WINDOWS.1.notify_all();
    }
}

/// How a layer is compressed.
#[derive(Debug, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

impl Compression {
    fn of(start: &[u8]) -> Result<Self> {
        let skippable = matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        match start {
            _ if start.starts_with(&GZIP) => Ok(Self::Gzip),
            _ if start.starts_with(&ZSTD) || skippable => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(Error::Compression("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Err(Error::Compression("bzip2")),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err(Error::Compression("lz4")),
            [0x5d, 0, 0, ..] => Err(Error::Compression("lzma")),
            _ => Ok(Self::None),
        }
    }
}

/// Bytes of window that the frame which starts here asks for (RFC 8878, 3.1.1); 0 for a skippable frame.
fn window(header: &[u8]) -> Result<u64> {
    if !header.starts_with(&ZSTD) {
        return Ok(0); // skippable, or damaged, as the decoder will say
    }
    let byte = |at: usize| u64::from(header.get(at).copied().unwrap_or(0));
    let descriptor = byte(4);
    let window = if descriptor & 0x20 == 0 {
        let base = 1 << (10 + (byte(5) >> 3));
        base + base / 8 * (byte(5) & 7)
    } else {
        // A single segment: the window is the content.
        let start = 5 + [0, 1, 2, 4][(descriptor & 3) as usize];
        let bytes = [1, 2, 4, 8][(descriptor >> 6) as usize];
        let size = (0..bytes).fold(0, |size, at| size | byte(start + at) << (8 * at));
        if bytes == 2 { size + 256 } else { size }
    };
    if window > MAX_WINDOW {
        let needed = window >> 20;
        return Err(Error::Limit(format!("its zstd window of {needed} MiB is larger than {} MiB", MAX_WINDOW >> 20)));
    }
    Ok(window)
}

fn check_ratio(written: u64, read: u64, limits: &Limits) -> Result<()> {
    if written > limits.ratio_from && written / limits.ratio > read {
        return Err(Error::Limit(format!(
            "{read} compressed bytes became more than {written}, over {} times as many",
            limits.ratio
        )));
    }
    Ok(())
}

fn fill(buffer: &mut [u8], mut read: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// A buffered reader that counts and hashes what it reads. Everything that is read is also used, so the hash covers
/// exactly the stream once its end is reached.
struct Tap<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    hash: Option<Sha256>,
    count: u64,
    failure: Option<std::io::Error>,
}

impl<R: Read> Tap<R> {
    /// At least `count` bytes, fewer only at the end of the stream.
    fn peek(&mut self, count: usize) -> Result<&[u8]> {
        if self.end - self.start < count && !self.ended {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < count && !self.ended {
                self.read_more().map_err(Error::Read)?;
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn read_more(&mut self) -> std::io::Result<()> {
        let read = read_some(&mut self.reader, &mut self.buffer[self.end..])?;
        self.took(self.end, read);
        self.end += read;
        Ok(())
    }

    fn took(&mut self, at: usize, read: usize) {
        self.ended = read == 0;
        self.count += read as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&self.buffer[at..at + read]);
        }
    }
}

fn read_some(reader: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match reader.read(into) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl<R: Read> Read for Tap<R> {
    /// Straight from the reader once the buffer is empty; only for streams that aren't hashed.
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.start < self.end || self.hash.is_some() {
            let count = self.fill_buf()?.read(into)?;
            self.consume(count);
            return Ok(count);
        }
        let read = if self.ended { 0 } else { read_some(&mut self.reader, into)? };
        self.ended = read == 0;
        self.count += read as u64;
        Ok(read)
    }
}

impl<R: Read> BufRead for Tap<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.start == self.end && !self.ended {
            (self.start, self.end) = (0, 0);
            if let Err(error) = self.read_more() {
                // Kept aside, since a decoder wraps it beyond recognition.
                self.failure = Some(std::io::Error::new(error.kind(), error.to_string()));
                return Err(error);
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const OPTIONS: Options = Options { blob_digest: true, record: false };

    fn read(stream: &[u8], limits: &Limits) -> Result<(Vec<u8>, Digests)> {
        run(stream, OPTIONS, limits, |chunks| {
            let mut all = Vec::new();
            while let Some(bytes) = chunks.peek() {
                all.extend_from_slice(bytes);
                let count = bytes.len();
                chunks.consume(count);
            }
            Ok(all)
        })
    }

    fn sha(bytes: &[u8]) -> Digest {
        Digest::from_sha256(Sha256::digest(bytes).into())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_compression_gives_the_same_bytes() {
        let plain: Vec<u8> = (0..700_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
        let (front, back) = plain.split_at(1_000_003);
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let streams: [(&str, Vec<u8>); 7] = [
            ("plain", plain.clone()),
            ("gzip", gzip(&plain)),
            ("gzip members", [gzip(front), gzip(b""), gzip(back)].concat()),
            ("gzip padded", [gzip(&plain), vec![0; 1000]].concat()),
            ("zstd", zstd(&plain)),
            ("zstd frames", [zstd(front), zstd(back)].concat()),
            ("zstd skippable", [&skippable[..], &zstd(front), &skippable, &zstd(back)].concat()),
        ];
        for (name, stream) in streams {
            let (bytes, digests) = read(&stream, &Limits::default()).unwrap();
            assert!(bytes == plain, "{name}");
            assert_eq!(digests.diff_id, sha(&plain), "{name}");
            assert_eq!(digests.blob, Some(sha(&stream)), "{name}");
            assert_eq!(digests.blob_size, stream.len() as u64, "{name}");
        }
        assert_eq!(read(b"", &Limits::default()).unwrap().1.diff_id, sha(b""));
    }

    #[test]
    fn damaged_and_foreign_streams_are_named() {
        let plain = vec![7; 3_000_000];
        let (gz, zst) = (gzip(&plain), zstd::bulk::compress(&plain, 1).unwrap());
        let mut flipped = gz.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut huge = zstd::bulk::compress(&plain, 1).unwrap();
        huge.splice(4..6, [0x00, 0xf8]);
        for (stream, expected) in [
            (gz[..gz.len() - 9].to_vec(), "damaged gzip stream"),
            (flipped, "damaged gzip stream"),
            ([&gz[..], b"garbage"].concat(), "something else follows its end"),
            (zst[..zst.len() - 2].to_vec(), "damaged zstd stream: it ends too early"),
            ([&zst[..], b"garbage!"].concat(), "damaged zstd stream"),
            (huge, "zstd window"),
            (b"\xfd7zXZ\0\0".to_vec(), "compressed with xz"),
            (b"BZh91AY&SY".to_vec(), "compressed with bzip2"),
        ] {
            let error = read(&stream, &Limits::default()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let limits = Limits { ratio: 100, ratio_from: 1 << 20, ..Limits::default() };
        for stream in [gzip(&vec![0; 8 << 20]), zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap()] {
            assert!(matches!(read(&stream, &limits), Err(Error::Limit(_))));
        }
    }

    #[test]
    fn large_windows_take_turns() {
        let plain: Vec<u8> =
            (0..30_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&plain).unwrap();
        let large = [zstd::bulk::compress(&plain[..1000], 1).unwrap(), encoder.finish().unwrap()].concat();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(read(&large, &Limits::default()).unwrap().0.len(), plain.len() + 1000));
            }
        });
    }

    #[test]
    fn an_unpacker_that_fails_ends_the_stream() {
        let stream = vec![1; 64 << 20];
        let failed = run(&stream[..], OPTIONS, &Limits::default(), |_| Err::<(), _>(Error::Archive("no".to_owned())));
        assert!(matches!(failed, Err(Error::Archive(text)) if text == "no"));
    }
}
