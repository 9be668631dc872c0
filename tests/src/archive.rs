//! A generator of docker-archives (`docker save` before OCI layouts): layers as tar files, a config, manifest.json.
//! Written by hand so that a test may put into an archive what no tool would.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Every file of a generated layer has this time (2024-01-02 03:04:05 UTC), so that digests are stable.
pub const MTIME: u64 = 1_704_164_645;

/// A finished layer: its uncompressed tar file and the digest of it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The tar file.
    pub path: PathBuf,
    /// `sha256:…` of the tar file.
    pub diff_id: String,
}

/// Owner and mode of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Permission bits, setuid and its kin included.
    pub mode: u32,
    /// User id.
    pub uid: u64,
    /// Group id.
    pub gid: u64,
}

/// Root's, with these permission bits.
#[must_use]
pub fn root(mode: u32) -> Owner {
    Owner { mode, uid: 0, gid: 0 }
}

/// Writes one layer; the digest is taken on the way.
pub struct LayerWriter {
    tar: Builder<Hashing>,
    path: PathBuf,
}

struct Hashing {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl LayerWriter {
    /// Begins a layer at `path`.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        Ok(Self { tar: Builder::new(Hashing { file, hash: Sha256::new() }), path })
    }

    fn header(kind: EntryType, owner: Owner, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(owner.mode);
        header.set_uid(owner.uid);
        header.set_gid(owner.gid);
        header.set_mtime(MTIME);
        header.set_size(size);
        header
    }

    /// A directory.
    ///
    /// # Errors
    /// When the layer can't be written.
    pub fn dir(&mut self, path: &str, owner: Owner) -> io::Result<()> {
        let mut header = Self::header(EntryType::Directory, owner, 0);
        self.tar.append_data(&mut header, path, io::empty())
    }

    /// A regular file with these bytes.
    ///
    /// # Errors
    /// When the layer can't be written.
    pub fn file(&mut self, path: &str, owner: Owner, bytes: &[u8]) -> io::Result<()> {
        self.stream(path, owner, bytes.len() as u64, bytes)
    }

    /// A regular file of `size` bytes that `content` yields.
    ///
    /// # Errors
    /// When the layer can't be written or `content` can't be read.
    pub fn stream(&mut self, path: &str, owner: Owner, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = Self::header(EntryType::Regular, owner, size);
        self.tar.append_data(&mut header, path, content.take(size))
    }

    /// A file of this machine, followed through symlinks.
    ///
    /// # Errors
    /// When it can't be read or the layer can't be written.
    pub fn host_file(&mut self, source: &Path, path: &str, mode: u32) -> io::Result<()> {
        let file = File::open(source)?;
        let size = file.metadata()?.len();
        self.stream(path, root(mode), size, file)
    }

    /// A symlink.
    ///
    /// # Errors
    /// When the layer can't be written.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.link(EntryType::Symlink, path, target)
    }

    /// A hardlink to another entry of the layer.
    ///
    /// # Errors
    /// When the layer can't be written.
    pub fn hardlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.link(EntryType::Link, path, target)
    }

    fn link(&mut self, kind: EntryType, path: &str, target: &str) -> io::Result<()> {
        let mut header = Self::header(kind, root(0o777), 0);
        self.tar.append_link(&mut header, path, target)
    }

    /// An entry whose name and link target are written as they are, be they absolute or full of `..`: no tool makes
    /// these, an attacker does.
    ///
    /// # Errors
    /// When the name is longer than the header's field or the layer can't be written.
    pub fn evil(&mut self, kind: EntryType, name: &str, target: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = Self::header(kind, root(0o755), bytes.len() as u64);
        let gnu = header.as_gnu_mut().ok_or_else(|| io::Error::other("not a GNU header"))?;
        for (field, text) in [(&mut gnu.name, name), (&mut gnu.linkname, target)] {
            field
                .get_mut(..text.len())
                .ok_or_else(|| io::Error::other("name too long"))?
                .copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        self.tar.append(&header, bytes)
    }

    /// Ends the layer.
    ///
    /// # Errors
    /// When the layer can't be written.
    pub fn finish(self) -> io::Result<Layer> {
        let mut hashing = self.tar.into_inner()?;
        hashing.flush()?;
        let diff_id = format!("sha256:{}", hex(&hashing.hash.finalize()));
        Ok(Layer { path: self.path, diff_id })
    }
}

/// An image as it goes into an archive.
#[derive(Clone, Debug)]
pub struct Image {
    /// `name:tag`, or none for a dangling one.
    pub tags: Vec<String>,
    /// From the lowest up.
    pub layers: Vec<Layer>,
    /// The `config` object: Cmd, Env, User, Volumes …
    pub config: Value,
}

impl Image {
    /// The image's config file: its digest is the IMAGE ID.
    #[must_use]
    pub fn config_json(&self) -> Vec<u8> {
        let history: Vec<Value> = (0..self.layers.len())
            .map(|index| json!({"created": "2024-01-02T03:04:05Z", "created_by": format!("layer {index}")}))
            .collect();
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": self.config,
            "history": history,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        config.to_string().into_bytes()
    }
}

/// This machine's architecture in Go's words.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes a docker-archive of these images; layers that several share are in it once.
///
/// # Errors
/// When the archive can't be written or a layer's file can't be read.
pub fn write_docker_archive(path: &Path, images: &[Image]) -> io::Result<()> {
    let mut tar = Builder::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
    let mut put = |name: &str, size: u64, content: &mut dyn Read| {
        let mut header = LayerWriter::header(EntryType::Regular, root(0o644), size);
        tar.append_data(&mut header, name, content)
    };
    let mut manifest = Vec::new();
    let mut written = std::collections::BTreeSet::new();
    for image in images {
        let mut names = Vec::new();
        for layer in &image.layers {
            let name = format!("{}/layer.tar", layer.diff_id.trim_start_matches("sha256:"));
            if written.insert(name.clone()) {
                let mut file = File::open(&layer.path)?;
                let size = file.seek(io::SeekFrom::End(0))?;
                file.rewind()?;
                put(&name, size, &mut file)?;
            }
            names.push(name);
        }
        let config = image.config_json();
        let name = format!("{}.json", hex(&Sha256::digest(&config)));
        put(&name, config.len() as u64, &mut config.as_slice())?;
        manifest.push(json!({"Config": name, "RepoTags": image.tags, "Layers": names}));
    }
    let manifest = Value::Array(manifest).to_string();
    put("manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    tar.into_inner()?.flush()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
