use super::*;
use std::os::unix::fs::MetadataExt;

#[test]
fn options_that_can_not_be_used_are_refused_by_name() {
    let world = World::new();
    for (options, words) in [
        (&[("x", "y")][..], "invalid option key: \"x\""),
        (&[("type", "tmpfs")], "missing required option: \"device\""),
        (&[("device", "/srv")], "missing required option: \"type\""),
        (&[("size", "10m")], "option size=10m"),
        (&[("type", "nfs"), ("o", "rw"), ("device", ":/x")], "type=nfs"),
        (&[("type", "nfs"), ("o", "addr=10.0.0.1,nfsvers=4"), ("device", ":/x")], "type=nfs"),
        (&[("type", "cifs"), ("o", "username=u"), ("device", "//host/share")], "type=cifs"),
        (&[("type", "ext4"), ("device", "/dev/sdb1")], "type=ext4"),
        (&[("type", "none"), ("device", "/srv")], "also give o=bind"),
        (&[("type", "none"), ("o", "bind"), ("device", "srv")], "device=srv"),
        (&[("type", "none"), ("o", "bind,frob"), ("device", "/srv")], "\"frob\""),
        (&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=lots")], "\"size=lots\""),
        (&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "source=/etc")], "\"source=/etc\""),
    ] {
        let error = world.create_with("data", options).unwrap_err().to_string();
        assert!(error.starts_with("create data: ") && error.contains(words), "{options:?}: {error}");
    }
    world.check();
}

#[test]
fn a_device_is_mounted_for_its_users_and_never_removed() {
    let world = World::new();
    let device = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write(device.path().join("file"), b"host").unwrap();
    let path = device.path().to_str().unwrap();
    world.create_with("data", &[("type", "none"), ("o", "bind,ro"), ("device", path)]).unwrap();
    let (one, two) = (world.container("data", true), world.container("data", true));
    for user in [one, two, two] {
        match mount(&world.state, &name("data"), user) {
            Err(Error::Mount { source, .. }) if source.raw_os_error() == Some(1) => {
                return say("skipped: can't mount here");
            }
            mounted => drop(mounted.unwrap()),
        }
    }
    assert_eq!(std::fs::read(world.data("data").join("file")).unwrap(), b"host");
    let error = std::fs::write(world.data("data").join("new"), b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    unmount(&world.state, &name("data"), one).unwrap();
    unmount(&world.state, &name("data"), one).unwrap();
    assert!(world.data("data").join("file").exists());
    // The other one died; whoever looks next unmounts.
    world.put_container(two, "data", false);
    recover(&world.state).unwrap();
    assert!(names(&world.data("data")).is_empty());

    // A mount that somebody left behind doesn't keep the volume, and the device is left alone.
    drop(mount(&world.state, &name("data"), two).unwrap());
    world.remove_container(one);
    world.remove_container(two);
    world.remove("data").unwrap();
    trash::empty(&world.state, |_| true).unwrap();
    assert_eq!(std::fs::read(device.path().join("file")).unwrap(), b"host");
    world.check();
}

#[test]
fn a_missing_device_is_named_when_it_is_mounted() {
    let world = World::new();
    world.create_with("data", &[("type", "none"), ("o", "bind"), ("device", "/nowhere/at/all")]).unwrap();
    let error = mount(&world.state, &name("data"), world.container("data", true)).unwrap_err().to_string();
    for words in ["failed to mount local volume", "/nowhere/at/all", "No such file or directory"] {
        assert!(error.contains(words), "{error}");
    }
    assert!(get(&world.state, &name("data")).unwrap().mounted_for.is_empty());
}

#[test]
fn memory_has_its_size_and_owner_and_goes_with_the_last_user() {
    let world = World::new();
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=1000,mode=0700,noexec")];
    world.create_with("data", &options).unwrap();
    let user = world.container("data", true);
    match mount(&world.state, &name("data"), user) {
        Err(error) => return say(&format!("skipped: {error}")),
        Ok(mounted) => drop(mounted),
    }
    let stat = world.data("data").metadata().unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (1000, 0o700));
    let error = std::fs::write(world.data("data").join("large"), vec![0; 2 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    unmount(&world.state, &name("data"), user).unwrap();
    assert!(names(&world.data("data")).is_empty());
    assert_eq!(usage(&world.state, &get(&world.state, &name("data")).unwrap()).unwrap(), None);
    world.check();
}
