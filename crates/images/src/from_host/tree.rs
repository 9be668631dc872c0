//! The files that go into the image: paths of this machine with everything on the way to them.

use crate::Error;
use crate::archive::Blob;
use crate::from_host::elf::{self, Needs};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// As many links are followed as the kernel follows.
const MAX_LINKS: usize = 40;
/// glibc opens them by name only, for users and hosts.
const LOADED_LATER: &[&str] = &["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

#[derive(Debug)]
enum Entry {
    Directory { mode: u32, owner: (u32, u32) },
    Link { target: PathBuf },
    Host { path: PathBuf, mode: u32, owner: (u32, u32) },
    Text(&'static str),
}

/// What goes into the layer, by path without a leading slash.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    /// Real paths whose needs were followed, and with which RPATHs.
    followed: HashSet<PathBuf>,
    /// Libraries by soname, from the linker's cache.
    cache: Vec<(String, String)>,
    newest: i64,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let cache = std::fs::read("/etc/ld.so.cache").map(|bytes| elf::read_cache(&bytes)).unwrap_or_default();
        Self { entries: BTreeMap::new(), followed: HashSet::new(), cache, newest: 0 }
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.entries.insert(path.into(), Entry::Directory { mode, owner: (0, 0) });
    }

    pub(crate) fn file(&mut self, path: &str, content: &'static str) {
        self.entries.insert(path.into(), Entry::Text(content));
    }

    /// Newest modification of a file of this machine, seconds since 1970.
    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    /// Whether `path` leads to something in the tree.
    pub(crate) fn holds(&self, path: &str) -> bool {
        Path::new(path)
            .canonicalize()
            .is_ok_and(|real| self.entries.contains_key(real.strip_prefix("/").unwrap_or(&real)))
    }

    /// Adds a program with what it needs, or a directory with all that is in it.
    pub(crate) fn add_whole(&mut self, path: &Path) -> Result<(), Error> {
        let real = self.add(path)?;
        if !real.is_dir() {
            return self.follow(&real, &[]);
        }
        let failed = |source| Error::Open { path: real.clone(), source };
        for entry in std::fs::read_dir(&real).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink() && !entry.path().exists() {
                self.add_link(&entry.path())?;
            } else if kind.is_symlink() {
                let real = self.add(&entry.path())?;
                if real.is_file() {
                    self.follow(&real, &[])?;
                }
            } else if !kind.is_socket() && !kind.is_fifo() && !kind.is_block_device() && !kind.is_char_device() {
                self.add_whole(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Adds `path` with each directory and link on the way, and returns where it really lies.
    pub(crate) fn add(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let mut rest: Vec<PathBuf> = names(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name.as_os_str() == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let metadata =
                std::fs::symlink_metadata(&next).map_err(|source| Error::Open { path: next.clone(), source })?;
            let owner = (metadata.uid(), metadata.gid());
            let mode = metadata.mode() & 0o7777;
            let key = key(&next);
            if metadata.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::FromHost(format!("{}: too many links on the way", path.display())));
                }
                let target = self.add_link(&next)?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(names(&target));
                continue;
            }
            if metadata.is_dir() {
                self.entries.entry(key).or_insert(Entry::Directory { mode, owner });
            } else if metadata.is_file() {
                self.newest = self.newest.max(metadata.mtime());
                self.entries.entry(key).or_insert(Entry::Host { path: next.clone(), mode, owner });
            } else {
                return Err(Error::FromHost(format!("{}: not a file or directory", next.display())));
            }
            at = next;
        }
        Ok(at)
    }

    fn add_link(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let target = std::fs::read_link(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        self.entries.entry(key(path)).or_insert(Entry::Link { target: target.clone() });
        Ok(target)
    }

    /// Adds what the file at `real` needs to start. `rpaths` are those of the files that led here.
    fn follow(&mut self, real: &Path, rpaths: &[String]) -> Result<(), Error> {
        if !self.followed.insert(real.to_owned()) {
            return Ok(());
        }
        let bad = |reason: String| Error::FromHost(format!("{}: {reason}", real.display()));
        match elf::needs(real).map_err(bad)? {
            Some(needs) => self.follow_elf(real, &needs, rpaths),
            None => self.follow_script(real),
        }
    }

    fn follow_elf(&mut self, real: &Path, needs: &Needs, rpaths: &[String]) -> Result<(), Error> {
        if let Some(interpreter) = &needs.interpreter {
            let interpreter = self.add(Path::new(interpreter))?;
            self.followed.insert(interpreter);
        }
        let origin = real.parent().unwrap_or(Path::new("/")).to_string_lossy();
        let expand = |path: &String| path.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
        // ld.so(8): RPATH counts for what the library needs in turn, and not at all beside RUNPATH.
        let inherited: Vec<String> = match needs.runpath.is_empty() {
            true => needs.rpath.iter().map(expand).chain(rpaths.iter().cloned()).collect(),
            false => rpaths.to_vec(),
        };
        let own: Vec<String> = needs.runpath.iter().map(expand).collect();
        for name in &needs.needed {
            let path = self.library(name, needs.machine, inherited.iter().chain(&own)).ok_or_else(|| {
                Error::FromHost(format!("{}: its library {name} is not on this machine", real.display()))
            })?;
            let library = self.add(&path)?;
            self.follow(&library, &inherited)?;
            if name == "libc.so.6" {
                let beside: Vec<PathBuf> = LOADED_LATER.iter().map(|name| path.with_file_name(name)).collect();
                for path in beside.iter().filter(|path| path.exists()) {
                    let library = self.add(path)?;
                    self.follow(&library, &[])?;
                }
            }
        }
        Ok(())
    }

    fn library<'a>(
        &mut self,
        name: &str,
        machine: (u8, u16),
        search: impl Iterator<Item = &'a String>,
    ) -> Option<PathBuf> {
        let fits = |path: &PathBuf| {
            path.is_file() && elf::needs(path).is_ok_and(|needs| needs.is_some_and(|needs| needs.machine == machine))
        };
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(fits);
        }
        if let Some(path) = search.map(|directory| Path::new(directory).join(name)).find(fits) {
            return Some(path);
        }
        // The default directories first: what lies there is found in the image without the cache.
        if let Some(path) = default_directories().iter().map(|directory| Path::new(directory).join(name)).find(fits) {
            return Some(path);
        }
        let cached = self.cache.iter().filter(|(soname, _)| soname == name).map(|(_, path)| PathBuf::from(path));
        let path = cached.into_iter().find(fits)?;
        self.add(Path::new("/etc/ld.so.cache")).ok()?;
        Some(path)
    }

    /// `#!interpreter [argument]`; with env(1) the argument names the program.
    fn follow_script(&mut self, real: &Path) -> Result<(), Error> {
        let failed = |source| Error::Open { path: real.to_owned(), source };
        let mut head = Vec::new();
        File::open(real).and_then(|file| file.take(256).read_to_end(&mut head)).map_err(failed)?;
        let Some(line) = head.strip_prefix(b"#!") else { return Ok(()) };
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        let mut words = line.split_whitespace();
        let Some(interpreter) = words.next() else { return Ok(()) };
        self.add_whole(Path::new(interpreter))?;
        if interpreter.ends_with("/env")
            && let Some(program) = words.find(|word| !word.starts_with('-') && !word.contains('='))
        {
            let path = super::find(program)
                .ok_or_else(|| Error::FromHost(format!("{}: its interpreter {program} is not here", real.display())))?;
            self.add_whole(&path)?;
        }
        Ok(())
    }

    /// Writes every entry in the order of its path, with fixed times.
    pub(crate) fn write(&self, builder: &mut tar::Builder<impl Write>) -> Result<(), Error> {
        for (path, entry) in &self.entries {
            self.write_entry(builder, path, entry).map_err(|source| Error::Open { path: path.clone(), source })?;
        }
        Ok(())
    }

    fn write_entry(&self, builder: &mut tar::Builder<impl Write>, path: &Path, entry: &Entry) -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match entry {
            Entry::Directory { mode, owner } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                set_owner(&mut header, *owner);
                builder.append_data(&mut header, path, std::io::empty())
            }
            Entry::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, path, target)
            }
            Entry::Host { path: host, mode, owner } => {
                let file = File::open(host)?;
                let size = file.metadata()?.len();
                header.set_mode(*mode);
                set_owner(&mut header, *owner);
                header.set_size(size);
                let blob = Blob::new(String::new(), Arc::new(file), 0, size);
                builder.append_data(&mut header, path, blob.reader())
            }
            Entry::Text(text) => {
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, path, text.as_bytes())
            }
        }
    }
}

fn set_owner(header: &mut tar::Header, (uid, gid): (u32, u32)) {
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
}

fn key(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// The names of a path, last first, so that they can be popped.
fn names(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// Where glibc and musl look without being told (Debian's and the plain layout).
fn default_directories() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"],
        "aarch64" => {
            &["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
        }
        _ => &["/lib64", "/usr/lib64", "/lib", "/usr/lib"],
    }
}
