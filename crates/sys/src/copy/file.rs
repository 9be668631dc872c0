//! The content of one file.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Up to this size reading and writing is faster than asking the kernel to do it.
const SMALL: u64 = 64 * 1024;
/// How much is read at once where the kernel can't copy by itself.
const CHUNK: usize = 256 * 1024;

/// Copies `length` bytes of a regular file into an empty one: by sharing the blocks (FICLONE) where the file system
/// can, else the parts that hold data by copy_file_range(2), so that holes stay holes, else by reading and writing.
///
/// Returns how many bytes of data were copied (holes not counted). A source that shrinks meanwhile gives a shorter
/// file, one that grows is cut off at `length`.
pub fn copy_file(source: impl AsFd, target: impl AsFd, length: u64) -> std::io::Result<u64> {
    Ok(FileCopier::new().copy(source.as_fd(), target.as_fd(), length, true)?)
}

/// What was learnt about a pair of file systems while their files were copied.
pub(super) struct FileCopier {
    can_clone: AtomicBool,
    can_copy_range: AtomicBool,
}

impl FileCopier {
    pub(super) fn new() -> Self {
        Self { can_clone: AtomicBool::new(true), can_copy_range: AtomicBool::new(true) }
    }

    /// As [`copy_file`]; `may_have_holes` is false when all blocks are known to be allocated.
    pub(super) fn copy(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        length: u64,
        may_have_holes: bool,
    ) -> Result<u64, Errno> {
        if length == 0 {
            return Ok(0);
        }
        if self.clone(source, target)? {
            // A clone takes the whole source, which may have grown since its length was asked for.
            rustix::fs::ftruncate(target, length)?;
            return Ok(length);
        }
        if !may_have_holes {
            return self.copy_range(source, target, 0, length);
        }
        rustix::fs::ftruncate(target, length)?;
        let mut copied = 0;
        let mut at = 0;
        while let Some((start, end)) = next_data(source, at, length)? {
            copied += self.copy_range(source, target, start, end)?;
            at = end;
        }
        Ok(copied)
    }

    fn clone(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<bool, Errno> {
        if !self.can_clone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => Ok(true),
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(error),
            // Another file system, or one without shared blocks; it will say the same about every file.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => {
                self.can_clone.store(false, Ordering::Relaxed);
                Ok(false)
            }
            // This file can't (btrfs: one with checksums into one without).
            Err(_) => Ok(false),
        }
    }

    fn copy_range(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        mut start: u64,
        end: u64,
    ) -> Result<u64, Errno> {
        let begin = start;
        while end - start > SMALL && self.can_copy_range.load(Ordering::Relaxed) {
            let (mut from, mut to) = (start, start);
            let length = usize::try_from(end - start).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
                Ok(0) => break,
                Ok(copied) => start += copied as u64,
                Err(Errno::INTR) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::FBIG)) => return Err(error),
                // Between two kinds of file systems, or before Linux 5.19.
                Err(_) => self.can_copy_range.store(false, Ordering::Relaxed),
            }
        }
        start = read_and_write(source, target, start, end)?;
        Ok(start - begin)
    }
}

/// The next stretch of data from `at` on, clipped to `length`.
fn next_data(source: BorrowedFd<'_>, at: u64, length: u64) -> Result<Option<(u64, u64)>, Errno> {
    if at >= length {
        return Ok(None);
    }
    let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
        Ok(start) if start >= length => return Ok(None),
        Ok(start) => start,
        // Nothing but a hole up to the end.
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes: all of it is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, length))),
        Err(error) => return Err(error),
    };
    let end = match rustix::fs::seek(source, SeekFrom::Hole(start)) {
        Ok(end) => end.min(length),
        // The source was cut off since.
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok((end > start).then_some((start, end)))
}

fn read_and_write(source: BorrowedFd<'_>, target: BorrowedFd<'_>, mut at: u64, end: u64) -> Result<u64, Errno> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    if at >= end {
        return Ok(at);
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK, 0);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let count = match rustix::io::pread(source, &mut buffer[..want], at) {
                Ok(0) => break,
                Err(Errno::INTR) => continue,
                count => count?,
            };
            let mut written = 0;
            while written < count {
                match rustix::io::pwrite(target, &buffer[written..count], at + written as u64) {
                    Ok(more) => written += more,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            at += count as u64;
        }
        Ok(at)
    })
}
