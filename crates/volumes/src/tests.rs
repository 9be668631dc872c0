//! Tests of the whole crate, by what they are about.

mod concurrency;
mod conformance;
mod crashes;
mod first_use;
mod local;
mod store;

use crate::*;
use orlop_model::{ContainerName, Digest, Id, VolumeName};
use orlop_state::{ContainerRow, State};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A data root that unmounts what is left below it and then goes.
struct World {
    state: State,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        Self { state: State::open(directory.path()).unwrap(), directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn data(&self, name: &str) -> PathBuf {
        self.path().join("volumes").join(name).join("_data")
    }

    fn create(&self, name: &str) -> Created {
        create(&self.state, request(name, &[])).unwrap()
    }

    fn create_with(&self, name: &str, options: &[(&str, &str)]) -> Result<Created, Error> {
        create(&self.state, request(name, options))
    }

    /// A container that refers to a volume.
    fn container(&self, volume: &str, running: bool) -> Id {
        let id = Id::random();
        self.put_container(id, volume, running);
        id
    }

    fn put_container(&self, id: Id, volume: &str, running: bool) {
        self.state.write(|tx| tx.table::<TestContainer>().put(&container_row(id, volume, running))).unwrap();
    }

    fn remove_container(&self, id: Id) {
        self.state.write(|tx| tx.containers().delete(&id.hex())).unwrap();
    }

    fn remove(&self, volume: &str) -> Result<Removal, Error> {
        remove(&self.state, &name(volume), RemoveVolume { force: false, now: false })
    }

    fn initialise(&self, volume: &str, content: &Path) -> Result<FirstUse, Error> {
        initialise_from(&self.state, volume, content)
    }

    /// Rows and directories agree, nothing is half done, and nothing lies about.
    fn check(&self) {
        let (volumes, trash) =
            self.state.read(|tx| Ok::<_, Error>((tx.volumes().list()?, tx.trash().list()?))).unwrap();
        let rows: Vec<String> = volumes.iter().map(|row| row.name.to_string()).collect();
        assert_eq!(rows, names(&self.path().join("volumes")));
        for row in &volumes {
            assert_eq!(row.phase, orlop_state::rows::volume::VolumePhase::Ready);
            assert_eq!(names(&self.path().join("volumes").join(row.name.as_str())), ["_data", "volume.json"]);
        }
        let rows: Vec<String> = trash.iter().map(|row| row.id.hex()).collect();
        assert_eq!(rows, names(&self.path().join("trash")));
        assert!(trash.iter().all(|row| !row.emptying));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return };
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.path())) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

type TestContainer = ContainerRow<BTreeMap<String, String>>;

fn container_row(id: Id, volume: &str, running: bool) -> TestContainer {
    ContainerRow {
        id,
        name: format!("c-{}", id.short()).parse::<ContainerName>().unwrap(),
        image: format!("sha256:{}", Id::random()).parse::<Digest>().unwrap(),
        layers: Vec::new(),
        writable: Id::random(),
        volumes: vec![name(volume)],
        running,
        details: BTreeMap::new(),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn request(volume: &str, options: &[(&str, &str)]) -> CreateVolume {
    CreateVolume {
        name: Some(name(volume)),
        driver: None,
        options: map(options),
        labels: BTreeMap::new(),
        origin: None,
    }
}

fn first_use_options<'a>(content: &'a impl AsFd) -> FirstUseOptions<'a> {
    FirstUseOptions { content: Some(content.as_fd()), target: "/data", no_copy: false, owner: None }
}

/// As the engine does it for a container that is being started.
fn initialise_from(state: &State, volume: &str, content: &Path) -> Result<FirstUse, Error> {
    let container = Id::random();
    let mounted = mount(state, &name(volume), container)?;
    let content = orlop_sys::path::open_directory(content)?;
    let result = initialise(state, &mounted, first_use_options(&content));
    drop(mounted);
    unmount(state, &name(volume), container)?;
    result
}

/// What an image might have at a volume's target.
fn make_content() -> tempfile::TempDir {
    let content = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::create_dir_all(content.path().join("a/b")).unwrap();
    for index in 0..40 {
        std::fs::write(content.path().join(format!("a/file-{index}")), vec![b'x'; 1000]).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", content.path().join("a/link")).unwrap();
    std::os::unix::fs::chown(content.path(), Some(70), Some(71)).unwrap();
    std::fs::set_permissions(content.path(), std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    content
}

fn is_whole(data: &Path) -> bool {
    names(&data.join("a")).len() == 42 && std::fs::read(data.join("a/file-39")).is_ok_and(|bytes| bytes.len() == 1000)
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `cargo test --release -p orlop-volumes -- --ignored --nocapture measurements`
#[test]
#[ignore = "a measurement"]
fn measurements() {
    use std::time::Instant;
    let (world, content) = (World::new(), tempfile::tempdir_in("/var/tmp").unwrap());
    for index in 0..20_000 {
        let parent = content.path().join(format!("{}", index % 200));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("file-{index}")), vec![b'x'; 500 + index % 4000]).unwrap();
    }
    std::process::Command::new("sync").status().unwrap();
    for round in 0..3 {
        let volume = format!("filled-{round}");
        world.create(&volume);
        let start = Instant::now();
        world.initialise(&volume, content.path()).unwrap();
        let ours = start.elapsed();
        let other = tempfile::tempdir_in("/var/tmp").unwrap();
        let start = Instant::now();
        let cp = std::process::Command::new("cp").args(["-a", "--"]).arg(content.path()).arg(other.path()).status();
        cp.unwrap();
        let cp = start.elapsed();
        std::process::Command::new("sync").args(["-f", "--"]).arg(other.path()).status().unwrap();
        say(&format!("initialise {ours:?}, cp -a {cp:?}, with sync {:?}", start.elapsed()));
    }
    let each = |what: &str, count: u32, run: &dyn Fn(u32)| {
        let start = Instant::now();
        (0..count).for_each(run);
        say(&format!("{what} {:?}", start.elapsed() / count));
    };
    each("create", 200, &|index| drop(world.create(&format!("volume-{index}"))));
    each("create again", 200, &|index| drop(world.create(&format!("volume-{index}"))));
    each("list", 20, &|_| drop(list(&world.state, &Default::default()).unwrap()));
    each("recover", 20, &|_| assert_eq!(recover(&world.state).unwrap(), 0));
    each("inspect", 200, &|index| drop(inspect(&world.state, &name(&format!("volume-{index}"))).unwrap()));
    each("mount", 200, &|index| drop(mount(&world.state, &name(&format!("volume-{index}")), Id::random()).unwrap()));
    let small = make_content();
    each("first use of 43 entries", 50, &|index| {
        world.initialise(&format!("volume-{index}"), small.path()).unwrap();
    });
    each("remove", 200, &|index| assert!(world.remove(&format!("volume-{index}")).is_ok()));
    let start = Instant::now();
    trash::empty(&world.state, |_| true).unwrap();
    say(&format!("trash empty of 200 {:?}", start.elapsed()));
}
