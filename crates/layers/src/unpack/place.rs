//! Entries onto the disk: a layer's directory in overlay's format.
//!
//! Nothing is ever made outside of the layer. Every directory of it was made here and is known by its parent and name,
//! so a path is resolved without the kernel; symlinks in it lead where they would lead a program whose root the layer
//! is, as with containerd. Directories are opened by openat2(2) without following a link, and the last component never
//! follows one.
//!
//! What Docker and GNU tar do differently, and which of them is followed here:
//! - an entry that is given twice: the later one wins; a directory keeps its content, anything else that comes in the
//!   place of a directory removes it with everything in it (Docker);
//! - `..` above the root is refused (Docker), within it it is resolved by name (Docker);
//! - the second name of a hard link changes nothing on the file (GNU tar), because chown would take away the file
//!   capabilities that the first name brought;
//! - a character device 0:0 in the archive would be a whiteout that nobody asked for, so it is left out.

use super::archive::{Content, Entry, Kind};
use super::header::Piece;
use super::pax::Time;
use super::{Budget, Dependencies, Link};
use crate::record::Moves;
use crate::{Error, Result};
use orlop_sys::copy::remove_at;
use rustix::fs::{
    Advice, AtFlags, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Directories kept open, of each layer that is being unpacked.
const OPEN_DIRECTORIES: usize = 32;

/// Files of so many bytes go to the disk at once. Of small ones the kernel makes better use when it has many.
const WRITE_EARLY: u64 = 256 << 10;

/// As the kernel's own limit (MAXSYMLINKS).
const MAX_SYMLINKS: u32 = 40;

/// About what a whiteout or a link takes in memory until the layer is settled, without its name.
const PATH_MEMORY: usize = 256;

const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

const OPAQUE: &str = "trusted.overlay.opaque";

/// What one attribute of a layer must not bring: overlay's own are ours to set.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// A layer while it is being unpacked.
pub(super) struct Layer<'a> {
    budget: &'a Budget,
    root: Rc<OwnedFd>,
    path: PathBuf,
    /// Every directory that was ever made; the first is the root. One that was replaced stays as a dead node.
    nodes: Vec<Node>,
    open: HashMap<usize, (Rc<OwnedFd>, u64)>,
    clock: u64,
    /// The directory that the last entry was in, by its name in the archive; most entries follow their neighbours.
    last: Option<(Vec<u8>, usize)>,
    whiteouts: HashSet<(usize, Box<[u8]>)>,
    /// Hard links whose target isn't in this layer.
    links: HashMap<(usize, Box<[u8]>), Vec<u8>>,
    /// The owner that a new file has by itself.
    owner: (u32, u32),
    /// Attributes that the file system can't keep and that may be lost.
    skipped: BTreeMap<String, u64>,
    /// When the archive is recorded: what is replaced is moved aside instead of being removed.
    moves: Option<Moves>,
    /// Names of inodes that lie aside; the inodes may have others in the layer.
    aside: HashMap<u64, u32>,
    /// The directory that the last recorded file is in, and its path.
    recorded: Option<(usize, Vec<u8>)>,
}

struct Node {
    parent: usize,
    name: Box<[u8]>,
    children: HashMap<Box<[u8]>, usize>,
    /// None: the archive has something in it, but no entry for it.
    attributes: Option<Box<Attributes>>,
    opaque: bool,
    dead: bool,
    /// Sum of the sizes of the regular files in it.
    size: u64,
}

impl Node {
    fn new(parent: usize, name: &[u8]) -> Self {
        let children = HashMap::new();
        Self { parent, name: Box::from(name), children, attributes: None, opaque: false, dead: false, size: 0 }
    }
}

/// What is set on a directory at the end: then nothing in it changes any more.
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    times: Timestamps,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

const ROOT: usize = 0;

/// What is left of a layer when all of it is on disk.
pub(super) struct Placed {
    pub(super) size: u64,
    pub(super) dependencies: Dependencies,
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) moves: Option<Moves>,
}

impl<'a> Layer<'a> {
    /// Starts in the empty directory `path`. The calling thread's umask must be 0.
    pub(super) fn new(path: &Path, budget: &'a Budget, moves: Option<Moves>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Error::io("open", path, error))?;
        // What the parent directory hands down would otherwise reach every file of the layer.
        match rustix::fs::fremovexattr(&root, "system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(Error::io("remove the default access control list of", path, error)),
        }
        let owner = (rustix::process::geteuid(), rustix::process::getegid());
        rustix::fs::fchown(&root, Some(owner.0), Some(owner.1)).map_err(|error| Error::io("chown", path, error))?;
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755)).map_err(|error| Error::io("chmod", path, error))?;
        let mut layer = Self {
            budget,
            root: Rc::new(root),
            path: path.to_owned(),
            nodes: Vec::new(),
            open: HashMap::new(),
            clock: 0,
            last: None,
            whiteouts: HashSet::new(),
            links: HashMap::new(),
            owner: (owner.0.as_raw(), owner.1.as_raw()),
            skipped: BTreeMap::new(),
            moves,
            aside: HashMap::new(),
            recorded: None,
        };
        layer.nodes.push(Node::new(ROOT, b""));
        Ok(layer)
    }

    /// Makes what the entry describes.
    pub(super) fn add(&mut self, entry: Entry, content: Content<'_, '_>) -> Result<()> {
        let path = clean(&entry.path).map_err(|reason| Error::entry(&entry.path, reason))?;
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], &path[..]),
        };
        if name.is_empty() {
            return self.add_root(entry);
        }
        match marker(parent, name).map_err(|reason| Error::entry(&entry.path, reason))? {
            Marker::None => {}
            Marker::Ignored => return Ok(()),
            Marker::Opaque => {
                let directory = self.directory(parent).map_err(|fault| fault.named(self, &entry.path))?;
                self.nodes[directory].opaque = true;
                return Ok(());
            }
            Marker::Whiteout(hidden) => {
                let directory = self.directory(parent).map_err(|fault| fault.named(self, &entry.path))?;
                return self.whiteout(directory, hidden).map_err(|fault| fault.named(self, &entry.path));
            }
        }
        if let Kind::Char { major: 0, minor: 0 } = entry.kind {
            return Ok(());
        }
        let directory = self.directory(parent).map_err(|fault| fault.named(self, &entry.path))?;
        self.make(directory, name, entry, content)
    }

    fn make(&mut self, directory: usize, name: &[u8], entry: Entry, mut content: Content<'_, '_>) -> Result<()> {
        if !self.links.is_empty() {
            self.links.remove(&(directory, Box::from(name)));
        }
        let full = entry.path.clone();
        let made = match &entry.kind {
            Kind::Directory => {
                self.make_directory(directory, name, entry).map_err(|fault| fault.named(self, &full))?;
                return Ok(());
            }
            Kind::File { size, pieces } => {
                return self.make_file(directory, name, &entry, *size, pieces.as_deref(), &mut content);
            }
            Kind::Hardlink { target } => {
                let target = clean(target).map_err(|reason| Error::entry(&full, format!("its target: {reason}")))?;
                return self.link(directory, name, &target).map_err(|fault| fault.named(self, &full));
            }
            Kind::Symlink { target } => self.make_symlink(directory, name, target),
            Kind::Char { major, minor } => {
                self.make_special(directory, name, FileType::CharacterDevice, makedev(*major, *minor))
            }
            Kind::Block { major, minor } => {
                self.make_special(directory, name, FileType::BlockDevice, makedev(*major, *minor))
            }
            Kind::Fifo => self.make_special(directory, name, FileType::Fifo, 0),
        };
        made.and_then(|()| self.set_attributes_at(directory, name, &entry)).map_err(|fault| fault.named(self, &full))
    }

    fn add_root(&mut self, entry: Entry) -> Result<()> {
        if !matches!(entry.kind, Kind::Directory) {
            return Err(Error::entry(&entry.path, "the layer's root must be a directory"));
        }
        let name = entry.path.clone();
        self.keep(ROOT, entry).map_err(|fault| fault.named(self, &name))
    }

    fn make_directory(&mut self, parent: usize, name: &[u8], entry: Entry) -> Result<(), Fault> {
        let node = match self.nodes[parent].children.get(name) {
            Some(&node) => node,
            None => self.new_directory(parent, name)?,
        };
        self.keep(node, entry)
    }

    /// Makes a directory that isn't known yet. What it replaces has hidden a lower directory of this name, so the new
    /// one must not show that again.
    fn new_directory(&mut self, parent: usize, name: &[u8]) -> Result<usize, Fault> {
        let fd = self.fd(parent)?;
        let replaced = self.create(parent, name, |name| rustix::fs::mkdirat(&*fd, name, Mode::from_raw_mode(0o700)))?;
        let node = self.node(parent, name)?;
        self.nodes[node].opaque = replaced;
        Ok(node)
    }

    fn make_file(
        &mut self,
        directory: usize,
        name: &[u8],
        entry: &Entry,
        size: u64,
        pieces: Option<&[Piece]>,
        content: &mut Content<'_, '_>,
    ) -> Result<()> {
        let chown = (entry.uid, entry.gid) != self.owner;
        let special = entry.mode & 0o7000 != 0;
        let mode = if chown || special { 0o600 } else { entry.mode };
        let fd = self.fd(directory).map_err(|fault| fault.named(self, &entry.path))?;
        let mut file = None;
        self.create(directory, name, |name| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            file = Some(rustix::fs::openat(&*fd, name, flags, Mode::from_raw_mode(mode))?);
            Ok(())
        })
        .map_err(|fault| fault.named(self, &entry.path))?;
        let Some(file) = file else { return Err(Error::entry(&entry.path, "it was not made")) };
        let at = |call| move |error: Errno| Fault::Call { call, error };
        if content.is_recorded() {
            content.goes_to(&self.record_path(directory, name))?;
        }
        match pieces {
            None => self.copy(&file, 0, size, &entry.path, content)?,
            Some(pieces) => {
                for piece in pieces {
                    self.copy(&file, piece.offset, piece.length, &entry.path, content)?;
                }
                rustix::fs::ftruncate(&file, size)
                    .map_err(|error| at("set the size of")(error).named(self, &entry.path))?;
            }
        }
        if size >= WRITE_EARLY {
            // The kernel begins to write a file that is said not to be needed, and keeps what isn't written yet: the disk
            // works while the rest is still being fetched and inflated. Where it can't be told, the sync at the end does it.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        self.nodes[directory].size += size;
        let set = |layer: &mut Self| {
            if chown {
                let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(at("chown"))?;
            }
            if chown || special {
                rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(at("chmod"))?;
            }
            // After chown, which takes file capabilities away.
            layer.set_xattrs(&entry.xattrs, |name, value| {
                rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
            })?;
            rustix::fs::futimens(&file, &times(entry)).map_err(at("set the times of"))
        };
        set(self).map_err(|fault| fault.named(self, &entry.path))
    }

    /// What the record calls a file.
    fn record_path(&mut self, directory: usize, name: &[u8]) -> Vec<u8> {
        if let Some(moves) = &mut self.moves {
            moves.recorded();
        }
        if self.recorded.as_ref().is_none_or(|(known, _)| *known != directory) {
            let mut path = self.path_of(directory).into_os_string().into_encoded_bytes();
            if !path.is_empty() {
                path.push(b'/');
            }
            self.recorded = Some((directory, path));
        }
        let above = self.recorded.as_ref().map_or(&b""[..], |(_, path)| path);
        [above, name].concat()
    }

    /// Writes `length` bytes of the content at `offset`, straight from the memory that they were inflated into.
    fn copy(&self, file: &OwnedFd, offset: u64, length: u64, name: &[u8], content: &mut Content<'_, '_>) -> Result<()> {
        let mut written = 0;
        content.seek(offset)?;
        while written < length {
            let Some(part) = content.take(length - written)? else {
                return Err(Error::entry(name, "its content is shorter than its size"));
            };
            let mut rest = part;
            while !rest.is_empty() {
                match rustix::io::pwrite(file, rest, offset + written) {
                    Ok(count) => {
                        rest = &rest[count..];
                        written += count as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(Fault::Call { call: "write", error }.named(self, name)),
                }
            }
        }
        Ok(())
    }

    fn make_symlink(&mut self, directory: usize, name: &[u8], target: &[u8]) -> Result<(), Fault> {
        let fd = self.fd(directory)?;
        let target = OsStr::from_bytes(target);
        self.create(directory, name, |name| rustix::fs::symlinkat(target, &*fd, name)).map(drop)
    }

    fn make_special(&mut self, directory: usize, name: &[u8], kind: FileType, device: Dev) -> Result<(), Fault> {
        let fd = self.fd(directory)?;
        let mode = Mode::from_raw_mode(0o600);
        self.create(directory, name, |name| rustix::fs::mknodat(&*fd, name, kind, mode, device)).map(drop)
    }

    /// Owner, mode, attributes and times of what was made without a descriptor: links, devices, fifos.
    fn set_attributes_at(&mut self, directory: usize, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        let fd = self.fd(directory)?;
        let at = |call| move |error: Errno| Fault::Call { call, error };
        let name = OsStr::from_bytes(name);
        let is_link = matches!(entry.kind, Kind::Symlink { .. });
        if (entry.uid, entry.gid) != self.owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(&*fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(at("chown"))?;
        }
        if !is_link {
            // Not a link: it was made a moment ago, and nobody else works here.
            rustix::fs::chmodat(&*fd, name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).map_err(at("chmod"))?;
        }
        if !entry.xattrs.is_empty() {
            let path = Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name);
            self.set_xattrs(&entry.xattrs, |name, value| {
                rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty())
            })?;
        }
        rustix::fs::utimensat(&*fd, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(at("set the times of"))
    }

    /// What loses rights when it is lost must be kept; the rest may be missing, as with Docker, and is counted.
    fn set_xattrs(
        &mut self,
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
        set: impl Fn(&OsStr, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), Fault> {
        for (name, value) in xattrs {
            if OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let is_acl = name.starts_with(b"system.posix_acl_");
            if is_acl && value.is_empty() {
                // It names users without their numbers; Docker drops every such list.
                *self.skipped.entry(String::from_utf8_lossy(name).into_owned()).or_default() += 1;
                continue;
            }
            let needed = name == b"security.capability" || is_acl;
            match set(OsStr::from_bytes(name), value) {
                Ok(()) => {}
                // EPERM: user.* on anything but files and directories, and what the kernel's security module refuses.
                Err(Errno::OPNOTSUPP | Errno::PERM) if !needed => {
                    *self.skipped.entry(String::from_utf8_lossy(name).into_owned()).or_default() += 1;
                }
                Err(error) => return Err(Fault::Xattr { name: String::from_utf8_lossy(name).into_owned(), error }),
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, directory: usize, hidden: &[u8]) -> Result<(), Fault> {
        self.links.remove(&(directory, Box::from(hidden)));
        if self.whiteouts.contains(&(directory, Box::from(hidden))) {
            return Ok(());
        }
        self.hold(2 * hidden.len() + PATH_MEMORY)?;
        self.make_special(directory, hidden, FileType::CharacterDevice, 0)?;
        self.whiteouts.insert((directory, Box::from(hidden)));
        Ok(())
    }

    fn link(&mut self, directory: usize, name: &[u8], target: &[u8]) -> Result<(), Fault> {
        let (target_parent, target_name) = match target.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&target[..slash], &target[slash + 1..]),
            None => (&target[..0], target),
        };
        if target_name.is_empty() {
            return Err(Fault::Says("its target is the layer's root".to_owned()));
        }
        if target_name.starts_with(b".wh.") {
            return Err(Fault::Says("its target is a whiteout or belongs to AUFS".to_owned()));
        }
        let found = self.resolve(target_parent, false)?;
        if found == Some(directory) && target_name == name {
            return Ok(()); // a link to itself, which removing the old name would destroy
        }
        let Some(found) = found else {
            return self.link_below(directory, name, target);
        };
        if self.whiteouts.contains(&(found, Box::from(target_name))) {
            return Err(Fault::Says("its target is a file that this layer removes".to_owned()));
        }
        if self.nodes[found].children.contains_key(target_name) {
            return Err(Fault::Says("its target is a directory".to_owned()));
        }
        let (from, to) = (self.fd(found)?, self.fd(directory)?);
        let source = OsStr::from_bytes(target_name);
        let Ok(stat) = rustix::fs::statat(&*from, source, AtFlags::SYMLINK_NOFOLLOW) else {
            return self.link_below(directory, name, target);
        };
        if let Ok(old) = rustix::fs::statat(&*to, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            && (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        // Without AT_SYMLINK_FOLLOW: a link to a symlink is another name of the symlink.
        self.create(directory, name, |name| rustix::fs::linkat(&*from, source, &*to, name, AtFlags::empty())).map(drop)
    }

    /// The target is in a lower layer, if anywhere.
    fn link_below(&mut self, directory: usize, name: &[u8], target: &[u8]) -> Result<(), Fault> {
        self.clear(directory, name)?;
        self.hold(name.len() + 2 * target.len() + PATH_MEMORY)?;
        self.links.insert((directory, Box::from(name)), target.to_vec());
        Ok(())
    }

    /// Calls `make`; what lies in its way is removed and it is called again. Says whether something was removed.
    fn create(
        &mut self,
        directory: usize,
        name: &[u8],
        mut make: impl FnMut(&OsStr) -> Result<(), Errno>,
    ) -> Result<bool, Fault> {
        let call = |error| Fault::Call { call: "create", error };
        match make(OsStr::from_bytes(name)) {
            Ok(()) => return Ok(false),
            Err(Errno::EXIST) => self.clear(directory, name)?,
            Err(error) => return Err(call(error)),
        };
        make(OsStr::from_bytes(name)).map(|()| true).map_err(call)
    }

    /// Removes whatever has this name, a directory with everything in it.
    fn clear(&mut self, directory: usize, name: &[u8]) -> Result<(), Fault> {
        let fd = self.fd(directory)?;
        // A path may have led through what disappears now.
        self.last = None;
        self.whiteouts.remove(&(directory, Box::from(name)));
        if let Some(node) = self.nodes[directory].children.remove(name) {
            self.nodes[node].dead = true;
            self.nodes[node].children = HashMap::new();
            if self.moves.is_some() {
                return self.put_aside(&fd, directory, name);
            }
            return remove_at(&*fd, OsStr::from_bytes(name)).map_err(|error| Fault::Failed(error.to_string()));
        }
        match rustix::fs::statat(&*fd, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {
                let aside = self.aside.get(&stat.st_ino).copied().unwrap_or(0);
                if stat.st_nlink == u64::from(aside) + 1 {
                    let size = &mut self.nodes[directory].size;
                    *size = size.saturating_sub(stat.st_size.cast_unsigned());
                }
                if self.moves.is_some() && stat.st_size > 0 {
                    if stat.st_nlink > 1 {
                        self.hold(PATH_MEMORY)?;
                        *self.aside.entry(stat.st_ino).or_default() += 1;
                    }
                    return self.put_aside(&fd, directory, name);
                }
            }
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(Fault::Call { call: "stat", error }),
        }
        rustix::fs::unlinkat(&*fd, OsStr::from_bytes(name), AtFlags::empty())
            .map_err(|error| Fault::Call { call: "remove", error })
    }

    /// Moves what the record still needs out of the layer.
    fn put_aside(&mut self, fd: &OwnedFd, directory: usize, name: &[u8]) -> Result<(), Fault> {
        let name = OsStr::from_bytes(name);
        let path = self.path_of(directory).join(name).into_os_string().into_encoded_bytes();
        let Some(moves) = &mut self.moves else { return Ok(()) };
        moves.put_aside(fd, name, path).map_err(Fault::Whole)
    }

    /// The directory at a clean path, made where it isn't there.
    fn directory(&mut self, path: &[u8]) -> Result<usize, Fault> {
        if let Some((last, node)) = &self.last
            && last == path
        {
            return Ok(*node);
        }
        let node = self.resolve(path, true)?.ok_or_else(|| Fault::Says("its directory was not made".to_owned()))?;
        self.last = Some((path.to_vec(), node));
        Ok(node)
    }

    /// The directory at a path, following symlinks inside the layer. With `make` it is made with all above it;
    /// otherwise None when it isn't there.
    fn resolve(&mut self, path: &[u8], make: bool) -> Result<Option<usize>, Fault> {
        let mut node = ROOT;
        let mut rest = path.to_vec();
        let mut position = 0;
        let mut symlinks = 0;
        while position < rest.len() {
            let end = rest[position..].iter().position(|&byte| byte == b'/').map_or(rest.len(), |at| position + at);
            let name = &rest[position..end];
            let next = end + 1;
            if name.is_empty() || name == b"." {
                position = next;
                continue;
            }
            if name == b".." {
                node = self.nodes[node].parent;
                position = next;
                continue;
            }
            if let Some(&child) = self.nodes[node].children.get(name) {
                node = child;
                position = next;
                continue;
            }
            let name = name.to_vec();
            let fd = self.fd(node)?;
            match rustix::fs::statat(&*fd, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) if self.links.contains_key(&(node, Box::from(&name[..]))) => {
                    return Err(Fault::Says("what lies above it is a hard link, not a directory".to_owned()));
                }
                Err(Errno::NOENT) if make => {
                    node = self.new_directory(node, &name)?;
                    position = next;
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(Fault::Call { call: "stat", error }),
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_symlink() => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(Fault::Says("its directory is a loop of symbolic links".to_owned()));
                    }
                    let target = rustix::fs::readlinkat(&*fd, OsStr::from_bytes(&name), Vec::new())
                        .map_err(|error| Fault::Call { call: "read the link", error })?;
                    let behind = rest.get(next..).unwrap_or_default();
                    rest = [target.as_bytes(), b"/", behind].concat();
                    position = 0;
                    if rest.starts_with(b"/") {
                        node = ROOT;
                    }
                    if rest.len() > 4 * PATH_MAX {
                        return Err(Fault::Says("its directory is a chain of links that is too long".to_owned()));
                    }
                }
                Ok(_) if self.whiteouts.contains(&(node, Box::from(&name[..]))) => {
                    if !make {
                        return Ok(None);
                    }
                    node = self.new_directory(node, &name)?;
                    // Its parent was removed and is made again, so nothing below shines through: it has no entry,
                    // but nothing to take from below either.
                    self.nodes[node].attributes = Some(Box::default());
                    position = next;
                }
                Ok(_) => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    return Err(Fault::Says(format!("{name:?} above it is not a directory")));
                }
            }
        }
        Ok(Some(node))
    }

    fn node(&mut self, parent: usize, name: &[u8]) -> Result<usize, Fault> {
        self.hold(2 * name.len() + 2 * size_of::<Node>())?;
        let node = self.nodes.len();
        self.nodes.push(Node::new(parent, name));
        self.nodes[parent].children.insert(Box::from(name), node);
        Ok(node)
    }

    fn hold(&self, bytes: usize) -> Result<(), Fault> {
        self.budget.hold(bytes).map_err(Fault::Whole)
    }

    /// Keeps what an entry says about a directory until the end.
    fn keep(&mut self, node: usize, entry: Entry) -> Result<(), Fault> {
        let xattrs = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 96).sum::<usize>();
        self.hold(size_of::<Attributes>() + xattrs)?;
        self.nodes[node].attributes = Some(Box::new(Attributes::of(entry)));
        Ok(())
    }

    /// The path of a directory below the layer's root; empty for the root.
    fn path_of(&self, mut node: usize) -> PathBuf {
        let mut names = Vec::new();
        while node != ROOT {
            names.push(&self.nodes[node].name);
            node = self.nodes[node].parent;
        }
        names.iter().rev().map(|name| OsStr::from_bytes(name)).collect()
    }

    /// A descriptor of the directory; the least recently used one is closed when there are too many.
    fn fd(&mut self, node: usize) -> Result<Rc<OwnedFd>, Fault> {
        if node == ROOT {
            return Ok(self.root.clone());
        }
        self.clock += 1;
        if let Some((fd, used)) = self.open.get_mut(&node) {
            *used = self.clock;
            return Ok(fd.clone());
        }
        let fd = Rc::new(self.open_node(node, OFlags::PATH)?);
        if self.open.len() >= OPEN_DIRECTORIES
            && let Some(oldest) = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(&node, _)| node)
        {
            self.open.remove(&oldest);
        }
        self.open.insert(node, (fd.clone(), self.clock));
        Ok(fd)
    }

    fn open_node(&self, node: usize, access: OFlags) -> Result<OwnedFd, Fault> {
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if node == ROOT { PathBuf::from(".") } else { self.path_of(node) };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&*self.root, path, flags, Mode::empty(), resolve)
            .map_err(|error| Fault::Call { call: "open the directory of", error })
    }

    /// Drops whiteouts that an opaque directory makes needless, sets what directories need, and lists what depends on
    /// lower layers.
    pub(super) fn finish(mut self) -> Result<Placed> {
        self.open.clear();
        let mut alive = vec![true; self.nodes.len()];
        // Whether an opaque directory above hides everything below, or this one does.
        let mut closed = vec![false; self.nodes.len()];
        let mut under_closed = vec![false; self.nodes.len()];
        closed[ROOT] = self.nodes[ROOT].opaque;
        for node in 1..self.nodes.len() {
            let parent = self.nodes[node].parent;
            alive[node] = alive[parent] && !self.nodes[node].dead;
            under_closed[node] = closed[parent];
            closed[node] = closed[parent] || self.nodes[node].opaque;
        }
        let mut dependencies = Dependencies::default();
        for (directory, hidden) in std::mem::take(&mut self.whiteouts) {
            let path = self.path_of(directory).join(OsStr::from_bytes(&hidden));
            if !alive[directory] {
                continue;
            }
            if closed[directory] {
                let fd = self.fd(directory).map_err(|fault| fault.at(&self.path.join(&path)))?;
                rustix::fs::unlinkat(&*fd, OsStr::from_bytes(&hidden), AtFlags::empty())
                    .map_err(|error| Error::io("remove", self.path.join(&path), error))?;
                continue;
            }
            dependencies.whiteouts.push(path);
        }
        for ((directory, name), target) in std::mem::take(&mut self.links) {
            if alive[directory] {
                let path = self.path_of(directory).join(OsStr::from_bytes(&name));
                dependencies.links.push(Link { path, target: PathBuf::from(OsStr::from_bytes(&target)) });
            }
        }
        dependencies.whiteouts.sort();
        dependencies.links.sort_by(|one, other| one.path.cmp(&other.path));
        for node in 0..self.nodes.len() {
            if !alive[node] {
                continue;
            }
            let path = self.path_of(node);
            let shown = self.path.join(&path);
            let attributes = self.nodes[node].attributes.take();
            if attributes.is_none() && node != ROOT && !under_closed[node] {
                dependencies.parents.push(path);
            }
            self.finish_directory(node, attributes.as_deref()).map_err(|fault| fault.at(&shown))?;
        }
        let size = self.nodes.iter().zip(alive).filter(|(_, alive)| *alive).map(|(node, _)| node.size).sum();
        Ok(Placed { size, dependencies, skipped: self.skipped, moves: self.moves })
    }

    fn finish_directory(&mut self, node: usize, attributes: Option<&Attributes>) -> Result<(), Fault> {
        let at = |call| move |error: Errno| Fault::Call { call, error };
        let fd = self.open_node(node, OFlags::RDONLY)?;
        if self.nodes[node].opaque {
            rustix::fs::fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(at("mark as opaque"))?;
        }
        let Some(attributes) = attributes else {
            if node != ROOT {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(at("chmod"))?;
            }
            return Ok(());
        };
        if (attributes.uid, attributes.gid) != self.owner {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(at("chown"))?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(attributes.mode)).map_err(at("chmod"))?;
        self.set_xattrs(&attributes.xattrs, |name, value| {
            rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty())
        })?;
        rustix::fs::futimens(&fd, &attributes.times).map_err(at("set the times of"))
    }
}

impl Attributes {
    fn of(entry: Entry) -> Self {
        let times = times(&entry);
        Self { mode: entry.mode, uid: entry.uid, gid: entry.gid, times, xattrs: entry.xattrs }
    }
}

/// What a directory gets that comes back without an entry after it was removed: Docker's 0755 of root, made now.
impl Default for Attributes {
    fn default() -> Self {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        Self { mode: 0o755, uid: 0, gid: 0, times, xattrs: BTreeMap::new() }
    }
}

fn times(entry: &Entry) -> Timestamps {
    let spec = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
    Timestamps { last_access: spec(entry.atime.unwrap_or(entry.mtime)), last_modification: spec(entry.mtime) }
}

/// What went wrong with an entry, before it is known which.
enum Fault {
    Call {
        call: &'static str,
        error: Errno,
    },
    Xattr {
        name: String,
        error: Errno,
    },
    Says(String),
    Failed(String),
    /// An error that needs nothing added.
    Whole(Error),
}

impl Fault {
    /// What the disk refuses is an IO error; what the archive asks for is the archive's fault.
    fn named(self, layer: &Layer<'_>, entry: &[u8]) -> Error {
        match self {
            Self::Call { error: Errno::NAMETOOLONG, .. } => Error::entry(entry, "its path is too long"),
            Self::Says(reason) => Error::entry(entry, reason),
            other => other.at(&layer.path.join(OsStr::from_bytes(entry.strip_prefix(b"/").unwrap_or(entry)))),
        }
    }

    fn at(self, path: &Path) -> Error {
        match self {
            Self::Call { call, error } => Error::io(call, path, error),
            Self::Xattr { name, error } => {
                let source = std::io::Error::from(error);
                let kind = source.kind();
                Error::io(
                    "set an attribute of",
                    path,
                    std::io::Error::new(kind, format!("{name}: {source}; the file system must keep it")),
                )
            }
            Self::Whole(error) => error,
            Self::Says(reason) | Self::Failed(reason) => Error::entry(path.as_os_str().as_bytes(), reason),
        }
    }
}

/// What a name that starts with `.wh.` means.
#[derive(Debug, PartialEq)]
enum Marker<'a> {
    None,
    /// What AUFS kept for itself.
    Ignored,
    Opaque,
    Whiteout(&'a [u8]),
}

fn marker<'a>(parent: &[u8], name: &'a [u8]) -> Result<Marker<'a>, &'static str> {
    for directory in parent.split(|&byte| byte == b'/') {
        if directory.starts_with(b".wh..wh.") {
            return Ok(Marker::Ignored);
        }
        if directory.starts_with(b".wh.") {
            return Err("it lies in a whiteout");
        }
    }
    if name == b".wh..wh..opq" {
        return Ok(Marker::Opaque);
    }
    if name.starts_with(b".wh..wh.") {
        return Ok(Marker::Ignored);
    }
    match name.strip_prefix(b".wh.") {
        None => Ok(Marker::None),
        Some(b"" | b"." | b"..") => Err("it is a whiteout of no file"),
        Some(hidden) => Ok(Marker::Whiteout(hidden)),
    }
}

/// A name relative to the root without `.`, `..` and doubled slashes; empty is the root itself.
fn clean(path: &[u8]) -> Result<Vec<u8>, String> {
    if path.is_empty() {
        return Err("it has no name".to_owned());
    }
    if path.len() >= PATH_MAX {
        return Err(format!("its path has {} bytes, at most {} are possible", path.len(), PATH_MAX - 1));
    }
    let mut clean: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                clean.pop().ok_or("it leads out of the layer")?;
            }
            _ if name.len() > NAME_MAX => {
                return Err(format!("a name of {} bytes is in it, at most {NAME_MAX} are possible", name.len()));
            }
            _ => clean.push(name),
        }
    }
    Ok(clean.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_never_lead_out() {
        for (path, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/a", Some("a")),
            ("a/../b", Some("b")),
            ("./", Some("")),
            ("/", Some("")),
            ("..", None),
            ("/..", None),
            ("a/../../b", None),
            ("", None),
        ] {
            assert_eq!(clean(path.as_bytes()).ok(), expected.map(|path| path.as_bytes().to_vec()), "{path}");
        }
        assert!(clean(&[b'a'; 256]).is_err());
        assert!(clean(&b"a/".repeat(2048)).is_err());
    }

    #[test]
    fn markers() {
        for (parent, name, expected) in [
            ("a", "b", Ok(Marker::None)),
            ("a", ".wh.b", Ok(Marker::Whiteout(b"b"))),
            ("a", ".wh..b", Ok(Marker::Whiteout(b".b"))),
            ("a", ".wh..wh..opq", Ok(Marker::Opaque)),
            ("", ".wh..wh.plnk", Ok(Marker::Ignored)),
            (".wh..wh.plnk", "1.2", Ok(Marker::Ignored)),
        ] {
            assert_eq!(marker(parent.as_bytes(), name.as_bytes()), expected, "{parent}/{name}");
        }
        for (parent, name) in [("a", ".wh."), ("a", ".wh.."), ("a", ".wh..."), ("a/.wh.b", "c")] {
            assert!(marker(parent.as_bytes(), name.as_bytes()).is_err(), "{parent}/{name}");
        }
    }
}
