//! Files as a tar archive: a whole root file system for `export`, the changes of a writable layer for `commit`.
//!
//! The format is POSIX.1-2001 (pax): records where a ustar header has no room, `SCHILY.xattr.*` for extended attributes.
//! Times are whole seconds, as Docker writes them. Sockets are left out, and so are devices 0:0, which overlay would read
//! as whiteouts.

use crate::changes::{Change, ChangeKind, names};
use crate::{Error, Result};
use orlop_sys::copy::{open_below, xattrs};
use rustix::fs::{AtFlags, FileType, OFlags, Stat, major, minor, statat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// What precedes the name of a path that a layer removes (OCI image-spec, layer.md).
const WHITEOUT: &str = ".wh.";

/// Bytes copied at once.
const BUFFER: usize = 1 << 18;

/// Largest number of a ustar header's field of eight bytes.
const MAX_OCTAL: u64 = 0o7_777_777;

/// Writes everything below `root` but what is in other mounts, of which only the mount points appear. Returns files that
/// changed their length while they were read: they stand in the archive with the length that they had first, cut or
/// filled with zeros.
pub fn pack_tree(root: impl AsFd, out: impl Write) -> Result<Vec<PathBuf>> {
    let mut archive = Archive::new(out);
    // Directories on the way to where the walk is, each with the names in it that are still to come, the next one last: a
    // directory's entries follow it at once, since some tools set its times when they meet another.
    let mut levels: Vec<(PathBuf, Vec<OsString>)> = Vec::new();
    levels.extend(listed(&root, PathBuf::new())?);
    while let Some((path, mut names)) = levels.pop() {
        let directory = match open_below(&root, &path) {
            Err(error) if is_elsewhere(&error) => continue,
            directory => directory?,
        };
        let mut below = None;
        while let Some(name) = names.pop() {
            let path = path.join(&name);
            if archive.entry(&directory, &name, &path)? == Some(FileType::Directory) {
                below = Some(path);
                break;
            }
        }
        if !names.is_empty() {
            levels.push((path, names));
        }
        if let Some(below) = below {
            levels.extend(listed(&root, below)?);
        }
    }
    archive.finish()
}

/// A directory and the names in it, the first one last; None when it is gone, or something is mounted there.
fn listed(root: impl AsFd, path: PathBuf) -> Result<Option<(PathBuf, Vec<OsString>)>> {
    let directory = match open_below(root, &path) {
        Err(error) if is_elsewhere(&error) => return Ok(None),
        directory => directory?,
    };
    let mut names = names(&directory, &path)?;
    names.reverse();
    Ok(Some((path, names)))
}

/// Gone since it was listed, or in another mount.
fn is_elsewhere(error: &orlop_sys::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV].into_iter().any(|errno| error.is(errno))
}

/// Writes the changes of a writable layer, whose files lie below `root`, as an image's layer. Returns what [`pack_tree`]
/// returns.
pub fn pack_changes(root: impl AsFd, changes: &[Change], out: impl Write) -> Result<Vec<PathBuf>> {
    let mut archive = Archive::new(out);
    let mut opened: Option<(PathBuf, OwnedFd)> = None;
    for change in changes {
        let (Some(above), Some(name)) = (change.path.parent(), change.path.file_name()) else { continue };
        if name.as_bytes().starts_with(WHITEOUT.as_bytes()) {
            return Err(Error::WhiteoutName { path: Path::new("/").join(&change.path) });
        }
        if change.kind == ChangeKind::Deleted {
            let mut whiteout = WHITEOUT.as_bytes().to_vec();
            whiteout.extend_from_slice(name.as_bytes());
            archive.empty_file(&above.join(OsStr::from_bytes(&whiteout)))?;
            continue;
        }
        let directory = match opened.take() {
            Some((path, directory)) if path == above => directory,
            _ => match open_below(&root, above) {
                Err(error) if is_elsewhere(&error) => continue,
                directory => directory?,
            },
        };
        archive.entry(&directory, name, &change.path)?;
        opened = Some((above.to_owned(), directory));
    }
    archive.finish()
}

struct Archive<W> {
    out: W,
    buffer: Vec<u8>,
    /// Where a file that has several names was written first.
    linked: HashMap<(u64, u64), PathBuf>,
    torn: Vec<PathBuf>,
}

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        Self { out, buffer: vec![0; BUFFER], linked: HashMap::new(), torn: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::Write)
    }

    fn finish(mut self) -> Result<Vec<PathBuf>> {
        self.write(&[0; 1024])?;
        self.out.flush().map_err(Error::Write)?;
        Ok(self.torn)
    }

    /// Writes one entry of a directory; says what it is, None when it is left out or gone.
    fn entry(&mut self, directory: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<FileType>> {
        let failed = |action, error: Errno| Error::io(action, path, error);
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat.map_err(|error| failed("stat", error))?,
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let mut entry = Entry::new(path, &stat);
        entry.xattrs(directory, name)?;
        match file_type {
            FileType::Directory => entry.of(EntryType::Directory),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                entry.link(EntryType::Symlink, target.map_err(|error| failed("read the link", error))?.as_bytes());
            }
            FileType::Fifo => entry.of(EntryType::Fifo),
            FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(None),
            FileType::CharacterDevice => entry.device(EntryType::Char, &stat),
            FileType::BlockDevice => entry.device(EntryType::Block, &stat),
            FileType::RegularFile => return self.regular(directory, name, path, &stat, entry),
            FileType::Socket | FileType::Unknown => return Ok(None),
        }
        if self.is_linked(path, &stat, file_type, &mut entry) {
            entry.size(0);
        }
        self.header(entry)?;
        Ok(Some(file_type))
    }

    fn regular(
        &mut self,
        directory: &OwnedFd,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
        mut entry: Entry,
    ) -> Result<Option<FileType>> {
        if self.is_linked(path, stat, FileType::RegularFile, &mut entry) {
            self.header(entry)?;
            return Ok(Some(FileType::RegularFile));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(directory, name, flags, rustix::fs::Mode::empty()) {
            // Gone, or another thing by now.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            file => File::from(file.map_err(|error| Error::io("open", path, error))?),
        };
        let now = rustix::fs::fstat(&file).map_err(|error| Error::io("stat", path, error))?;
        if !FileType::from_raw_mode(now.st_mode).is_file() {
            return Ok(None);
        }
        let size = u64::try_from(now.st_size).unwrap_or(0);
        entry.of(EntryType::Regular);
        entry.size(size);
        self.header(entry)?;
        self.content(file, size, path)?;
        Ok(Some(FileType::RegularFile))
    }

    fn content(&mut self, mut file: File, size: u64, path: &Path) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut read = match file.read(&mut self.buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| Error::io("read", path, error))?,
            };
            if read == 0 {
                self.buffer[..want].fill(0);
                read = want;
                if self.torn.last().is_none_or(|last| last != path) {
                    self.torn.push(path.to_owned());
                }
            }
            self.out.write_all(&self.buffer[..read]).map_err(Error::Write)?;
            left -= read as u64;
        }
        if file.read(&mut [0]).is_ok_and(|read| read > 0) {
            self.torn.push(path.to_owned());
        }
        self.pad(size)
    }

    /// Turns the entry of a file that stands in the archive already into a link to it.
    fn is_linked(&mut self, path: &Path, stat: &Stat, file_type: FileType, entry: &mut Entry) -> bool {
        if stat.st_nlink < 2 || file_type.is_dir() {
            return false;
        }
        match self.linked.get(&(stat.st_dev, stat.st_ino)) {
            None => {
                self.linked.insert((stat.st_dev, stat.st_ino), path.to_owned());
                false
            }
            Some(first) => {
                entry.records.clear();
                entry.link(EntryType::Link, first.as_os_str().as_bytes());
                true
            }
        }
    }

    fn empty_file(&mut self, path: &Path) -> Result<()> {
        let mut entry = Entry { path: path.to_owned(), header: Header::new_ustar(), records: Vec::new() };
        entry.of(EntryType::Regular);
        entry.size(0);
        self.header(entry)
    }

    fn header(&mut self, mut entry: Entry) -> Result<()> {
        let mut name = entry.path.as_os_str().as_bytes().to_vec();
        if entry.header.entry_type().is_dir() {
            name.push(b'/');
        }
        entry.name(&name);
        if !entry.records.is_empty() {
            let records = std::mem::take(&mut entry.records);
            let mut pax = Header::new_ustar();
            // Only for tools that don't know pax, which make a file of it.
            copy_cut(&mut pax.as_old_mut().name, b"PaxHeaders.0/entry");
            pax.set_entry_type(EntryType::XHeader);
            pax.set_mode(0o644);
            pax.set_size(records.len() as u64);
            pax.set_cksum();
            self.write(pax.as_bytes())?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        entry.header.set_cksum();
        self.write(entry.header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let over = usize::try_from(size % 512).unwrap_or(0);
        if over > 0 { self.write(&[0; 512][over..]) } else { Ok(()) }
    }
}

/// An entry's header, and the pax records before it.
struct Entry {
    path: PathBuf,
    header: Header,
    records: Vec<u8>,
}

impl Entry {
    fn new(path: &Path, stat: &Stat) -> Self {
        let mut entry = Self { path: path.to_owned(), header: Header::new_ustar(), records: Vec::new() };
        entry.header.set_mode(stat.st_mode & 0o7777);
        for (name, id) in [("uid", stat.st_uid), ("gid", stat.st_gid)] {
            if u64::from(id) > MAX_OCTAL {
                entry.record(name.as_bytes(), id.to_string().as_bytes());
            }
        }
        entry.header.set_uid(stat.st_uid.into());
        entry.header.set_gid(stat.st_gid.into());
        match u64::try_from(stat.st_mtime) {
            Ok(seconds) if seconds < 1 << 33 => entry.header.set_mtime(seconds),
            // Before 1970, or after 2242.
            _ => {
                entry.header.set_mtime(0);
                entry.record(b"mtime", stat.st_mtime.to_string().as_bytes());
            }
        }
        entry.header.set_size(0);
        entry
    }

    fn of(&mut self, kind: EntryType) {
        self.header.set_entry_type(kind);
    }

    fn size(&mut self, size: u64) {
        if size >= 1 << 33 {
            self.record(b"size", size.to_string().as_bytes());
        }
        self.header.set_size(size);
    }

    fn device(&mut self, kind: EntryType, stat: &Stat) {
        self.of(kind);
        let numbers = self.header.as_ustar_mut().map(|ustar| {
            ustar.set_device_major(major(stat.st_rdev));
            ustar.set_device_minor(minor(stat.st_rdev));
        });
        debug_assert!(numbers.is_some(), "the header is made as ustar");
    }

    fn link(&mut self, kind: EntryType, target: &[u8]) {
        self.of(kind);
        let field = &mut self.header.as_old_mut().linkname;
        if target.len() > field.len() || !target.is_ascii() {
            self.record(b"linkpath", target);
        }
        copy_cut(&mut self.header.as_old_mut().linkname, target);
    }

    fn name(&mut self, name: &[u8]) {
        if name.len() > self.header.as_old_mut().name.len() || !name.is_ascii() {
            self.record(b"path", name);
        }
        copy_cut(&mut self.header.as_old_mut().name, name);
    }

    fn xattrs(&mut self, directory: &OwnedFd, name: &OsStr) -> Result<()> {
        for (attribute, value) in xattrs(directory, name)? {
            // Labels belong to the place; ids that stand in a default ACL of a mount are the host's.
            if attribute.to_bytes() != b"security.selinux" {
                self.record(&[b"SCHILY.xattr.", attribute.to_bytes()].concat(), &value);
            }
        }
        Ok(())
    }

    /// `LENGTH NAME=VALUE\n`, where the length counts itself (pax(1), "pax Extended Header").
    fn record(&mut self, name: &[u8], value: &[u8]) {
        let rest = name.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.records.extend_from_slice(format!("{length} ").as_bytes());
        self.records.extend_from_slice(name);
        self.records.push(b'=');
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }
}

/// Copies as much as there is room for.
fn copy_cut(field: &mut [u8], bytes: &[u8]) {
    let length = field.len().min(bytes.len());
    field[..length].copy_from_slice(&bytes[..length]);
}
