//! Where files went after their content was recorded.
//!
//! An entry may replace an earlier one, a file or a directory with all in it, whose content the archive still needs:
//! it is moved aside instead of being deleted, and copied into the record at the end. Settling moves directories, too.

use super::REPLACED;
use crate::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a file of the record is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Below `diff`.
    Layer(Vec<u8>),
    /// Below `replaced`.
    Aside(Vec<u8>),
}

/// Everything that was moved, in order.
pub(crate) struct Moves {
    /// The layer's directory.
    directory: PathBuf,
    aside: Option<OwnedFd>,
    moves: Vec<Move>,
    by_path: HashMap<Vec<u8>, Vec<usize>>,
    /// How many were put aside: names of the directories there.
    asides: usize,
    /// Bytes that this takes in memory.
    memory: usize,
    /// Files that were recorded so far.
    files: u64,
}

struct Move {
    /// Files that had been recorded before.
    files: u64,
    to: Place,
}

/// Memory that moves may take, of each layer that is being unpacked. An archive that replaces more than some ten thousand
/// of its own entries has no record; it is kept instead.
const MEMORY: usize = 8 << 20;

impl Moves {
    pub(crate) fn new(directory: &Path) -> Self {
        let (moves, by_path) = (Vec::new(), HashMap::new());
        Self { directory: directory.to_owned(), aside: None, moves, by_path, asides: 0, memory: 0, files: 0 }
    }

    /// For a layer whose record has ended: every file was recorded before.
    pub(crate) fn after(directory: &Path) -> Self {
        Self { files: u64::MAX, ..Self::new(directory) }
    }

    /// Counts a file of the record.
    pub(crate) fn recorded(&mut self) {
        self.files += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// Whether there are more than can be kept in mind.
    pub(super) fn are_too_many(&self) -> bool {
        self.memory > MEMORY
    }

    /// Takes `name`, which is at `path` below the layer's diff, out of the way.
    pub(crate) fn put_aside(&mut self, parent: impl AsFd, name: &OsStr, path: Vec<u8>) -> Result<()> {
        let number = self.asides.to_string();
        self.asides += 1;
        let place = self.directory.join(REPLACED);
        if self.aside.is_none() {
            match rustix::fs::mkdir(&place, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io("create", &place, error)),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd =
                rustix::fs::open(&place, flags, Mode::empty()).map_err(|error| Error::io("open", &place, error))?;
            self.aside = Some(fd);
        }
        let Some(aside) = &self.aside else { return Ok(()) };
        rustix::fs::renameat(parent, name, aside, number.as_str())
            .map_err(|error| Error::io("move", place.join(&number), error))?;
        self.push(path, Place::Aside(number.into_bytes()));
        Ok(())
    }

    /// Notes that what was at `from` is now at `to`, both below the layer's diff.
    pub(crate) fn moved(&mut self, from: &Path, to: &Path) {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        self.push(bytes(from), Place::Layer(bytes(to)));
    }

    fn push(&mut self, from: Vec<u8>, to: Place) {
        if self.are_too_many() {
            return;
        }
        self.memory += 2 * from.len() + 200;
        self.by_path.entry(from).or_default().push(self.moves.len());
        self.moves.push(Move { files: self.files, to });
    }

    /// Where the file is that was recorded as the `number`th (from 0) under this path.
    pub(super) fn place_of(&self, path: &[u8], number: u64) -> Place {
        let mut place = path.to_vec();
        let mut next = self.moves.partition_point(|moved| moved.files <= number);
        while let Some((at, length)) = self.first_move(&place, next) {
            let rest = &place[length..];
            match &self.moves[at].to {
                Place::Layer(to) => place = [to, rest].concat(),
                Place::Aside(to) => return Place::Aside([to, rest].concat()),
            }
            next = at + 1;
        }
        Place::Layer(place)
    }

    /// The first move from `next` on of this path or of a directory above it, and the length of what was moved.
    fn first_move(&self, path: &[u8], next: usize) -> Option<(usize, usize)> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let found = ends.chain([path.len()]).filter_map(|length| {
            let moves = self.by_path.get(&path[..length])?;
            let at = moves.get(moves.partition_point(|&at| at < next))?;
            Some((*at, length))
        });
        found.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed_to_where_it_is() {
        let mut moves = Moves::new(Path::new("/nowhere"));
        let aside = |to: &str| Place::Aside(to.as_bytes().to_vec());
        let layer = |to: &str| Place::Layer(to.as_bytes().to_vec());
        moves.recorded(); // 0: a/x
        moves.recorded(); // 1: b
        moves.push(b"a".to_vec(), aside("0"));
        moves.recorded(); // 2: a/x again
        moves.moved(Path::new("a"), Path::new("c/d"));
        moves.moved(Path::new("c/d/x"), Path::new("e"));
        moves.recorded(); // 3: c/d/x
        for (path, number, expected) in [
            ("a/x", 0, aside("0/x")),
            ("b", 1, layer("b")),
            ("a/x", 2, layer("e")),
            ("a/y", 2, layer("c/d/y")),
            ("ab", 2, layer("ab")),
            ("c/d/x", 3, layer("c/d/x")),
        ] {
            assert_eq!(moves.place_of(path.as_bytes(), number), expected, "{path} {number}");
        }
    }
}
