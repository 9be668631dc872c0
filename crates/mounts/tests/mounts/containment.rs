//! Images and containers that try to lead a mount somewhere else.

use crate::support::{World, bind, source_of};
use orlop_model::{ErrorKind, Kind};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_subpath_never_leaves_its_volume() {
    let Some(world) = World::new() else { return };
    world.resolve(&["-v vol:/x"]).unwrap();
    let data = world.data("vol");
    fs::create_dir_all(data.join("real/deep")).unwrap();
    fs::write(data.join("real/deep/file"), "inside").unwrap();
    fs::create_dir(world.path("outside")).unwrap();
    fs::write(world.path("outside/secret"), "").unwrap();
    symlink("/real/deep", data.join("absolute")).unwrap();
    symlink("real/../real/deep", data.join("relative")).unwrap();
    symlink("/etc", data.join("etc")).unwrap();
    symlink(world.path("outside"), data.join("outside")).unwrap();
    symlink("../../../../../../etc", data.join("up")).unwrap();
    symlink("/proc/self/root/etc", data.join("magic")).unwrap();

    let flag = |subpath: &str| format!("--mount source=vol,target=/x,volume-subpath={subpath}");
    for inside in ["real/deep", "absolute", "relative"] {
        let source = world.apply_one(&flag(inside));
        assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "inside", "{inside}");
    }
    let file = world.apply_one(&flag("real/deep/file"));
    assert_eq!(fs::read_to_string(file).unwrap(), "inside");
    for outside in ["etc", "outside", "up", "magic", "missing", "real/deep/file/x"] {
        let error = world.apply(&[&flag(outside)]).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot access volume subpath {outside:?} of volume vol: ")));
        assert_eq!(error.kind(), ErrorKind::Invalid);
        world.assert_nothing_left();
    }
}

#[test]
fn links_in_the_image_lead_to_the_images_content() {
    let Some(world) = World::new() else { return };
    world.image_file("run/app/pid", "image");
    symlink("/run", world.path("rootfs/var")).unwrap();
    symlink("../../../../../../../../etc", world.path("rootfs/etc-of-host")).unwrap();
    world.image_file("etc/from-image", "");
    let applied = world.apply(&["-v one:/var/app", "-v two:/etc-of-host"]).unwrap();
    let [two, one] = [source_of(&applied[0]), source_of(&applied[1])];
    assert_eq!(fs::read_to_string(one.join("pid")).unwrap(), "image");
    let names: Vec<_> = fs::read_dir(two).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["from-image"], "the host's /etc was not looked at");
}

#[test]
fn swapping_directories_never_shows_the_host() {
    let Some(world) = World::new() else { return };
    world.resolve(&["-v vol:/x"]).unwrap();
    let data = world.data("vol");
    fs::create_dir_all(data.join("a/target")).unwrap();
    fs::write(data.join("a/target/inside"), "").unwrap();
    symlink(world.path("outside"), data.join("b")).unwrap();
    fs::create_dir_all(world.path("outside/target")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                orlop_sys::durable::exchange(&data.join("a"), &data.join("b")).unwrap();
            }
        });
        for _ in 0..100 {
            let mounted = world.apply(&["--mount source=vol,target=/x,volume-subpath=a/target"]);
            if let Ok(applied) = mounted {
                assert!(source_of(&applied[0]).join("inside").exists());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(world.path("outside/target")).unwrap().count(), 0);
}

#[test]
fn release_deletes_nothing_even_when_mounts_lie_about() {
    let Some(world) = World::new() else { return };
    fs::create_dir_all(world.path("precious")).unwrap();
    fs::write(world.path("precious/file"), "kept").unwrap();
    // What a crash could leave: a clone without the tmpfs around it, twice on top of each other.
    let stray = world.run_dir().join("0");
    fs::create_dir_all(&stray).unwrap();
    for _ in 0..2 {
        bind(&world.path("precious"), &stray);
    }
    let rest = orlop_mounts::release(&world.state, &[], world.container, &world.run_dir());
    assert_eq!(world.mounts(), []);
    assert_eq!(fs::read_to_string(world.path("precious/file")).unwrap(), "kept");
    rest.unwrap();
    world.assert_nothing_left();
}
