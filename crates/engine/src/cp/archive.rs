//! `cp` from and to a tar archive.

use super::hidden::Hidden;
use super::place::{Located, Place, open_directory};
use super::tree::{NewFile, failed, names, own, own_at, refuse_directory, replace, times};
use crate::{Error, Result};
use orlop_sys::copy::xattrs;
use orlop_sys::path::open_in_root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// How pax names extended attributes (star, and GNU tar's `--xattrs`).
const XATTR: &str = "SCHILY.xattr.";

/// Writes `source` with all that is in it, under its own name.
pub(super) fn write(source: &Located, out: impl Write) -> Result<()> {
    let mut builder = Builder::new(out);
    let (parent, name) = source.entry();
    let shown = match source.shown() {
        _ if matches!(source, Located::Directory { content: true, .. }) => Path::new("."),
        name => Path::new(name),
    };
    append(&mut builder, parent, name, shown)?;
    let finished = builder.into_inner().and_then(|mut out| out.flush());
    finished.map_err(|source| Error::Io { action: "write", path: "the archive".into(), source })
}

fn append<W: Write>(builder: &mut Builder<W>, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("stat", name))?;
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(u64::from(stat.st_uid));
    header.set_gid(u64::from(stat.st_gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    let written = |source: io::Error| Error::Io { action: "write to the archive", path: path.to_owned(), source };
    let kind = FileType::from_raw_mode(stat.st_mode);
    if matches!(kind, FileType::Directory | FileType::RegularFile) {
        // The name in a record ends with the first `=`.
        let found = xattrs(parent, name)?;
        let named = found.iter().filter_map(|(key, value)| Some((key.to_str().ok()?, value)));
        let records: Vec<_> = named.filter(|(key, _)| !key.contains('=')).collect();
        let keys: Vec<String> = records.iter().map(|(key, _)| format!("{XATTR}{key}")).collect();
        let records = keys.iter().zip(&records).map(|(key, (_, value))| (key.as_str(), value.as_slice()));
        builder.append_pax_extensions(records).map_err(written)?;
    }
    match kind {
        FileType::Directory => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, path.join(""), io::empty()).map_err(written)?;
            let directory = open_directory(parent, name).map_err(failed("open", name))?;
            for name in names(directory.as_fd())? {
                append(builder, directory.as_fd(), &name, &path.join(&name))?;
            }
            Ok(())
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(failed("read the link", name))?;
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, path, OsStr::from_bytes(link.as_bytes())).map_err(written)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open", name))?;
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            // One that shrinks meanwhile keeps the length that the header promises.
            let content = File::from(file).chain(io::repeat(0)).take(size);
            builder.append_data(&mut header, path, content).map_err(written)
        }
        kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
            header.set_entry_type(match kind {
                FileType::Fifo => EntryType::Fifo,
                FileType::CharacterDevice => EntryType::Char,
                _ => EntryType::Block,
            });
            let device = |set: io::Result<()>| set.map_err(written);
            device(header.set_device_major(rustix::fs::major(stat.st_rdev)))?;
            device(header.set_device_minor(rustix::fs::minor(stat.st_rdev)))?;
            builder.append_data(&mut header, path, io::empty()).map_err(written)
        }
        FileType::Socket | FileType::Unknown => Ok(()),
    }
}

/// Extracts an archive into the directory at `place`, over what is there; the bytes written. Names and links of the
/// archive never lead out of the container's root.
pub(super) fn extract(root: &OwnedFd, place: &Place<'_>, archive: impl Read, hidden: &Hidden) -> Result<u64> {
    let read = |source: io::Error| Error::Invalid(format!("the archive can't be read: {source}"));
    let mut archive = Archive::new(archive);
    let (mut bytes, mut directories) = (0, Vec::new());
    for entry in archive.entries().map_err(read)? {
        let mut entry = entry.map_err(read)?;
        let path = below(&entry.path().map_err(read)?)?;
        let header = entry.header();
        let kind = header.entry_type();
        let owner = (id(header.uid().map_err(read)?), id(header.gid().map_err(read)?));
        let mode = header.mode().map_err(read)? & 0o7777;
        let time = times(i64::try_from(header.mtime().map_err(read)?).unwrap_or(0), 0);
        let attributes = attributes(&mut entry).map_err(read)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else { continue };
        let directory = directory_for(root, place.path(), path.parent().unwrap_or(Path::new("")))?;
        let parent = directory.as_fd();
        match kind {
            EntryType::Directory => {
                match rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed("create directory", &name)(error)),
                }
                let made = open_directory(parent, &name).map_err(failed("open", &name))?;
                own(made.as_fd(), owner, mode, &name)?;
                set(made.as_fd(), &attributes, &name)?;
                directories.push((path, time));
                continue;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                refuse_directory(parent, &name)?;
                let new = NewFile::create(parent, &name, hidden)?;
                let mut file = File::from(new.file.try_clone().map_err(Error::io("open", &name))?);
                bytes += io::copy(&mut entry, &mut file).map_err(Error::io("write", &name))?;
                own(new.file.as_fd(), owner, mode, &name)?;
                set(new.file.as_fd(), &attributes, &name)?;
                rustix::fs::futimens(&new.file, &time).map_err(failed("set the time of", &name))?;
                new.appear(parent, &name, hidden)?;
                continue;
            }
            _ => refuse_directory(parent, &name)?,
        }
        let link = entry.link_name().map_err(read)?.map(|link| link.into_owned());
        match (kind, link) {
            (EntryType::Symlink, Some(link)) => replace(hidden, parent, &name, |hidden| {
                rustix::fs::symlinkat(&link, parent, hidden)?;
                own_at(parent, hidden, owner)?;
                rustix::fs::utimensat(parent, hidden, &time, AtFlags::SYMLINK_NOFOLLOW)
            })?,
            (EntryType::Link, Some(link)) => {
                let link = below(&link)?;
                let from = directory_for(root, place.path(), link.parent().unwrap_or(Path::new("")))?;
                let first = link.file_name().unwrap_or_default();
                replace(hidden, parent, &name, |hidden| {
                    rustix::fs::linkat(&from, first, parent, hidden, AtFlags::empty())
                })?;
            }
            (EntryType::Fifo | EntryType::Char | EntryType::Block, _) => {
                let header = entry.header();
                let number = |number: io::Result<Option<u32>>| number.map(Option::unwrap_or_default).map_err(read);
                let device = rustix::fs::makedev(number(header.device_major())?, number(header.device_minor())?);
                let file_type = match kind {
                    EntryType::Fifo => FileType::Fifo,
                    EntryType::Char if device == 0 => {
                        return Err(Error::Invalid(format!(
                            "{}: overlay takes a device 0:0 for a whiteout",
                            path.display()
                        )));
                    }
                    EntryType::Char => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                replace(hidden, parent, &name, |hidden| {
                    rustix::fs::mknodat(parent, hidden, file_type, Mode::from_raw_mode(mode), device)?;
                    own_at(parent, hidden, owner)
                })?;
            }
            // Global headers and the like.
            _ => {}
        }
    }
    // Last, since every entry changes the time of its directory; the innermost first.
    for (path, time) in directories.into_iter().rev() {
        let directory = directory_for(root, place.path(), &path)?;
        rustix::fs::futimens(&directory, &time).map_err(failed("set the time of", path.as_os_str()))?;
    }
    Ok(bytes)
}

type Attributes = Vec<(CString, Vec<u8>)>;

/// An entry's extended attributes, but for overlay's, which would change what it is.
fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
    let mut found = Vec::new();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let Some(name) = record.key_bytes().strip_prefix(XATTR.as_bytes()) else { continue };
        if !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.") {
            found.push((CString::new(name)?, record.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// After the owner, whose change takes capabilities away.
fn set(file: BorrowedFd<'_>, attributes: &Attributes, name: &OsStr) -> Result<()> {
    for (key, value) in attributes {
        match rustix::fs::fsetxattr(file, key.as_c_str(), value, rustix::fs::XattrFlags::empty()) {
            // A file system without them, as elsewhere.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(failed("set the attributes of", name)(error)),
        }
    }
    Ok(())
}

fn id(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A path of the archive, relative and without a way up.
fn below(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                return Err(Error::Invalid(format!(
                    "the archive has the path {}, which leads out of it",
                    path.display()
                )));
            }
            _ => {}
        }
    }
    Ok(clean)
}

/// Opens a directory below the target as the container's programs would, making what is missing on the way.
pub(super) fn directory_for(root: &OwnedFd, base: &Path, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match open_in_root(root, &base.join(path), flags) {
        Err(error) if error.is(Errno::NOENT) && path.parent().is_some() => {
            let above = directory_for(root, base, path.parent().unwrap_or(Path::new("")))?;
            let name = path.file_name().unwrap_or_default();
            match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("create directory", name)(error)),
            }
            Ok(open_in_root(root, &base.join(path), flags)?)
        }
        opened => Ok(opened?),
    }
}
