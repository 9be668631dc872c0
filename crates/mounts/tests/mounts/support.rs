//! A data root, an image's root and a run directory on the disk, unmounted and removed at the end of each test.

use orlop_model::mount::{MountSpec, parse_mount, parse_tmpfs, parse_volume, parse_volumes_from};
use orlop_model::{Digest, Id};
use orlop_mounts::{
    AppliedKind, AppliedMount, Entry, Error, Inherited, LookAtImage, Place, Request, Resolved, ResolvedMount, apply,
    release, resolve,
};
use orlop_state::rows::volume::VolumeOrigin;
use orlop_state::{ContainerRow, State};
use orlop_sys::mount::{
    Changes, MountInfo, Propagation, attach, change, change_at, clone_tree, mount_info, tmpfs, unmount_tree,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

pub struct World {
    dir: tempfile::TempDir,
    pub state: State,
    pub container: Id,
}

impl World {
    /// None, and a line on stderr, where mounting isn't allowed.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("needs root to mount");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("orlop-mounts-").tempdir_in("/var/tmp").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let state = State::open(&dir.path().join("data")).unwrap();
        let world = Self { dir, state, container: Id::random() };
        world.image_dir("");
        Some(world)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path on the host as a flag names it.
    pub fn host(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    pub fn image_dir(&self, name: &str) -> PathBuf {
        self.dir(&format!("rootfs/{name}"))
    }

    pub fn image_file(&self, name: &str, content: &str) {
        let path = self.path("rootfs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn run_dir(&self) -> PathBuf {
        self.path("run/mounts").join(self.container.hex())
    }

    /// `_data` of a volume.
    pub fn data(&self, volume: &str) -> PathBuf {
        orlop_volumes::data_path(&self.state, &volume.parse().unwrap())
    }

    pub fn volumes(&self) -> Vec<String> {
        let all = orlop_volumes::list(&self.state, &Default::default()).unwrap();
        all.into_iter().map(|volume| volume.name.to_string()).collect()
    }

    /// Flags as typed: `-v …`, `--mount …`, `--tmpfs …`.
    pub fn specs(&self, flags: &[&str]) -> Vec<MountSpec> {
        let parse = |flag: &&str| match flag.split_once(' ').unwrap() {
            ("-v", text) => parse_volume(text, self.dir.path(), None).unwrap(),
            ("--mount", text) => parse_mount(text, self.dir.path()).unwrap(),
            ("--tmpfs", text) => parse_tmpfs(text).unwrap(),
            (other, _) => panic!("no such flag: {other}"),
        };
        flags.iter().map(parse).collect()
    }

    pub fn inherited(&self, flag: &str, mounts: &[ResolvedMount]) -> Inherited {
        Inherited { flag: parse_volumes_from(flag).unwrap(), mounts: mounts.to_vec() }
    }

    pub fn resolve_with(
        &self,
        flags: &[&str],
        volumes_from: &[Inherited],
        image_volumes: &[&str],
    ) -> Result<Resolved, Error> {
        let rootfs = orlop_sys::path::open_directory(&self.path("rootfs")).unwrap();
        self.resolve_request(flags, volumes_from, image_volumes, Some(&|path| entry_in_root(&rootfs, path)))
    }

    /// As by a caller that can't look into the image yet.
    pub fn resolve_without_image(&self, flags: &[&str]) -> Result<Resolved, Error> {
        self.resolve_request(flags, &[], &[], None)
    }

    fn resolve_request(
        &self,
        flags: &[&str],
        volumes_from: &[Inherited],
        image_volumes: &[&str],
        image_entry: Option<&LookAtImage<'_>>,
    ) -> Result<Resolved, Error> {
        let image_volumes: Vec<String> = image_volumes.iter().map(|&path| path.to_owned()).collect();
        let origin =
            VolumeOrigin { container: self.container, container_name: "test".to_owned(), image: "postgres".to_owned() };
        let mounts = self.specs(flags);
        let request =
            Request { mounts: &mounts, volumes_from, image_volumes: &image_volumes, origin: &origin, image_entry };
        resolve(&self.state, &request)
    }

    pub fn resolve(&self, flags: &[&str]) -> Result<Resolved, Error> {
        self.resolve_with(flags, &[], &[])
    }

    pub fn apply_mounts(&self, mounts: &[ResolvedMount]) -> Result<Vec<AppliedMount>, Error> {
        let rootfs = orlop_sys::path::open_directory(&self.path("rootfs")).unwrap();
        let run_dir = self.run_dir();
        let place = Place { container: self.container, rootfs: rootfs.as_fd(), run_dir: &run_dir, owner: None };
        apply(&self.state, mounts, &place)
    }

    pub fn apply(&self, flags: &[&str]) -> Result<Vec<AppliedMount>, Error> {
        self.apply_mounts(&self.resolve(flags)?.mounts)
    }

    /// What the engine writes before it starts the container.
    pub fn add_container_row(&self, name: &str, volumes: &[&str]) {
        let row = ContainerRow {
            id: self.container,
            name: name.parse().unwrap(),
            image: Digest::from_sha256([0; 32]),
            layers: Vec::new(),
            writable: Id::random(),
            volumes: volumes.iter().map(|name| name.parse().unwrap()).collect(),
            running: true,
            details: BTreeMap::<String, String>::new(),
        };
        self.state.write(|tx| tx.table::<ContainerRow<BTreeMap<String, String>>>().put(&row)).unwrap();
    }

    /// The single path that one flag puts before the container.
    pub fn apply_one(&self, flag: &str) -> PathBuf {
        source_of(&self.apply(&[flag]).unwrap()[0])
    }

    pub fn release(&self) {
        release(&self.state, &[], self.container, &self.run_dir()).unwrap();
    }

    pub fn mounts(&self) -> Vec<MountInfo> {
        let is_ours = |mount: &MountInfo| mount.mount_point.starts_with(self.dir.path());
        mount_info().unwrap().into_iter().filter(is_ours).collect()
    }

    pub fn is_mounted(&self, path: &Path) -> bool {
        self.mounts().iter().any(|mount| mount.mount_point == path)
    }

    pub fn mount_tmpfs(&self, name: &str, propagation: Propagation) -> PathBuf {
        let target = self.dir(name);
        attach(tmpfs("test", &["size=1m", "mode=0755"], Changes::NONE).unwrap(), &target).unwrap();
        change_at(&target, Changes { propagation: Some(propagation), ..Changes::NONE }).unwrap();
        target
    }

    /// Nothing is mounted and no directory of a container is left.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.mounts(), []);
        assert!(!self.run_dir().exists());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for mount in self.mounts().into_iter().rev() {
            let _ = unmount_tree(&mount.mount_point);
        }
    }
}

/// Says on stderr why a test can't run here.
#[expect(clippy::print_stderr, reason = "whoever runs the tests has to see it")]
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

pub fn source_of(mount: &AppliedMount) -> PathBuf {
    match &mount.kind {
        AppliedKind::Bind { source, .. } => source.clone(),
        AppliedKind::Tmpfs { .. } => panic!("{} is a tmpfs", mount.target),
    }
}

pub fn options_of(mount: &AppliedMount) -> String {
    match &mount.kind {
        AppliedKind::Bind { options, .. } | AppliedKind::Tmpfs { options } => options.join(","),
    }
}

/// What a test's image has at a path.
fn entry_in_root(root: impl AsFd, path: &str) -> Result<Entry, Error> {
    match orlop_sys::path::open_in_root(root, Path::new(path), rustix::fs::OFlags::PATH) {
        Ok(found) => {
            let stat = rustix::fs::fstat(found).unwrap();
            let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
            Ok(if is_directory { Entry::Directory } else { Entry::File })
        }
        Err(_) => Ok(Entry::Missing),
    }
}

/// A private bind of a directory.
pub fn bind(source: &Path, target: &Path) {
    let clone = clone_tree(orlop_sys::path::open_directory(source).unwrap(), true).unwrap();
    change(&clone, Changes { propagation: Some(Propagation::Private), ..Changes::NONE }).unwrap();
    attach(clone, target).unwrap();
}
