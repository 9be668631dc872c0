//! Random images: what a chain of layers shows, each unpacked alone and settled, is what applying one archive after the
//! other to one directory gives.

mod common;

use common::{Header, Tar, temporary, unpack_into};
use orlop_layers::driver::{Overlay2, Vfs, create_image_layer};
use orlop_layers::{Driver, Error, settle};
use orlop_model::Id;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn name(&mut self) -> &'static str {
        ["a", "b", "c", "d"][self.below(4)]
    }
}

#[derive(Clone, Debug)]
enum What {
    Directory(u32),
    File(String),
    Symlink(String),
    Hardlink(String),
    Whiteout,
    Opaque,
}

type Layer = Vec<(String, What)>;

/// A layer in which every path has one meaning; directories may lack an entry.
fn layer(random: &mut Random, files_below: &[String], number: usize) -> Layer {
    let mut entries: BTreeMap<String, What> = BTreeMap::new();
    let mut closed = BTreeSet::new();
    for count in 0..1 + random.below(7) {
        let depth = 1 + random.below(3);
        let path = (0..depth).map(|_| random.name()).collect::<Vec<_>>().join("/");
        let is_directory_of_another = entries.keys().any(|other| other.starts_with(&format!("{path}/")));
        let parents: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        let below_a_file = parents.iter().any(|parent| closed.contains(*parent));
        if entries.contains_key(&path) || below_a_file || is_directory_of_another {
            continue;
        }
        for parent in parents {
            if random.below(3) > 0 && !entries.contains_key(parent) {
                entries.insert(parent.to_owned(), What::Directory([0o755, 0o700, 0o711][random.below(3)]));
            }
        }
        let what = match random.below(10) {
            0 | 1 => What::Directory(0o750),
            2 => What::Symlink(format!("/{}", random.name())),
            3 => What::Symlink(random.name().to_owned()),
            4 if !files_below.is_empty() => What::Hardlink(files_below[random.below(files_below.len())].clone()),
            5 | 6 => What::Whiteout,
            7 => What::Opaque,
            _ => What::File(format!("{number}.{count}")),
        };
        if !matches!(what, What::Directory(_) | What::Opaque) {
            closed.insert(path.clone());
        }
        entries.insert(path, what);
    }
    entries.into_iter().collect()
}

fn archive(layer: &Layer) -> Vec<u8> {
    let mut tar = Tar::default();
    for (path, what) in layer {
        let (parent, name) = path.rsplit_once('/').map_or(("", &path[..]), |(parent, name)| (parent, name));
        tar = match what {
            What::Directory(mode) => tar.dir(path, *mode),
            What::File(text) => tar.add(path, Header { uid: 7, ..Header::default() }, text.as_bytes()),
            What::Symlink(target) => tar.symlink(path, target),
            What::Hardlink(target) => tar.hardlink(path, target),
            What::Whiteout => tar.whiteout(parent, name),
            What::Opaque => tar.file(&format!("{path}/.wh..wh..opq"), ""),
        };
    }
    tar.end()
}

/// Applies a layer to a directory, one entry after the other, as a program whose root it is would.
fn apply(root: &Path, layer: &Layer) -> Result<(), String> {
    let fd = orlop_sys::path::open_directory(root).unwrap();
    let mut own: BTreeSet<PathBuf> = BTreeSet::new();
    let mut made: BTreeSet<PathBuf> = BTreeSet::new();
    for (path, what) in layer {
        let (parent, name) = path.rsplit_once('/').map_or(("", &path[..]), |(parent, name)| (parent, name));
        if let What::Opaque = what {
            let directory = real(&fd, path)?;
            empty(&directory, &own);
            own.insert(directory);
            continue;
        }
        let parent = real(&fd, parent)?;
        let mut marked = parent.clone();
        while marked != root && marked.starts_with(root) {
            own.insert(marked.clone());
            marked.pop();
        }
        let at = parent.join(name);
        // By its own name and through a symlink of a lower layer: unpacked alone, nothing says which was later.
        if !made.insert(at.clone()) || made.iter().any(|other| other != &at && at.starts_with(other) && !other.is_dir())
        {
            return Err("one place by two names".to_owned());
        }
        let old = std::fs::symlink_metadata(&at).ok();
        let keeps = matches!(what, What::Directory(_)) && old.as_ref().is_some_and(|old| old.is_dir());
        let source = match what {
            What::Hardlink(target) => Some(target_of(&fd, target)?),
            _ => None,
        };
        if source.as_ref() == Some(&at) {
            continue;
        }
        if let Some(source) = &source
            && (source.starts_with(&at) || !std::fs::symlink_metadata(source).is_ok_and(|stat| !stat.is_dir()))
        {
            return Err("no such target".to_owned());
        }
        match old {
            Some(old) if old.is_dir() && !keeps => std::fs::remove_dir_all(&at).unwrap(),
            Some(old) if !old.is_dir() => std::fs::remove_file(&at).unwrap(),
            _ => {}
        }
        own.insert(at.clone());
        match what {
            What::Directory(mode) => {
                if !keeps {
                    std::fs::create_dir(&at).unwrap();
                }
                rustix::fs::chmod(&at, Mode::from_raw_mode(*mode)).unwrap();
            }
            What::File(text) => {
                std::fs::write(&at, text).unwrap();
                std::os::unix::fs::lchown(&at, Some(7), None).unwrap();
            }
            What::Symlink(target) => std::os::unix::fs::symlink(target, &at).unwrap(),
            What::Hardlink(_) => std::fs::hard_link(source.unwrap(), &at).unwrap(),
            What::Whiteout | What::Opaque => {
                own.remove(&at);
            }
        }
    }
    Ok(())
}

/// The real path of a directory inside the root, made where it is missing.
fn real(root: &OwnedFd, path: &str) -> Result<PathBuf, String> {
    let mut inside = PathBuf::from(".");
    let mut real = shown(root);
    for name in path.split('/').filter(|name| !name.is_empty()) {
        inside.push(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = orlop_sys::path::open_in_root(root, &inside, flags);
        let fd = match opened {
            Ok(fd) => fd,
            Err(_) => {
                rustix::fs::mkdir(real.join(name), Mode::from_raw_mode(0o755)).map_err(|error| error.to_string())?;
                orlop_sys::path::open_in_root(root, &inside, flags).map_err(|error| error.to_string())?
            }
        };
        real = shown(&fd);
    }
    Ok(real)
}

fn target_of(root: &OwnedFd, path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let parent = Path::new(".").join(path.parent().unwrap());
    let fd = orlop_sys::path::open_in_root(root, &parent, OFlags::PATH | OFlags::DIRECTORY);
    Ok(shown(&fd.map_err(|error| error.to_string())?).join(path.file_name().unwrap()))
}

fn shown(fd: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
}

/// Removes what this layer didn't bring, as an opaque marker does, wherever in the archive it stands.
fn empty(directory: &Path, own: &BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if own.contains(&path) {
            if std::fs::symlink_metadata(&path).unwrap().is_dir() {
                empty(&path, own);
            }
        } else if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }
}

fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = rustix::fs::statat(rustix::fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW)
                .unwrap_or_else(|error| panic!("a broken entry {}: {error}", path.display()));
            let mut line = format!("{:o} {}", stat.st_mode, stat.st_uid);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => directories.push(path.clone()),
                FileType::Symlink => line += &std::fs::read_link(&path).unwrap().display().to_string(),
                _ => line += &std::fs::read_to_string(&path).unwrap(),
            }
            lines.insert(path.strip_prefix(root).unwrap().display().to_string(), line);
        }
    }
    lines
}

#[test]
fn random_chains_show_what_applying_them_gives() {
    let root = temporary();
    let overlay = Overlay2::open(root.path(), false).unwrap();
    let vfs_root = temporary();
    let vfs = Vfs::open(vfs_root.path()).unwrap();
    let (mut compared, mut refused) = (0, 0);
    // ORLOP_CHAINS=FIRST..END looks at others.
    let range = std::env::var("ORLOP_CHAINS").unwrap_or_else(|_| "0..200".to_owned());
    let (first, end) = range.split_once("..").expect("ORLOP_CHAINS is FIRST..END");
    let (first, end): (u64, u64) = (first.parse().unwrap(), end.parse().unwrap());
    for number in first..end {
        let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let reference = tempfile::tempdir_in(root.path()).unwrap();
        let driver: &dyn Driver = if number % 3 == 0 { &vfs } else { &overlay };
        let mut chain: Vec<Id> = Vec::new();
        let mut layers = Vec::new();
        let mut whole = true;
        for position in 0..2 + random.below(3) {
            let files: Vec<String> = tree(reference.path())
                .into_iter()
                .filter(|(_, line)| line.starts_with("100"))
                .map(|(path, _)| path)
                .collect();
            let layer = layer(&mut random, &files, position);
            layers.push(layer.clone());
            let id = Id::random();
            let diff = create_image_layer(driver, id).unwrap();
            let parents: Vec<PathBuf> = chain.iter().map(|&id| driver.diff(id)).collect();
            let settled = unpack_into(&archive(&layer), &diff)
                .and_then(|unpacked| settle(&diff, &unpacked.dependencies, &parents));
            chain.insert(0, id);
            match (apply(reference.path(), &layer), settled) {
                (Ok(()), Ok(_)) => {}
                // Nonsense, such as a file in what is a file below, is refused or hides it.
                (Err(_), _) | (_, Err(Error::Chain(_) | Error::Entry { .. })) => whole = false,
                (Ok(()), Err(error)) => panic!("seed {number}: {error}: {layers:#?}"),
            }
            if !whole {
                break;
            }
        }
        if whole {
            let id = Id::random();
            driver.prepare(id, &chain).unwrap();
            let mounted = driver.mount(id).unwrap();
            let found = std::panic::catch_unwind(|| tree(&mounted));
            driver.unmount(id).unwrap();
            let expected = tree(reference.path());
            let found = found.unwrap_or_else(|_| panic!("seed {number}: {layers:#?}"));
            assert_eq!(found, expected, "seed {number}: {layers:#?}");
            driver.remove(id).unwrap();
            compared += 1;
        } else {
            refused += 1;
        }
        for id in chain {
            driver.remove(id).unwrap();
        }
    }
    assert!(compared * 2 > refused, "only {compared} chains compared, {refused} refused");
}
