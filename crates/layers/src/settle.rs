//! Puts a layer right for the chain that it belongs to.
//!
//! A layer is unpacked without knowing what is below. Three things in it may need that: a directory that the archive
//! has no entry for takes its attributes from below, and moves where a symlink below leads; a hard link to a file of a
//! lower layer needs that file; and a whiteout must hide something, because overlay shows it as a broken entry
//! otherwise. All of it gives what applying the archive to the mounted chain would have given.

use crate::merged::{Found, Merged, copy_directory_metadata, copy_entry, is_opaque, is_whiteout};
use crate::record::{self, Archived, Moves};
use crate::{Dependencies, Error, Result};
use orlop_sys::copy::remove_at;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, XattrFlags, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Settles what in the layer at `diff` depends on the layers below: `parents` are their diff directories, topmost
/// first, each settled already. Nothing is synced.
///
/// What brings the layer's archive back is put right as well; [`Archived::No`] when that is no longer possible, as with
/// [`crate::unpack`].
///
/// # Errors
/// [`Error::Chain`] when the layer can't belong to this chain: a hard link to a file that isn't there.
pub fn settle(diff: &Path, dependencies: &Dependencies, parents: &[PathBuf]) -> Result<Archived> {
    if dependencies.is_empty() {
        return Ok(Archived::NotAsked);
    }
    let directory = record::directory_of(diff);
    let root = orlop_sys::path::open_directory(diff)?;
    let mut settling = Settling {
        diff,
        root,
        below: Merged::open(parents)?,
        inherit: BTreeSet::new(),
        touched: BTreeMap::new(),
        wanted: dependencies.clone(),
        moves: directory.map(Moves::after),
    };
    settling.place_parents()?;
    settling.make_links(parents)?;
    settling.drop_whiteouts()?;
    settling.finish()?;
    match (directory, &settling.moves) {
        (Some(directory), Some(moves)) => record::seal_settled(directory, moves),
        _ => Ok(Archived::NotAsked),
    }
}

/// Where a directory lies while its content is moved. No archive can have an entry of this name.
const ASIDE: &str = ".wh..wh.moving";

struct Settling<'a> {
    diff: &'a Path,
    root: OwnedFd,
    below: Merged,
    /// Directories that take their attributes from below.
    inherit: BTreeSet<PathBuf>,
    /// The times of directories that were changed here, as they were before.
    touched: BTreeMap<PathBuf, Timestamps>,
    /// What is left to do; paths in it follow what is moved.
    wanted: Dependencies,
    /// What was moved, for the layer's record.
    moves: Option<Moves>,
}

impl Settling<'_> {
    /// Parents that the archive omits: the directory below gives its attributes; a symlink below says where they are.
    fn place_parents(&mut self) -> Result<()> {
        // Shallowest first, since moving one moves those inside it.
        self.wanted.parents.sort_by_key(|path| path.components().count());
        let mut position = 0;
        while position < self.wanted.parents.len() {
            let parent = self.wanted.parents[position].clone();
            position += 1;
            match self.below.exact(&parent)? {
                Some(Found { directory: Some(_), .. }) => {
                    self.inherit.insert(parent);
                }
                Some(found) if FileType::from_raw_mode(found.stat.st_mode).is_symlink() => {
                    self.move_behind_link(&parent)?;
                }
                // Nothing below, or a file, which the directory hides.
                _ => {}
            }
        }
        Ok(())
    }

    fn move_behind_link(&mut self, parent: &Path) -> Result<()> {
        let target = match self.below.follow(parent, true)? {
            Some(Found { directory: Some(directory), .. }) => directory.path,
            _ => {
                let text =
                    format!("{} has files in it, but below it is a symbolic link to no directory", parent.display());
                return Err(Error::Chain(text));
            }
        };
        self.make_directory(&target)?;
        // Aside first: the link may lead to a directory above, which then gets an entry of the same name.
        let aside = Path::new(ASIDE);
        let (from, name) = self.place(parent)?;
        let (to, to_name) = self.place(aside)?;
        rustix::fs::renameat(&from, &name, &to, &to_name)
            .map_err(|error| Error::io("move", self.diff.join(parent), error))?;
        self.moved(parent, aside);
        self.touched.remove(parent);
        self.merge(aside, &target)?;
        self.inherit.remove(parent);
        let moved = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(parent) {
                *path = target.join(rest);
            }
        };
        self.wanted.parents.iter_mut().for_each(moved);
        self.wanted.whiteouts.iter_mut().for_each(moved);
        self.wanted.links.iter_mut().for_each(|link| moved(&mut link.path));
        Ok(())
    }

    /// Moves what is in `from` into `to`; what is moved wins, directories are merged.
    fn merge(&mut self, from: &Path, to: &Path) -> Result<()> {
        let mut pairs = vec![(from.to_owned(), to.to_owned())];
        let mut emptied = Vec::new();
        while let Some((from, to)) = pairs.pop() {
            let (source, target) = (self.open(&from)?, self.touch(&to)?);
            if is_opaque(&self.diff.join(&from))? {
                rustix::fs::fsetxattr(&target, "trusted.overlay.opaque", b"y", XattrFlags::empty())
                    .map_err(|error| Error::io("mark as opaque", self.diff.join(&to), error))?;
            }
            for name in self.names(&source, &from)? {
                let both_directories = self.is_directory(&source, &name) && self.is_directory(&target, &name);
                if both_directories {
                    pairs.push((from.join(&name), to.join(&name)));
                    continue;
                }
                self.clear(&target, &name, &to)?;
                rustix::fs::renameat(&source, &name, &target, &name)
                    .map_err(|error| Error::io("move", self.diff.join(from.join(&name)), error))?;
                self.moved(&from.join(&name), &to.join(&name));
            }
            emptied.push(from);
        }
        for directory in emptied.iter().rev() {
            let (parent, name) = self.place(directory)?;
            rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)
                .map_err(|error| Error::io("remove", self.diff.join(directory), error))?;
            self.touched.remove(directory);
        }
        Ok(())
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        if let Some(moves) = &mut self.moves {
            moves.moved(from, to);
        }
    }

    /// Takes away what is in the way of something that is moved to `name` in the directory `path`.
    fn clear(&mut self, directory: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        let Some(moves) = &mut self.moves else { return Ok(remove_at(directory, name)?) };
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => moves.put_aside(directory, name, path.join(name).into_os_string().into_encoded_bytes()),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("stat", self.diff.join(path.join(name)), error)),
        }
    }

    /// Hard links to files of lower layers: the file is copied up under its own name, and linked. Where the layer has
    /// put something else under that name since, or hides what was there, the links alone share the copy.
    fn make_links(&mut self, parents: &[PathBuf]) -> Result<()> {
        if self.wanted.links.is_empty() {
            return Ok(());
        }
        let all: Vec<PathBuf> = [self.diff.to_owned()].into_iter().chain(parents.iter().cloned()).collect();
        let all = Merged::open(&all)?;
        let mut copies: HashMap<(usize, u64), PathBuf> = HashMap::new();
        for link in std::mem::take(&mut self.wanted.links) {
            let missing = |what: &str| {
                let (path, target) = (link.path.display(), link.target.display());
                Error::Chain(format!("{path} is a hard link to {target}, {what}"))
            };
            // The layer's own symlinks count on the way to the target, but what the layer has in its place does not:
            // it came after the link, or the link would have been made when the layer was unpacked.
            let found = match all.follow(&link.target, false)? {
                Some(found) => self.below.exact(&found.path)?,
                None => self.below.follow(&link.target, false)?,
            };
            let found = found.ok_or_else(|| missing("which is not there"))?;
            if found.directory.is_some() {
                return Err(missing("which is a directory"));
            }
            let copy = match copies.get(&Merged::identity(&found)) {
                Some(copy) => copy.clone(),
                None => {
                    let stays = self.is_free(&found.path)? && !self.is_closed(&found.path)?;
                    let copy = if stays { &found.path } else { &link.path };
                    if let Some(parent) = copy.parent() {
                        self.make_directory(parent)?;
                    }
                    let (from, name) = self.below.place_of(&found)?;
                    let name = name.to_owned();
                    let (to, to_name) = self.place(copy)?;
                    copy_entry(&from, &name, &found.stat, &to, &to_name, &self.diff.join(copy))?;
                    copies.insert(Merged::identity(&found), copy.clone());
                    copy.clone()
                }
            };
            if copy == link.path {
                continue;
            }
            let (from, from_name) = self.place(&copy)?;
            let (to, to_name) = self.place(&link.path)?;
            rustix::fs::linkat(&from, &from_name, &to, &to_name, AtFlags::empty())
                .map_err(|error| Error::io("link", self.diff.join(&link.path), error))?;
        }
        Ok(())
    }

    /// Whiteouts that hide nothing.
    fn drop_whiteouts(&mut self) -> Result<()> {
        for whiteout in std::mem::take(&mut self.wanted.whiteouts) {
            let needed = self.below.exact(&whiteout)?.is_some() && !self.is_closed(&whiteout)?;
            let is_there = self.stat(&whiteout)?.is_some_and(|stat| is_whiteout(&stat));
            if needed || !is_there {
                continue;
            }
            let (parent, name) = self.place(&whiteout)?;
            rustix::fs::unlinkat(&parent, &name, AtFlags::empty())
                .map_err(|error| Error::io("remove", self.diff.join(&whiteout), error))?;
        }
        Ok(())
    }

    /// Whether an opaque directory of this layer lies above.
    fn is_closed(&self, path: &Path) -> Result<bool> {
        for above in path.ancestors().skip(1) {
            if is_opaque(&self.diff.join(above))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sets attributes last, when nothing in a directory changes any more.
    fn finish(&mut self) -> Result<()> {
        for path in std::mem::take(&mut self.inherit) {
            self.touched.remove(&path);
            if let Some(found) = self.below.exact(&path)?
                && found.directory.is_some()
            {
                let from = self.below.open_found(&found, OFlags::RDONLY | OFlags::DIRECTORY)?;
                copy_directory_metadata(from, self.open(&path)?)?;
            }
        }
        for (path, times) in std::mem::take(&mut self.touched) {
            rustix::fs::futimens(self.open(&path)?, &times)
                .map_err(|error| Error::io("set the times of", self.diff.join(&path), error))?;
        }
        Ok(())
    }

    /// Makes a directory of the layer with all above it, like those below.
    fn make_directory(&mut self, path: &Path) -> Result<()> {
        let mut made = PathBuf::new();
        for name in path.components() {
            made.push(name);
            match self.stat(&made)? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {}
                Some(_) => {
                    let text = format!("{} must be a directory, as below, and is none", made.display());
                    return Err(Error::Chain(text));
                }
                None => {
                    let (parent, name) = self.place(&made)?;
                    rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755))
                        .map_err(|error| Error::io("create", self.diff.join(&made), error))?;
                    self.inherit.insert(made.clone());
                }
            }
        }
        Ok(())
    }

    /// The directory that has `path`, whose times will be put back, and the name in it.
    fn place(&mut self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let parent = self.touch(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, path.file_name().unwrap_or_default().to_owned()))
    }

    /// Opens a directory that is about to change.
    fn touch(&mut self, path: &Path) -> Result<OwnedFd> {
        let fd = self.open(path)?;
        if !self.touched.contains_key(path) {
            let stat = rustix::fs::fstat(&fd).map_err(|error| Error::io("stat", self.diff.join(path), error))?;
            let spec = |tv_sec: i64, nanos: u64| Timespec { tv_sec, tv_nsec: nanos.cast_signed() };
            let times = Timestamps {
                last_access: spec(stat.st_atime, stat.st_atime_nsec),
                last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
            };
            self.touched.insert(path.to_owned(), times);
        }
        Ok(fd)
    }

    fn open(&self, path: &Path) -> Result<OwnedFd> {
        let inside = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        Ok(orlop_sys::path::open_beneath(&self.root, inside, flags)?)
    }

    /// What the layer itself has there.
    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        match orlop_sys::path::open_beneath(&self.root, path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => rustix::fs::fstat(&fd).map(Some).map_err(|error| Error::io("stat", self.diff.join(path), error)),
            Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => Ok(None),
            // A symlink in the way: RESOLVE_NO_SYMLINKS refuses it even at the end, unless asked for by O_NOFOLLOW.
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a file can be put there: the layer has nothing of that name, and only directories above it.
    fn is_free(&self, path: &Path) -> Result<bool> {
        let mut above = PathBuf::new();
        for name in path.parent().unwrap_or(Path::new("")).components() {
            above.push(name);
            match self.stat(&above)? {
                None => return Ok(true),
                Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {}
                Some(_) => return Ok(false),
            }
        }
        Ok(self.stat(path)?.is_none())
    }

    fn is_directory(&self, parent: &OwnedFd, name: &OsStr) -> bool {
        statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
    }

    fn names(&self, directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 8 << 10];
        let mut entries = RawDir::new(directory, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| Error::io("list", self.diff.join(path), error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }
}
