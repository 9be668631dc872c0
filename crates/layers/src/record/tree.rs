//! What every path of a layer looked like when it was stored, and how it differs now.
//!
//! The list is written and compared in one order, a directory before what is in it and names sorted, so that neither
//! holds more than some of the names, however many a directory has.

use super::head::{self, Head, TREE, create, open};
use super::steps::{get_number, put_number};
use super::walk::Walk;
use crate::{Error, Result};
use orlop_model::Digest;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One path of a layer; the root's is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) path: Vec<u8>,
    /// With the type.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names of the file; 0 for a directory.
    pub(super) links: u64,
    /// Length; 0 for what is no regular file.
    pub(super) size: u64,
    pub(super) seconds: i64,
    pub(super) nanos: u64,
    pub(super) device: u64,
    pub(super) target: Vec<u8>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A way in which a layer isn't what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Below the layer's root; empty for the root, or for the layer as a whole.
    pub path: PathBuf,
    /// For people: `mode is 0644, was 0755`.
    pub what: String,
}

impl Difference {
    pub(super) fn new(path: &[u8], what: impl Into<String>) -> Self {
        Self { path: PathBuf::from(OsStr::from_bytes(path)), what: what.into() }
    }
}

/// Writes down what the layer in `directory` looks like.
pub(super) fn write(directory: &Path, diff_id: Digest) -> Result<()> {
    let path = directory.join(TREE.file);
    let failed = |error| Error::io("write", &path, error);
    let mut encoder = create(&path, &TREE, 3)?;
    let mut walk = Walk::open(&directory.join("diff"))?;
    let mut bytes = Vec::with_capacity(64 << 10);
    let mut last = Vec::new();
    let mut lines = 0;
    while let Some(line) = walk.next()? {
        line.put(&mut bytes, &last);
        if bytes.len() > 60 << 10 {
            encoder.write_all(&bytes).map_err(failed)?;
            bytes.clear();
        }
        last = line.path;
        lines += 1;
    }
    encoder.write_all(&bytes).map_err(failed)?;
    let mut file = encoder.finish().map_err(failed)?;
    Head { size: lines, diff_id }.write(&mut file, &TREE).map_err(failed)
}

/// Tells every difference between what was written down and what is there.
pub(super) fn compare(directory: &Path, tell: &mut dyn FnMut(Difference)) -> Result<()> {
    let path = directory.join(TREE.file);
    let Some((head, stream)) = open(&path, &TREE)? else {
        return Err(Error::NoRecord { directory: directory.to_owned() });
    };
    // Fields are a few bytes, for which a decoder takes as long as for many.
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let damaged = |reason: &str| Error::Record { path: path.clone(), reason: reason.to_owned() };
    let mut left = head.size;
    let mut last = Vec::new();
    let mut stored = || -> Result<Option<Line>> {
        if left == 0 {
            // Beyond the last lies the frame's checksum.
            return match stream.read(&mut [0]) {
                Ok(0) => Ok(None),
                Ok(_) => Err(damaged("something follows its end")),
                Err(error) => Err(head::failed(&path, error)),
            };
        }
        left -= 1;
        let line = Line::get(&mut stream, &last).map_err(|error| head::failed(&path, error))?;
        last.clone_from(&line.path);
        Ok(Some(line))
    };
    let mut walk = Walk::open(&directory.join("diff"))?;
    let (mut was, mut is) = (stored()?, walk.next()?);
    loop {
        let order = match (&was, &is) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(was), Some(is)) => order(&was.path, &is.path),
        };
        match (order, &was, &is) {
            (std::cmp::Ordering::Less, Some(gone), _) => {
                tell(Difference::new(&gone.path, format!("{} is missing", kind(gone.mode))));
                was = stored()?;
            }
            (std::cmp::Ordering::Greater, _, Some(extra)) => {
                tell(Difference::new(&extra.path, format!("{} was not there", kind(extra.mode))));
                is = walk.next()?;
            }
            (_, Some(before), Some(now)) => {
                before.compare(now, tell);
                (was, is) = (stored()?, walk.next()?);
            }
            _ => return Ok(()),
        }
    }
}

/// A directory comes before what is in it, so a slash sorts before everything else.
pub(super) fn order(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let part = |&byte: &u8| if byte == b'/' { 0 } else { byte };
    one.iter().map(part).cmp(other.iter().map(part))
}

fn kind(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "fifo",
        _ => "socket",
    }
}

impl Line {
    fn compare(&self, now: &Self, tell: &mut dyn FnMut(Difference)) {
        let mut differs = |what: String| tell(Difference::new(&self.path, what));
        if kind(self.mode) != kind(now.mode) {
            return differs(format!("is a {}, was a {}", kind(now.mode), kind(self.mode)));
        }
        if self.mode != now.mode {
            differs(format!("mode is {:04o}, was {:04o}", now.mode & 0o7777, self.mode & 0o7777));
        }
        if (self.uid, self.gid) != (now.uid, now.gid) {
            differs(format!("owner is {}:{}, was {}:{}", now.uid, now.gid, self.uid, self.gid));
        }
        if self.links != now.links {
            differs(format!("has {} hard links, had {}", now.links, self.links));
        }
        if self.size != now.size {
            differs(format!("size is {}, was {}", now.size, self.size));
        }
        if (self.seconds, self.nanos) != (now.seconds, now.nanos) {
            differs(format!(
                "modification time is {}.{:09}, was {}.{:09}",
                now.seconds, now.nanos, self.seconds, self.nanos
            ));
        }
        if self.device != now.device {
            let numbers = |device| format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
            differs(format!("device is {}, was {}", numbers(now.device), numbers(self.device)));
        }
        if self.target != now.target {
            let text = |target: &[u8]| String::from_utf8_lossy(target).into_owned();
            differs(format!("link target is {:?}, was {:?}", text(&now.target), text(&self.target)));
        }
        for name in self.xattrs.keys().chain(now.xattrs.keys().filter(|name| !self.xattrs.contains_key(*name))) {
            let what = match (self.xattrs.get(name), now.xattrs.get(name)) {
                (Some(was), Some(is)) if was == is => continue,
                (Some(_), Some(_)) => "has another value",
                (Some(_), None) => "is missing",
                _ => "was not there",
            };
            differs(format!("attribute {} {what}", String::from_utf8_lossy(name)));
        }
    }

    fn put(&self, into: &mut Vec<u8>, last: &[u8]) {
        let shared = self.path.iter().zip(last).take_while(|(one, other)| one == other).count();
        number(into, shared as u64);
        text(into, &self.path[shared..]);
        for field in [self.mode, self.uid, self.gid] {
            number(into, field.into());
        }
        for field in [self.links, self.size, (self.seconds << 1 ^ self.seconds >> 63).cast_unsigned(), self.nanos] {
            number(into, field);
        }
        number(into, self.device);
        text(into, &self.target);
        number(into, self.xattrs.len() as u64);
        for (name, value) in &self.xattrs {
            text(into, name);
            text(into, value);
        }
    }

    fn get(from: &mut impl Read, last: &[u8]) -> std::io::Result<Self> {
        let mut line = Self::default();
        let shared = usize::try_from(get(from)?).ok().and_then(|shared| last.get(..shared)).ok_or_else(wrong)?;
        line.path = [shared, &get_text(from)?].concat();
        let small = |number: u64| u32::try_from(number).map_err(|_| wrong());
        line.mode = small(get(from)?)?;
        line.uid = small(get(from)?)?;
        line.gid = small(get(from)?)?;
        line.links = get(from)?;
        line.size = get(from)?;
        let seconds = get(from)?;
        line.seconds = (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed();
        line.nanos = get(from)?;
        line.device = get(from)?;
        line.target = get_text(from)?;
        for _ in 0..get(from)? {
            let name = get_text(from)?;
            line.xattrs.insert(name, get_text(from)?);
        }
        Ok(line)
    }
}

fn wrong() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "a field is out of range")
}

fn number(into: &mut Vec<u8>, number: u64) {
    let mut bytes = [0; 10];
    let length = put_number(&mut bytes, number);
    into.extend_from_slice(&bytes[..length]);
}

fn text(into: &mut Vec<u8>, text: &[u8]) {
    number(into, text.len() as u64);
    into.extend_from_slice(text);
}

fn get(from: &mut impl Read) -> std::io::Result<u64> {
    get_number(from)?.ok_or_else(wrong)
}

fn get_text(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    // The kernel's own limit of an attribute's value; names and targets are shorter.
    let length = usize::try_from(get(from)?).ok().filter(|length| *length <= XATTR_MAX).ok_or_else(wrong)?;
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(text)
}

/// Bytes of an extended attribute's value at most, or of all names of a file's.
pub(super) const XATTR_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let xattrs = BTreeMap::from([(b"user.a".to_vec(), vec![0, 1, 2]), (b"user.b".to_vec(), vec![])]);
        let line = Line {
            path: b"a/bc".to_vec(),
            mode: 0o100_644,
            uid: u32::MAX - 1,
            gid: 7,
            links: 2,
            size: u64::MAX,
            seconds: -5,
            nanos: 999_999_999,
            device: 0,
            target: b"x".to_vec(),
            xattrs,
        };
        for last in [&b""[..], b"a/b", b"a/bc/d", b"b"] {
            let mut bytes = Vec::new();
            line.put(&mut bytes, last);
            assert_eq!(Line::get(&mut &bytes[..], last).unwrap(), line);
            assert!(Line::get(&mut &bytes[..bytes.len() - 1], last).is_err());
        }
    }

    #[test]
    fn a_directory_comes_before_its_content_and_that_before_its_neighbours() {
        let sorted = [&b""[..], b"a", b"a/b", b"a/b/c", b"a-b", b"a.b", b"ab", b"b"];
        for pair in sorted.windows(2) {
            assert!(order(pair[0], pair[1]).is_lt(), "{pair:?}");
        }
    }
}
