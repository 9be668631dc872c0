//! What the tests of layers share: archives made by hand, and a directory tree as comparable text.

#![allow(dead_code, clippy::allow_attributes, clippy::print_stderr, reason = "each test binary uses its own part")]

use orlop_layers::{Budget, Limits, Options, Result, Unpacked, unpack};
use rustix::fs::{AtFlags, CWD, FileType};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// A tar archive made block by block, so that it can be as wrong as a test needs it.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

pub struct Header {
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub link: String,
    pub device: (u32, u32),
    /// Instead of the content's length.
    pub size: Option<u64>,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_000_000,
            link: String::new(),
            device: (0, 0),
            size: None,
        }
    }
}

impl Tar {
    pub fn add(mut self, name: &str, header: Header, content: &[u8]) -> Self {
        let mut block = [0; 512];
        let put = |block: &mut [u8; 512], at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(&mut block, 0, name.as_bytes());
        put(&mut block, 100, format!("{:07o}", header.mode).as_bytes());
        put(&mut block, 108, format!("{:07o}", header.uid).as_bytes());
        put(&mut block, 116, format!("{:07o}", header.gid).as_bytes());
        put(&mut block, 124, format!("{:011o}", header.size.unwrap_or(content.len() as u64)).as_bytes());
        put(&mut block, 136, format!("{:011o}", header.mtime).as_bytes());
        block[156] = header.kind;
        put(&mut block, 157, header.link.as_bytes());
        put(&mut block, 257, b"ustar\x0000");
        put(&mut block, 329, format!("{:07o}", header.device.0).as_bytes());
        put(&mut block, 337, format!("{:07o}", header.device.1).as_bytes());
        put(&mut block, 148, b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.add(name, Header::default(), content.as_bytes())
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.add(&format!("{name}/"), Header { kind: b'5', mode, ..Header::default() }, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.add(name, Header { kind: b'2', mode: 0o777, link: target.to_owned(), ..Header::default() }, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.add(name, Header { kind: b'1', link: target.to_owned(), ..Header::default() }, b"")
    }

    pub fn whiteout(self, directory: &str, name: &str) -> Self {
        let slash = if directory.is_empty() { "" } else { "/" };
        self.file(&format!("{directory}{slash}.wh.{name}"), "")
    }

    /// Extended headers for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let length = (1..8).map(|digits| body.len() + digits).find(|&l| l.to_string().len() + body.len() == l);
            text.extend_from_slice(length.unwrap().to_string().as_bytes());
            text.extend_from_slice(&body);
        }
        self.add("pax", Header { kind: b'x', ..Header::default() }, &text)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn unpack_into(archive: &[u8], into: &Path) -> Result<Unpacked> {
    unpack(archive, into, Options { blob_digest: true, record: false }, &Budget::new(Limits::default()))
}

/// Everything below `root` that a copy must keep, as one line for each path. `nanos`: with the fractions of times.
pub fn snapshot(root: &Path, nanos: bool) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut inodes: HashMap<u64, String> = HashMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let mut names: Vec<_> =
            std::fs::read_dir(root.join(&directory)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let inside = directory.join(&name);
            let path = root.join(&inside);
            let stat = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let kind = FileType::from_raw_mode(stat.st_mode);
            let shown = inside.to_string_lossy().into_owned();
            let mut line = format!("{kind:?} {:o} {}:{}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
            line += &format!(" {}", stat.st_mtime);
            if nanos {
                line += &format!(".{:09}", stat.st_mtime_nsec);
            }
            match kind {
                FileType::RegularFile => {
                    let content = std::fs::read(&path).unwrap();
                    line += &format!(" {} {:x?}", content.len(), &Sha256::digest(&content)[..6]);
                }
                FileType::Symlink => line += &format!(" -> {}", std::fs::read_link(&path).unwrap().display()),
                FileType::Directory => directories.push(inside.clone()),
                _ => line += &format!(" {:x}", stat.st_rdev),
            }
            if kind != FileType::Directory && stat.st_nlink > 1 {
                let first = inodes.entry(stat.st_ino).or_insert_with(|| shown.clone());
                line += &format!(" = {first}");
            }
            line += &xattrs(&path);
            lines.insert(shown, line);
        }
    }
    lines
}

fn xattrs(path: &Path) -> String {
    let mut list = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let mut shown = String::new();
    let mut names: Vec<&[u8]> = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    for name in names {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value).unwrap();
        shown += &format!(" {}={:x?}", String::from_utf8_lossy(name), &value[..length]);
    }
    shown
}

pub fn allocated(path: &Path) -> u64 {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).unwrap().st_blocks.cast_unsigned() * 512
}

/// Runs a program and fails the test when it fails.
pub fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Whether a program is there; says so when not.
pub fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
