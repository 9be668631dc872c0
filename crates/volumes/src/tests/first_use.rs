use super::*;
use orlop_model::{ErrorKind, Kind};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

#[test]
fn an_empty_volume_gets_the_images_content_once() {
    let (world, content) = (World::new(), make_content());
    world.create("data");
    assert!(matches!(world.initialise("data", content.path()), Ok(FirstUse::Copied(stats)) if stats.files == 40));
    assert!(is_whole(&world.data("data")));
    let stat = world.data("data").metadata().unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (70, 71, 0o750));
    std::fs::remove_file(world.data("data").join("a/file-1")).unwrap();
    assert_eq!(world.initialise("data", content.path()).unwrap(), FirstUse::Nothing);
    assert!(!world.data("data").join("a/file-1").exists());
    world.check();
}

#[test]
fn nocopy_an_empty_directory_and_nothing_at_all() {
    let (world, content, empty) = (World::new(), make_content(), tempfile::tempdir_in("/var/tmp").unwrap());
    std::os::unix::fs::chown(empty.path(), Some(5), Some(6)).unwrap();
    world.create("data");
    let mounted = mount(&world.state, &name("data"), Id::random()).unwrap();
    let owner = |mounted: &Mounted| {
        let stat = mounted.path.metadata().unwrap();
        (stat.uid(), stat.gid())
    };
    let whole = orlop_sys::path::open_directory(content.path()).unwrap();
    let options = FirstUseOptions { no_copy: true, owner: Some((1, 1)), ..first_use_options(&whole) };
    assert_eq!(initialise(&world.state, &mounted, options).unwrap(), FirstUse::Nothing);
    assert_eq!(owner(&mounted), (0, 0));
    let nothing = FirstUseOptions { content: None, owner: Some((999, 998)), ..options };
    assert_eq!(initialise(&world.state, &mounted, nothing).unwrap(), FirstUse::Nothing);
    assert_eq!(owner(&mounted), (999, 998));
    let empty = orlop_sys::path::open_directory(empty.path()).unwrap();
    assert_eq!(initialise(&world.state, &mounted, first_use_options(&empty)).unwrap(), FirstUse::Root);
    assert_eq!(owner(&mounted), (5, 6));
    let file = std::fs::File::open(content.path().join("a/file-1")).unwrap();
    let error = initialise(&world.state, &mounted, first_use_options(&file)).unwrap_err();
    assert!(matches!(error, Error::NotADirectory { .. }), "{error}");
    drop(mounted);
    world.check();
}

#[test]
fn a_mounted_volume_is_filled_in_place() {
    let (world, content) = (World::new(), make_content());
    let device = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = device.path().to_str().unwrap();
    world.create_with("bound", &[("type", "none"), ("o", "bind"), ("device", path)]).unwrap();
    match world.initialise("bound", content.path()) {
        Ok(FirstUse::Copied(_)) => assert!(is_whole(device.path())),
        Err(error) => say(&format!("skipped: {error}")),
        other => panic!("{other:?}"),
    }

    // A plain one that a container has mounted keeps its directory.
    world.create("plain");
    let inode = world.data("plain").metadata().unwrap().ino();
    let elsewhere = tempfile::tempdir_in(world.path()).unwrap();
    if rustix::mount::mount_bind(world.data("plain"), elsewhere.path()).is_err() {
        return say("skipped: can't bind here");
    }
    world.initialise("plain", content.path()).unwrap();
    assert!(is_whole(elsewhere.path()));
    assert_eq!(world.data("plain").metadata().unwrap().ino(), inode);
    rustix::mount::unmount(elsewhere.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    world.check();
}

#[test]
fn a_directory_of_the_host_keeps_its_owner() {
    let (world, content, bare) = (World::new(), make_content(), tempfile::tempdir_in("/var/tmp").unwrap());
    std::os::unix::fs::chown(bare.path(), Some(70), Some(71)).unwrap();
    let device = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = device.path().to_str().unwrap();
    world.create_with("bound", &[("type", "none"), ("o", "bind"), ("device", path)]).unwrap();
    let user = world.container("bound", true);
    let mounted = match mount(&world.state, &name("bound"), user) {
        Err(error) => return say(&format!("skipped: {error}")),
        Ok(mounted) => mounted,
    };
    let owner = || {
        let stat = device.path().metadata().unwrap();
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    let before = owner();
    let opened = |path: &Path| orlop_sys::path::open_directory(path).unwrap();
    let (bare, content) = (opened(bare.path()), opened(content.path()));
    let nothing = FirstUseOptions { content: None, target: "/data", no_copy: false, owner: Some((999, 999)) };
    for options in [nothing, FirstUseOptions { owner: Some((999, 999)), ..first_use_options(&bare) }] {
        assert_eq!(initialise(&world.state, &mounted, options).unwrap(), FirstUse::Nothing);
        assert_eq!(owner(), before);
    }
    let filled = initialise(&world.state, &mounted, first_use_options(&content)).unwrap();
    assert!(matches!(filled, FirstUse::Copied(_)) && is_whole(device.path()));
    assert_eq!(owner(), before);
    drop(mounted);
    unmount(&world.state, &name("bound"), user).unwrap();
    world.check();
}

#[test]
fn memory_gets_the_images_root() {
    let (world, content) = (World::new(), make_content());
    world.create_with("memory", &[("type", "tmpfs"), ("device", "tmpfs")]).unwrap();
    let user = world.container("memory", true);
    let mounted = match mount(&world.state, &name("memory"), user) {
        Err(error) => return say(&format!("skipped: {error}")),
        Ok(mounted) => mounted,
    };
    let opened = orlop_sys::path::open_directory(content.path()).unwrap();
    initialise(&world.state, &mounted, first_use_options(&opened)).unwrap();
    let (stat, expected) = (mounted.path.metadata().unwrap(), content.path().metadata().unwrap());
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (70, 71, 0o750));
    assert_eq!(stat.modified().unwrap(), expected.modified().unwrap());
    assert_eq!(names(&mounted.path), ["a"]);
    drop(mounted);
    unmount(&world.state, &name("memory"), user).unwrap();
    world.check();
}

#[test]
fn what_does_not_fit_in_memory_leaves_it_as_it_was() {
    let (world, content) = (World::new(), make_content());
    std::fs::write(content.path().join("large"), vec![1; 2 << 20]).unwrap();
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=3,mode=0711")];
    world.create_with("memory", &options).unwrap();
    let user = world.container("memory", true);
    let mounted = match mount(&world.state, &name("memory"), user) {
        Err(error) => return say(&format!("skipped: {error}")),
        Ok(mounted) => mounted,
    };
    let opened = orlop_sys::path::open_directory(content.path()).unwrap();
    let error = initialise(&world.state, &mounted, first_use_options(&opened)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(names(&mounted.path).is_empty());
    let stat = mounted.path.metadata().unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (3, 0o711));
    std::fs::remove_file(content.path().join("large")).unwrap();
    assert!(matches!(initialise(&world.state, &mounted, first_use_options(&opened)), Ok(FirstUse::Copied(_))));
    drop(mounted);
    unmount(&world.state, &name("memory"), user).unwrap();
    world.check();
}

/// A small ext4 in a file, unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn new(megabytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let (file, at) = (directory.path().join("disk"), directory.path().join("mnt"));
        std::fs::File::create(&file).unwrap().set_len(megabytes << 20).unwrap();
        std::fs::create_dir(&at).unwrap();
        let disk = Self { directory };
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&file).status();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&at).status();
        (made.is_ok_and(|status| status.success()) && mounted.is_ok_and(|status| status.success())).then_some(disk)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// Writes until nothing more fits.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        let _ = file.sync_all();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_the_volume_empty_and_removal_works() {
    let Some(disk) = SmallDisk::new(24) else { return say("skipped: can't make and mount an ext4 in a file") };
    let root = disk.path().join("data");
    std::fs::create_dir(&root).unwrap();
    let state = State::open(&root).unwrap();
    let content = make_content();
    std::fs::write(content.path().join("large"), vec![1; 12 << 20]).unwrap();
    create(&state, request("small", &[])).unwrap();
    create(&state, request("other", &[])).unwrap();
    let data = root.join("volumes/small/_data");
    std::fs::write(disk.path().join("half"), vec![0; 8 << 20]).unwrap();
    let error = initialise_from(&state, "small", content.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(names(&data).is_empty());
    assert_eq!(names(&root.join("volumes/small")), ["_data", "volume.json"]);

    let filler = disk.fill();
    let error = create(&state, request("new", &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(names(&root.join("volumes")), ["other", "small"]);
    assert!(state.read(|tx| tx.volumes().get("new")).unwrap().is_none());
    recover(&state).unwrap();
    let removal = remove(&state, &name("other"), RemoveVolume { force: false, now: false });
    assert!(matches!(removal, Ok(Removal::Trashed(_))), "{removal:?}");
    assert_eq!(trash::empty(&state, |_| true).unwrap().0.len(), 1);
    std::fs::remove_file(filler).unwrap();
    std::fs::remove_file(disk.path().join("half")).unwrap();
    assert!(matches!(initialise_from(&state, "small", content.path()), Ok(FirstUse::Copied(_))));
    assert!(is_whole(&data));
    drop(state);
}
