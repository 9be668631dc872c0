use super::*;
use crate::copy::{remove_tree, tree_usage};
use rustix::fs::{CWD, XattrFlags};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

const ALL: CopyOptions = CopyOptions {
    root_metadata: true,
    cross_mounts: false,
    vanished: Vanished::Fail,
    unsupported_xattrs: UnsupportedXattrs::Fail,
};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

fn open(path: &Path) -> OwnedFd {
    crate::path::open_directory(path).unwrap()
}

fn copy(from: &Path, to: &Path, options: CopyOptions) -> Result<CopyStats, Error> {
    copy_tree(open(from), open(to), options)
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let size = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(size);
    Some(value)
}

fn node(path: &Path, file_type: FileType, device: u64) {
    rustix::fs::mknodat(CWD, path, file_type, Mode::from_raw_mode(0o600), device).unwrap();
}

/// One of everything.
fn make_everything(root: &Path) {
    std::fs::create_dir_all(root.join("dir/sub")).unwrap();
    std::fs::write(root.join("dir/file"), vec![7; 100_000]).unwrap();
    std::fs::write(root.join("dir/empty"), b"").unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("dir/sub/link")).unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("dir/link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    node(&root.join("fifo"), FileType::Fifo, 0);
    node(&root.join("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node(&root.join("socket"), FileType::Socket, 0);
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[1; 4096], 8 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::fs::write(root.join("setuid"), b"x").unwrap();
    std::os::unix::fs::chown(root.join("setuid"), Some(1000), Some(2000)).unwrap();
    std::fs::set_permissions(root.join("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
    // cap_net_raw+ep, revision 2.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&root.join("setuid"), "security.capability", &capability);
    set_xattr(&root.join("dir"), "user.note", &[9; 300]);
    set_xattr(&root.join("dir"), "trusted.overlay.opaque", b"y");
    set_xattr(&root.join("dangling"), "trusted.link", b"of the link itself");
    // user::rw- user:1000:r-- group::--- mask::r-- other::---
    let mut acl = vec![2, 0, 0, 0];
    for (tag, rights, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    set_xattr(&root.join("dir/empty"), "system.posix_acl_access", &acl);
    set_xattr(&root.join("dir/sub"), "system.posix_acl_default", &acl);
    std::fs::set_permissions(root.join("dir/sub"), PermissionsExt::from_mode(0o3711)).unwrap();
    std::fs::set_permissions(root.join("fifo"), PermissionsExt::from_mode(0o642)).unwrap();
    rustix::fs::chownat(
        CWD,
        root.join("dangling"),
        Some(Uid::from_raw(5)),
        Some(Gid::from_raw(6)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    std::os::unix::fs::chown(root, Some(70), Some(71)).unwrap();
    std::fs::set_permissions(root, PermissionsExt::from_mode(0o1750)).unwrap();
    for (index, name) in ["dir/file", "dangling", "fifo", "dir/sub", "dir", "sparse", "."].iter().enumerate() {
        let time = rustix::fs::Timespec { tv_sec: -1_000 + index as i64, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn everything_arrives_as_it_was() {
    let (from, to) = (directory(), directory());
    let (from, to) = (from.path(), to.path());
    make_everything(from);
    check_everything(from, to);
}

/// As the engine copies out of a container's root file system, whose layers lie below an overlay.
#[test]
fn everything_arrives_from_an_overlay() {
    let (place, to) = (directory(), directory());
    let path = |name: &str| place.path().join(name);
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    make_everything(&path("lower"));
    rustix::fs::lremovexattr(path("lower/dir"), "trusted.overlay.opaque").unwrap();
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        path("lower").display(),
        path("upper").display(),
        path("work").display()
    );
    let data = std::ffi::CString::new(data).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("overlay", path("merged"), "overlay", flags, data.as_c_str()) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: can't mount an overlay: {error}");
        return;
    }
    let _mounted = Mounted(path("merged"));
    check_everything(&path("merged"), to.path());
}

fn check_everything(from: &Path, to: &Path) {
    let stats = copy(from, to, ALL).unwrap();
    assert_eq!((stats.directories, stats.files, stats.hardlinks, stats.others), (2, 4, 2, 4), "{stats:?}");
    for name in [
        ".",
        "dir",
        "dir/sub",
        "dir/file",
        "dir/empty",
        "dir/link",
        "dir/sub/link",
        "dangling",
        "fifo",
        "null",
        "socket",
        "sparse",
        "setuid",
    ] {
        let (old, new) = (from.join(name).symlink_metadata().unwrap(), to.join(name).symlink_metadata().unwrap());
        assert_eq!((old.uid(), old.gid(), old.mode()), (new.uid(), new.gid(), new.mode()), "{name}");
        assert_eq!((old.mtime(), old.mtime_nsec()), (new.mtime(), new.mtime_nsec()), "{name}");
        assert_eq!((old.rdev(), old.file_type()), (new.rdev(), new.file_type()), "{name}");
        if old.is_file() {
            assert_eq!((old.len(), old.nlink()), (new.len(), new.nlink()), "{name}");
            assert!(std::fs::read(from.join(name)).unwrap() == std::fs::read(to.join(name)).unwrap(), "{name}");
        }
        for attribute in
            ["security.capability", "user.note", "trusted.link", "system.posix_acl_access", "system.posix_acl_default"]
        {
            assert_eq!(xattr(&from.join(name), attribute), xattr(&to.join(name), attribute), "{name} {attribute}");
        }
    }
    assert_eq!(xattr(&to.join("dir"), "trusted.overlay.opaque"), None);
    assert_eq!(std::fs::read_link(to.join("dangling")).unwrap(), Path::new("/nowhere/at/all"));
    assert!(to.join("socket").symlink_metadata().unwrap().file_type().is_socket());
    let inode = |name: &str| to.join(name).metadata().unwrap().ino();
    assert!(inode("dir/file") == inode("dir/link") && inode("dir/file") == inode("dir/sub/link"));
    assert!(to.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20, "the holes were filled");
    assert_eq!(tree_usage(open(from)).unwrap().apparent, tree_usage(open(to)).unwrap().apparent);
}

#[test]
fn rights_that_the_target_hands_down_do_not_stick() {
    let (from, to) = (directory(), directory());
    make_everything(from.path());
    let acl = xattr(&from.path().join("dir/sub"), "system.posix_acl_default").unwrap();
    set_xattr(to.path(), "system.posix_acl_default", &acl);
    copy(from.path(), to.path(), CopyOptions { root_metadata: false, ..ALL }).unwrap();
    for name in ["dir", "dir/file", "fifo", "setuid"] {
        assert_eq!(xattr(&to.path().join(name), "system.posix_acl_access"), None, "{name}");
    }
    assert_eq!(xattr(&to.path().join("dir"), "system.posix_acl_default"), None);
    assert!(xattr(&to.path().join("dir/sub"), "system.posix_acl_default").is_some());
}

#[test]
fn an_existing_name_is_never_replaced_nor_followed() {
    for kind in ["file", "dir", "link"] {
        let (from, to, elsewhere) = (directory(), directory(), directory());
        match kind {
            "dir" => std::fs::create_dir(from.path().join("name")).unwrap(),
            _ => std::fs::write(from.path().join("name"), b"new").unwrap(),
        }
        match kind {
            "link" => symlink(elsewhere.path().join("made"), to.path().join("name")).unwrap(),
            _ => std::fs::write(to.path().join("name"), b"old").unwrap(),
        }
        let error = copy(from.path(), to.path(), ALL).unwrap_err();
        assert!(error.is(Errno::EXIST), "{error}");
        assert!(error.to_string().contains(to.path().join("name").to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn mount_tmpfs(at: &Path) -> Option<Mounted> {
    let flags = rustix::mount::MountFlags::empty();
    match rustix::mount::mount("tmpfs", at, "tmpfs", flags, c"size=1m") {
        Ok(()) => Some(Mounted(at.to_owned())),
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped: can't mount a tmpfs: {error}");
            None
        }
    }
}

#[test]
fn other_mounts_are_neither_copied_nor_counted_nor_deleted() {
    let (from, to) = (directory(), directory());
    let tree = from.path().join("tree");
    std::fs::create_dir_all(tree.join("a/mounted")).unwrap();
    let Some(mounted) = mount_tmpfs(&tree.join("a/mounted")) else { return };
    std::fs::write(tree.join("a/mounted/file"), b"not ours").unwrap();
    let stats = copy(&tree, to.path(), ALL).unwrap();
    assert_eq!((stats.mount_points, stats.files), (1, 0));
    assert_eq!(std::fs::read_dir(to.path().join("a/mounted")).unwrap().count(), 0);
    assert_eq!(tree_usage(open(&tree)).unwrap().files, 0);
    let error = remove_tree(&tree).unwrap_err();
    assert!(error.to_string().contains("a/mounted"), "{error}");
    assert_eq!(std::fs::read(tree.join("a/mounted/file")).unwrap(), b"not ours");
    drop(mounted);
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
    remove_tree(&tree).unwrap();
}

#[test]
fn deep_and_wide_trees_are_copied_and_deleted_with_few_open_files() {
    let (from, to) = (directory(), directory());
    // Deeper than PATH_MAX allows in one call, two directories a level.
    let mut current = open(from.path());
    for _ in 0..700 {
        rustix::fs::mkdirat(&current, "sibling-directory", Mode::RWXU).unwrap();
        rustix::fs::mkdirat(&current, "nested-directory", Mode::RWXU).unwrap();
        current = rustix::fs::openat(&current, "nested-directory", OFlags::PATH, Mode::empty()).unwrap();
    }
    for index in 0..1500 {
        std::fs::create_dir_all(from.path().join(format!("wide/{index}/x"))).unwrap();
        std::fs::write(from.path().join(format!("wide/{index}/file")), b"content").unwrap();
    }
    let stats = copy(from.path(), to.path(), ALL).unwrap();
    assert_eq!((stats.directories, stats.files), (1400 + 1 + 3000, 1500));
    let usage = tree_usage(open(to.path())).unwrap();
    assert_eq!((usage.directories, usage.files, usage.apparent), (4401, 1500, 1500 * 7));
    for root in [from.path(), to.path()] {
        super::super::remove_content(open(root)).unwrap();
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
    }
}

#[test]
fn usage_agrees_with_du() {
    let root = directory();
    make_everything(root.path());
    let usage = tree_usage(open(root.path())).unwrap();
    let du = Command::new("du").args(["-s", "-B1"]).arg(root.path()).output().unwrap();
    let du = String::from_utf8(du.stdout).unwrap();
    assert_eq!(usage.allocated.to_string(), du.split_whitespace().next().unwrap());
}

#[test]
fn a_directory_nested_without_end_is_measured_and_deleted() {
    let root = directory();
    let mut current = open(root.path());
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&current, "nested", Mode::RWXU).unwrap();
        current = rustix::fs::openat(&current, "nested", OFlags::PATH, Mode::empty()).unwrap();
    }
    assert_eq!(tree_usage(open(root.path())).unwrap().directories, 3_000);
    remove_tree(&root.path().join("nested")).unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

/// A tree that changes all the time: every copy succeeds, and nothing outside of it is ever read or deleted.
#[test]
fn symlinks_that_appear_meanwhile_lead_nowhere() {
    let (from, outside) = (directory(), directory());
    std::fs::create_dir(outside.path().join("sub")).unwrap();
    std::fs::write(outside.path().join("sub/secret"), b"secret").unwrap();
    let (real, link) = (from.path().join("d"), from.path().join("l"));
    std::fs::create_dir_all(real.join("sub")).unwrap();
    std::fs::write(real.join("sub/secret"), b"own").unwrap();
    symlink(outside.path(), &link).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, &real, CWD, &link, flags).unwrap();
            }
        });
        let options = CopyOptions { vanished: Vanished::Skip, ..ALL };
        for _ in 0..300 {
            let to = directory();
            if copy(from.path(), to.path(), options).is_ok() {
                for name in ["d/sub/secret", "l/sub/secret"] {
                    let path = to.path().join(name);
                    let parent = path.parent().unwrap().parent().unwrap();
                    if parent.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) && path.exists() {
                        assert_eq!(std::fs::read(&path).unwrap(), b"own");
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    super::super::remove_content(open(from.path())).unwrap();
    assert_eq!(std::fs::read(outside.path().join("sub/secret")).unwrap(), b"secret");
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let (from, place) = (directory(), directory());
    std::fs::write(from.path().join("large"), vec![1; 2 << 20]).unwrap();
    let Some(_mounted) = mount_tmpfs(place.path()) else { return };
    let error = copy(from.path(), place.path(), ALL).unwrap_err();
    assert!(error.is(Errno::NOSPC), "{error}");
    assert_eq!(orlop_model::Kind::kind(&error), orlop_model::ErrorKind::NoSpace);
    super::super::remove_content(open(place.path())).unwrap();
}

/// `cargo test --release -p orlop-sys -- --ignored --nocapture many_small_files`
#[test]
#[ignore = "a measurement"]
fn many_small_files() {
    use std::io::Write;
    let from = directory();
    for index in 0..20_000 {
        let parent = from.path().join(format!("{}", index % 200));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("file-{index}")), vec![b'x'; 500 + index % 4000]).unwrap();
    }
    for _ in 0..3 {
        let (to, other) = (directory(), directory());
        let start = std::time::Instant::now();
        copy(from.path(), to.path(), ALL).unwrap();
        let ours = start.elapsed();
        let start = std::time::Instant::now();
        Command::new("cp").args(["-a", "--"]).arg(from.path()).arg(other.path().join("x")).status().unwrap();
        let cp = start.elapsed();
        let start = std::time::Instant::now();
        tree_usage(open(to.path())).unwrap();
        let usage = start.elapsed();
        let start = std::time::Instant::now();
        super::super::remove_content(open(to.path())).unwrap();
        let remove = start.elapsed();
        let start = std::time::Instant::now();
        Command::new("rm").arg("-rf").arg(other.path().join("x")).status().unwrap();
        let rm = start.elapsed();
        let _ =
            writeln!(std::io::stderr(), "copy {ours:?} cp -a {cp:?} usage {usage:?} remove {remove:?} rm -rf {rm:?}");
    }
}
