//! What every volume driver must do, and drivers that don't.

use super::*;
use crate::driver::driver_of;
use crate::mounted::is_mount_point;
use orlop_state::VolumeRow;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The suite: `volume` is one that `driver` takes, `data` an empty directory; `survives` says whether content outlives
/// the last detach.
fn check(driver: &dyn VolumeDriver, volume: &VolumeRow, data: &Path, survives: bool) {
    // A typo must not become a volume that does something else than was meant.
    let mut unknown = volume.clone();
    unknown.options.insert("no-such-option".to_owned(), "x".to_owned());
    let error = driver.check(&unknown).unwrap_err().to_string();
    assert!(error.contains("no-such-option"), "the unknown option isn't named: {error}");
    driver.check(volume).unwrap();
    let needs_mount = driver.needs_mount(volume).unwrap();

    driver.attach(volume, data).unwrap();
    std::fs::write(data.join("file"), b"content").unwrap();
    assert_eq!(is_mount_point(data).unwrap(), needs_mount, "needs_mount is not what attach does");
    // A second container, or the same one after a crash: the content stays, and one detach is enough.
    driver.attach(volume, data).unwrap();
    assert_eq!(std::fs::read(data.join("file")).unwrap(), b"content", "a second attach covers the first");
    driver.detach(volume, data).unwrap();
    assert!(!is_mount_point(data).unwrap(), "something is still mounted");
    driver.detach(volume, data).unwrap();
    assert_eq!(data.join("file").exists(), !needs_mount, "content lies in the place of the mount");

    driver.attach(volume, data).unwrap();
    assert_eq!(data.join("file").exists(), survives, "content is not there again");
    driver.detach(volume, data).unwrap();
}

fn run(driver: &dyn VolumeDriver, options: &[(&str, &str)], survives: bool) -> std::thread::Result<()> {
    let world = World::new();
    let volume = world.create_with("data", options).unwrap().volume;
    catch_unwind(AssertUnwindSafe(|| check(driver, &volume, &world.data("data"), survives)))
}

const MEMORY: [(&str, &str); 2] = [("type", "tmpfs"), ("device", "tmpfs")];

fn can_mount() -> bool {
    let world = World::new();
    let volume = world.create_with("data", &MEMORY).unwrap().volume;
    let can = LocalDriver.attach(&volume, &world.data("data")).is_ok();
    if !can {
        say("skipped: can't mount a tmpfs here");
    }
    can
}

#[test]
fn the_local_driver_conforms() {
    if !can_mount() {
        return;
    }
    let device = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = device.path().to_str().unwrap();
    for (options, survives) in
        [(&[][..], true), (&[("type", "none"), ("o", "bind"), ("device", path)], true), (&MEMORY, false)]
    {
        run(&LocalDriver, options, survives).unwrap();
    }
    assert_eq!(std::fs::read(device.path().join("file")).unwrap(), b"content");
}

/// Local, but wrong in one way.
struct Broken(&'static str);

impl VolumeDriver for Broken {
    fn check(&self, volume: &VolumeRow) -> Result<(), Error> {
        if self.0 == "takes any option" { Ok(()) } else { LocalDriver.check(volume) }
    }

    fn needs_mount(&self, volume: &VolumeRow) -> Result<bool, Error> {
        if self.0 == "says that it needs no mount" { Ok(false) } else { LocalDriver.needs_mount(volume) }
    }

    fn root_is_ours(&self, volume: &VolumeRow) -> Result<bool, Error> {
        LocalDriver.root_is_ours(volume)
    }

    fn attach(&self, volume: &VolumeRow, data: &Path) -> Result<(), Error> {
        match self.0 {
            "mounts again for each user" => {
                let flags = rustix::mount::MountFlags::empty();
                rustix::mount::mount("tmpfs", data, "tmpfs", flags, c"")
                    .map_err(|error| Error::io("mount", data, error))
            }
            "mounts nothing" => Ok(()),
            _ => LocalDriver.attach(volume, data),
        }
    }

    fn detach(&self, volume: &VolumeRow, data: &Path) -> Result<(), Error> {
        if self.0 == "never unmounts" { Ok(()) } else { LocalDriver.detach(volume, data) }
    }
}

#[test]
fn broken_drivers_do_not() {
    if !can_mount() {
        return;
    }
    let fault = |fault| run(&Broken(fault), &MEMORY, false);
    fault("none").unwrap();
    for broken in [
        "takes any option",
        "says that it needs no mount",
        "mounts again for each user",
        "mounts nothing",
        "never unmounts",
    ] {
        assert!(fault(broken).is_err(), "the suite passes a driver that {broken}");
    }
}

#[test]
fn plugins_are_named_as_missing() {
    let world = World::new();
    let volume = VolumeRow { driver: "vieux/sshfs".to_owned(), ..world.create("data").volume };
    assert!(matches!(driver_of(&volume), Err(Error::NoSuchDriver { driver, .. }) if driver == "vieux/sshfs"));
}
