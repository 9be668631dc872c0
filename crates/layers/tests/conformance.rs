//! What every storage driver must do. Both drivers pass, overlay2 in both ways of mounting; a driver that forgets what
//! whiteouts mean must not.

mod common;

use common::{Header, Tar, allocated, run, snapshot, temporary, unpack_into};
use orlop_layers::changes::{changes, shown};
use orlop_layers::driver::{Overlay2, Vfs, create_image_layer};
use orlop_layers::pack::{pack_changes, pack_tree};
use orlop_layers::{ChangeKind, Driver, DriverKind, Error, Result, settle, usage};
use orlop_model::{ErrorKind, Id, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

type Check = fn(&dyn Driver);

const CHECKS: [(&str, Check); 17] = [
    ("an image without layers, and with one", few_layers),
    ("whiteouts and opaque directories hide", hiding),
    ("an opaque root hides everything", opaque_root),
    ("attributes come through", attributes),
    ("hard links are one file", hard_links),
    ("what depends on lower layers", dependencies),
    ("what is written stays above", copy_up),
    ("what is written outlives an unmount", persistence),
    ("two containers of an image don't see each other", isolation),
    ("renamed and replaced directories", directories),
    ("128 layers", many_layers),
    ("removal takes all of it and nothing else", removal),
    ("a transient layer shows the same and goes", transient),
    ("changes are listed, and are a layer", changes_as_layer),
    ("a root file system is an archive", tree_as_archive),
    ("a layer that isn't there", missing),
    ("inspect shows where it is", inspect),
];

/// The checks that the driver fails.
fn failures(open: impl Fn(&Path) -> Box<dyn Driver>) -> Vec<String> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        let root = temporary();
        let driver = open(root.path());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&*driver))) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failed.push(format!("{name}: {}", text.unwrap_or_default()));
        }
    }
    failed
}

#[test]
fn overlay2_conforms() {
    assert_eq!(failures(|root| Box::new(Overlay2::open(root, false).unwrap())), [""; 0]);
}

#[test]
fn overlay2_conforms_by_mount2() {
    assert_eq!(failures(|root| Box::new(Overlay2::open(root, true).unwrap())), [""; 0]);
}

#[test]
fn vfs_conforms() {
    assert_eq!(failures(|root| Box::new(Vfs::open(root).unwrap())), [""; 0]);
}

#[test]
fn a_driver_that_forgets_whiteouts_does_not_conform() {
    let failed = failures(|root| Box::new(Broken(Vfs::open(root).unwrap())));
    assert!(failed.len() >= 2, "{failed:?}");
    assert!(failed.iter().any(|failure| failure.starts_with("whiteouts")), "{failed:?}");
}

/// Copies the layers over each other as if they were plain directories.
struct Broken(Vfs);

impl Driver for Broken {
    fn kind(&self) -> DriverKind {
        self.0.kind()
    }
    fn home(&self) -> &Path {
        self.0.home()
    }
    fn prepare(&self, id: Id, chain: &[Id]) -> Result<()> {
        self.0.prepare(id, &[])?;
        for &layer in chain.iter().rev() {
            let from = format!("{}/.", self.0.diff(layer).display());
            let _ = Command::new("cp").args(["-a", "--remove-destination", &from]).arg(self.0.diff(id)).output();
        }
        Ok(())
    }
    fn mount(&self, id: Id) -> Result<PathBuf> {
        self.0.mount(id)
    }
    fn unmount(&self, id: Id) -> Result<()> {
        self.0.unmount(id)
    }
    fn is_mounted(&self, id: Id) -> Result<bool> {
        self.0.is_mounted(id)
    }
    fn data(&self, id: Id) -> Result<Vec<(&'static str, String)>> {
        self.0.data(id)
    }
    fn image_data(&self, chain: &[Id]) -> Vec<(&'static str, String)> {
        self.0.image_data(chain)
    }
}

/// An image of these layers, lowest first; its chain, topmost first.
fn image(driver: &dyn Driver, layers: impl IntoIterator<Item = Tar>) -> Vec<Id> {
    let mut chain: Vec<Id> = Vec::new();
    for layer in layers {
        let id = Id::random();
        let diff = create_image_layer(driver, id).unwrap();
        let unpacked = unpack_into(&layer.end(), &diff).unwrap();
        let parents: Vec<PathBuf> = chain.iter().map(|&id| driver.diff(id)).collect();
        settle(&diff, &unpacked.dependencies, &parents).unwrap();
        chain.insert(0, id);
    }
    chain
}

/// A writable layer that goes away with the test.
struct Container<'a> {
    driver: &'a dyn Driver,
    id: Id,
    root: PathBuf,
}

impl<'a> Container<'a> {
    fn of(driver: &'a dyn Driver, chain: &[Id]) -> Self {
        let id = Id::random();
        driver.prepare(id, chain).unwrap();
        Self { driver, id, root: driver.mount(id).unwrap() }
    }

    fn names(&self, directory: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.root.join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.root.join(path), text).unwrap();
    }

    fn stat(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.root.join(path)).unwrap()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.driver.remove(self.id).unwrap();
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn few_layers(driver: &dyn Driver) {
    let none = Container::of(driver, &[]);
    assert_eq!(none.names(""), set(&[]));
    none.write("file", "x");
    assert_eq!(none.read("file"), "x");
    let chain = image(driver, [Tar::default().dir("d", 0o700).file("d/f", "one")]);
    let one = Container::of(driver, &chain);
    assert_eq!(one.read("d/f"), "one");
    assert_eq!(one.stat("").mode() & 0o7777, 0o755);
}

fn hiding(driver: &dyn Driver) {
    let base = Tar::default()
        .dir("a", 0o755)
        .file("a/one", "1")
        .file("a/two", "1")
        .dir("b", 0o755)
        .file("b/one", "1")
        .dir("c", 0o755)
        .dir("c/sub", 0o755)
        .file("c/sub/x", "1")
        .file("becomes-dir", "1")
        .dir("becomes-file", 0o755)
        .file("becomes-file/x", "1")
        .dir("comes-back", 0o755)
        .file("comes-back/old", "1");
    let middle = Tar::default()
        .dir("a", 0o755)
        .whiteout("a", "one")
        .dir("b", 0o755)
        .file("b/.wh..wh..opq", "")
        .file("b/two", "2")
        .whiteout("", "c")
        .dir("becomes-dir", 0o755)
        .file("becomes-dir/y", "2")
        .file("becomes-file", "2")
        .whiteout("", "comes-back")
        .whiteout("a", "never-there");
    let top = Tar::default().dir("a", 0o755).file("a/three", "3").dir("comes-back", 0o755).file("comes-back/new", "3");
    let chain = image(driver, [base, middle, top]);
    let container = Container::of(driver, &chain);
    assert_eq!(container.names(""), set(&["a", "b", "becomes-dir", "becomes-file", "comes-back"]));
    assert_eq!(container.names("a"), set(&["three", "two"]));
    assert_eq!(container.names("b"), set(&["two"]));
    assert_eq!(container.names("becomes-dir"), set(&["y"]));
    assert_eq!(container.read("becomes-file"), "2");
    assert_eq!(container.names("comes-back"), set(&["new"]));
}

fn opaque_root(driver: &dyn Driver) {
    let base = Tar::default().file("old", "1");
    let chain = image(
        driver,
        [base, Tar::default().file(".wh..wh..opq", "").file("new", "2"), Tar::default().file("top", "3")],
    );
    assert_eq!(Container::of(driver, &chain).names(""), set(&["new", "top"]));
}

fn attributes(driver: &dyn Driver) {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = "long-name-".repeat(25);
    let deep = format!("{long}/{long}/{long}");
    let device = |kind, device| Header { kind, device, mode: 0o640, ..Header::default() };
    let mut sparse = b"2\n0\n4096\n104857600\n4096\n".to_vec();
    sparse.resize(512, 0);
    sparse.extend_from_slice(&[7; 8192]);
    let layer = Tar::default()
        .add("setuid", Header { mode: 0o4755, uid: 5, gid: 6, ..Header::default() }, b"x")
        .add("setgid", Header { kind: b'5', mode: 0o3770, gid: 6, ..Header::default() }, b"")
        .pax(&[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.user.note", b"n\0te")])
        .add("capable", Header { mode: 0o755, uid: 5, ..Header::default() }, b"x")
        .pax(&[("SCHILY.acl.access", b"user::rw-,user:lisa:rw-:502,group::r--,mask::rw-,other::---")])
        .file("acl", "x")
        .pax(&[("SCHILY.acl.default", b"user::rwx,user:lisa:rwx:502,group::r-x,mask::rwx,other::---")])
        .dir("acl-dir", 0o755)
        .file("acl-dir/file", "inherits nothing")
        .add("null", device(b'3', (1, 3)), b"")
        .add("disk", device(b'4', (8, 1)), b"")
        .add("fifo", device(b'6', (0, 0)), b"")
        .symlink("link", "/somewhere/else")
        .pax(&[("mtime", b"-1000.5")])
        .file("old", "x")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"104861696"),
        ])
        .add("GNUSparseFile.0/sparse", Header::default(), &sparse)
        .pax(&[("path", format!("{deep}/file").as_bytes())])
        .file("x", "deep");
    let chain = image(driver, [layer]);
    let container = Container::of(driver, &chain);
    let (found, expected) = (snapshot(&container.root, true), snapshot(&driver.diff(chain[0]), true));
    for (path, line) in &expected {
        assert_eq!(found.get(path), Some(line), "{path}");
    }
    assert_eq!(found.len(), expected.len());
    assert!(found["setuid"].starts_with("RegularFile 4755 5:6"), "{}", found["setuid"]);
    assert!(found["capable"].contains("security.capability") && found["capable"].contains("user.note"));
    assert!(found["acl"].contains("system.posix_acl_access") && !found["acl-dir/file"].contains("acl"));
    assert!(found["acl-dir"].contains("system.posix_acl_default"));
    assert!(allocated(&container.root.join("sparse")) < 1 << 20, "the sparse file is full");
    assert_eq!(container.stat("sparse").len(), 104_861_696);
    assert_eq!(container.read(&format!("{deep}/file")), "deep");
}

fn hard_links(driver: &dyn Driver) {
    let layer = Tar::default().file("one", "x").hardlink("two", "one").symlink("s", "one").hardlink("t", "s");
    let container = Container::of(driver, &image(driver, [layer]));
    assert_eq!(container.stat("one").ino(), container.stat("two").ino());
    assert_eq!(container.stat("one").nlink(), 2);
    assert_eq!(std::fs::read_link(container.root.join("t")).unwrap(), Path::new("one"));
}

fn dependencies(driver: &dyn Driver) {
    let base = Tar::default()
        .dir("usr", 0o755)
        .add("usr/lib/", Header { kind: b'5', mode: 0o2750, uid: 3, gid: 4, mtime: 77, ..Header::default() }, b"")
        .file("usr/lib/low", "low")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib");
    let top = Tar::default()
        .file("lib/through-link", "1")
        .file("abs/sub/deeper", "2")
        .whiteout("abs", "low-nothing")
        .hardlink("usr/linked", "usr/lib/low")
        .hardlink("other", "lib/low")
        .whiteout("", "nothing")
        .file("new/sub/file", "3");
    let chain = image(driver, [base, top]);
    let container = Container::of(driver, &chain);
    assert_eq!(container.names(""), set(&["abs", "lib", "new", "other", "usr"]));
    assert!(container.stat("lib").is_symlink() && container.stat("abs").is_symlink());
    assert_eq!(container.names("usr/lib"), set(&["low", "sub", "through-link"]));
    assert_eq!(container.read("usr/lib/sub/deeper"), "2");
    let lib = container.stat("usr/lib");
    assert_eq!((lib.mode() & 0o7777, lib.uid(), lib.gid(), lib.mtime()), (0o2750, 3, 4, 77));
    let inodes = ["usr/lib/low", "usr/linked", "other"].map(|name| container.stat(name).ino());
    assert!(inodes[0] == inodes[1] && inodes[1] == inodes[2], "{inodes:?}");
    assert_eq!(container.read("other"), "low");
    assert_eq!(container.read("new/sub/file"), "3");
    // Nothing that can't be read: a whiteout that hides nothing is listed as a broken entry.
    run("cp", &["-a", container.root.to_str().unwrap(), temporary().path().join("copy").to_str().unwrap()]);
}

fn base() -> Tar {
    let big = vec![3; 200_000];
    Tar::default()
        .dir("d", 0o755)
        .file("d/file", "below")
        .file("gone", "below")
        .add("big", Header::default(), &big)
        .dir("tree", 0o755)
        .dir("tree/sub", 0o755)
        .file("tree/sub/x", "x")
}

/// Everything that a program may do to the files of an image.
fn change_everything(container: &Container<'_>) {
    let at = |path: &str| container.root.join(path);
    let shell = "
        echo above > d/file; echo new > d/new; ln d/new d/linked; rm gone; chmod 600 big; mkdir -p a/b/c; mkfifo a/fifo
        mknod a/null c 1 3; ln -s /nowhere/at/all a/link; rm -r tree; mkdir tree; echo y > tree/y; mkdir tree/sub
        rm was-file; mkdir was-file; echo in > was-file/in; rm -r was-dir; echo now > was-dir
        touch same; chmod 755 same-dir; chmod 700 same-dir; mv moved there; chown 70000:70001 owned
        touch -d 1955-11-05 old; touch -h -d 2300-01-01 a/link; setfattr -n user.note -v hello noted
        mkdir -p dev etc proc; : > etc/hosts; : > etc/hostname; : > dev/console
        truncate -s 3000000 sparse; chmod 4755 setuid; touch -d @1000000 back";
    let shell = format!("set -e; cd {}; {shell}", container.root.display());
    run("sh", &["-c", &shell]);
    let long = "long-name-".repeat(25);
    std::fs::create_dir_all(at(&format!("{long}/{long}"))).unwrap();
    container.write(&format!("{long}/{long}/{long}"), "deep");
    container.write("n\u{e4}me", "not ASCII");
}

fn image_to_change(driver: &dyn Driver) -> Vec<Id> {
    let lower = base()
        .file("was-file", "file")
        .dir("was-dir", 0o755)
        .file("was-dir/x", "x")
        .file("same", "same")
        .dir("same-dir", 0o700)
        .file("moved", "moved")
        .file("owned", "owned")
        .file("old", "old")
        .file("noted", "noted")
        .file("setuid", "#!")
        .file("back", "one");
    let middle = Tar::default().dir("d", 0o755).file("d/middle", "m").dir("tree", 0o755).file("tree/z", "z");
    image(driver, [lower, middle])
}

/// Names only the lines that differ.
fn same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    let differs = |path: &&String| found.get(*path) != expected.get(*path);
    let paths: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let lines = paths.iter().copied().filter(differs).map(|path| (path, found.get(path), expected.get(path)));
    assert_eq!(lines.collect::<Vec<_>>(), []);
}

fn changes_as_layer(driver: &dyn Driver) {
    let chain = image_to_change(driver);
    let container = Container::of(driver, &chain);
    change_everything(&container);
    // The same length and time, and yet another content.
    run("sh", &["-c", &format!("cd {} && printf two > back && touch -d @1000000 back", container.root.display())]);
    let found = changes(driver, container.id, &chain).unwrap();
    let listed: Vec<String> = shown(found.clone())
        .iter()
        .filter(|change| !change.path.to_string_lossy().contains("long-name"))
        .map(|change| format!("{:?} {}", change.kind, change.path.display()))
        .filter(|line| driver.kind() == DriverKind::Vfs || line != "Modified back")
        .collect();
    let mut expected = vec![
        "Added a",
        "Added a/b",
        "Added a/b/c",
        "Added a/fifo",
        "Added a/link",
        "Added a/null",
        "Modified big",
        "Modified d",
        "Modified d/file",
        "Added d/linked",
        "Added d/new",
        "Deleted gone",
        "Deleted moved",
        "Modified noted",
        "Added n\u{e4}me",
        "Modified old",
        "Modified owned",
        "Modified same",
        "Modified setuid",
        "Added sparse",
        "Added there",
        "Modified tree",
        "Modified tree/sub",
        "Deleted tree/sub/x",
        "Added tree/y",
        "Deleted tree/z",
        "Modified was-dir",
        "Modified was-file",
        "Added was-file/in",
    ];
    // Docker's way to look can't tell it either; the copies of vfs are compared byte by byte.
    expected.extend((driver.kind() == DriverKind::Vfs).then_some("Modified back"));
    let listed: BTreeSet<&str> =
        listed.iter().map(String::as_str).filter(|line| *line != "Modified tree/sub").collect();
    let expected: BTreeSet<&str> = expected.into_iter().filter(|line| *line != "Modified tree/sub").collect();
    assert_eq!(listed, expected);
    assert!(found.iter().all(|change| change.kind != ChangeKind::Deleted || change.differs));

    let mut archive = Vec::new();
    let root = orlop_sys::path::open_directory(&driver.diff(container.id)).unwrap();
    assert_eq!(pack_changes(&root, &found, &mut archive).unwrap(), Vec::<PathBuf>::new());
    let id = Id::random();
    let diff = create_image_layer(driver, id).unwrap();
    let unpacked = unpack_into(&archive, &diff).unwrap();
    let parents: Vec<PathBuf> = chain.iter().map(|&id| driver.diff(id)).collect();
    settle(&diff, &unpacked.dependencies, &parents).unwrap();
    let committed = Container::of(driver, &[&[id], &chain[..]].concat());
    let (before, mut after) = (snapshot(&container.root, false), snapshot(&committed.root, false));
    for own in ["dev", "dev/console", "etc", "etc/hosts", "etc/hostname", "proc"] {
        assert!(!after.contains_key(own), "{own} is no change of the user's");
        after.insert(own.to_owned(), before[own].clone());
    }
    same(&after, &before);
}

fn tree_as_archive(driver: &dyn Driver) {
    let container = Container::of(driver, &image_to_change(driver));
    change_everything(&container);
    // Times that are set too early would show.
    run("find", &[container.root.to_str().unwrap(), "-type", "d", "-exec", "touch", "-d", "@1000000", "{}", "+"]);
    let socket = std::os::unix::net::UnixListener::bind(container.root.join("socket")).unwrap();
    let mut archive = Vec::new();
    let root = orlop_sys::path::open_directory(&container.root).unwrap();
    assert_eq!(pack_tree(&root, &mut archive).unwrap(), Vec::<PathBuf>::new());
    drop(socket);
    std::fs::remove_file(container.root.join("socket")).unwrap();
    let target = temporary();
    unpack_into(&archive, target.path()).unwrap();
    same(&snapshot(target.path(), false), &snapshot(&container.root, false));
    // Other tools read it as well.
    let (file, other) = (temporary(), temporary());
    let path = file.path().join("a.tar");
    std::fs::write(&path, &archive).unwrap();
    let into = other.path().to_str().unwrap();
    run("tar", &["--xattrs", "--xattrs-include=*", "-xpf", path.to_str().unwrap(), "-C", into]);
    same(&snapshot(other.path(), false), &snapshot(&container.root, false));
}

fn copy_up(driver: &dyn Driver) {
    let chain = image(driver, [base()]);
    let before = snapshot(&driver.diff(chain[0]), true);
    let container = Container::of(driver, &chain);
    container.write("d/file", "above");
    container.write("d/new", "above");
    std::fs::remove_file(container.root.join("gone")).unwrap();
    std::fs::set_permissions(container.root.join("big"), std::fs::Permissions::from_mode(0o600)).unwrap();
    run("chown", &["1:2", container.root.join("big").to_str().unwrap()]);
    assert_eq!(container.read("d/file"), "above");
    assert_eq!(snapshot(&driver.diff(chain[0]), true), before);
    // The upper directory alone holds the whole file, whatever was changed about it.
    let big = std::fs::read(driver.diff(container.id).join("big")).unwrap();
    assert_eq!(big, vec![3; 200_000]);
    assert!(usage(&driver.diff(container.id)).unwrap().size >= 200_000);
}

fn persistence(driver: &dyn Driver) {
    let container = Container::of(driver, &image(driver, [base()]));
    container.write("d/file", "above");
    std::fs::remove_file(container.root.join("gone")).unwrap();
    let before = snapshot(&container.root, true);
    assert_eq!(driver.mount(container.id).unwrap(), container.root);
    driver.unmount(container.id).unwrap();
    driver.unmount(container.id).unwrap();
    assert!(!driver.is_mounted(container.id).unwrap());
    assert_eq!(driver.mount(container.id).unwrap(), container.root);
    assert_eq!(snapshot(&container.root, true), before);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let count = mounts.lines().filter(|line| line.contains(&container.id.hex()) && line.contains("overlay")).count();
    assert_eq!(count, usize::from(driver.kind() == DriverKind::Overlay2));
    // Prepared again after a crash, it keeps what was written.
    driver.prepare(container.id, &read_chain(driver, container.id)).unwrap();
    assert_eq!(container.read("d/file"), "above");
}

fn read_chain(driver: &dyn Driver, id: Id) -> Vec<Id> {
    let text = std::fs::read_to_string(driver.directory(id).join("lower")).unwrap();
    text.split(':').map(|id| id.parse().unwrap()).collect()
}

fn isolation(driver: &dyn Driver) {
    let chain = image(driver, [base()]);
    let (one, two) = (Container::of(driver, &chain), Container::of(driver, &chain));
    one.write("d/file", "one");
    one.write("only", "one");
    assert_eq!(two.read("d/file"), "below");
    assert!(!two.root.join("only").exists());
}

fn directories(driver: &dyn Driver) {
    let container = Container::of(driver, &image(driver, [base()]));
    // Docker's overlay2 answers EXDEV too, and mv(1) copies then.
    run("mv", &[container.root.join("tree").to_str().unwrap(), container.root.join("moved").to_str().unwrap()]);
    assert_eq!(container.read("moved/sub/x"), "x");
    std::fs::remove_dir_all(container.root.join("d")).unwrap();
    std::fs::create_dir(container.root.join("d")).unwrap();
    assert_eq!(container.names("d"), set(&[]));
    driver.unmount(container.id).unwrap();
    driver.mount(container.id).unwrap();
    assert_eq!(container.names("d"), set(&[]));
    assert_eq!(container.read("moved/sub/x"), "x");
}

fn stack(driver: &dyn Driver, count: usize) -> Vec<Id> {
    let layer = |number: usize| {
        let tar = Tar::default().file(&format!("own-{number}"), "x").file("last", &number.to_string());
        if number > 0 { tar.whiteout("", &format!("own-{}", number - 1)) } else { tar }
    };
    image(driver, (0..count).map(layer))
}

fn many_layers(driver: &dyn Driver) {
    let container = Container::of(driver, &stack(driver, 128));
    assert_eq!(container.read("last"), "127");
    assert_eq!(container.names(""), set(&["last", "own-127"]));
    container.write("last", "above");
    assert_eq!(container.read("last"), "above");
}

fn removal(driver: &dyn Driver) {
    let chain = image(driver, [base()]);
    let before = snapshot(&driver.diff(chain[0]), true);
    let container = Container::of(driver, &chain);
    container.write("new", "x");
    // Renamed into the trash after a release.
    let released = driver.release(container.id).unwrap();
    let trash = driver.home().join("trash");
    std::fs::rename(&released, &trash).unwrap();
    assert_eq!(std::fs::read_to_string(trash.join("diff/new")).unwrap(), "x");
    driver.remove(container.id).unwrap();
    let other = Container::of(driver, &chain);
    // Still mounted, and a file of it open.
    let open = std::fs::File::open(other.root.join("big")).unwrap();
    driver.remove(other.id).unwrap();
    assert!(!driver.directory(other.id).exists());
    drop(open);
    assert_eq!(snapshot(&driver.diff(chain[0]), true), before);
    driver.remove(chain[0]).unwrap();
    assert!(!driver.directory(chain[0]).exists());
    driver.remove(chain[0]).unwrap();
}

fn transient(driver: &dyn Driver) {
    let id = Id::random();
    driver.prepare(id, &image(driver, [base()])).unwrap();
    let root = driver.mount_transient(id).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("d/file")).unwrap(), "below");
    std::fs::write(root.join("d/file"), "above").unwrap();
    assert_eq!(std::fs::read_to_string(driver.diff(id).join("d/file")).unwrap(), "above");
    assert_eq!(driver.mount_transient(id).unwrap(), root, "it is mounted once");
    driver.remove(id).unwrap();
    assert!(!driver.directory(id).exists());
}

fn missing(driver: &dyn Driver) {
    let (id, lower) = (Id::random(), Id::random());
    assert_eq!(driver.prepare(id, &[lower]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(driver.mount(Id::random()).unwrap_err().kind(), ErrorKind::NotFound);
    driver.unmount(Id::random()).unwrap();
    driver.remove(Id::random()).unwrap();
}

fn inspect(driver: &dyn Driver) {
    let chain = image(driver, [base(), Tar::default().file("x", "x")]);
    let container = Container::of(driver, &chain);
    let data = driver.data(container.id).unwrap();
    let names: Vec<_> = data.iter().map(|(name, _)| *name).collect();
    match driver.kind() {
        DriverKind::Overlay2 => {
            assert_eq!(names, ["LowerDir", "MergedDir", "UpperDir", "WorkDir"]);
            assert_eq!(data[0].1, format!("{}:{}", driver.diff(chain[0]).display(), driver.diff(chain[1]).display()));
            assert_eq!(Path::new(&data[1].1), container.root);
        }
        DriverKind::Vfs => assert_eq!(names, ["Dir"]),
    }
    assert!(!driver.image_data(&chain).is_empty());
}

#[test]
fn overlay2_takes_500_layers_and_says_no_to_more() {
    for force_mount2 in [false, true] {
        let root = temporary();
        let driver = Overlay2::open(root.path(), force_mount2).unwrap();
        let mut chain = stack(&driver, 500);
        let container = Container::of(&driver, &chain);
        assert_eq!(container.names(""), set(&["last", "own-499"]));
        chain.extend(image(&driver, [Tar::default().file("x", "")]));
        let error = driver.prepare(Id::random(), &chain).unwrap_err();
        assert_eq!(error.to_string(), "501 layers are too many: overlay2 mounts at most 500");
    }
}

#[test]
fn a_data_root_with_a_long_or_odd_path() {
    for name in ["a,b:c\\d e", &"long-".repeat(40)] {
        let base = temporary();
        let root = base.path().join(name);
        std::fs::create_dir(&root).unwrap();
        for force_mount2 in [false, true] {
            let driver = Overlay2::open(&root, force_mount2).unwrap();
            let container = Container::of(&driver, &stack(&driver, 3));
            assert_eq!(container.read("last"), "2");
            assert!(driver.is_mounted(container.id).unwrap(), "{name}");
        }
    }
}

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_layer_that_another_namespace_has_mounted_is_not_mounted_twice() {
    let root = temporary();
    let driver = Overlay2::open(root.path(), false).unwrap();
    let container = Container::of(&driver, &stack(&driver, 2));
    // As a container has it: not where we mounted it.
    let place = root.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let script = format!("mount --bind {} {} && exec sleep 60", container.root.display(), place.display());
    let spawn = |script: &str| {
        let arguments = ["-m", "--propagation", "private", "sh", "-c", script];
        Sleeper(Command::new("unshare").args(arguments).spawn().unwrap())
    };
    let sees = |sleeper: &Sleeper, path: &Path| {
        let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let pid = sleeper.0.id();
        std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|namespace| namespace != own)
            && std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                .is_ok_and(|text| text.contains(path.to_str().unwrap()))
    };
    let copy = spawn("exec sleep 60");
    let sleeper = spawn(&script);
    for (process, path) in [(&copy, &container.root), (&sleeper, &place)] {
        while !sees(process, path) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    driver.unmount(container.id).unwrap();
    for _ in 0..2 {
        assert!(matches!(driver.mount(container.id), Err(Error::MountedElsewhere { .. })));
        assert!(matches!(driver.release(container.id), Err(Error::MountedElsewhere { .. })));
    }
    drop(sleeper);
    driver.mount(container.id).unwrap();
}

#[test]
fn many_processes_mount_one_layer_once() {
    let root = temporary();
    let driver = Overlay2::open(root.path(), false).unwrap();
    let container = Container::of(&driver, &stack(&driver, 2));
    driver.unmount(container.id).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| driver.mount(container.id).unwrap());
        }
    });
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mounts.lines().filter(|line| line.contains(&container.id.hex())).count(), 1);
}

struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_writes_but_no_removal() {
    let base = temporary();
    run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", base.path().to_str().unwrap()]);
    let _tmpfs = Tmpfs(base.path().to_owned());
    for kind in [DriverKind::Overlay2, DriverKind::Vfs] {
        let driver: Box<dyn Driver> = match kind {
            DriverKind::Overlay2 => Box::new(Overlay2::open(base.path(), false).unwrap()),
            DriverKind::Vfs => Box::new(Vfs::open(base.path()).unwrap()),
        };
        let chain = image(&*driver, [Tar::default().dir("d", 0o755).file("d/f", "x")]);
        let container = Container::of(&*driver, &chain);
        let full = std::fs::write(container.root.join("fill"), vec![1; 8 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let id = Id::random();
        let diff = create_image_layer(&*driver, id);
        let error = diff.and_then(|diff| unpack_into(&Tar::default().file("x", &"y".repeat(1 << 16)).end(), &diff));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NoSpace);
        driver.remove(id).unwrap();
        driver.unmount(container.id).unwrap();
        driver.remove(container.id).unwrap();
        assert!(!driver.directory(container.id).exists());
        driver.remove(chain[0]).unwrap();
    }
}

#[test]
fn the_best_driver_is_chosen_and_kept() {
    let base = temporary();
    assert_eq!(orlop_layers::driver::open(base.path(), None).unwrap().kind(), DriverKind::Overlay2);
    let other = temporary();
    assert_eq!(orlop_layers::driver::open(other.path(), Some(DriverKind::Vfs)).unwrap().kind(), DriverKind::Vfs);
    assert_eq!(orlop_layers::driver::open(other.path(), None).unwrap().kind(), DriverKind::Vfs);
    // An overlay's upper directory can't be one of another overlay.
    let below = Overlay2::open(base.path(), false).unwrap();
    let container = Container::of(&below, &[]);
    let inside = container.root.join("root");
    std::fs::create_dir(&inside).unwrap();
    assert!(matches!(Overlay2::open(&inside, false), Err(Error::DriverUnusable { .. })));
    assert_eq!(orlop_layers::driver::open(&inside, None).unwrap().kind(), DriverKind::Vfs);
    assert!(!inside.join("overlay2").exists());
}
