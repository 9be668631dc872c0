//! A store in a directory of its own, and archives made by hand.
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use orlop_images::{Error, Loaded, Source, Store};
use orlop_layers::Driver;
use orlop_state::State;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A data root with its state and driver; gone when dropped.
pub struct Root {
    pub state: State,
    pub driver: Box<dyn Driver>,
    pub path: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

impl Root {
    pub fn new() -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = Self::at(directory.path());
        Self { _directory: Some(directory), ..root }
    }

    pub fn at(path: &Path) -> Self {
        let state = State::open(path).unwrap();
        let driver = orlop_layers::driver::open(path, None).unwrap();
        Self { state, driver, path: path.to_owned(), _directory: None }
    }

    pub fn store(&self) -> Store<'_> {
        Store { state: &self.state, driver: &*self.driver }
    }

    pub fn load(&self, path: &Path) -> Result<Vec<Loaded>, Error> {
        orlop_images::load(self.store(), Source::Path(path.to_owned()), &|_| {})
    }

    /// Writes `bytes` to a file and loads it.
    pub fn load_bytes(&self, bytes: &[u8]) -> Result<Vec<Loaded>, Error> {
        let mut file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        file.write_all(bytes).unwrap();
        self.load(file.path())
    }

    /// Panics unless rows and directories agree and nothing is half made.
    pub fn check_consistent(&self) {
        use orlop_state::LayerPhase;
        let (layers, images, leases) = self
            .state
            .read(|tx| Ok::<_, orlop_state::Error>((tx.layers().list()?, tx.images().list()?, tx.leases().list()?)))
            .unwrap();
        assert!(layers.iter().all(|layer| layer.phase == LayerPhase::Ready), "{layers:?}");
        assert!(leases.is_empty(), "{leases:?}");
        let mut on_disk: Vec<String> = std::fs::read_dir(self.driver.home())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.len() == 64)
            .collect();
        on_disk.sort();
        let known: Vec<String> = layers.iter().map(|layer| layer.id.hex()).collect();
        assert_eq!(on_disk, known, "directories and rows of layers");
        for image in &images {
            assert!(image.layers.iter().all(|id| known.contains(&id.hex())), "image {} lacks layers", image.id);
            orlop_images::config(&self.path, image.id).unwrap();
        }
        let ingest = self.path.join("content/ingest");
        assert!(!ingest.is_dir() || std::fs::read_dir(ingest).unwrap().next().is_none(), "ingest is not empty");
        let blobs = self.path.join("content/blobs/sha256");
        let blobs = if blobs.is_dir() { std::fs::read_dir(blobs).unwrap().count() } else { 0 };
        let expected: usize = images.iter().map(|image| 1 + usize::from(image.manifest.is_some())).sum();
        assert_eq!(blobs, expected, "blobs");
    }

    pub fn is_empty(&self) -> bool {
        self.check_consistent();
        self.state
            .read(|tx| Ok::<_, orlop_state::Error>(tx.images().list()?.is_empty() && tx.layers().list()?.is_empty()))
            .unwrap()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    orlop_model::id::hex(&sha2::Sha256::digest(bytes))
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        // append_data refuses `..`, which some of these archives need.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Bytes that don't compress, from a seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// An image by its uncompressed layers.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
}

impl Image {
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        Self::with(layers, serde_json::json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}))
    }

    pub fn with(layers: Vec<Vec<u8>>, defaults: serde_json::Value) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
        let config = serde_json::json!({
            "created": "2026-01-02T03:04:05Z",
            "architecture": orlop_model::Platform::host().architecture,
            "os": "linux",
            "config": defaults,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": layers.iter().map(|_| serde_json::json!({"created_by": "test"})).collect::<Vec<_>>(),
        });
        Self { layers, config: serde_json::to_vec(&config).unwrap() }
    }

    pub fn id(&self) -> String {
        format!("sha256:{}", sha256(&self.config))
    }

    /// As Docker up to 24 writes it.
    pub fn docker_files(&self, tags: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut names = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let name = format!("{index:064x}/layer.tar");
            files.insert(name.clone(), layer.clone());
            names.push(name);
        }
        let config = format!("{}.json", sha256(&self.config));
        files.insert(config.clone(), self.config.clone());
        let manifest = serde_json::json!([{"Config": config, "RepoTags": tags, "Layers": names}]);
        files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap());
        files
    }

    /// An OCI layout, its layers packed by `pack`.
    pub fn oci_files(
        &self,
        name: Option<&str>,
        media: &str,
        pack: impl Fn(&[u8]) -> Vec<u8>,
    ) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut add = |media: &str, bytes: Vec<u8>| {
            let digest = sha256(&bytes);
            let descriptor =
                serde_json::json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len()});
            files.insert(format!("blobs/sha256/{digest}"), bytes);
            descriptor
        };
        let layers: Vec<_> = self.layers.iter().map(|layer| add(media, pack(layer))).collect();
        let config = add("application/vnd.oci.image.config.v1+json", self.config.clone());
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut manifest = add("application/vnd.oci.image.manifest.v1+json", serde_json::to_vec(&manifest).unwrap());
        if let Some(name) = name {
            manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
        }
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
        files.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
        files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }
}

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

pub fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    tar(&files)
}

pub fn write_tree(directory: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A test that can't run here says so.
#[expect(clippy::print_stderr, reason = "it is for the person who runs the tests")]
pub fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
}
