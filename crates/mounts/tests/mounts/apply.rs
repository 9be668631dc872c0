//! What the kernel has mounted after `apply`, and what is left of it after `release`.

use crate::support::{World, options_of, source_of};
use orlop_model::{Id, Kind};
use orlop_sys::mount::{Propagation, attach, clone_tree};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

#[test]
fn a_fresh_volume_gets_the_images_content_once() {
    let Some(world) = World::new() else { return };
    world.image_file("app/config.txt", "default");
    let mounts = world.resolve(&["-v appdata:/app", "-v empty:/app2:nocopy"]).unwrap().mounts;
    world.image_file("app2/x", "");
    let applied = world.apply_mounts(&mounts).unwrap();
    let app = source_of(&applied[0]);
    assert_eq!(fs::read_to_string(app.join("config.txt")).unwrap(), "default");
    assert_eq!(fs::read_dir(source_of(&applied[1])).unwrap().count(), 0);
    fs::write(app.join("config.txt"), "changed").unwrap();
    assert_eq!(fs::read_to_string(world.data("appdata").join("config.txt")).unwrap(), "changed");
    // Again, as after a crash without release.
    let again = world.apply_mounts(&mounts).unwrap();
    assert_eq!(fs::read_to_string(source_of(&again[0]).join("config.txt")).unwrap(), "changed");
    assert_eq!(world.mounts().len(), 3, "two sources and the tmpfs around them");
    world.release();
    world.release();
    world.assert_nothing_left();
}

#[test]
fn a_volume_below_another_mount_is_filled_as_well() {
    let Some(world) = World::new() else { return };
    world.image_file("data/sub/file", "image");
    let applied = world.apply(&["-v child:/data/sub", "-v parent:/data"]).unwrap();
    assert_eq!([&applied[0].target, &applied[1].target], ["/data", "/data/sub"], "parents first");
    assert_eq!(fs::read_to_string(source_of(&applied[1]).join("file")).unwrap(), "image");
}

#[test]
fn another_containers_volume_is_not_filled() {
    let Some(world) = World::new() else { return };
    world.image_file("app/config.txt", "default");
    let theirs = world.resolve(&["-v shared:/app"]).unwrap().mounts;
    let ours = world.resolve_with(&[], &[world.inherited("db:ro", &theirs)], &[]).unwrap().mounts;
    let applied = world.apply_mounts(&ours).unwrap();
    assert_eq!(fs::read_dir(source_of(&applied[0])).unwrap().count(), 0);
    assert!(fs::write(source_of(&applied[0]).join("x"), "").is_err());
}

#[test]
fn files_sockets_and_directories_are_the_hosts_own() {
    let Some(world) = World::new() else { return };
    fs::write(world.path("file"), "1").unwrap();
    let _listener = UnixListener::bind(world.path("daemon.sock")).unwrap();
    world.image_file("etc/app.conf", "image");
    let flags = ["-v ./file:/etc/app.conf", "-v ./daemon.sock:/run/daemon.sock", "-v .:/host"];
    let applied = world.apply(&flags).unwrap();
    let [host, file, socket] = [0, 1, 2].map(|number| source_of(&applied[number]));
    fs::write(world.path("file"), "2").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "2");
    assert_eq!(file.metadata().unwrap().ino(), world.path("file").metadata().unwrap().ino());
    assert!(socket.metadata().unwrap().file_type().is_socket());
    assert!(host.join("file").exists());
    assert!(applied.iter().all(|mount| options_of(mount) == "rbind,rprivate"));

    for (flag, message) in [
        (
            "-v ./file:/etc",
            format!("cannot mount the file {} on /etc, which is a directory in the image", world.host("file")),
        ),
        (
            "-v .:/etc/app.conf",
            format!(
                "cannot mount the directory {} on /etc/app.conf, which is a file in the image",
                world.host("").trim_end_matches('/')
            ),
        ),
    ] {
        assert_eq!(world.apply(&[flag]).unwrap_err().to_string(), message);
        let unchecked = world.resolve_without_image(&[flag]).unwrap().mounts;
        assert_eq!(world.apply_mounts(&unchecked).unwrap_err().to_string(), message);
        world.assert_nothing_left();
    }
}

#[test]
fn read_only_goes_as_deep_as_asked() {
    let Some(world) = World::new() else { return };
    let below = world.mount_tmpfs("source/below", Propagation::Private);
    fs::write(below.join("file"), "").unwrap();
    for (flag, top, deep) in [
        ("-v ./source:/x", true, Some(true)),
        ("-v ./source:/x:ro", false, Some(false)),
        ("--mount type=bind,source=./source,target=/x,ro", false, Some(false)),
        ("--mount type=bind,source=./source,target=/x,ro,bind-recursive=writable", false, Some(true)),
        ("--mount type=bind,source=./source,target=/x,bind-recursive=disabled", true, None),
        ("--mount type=bind,source=./source,target=/x,ro,bind-nonrecursive", false, None),
        (
            "--mount type=bind,source=./source,target=/x,ro,bind-recursive=readonly,bind-propagation=rprivate",
            false,
            Some(false),
        ),
    ] {
        let source = world.apply_one(flag);
        assert_eq!(fs::write(source.join("top"), "").is_ok(), top, "{flag}");
        let written = source.join("below/file").exists().then(|| fs::write(source.join("below/file"), "").is_ok());
        assert_eq!(written, deep, "{flag}");
    }
    let volume = world.apply_one("-v vol:/x:ro");
    assert!(fs::write(volume.join("x"), "").is_err());
    fs::write(world.data("vol").join("x"), "").unwrap();
}

#[test]
fn propagation_is_what_was_asked_for() {
    let Some(world) = World::new() else { return };
    world.mount_tmpfs("source", Propagation::Shared);
    for (number, (mode, arrives, leaves)) in [
        ("", false, false),
        ("private", false, false),
        ("rslave", true, false),
        ("slave", true, false),
        ("rshared", true, true),
        ("shared", true, true),
    ]
    .into_iter()
    .enumerate()
    {
        world.dir(&format!("source/in{number}"));
        world.dir(&format!("source/out{number}"));
        let resolved = world.resolve(&[&format!("-v ./source:/x:{mode}")]).unwrap();
        let applied = world.apply_mounts(&resolved.mounts).unwrap();
        let source = source_of(&applied[0]);
        let from_host = world.mount_tmpfs(&format!("source/in{number}"), Propagation::Shared);
        assert_eq!(world.is_mounted(&source.join(format!("in{number}"))), arrives, "{mode}");
        let run = world.run_dir().strip_prefix(world.path("")).unwrap().join(format!("0/out{number}"));
        world.mount_tmpfs(run.to_str().unwrap(), Propagation::Private);
        assert_eq!(world.is_mounted(&world.path(&format!("source/out{number}"))), leaves, "{mode}");
        world.release();
        assert!(world.is_mounted(&from_host), "release leaves the host's own mounts alone ({mode})");
    }
}

#[test]
fn propagation_that_the_host_does_not_give_is_refused() {
    let Some(world) = World::new() else { return };
    let on = world.mount_tmpfs("source", Propagation::Private);
    world.dir("source/dir");
    for (mode, needed) in [("rshared", "shared"), ("slave", "shared or slave")] {
        let error = world.apply(&[&format!("-v ./source/dir:/x:{mode}")]).unwrap_err();
        let (path, on) = (world.host("source/dir"), on.display());
        assert_eq!(error.to_string(), format!("path {path} is mounted on {on} but it is not a {needed} mount"));
        assert_eq!(error.kind(), orlop_model::ErrorKind::Invalid);
    }
}

#[test]
fn tmpfs_options_are_dockers() {
    let Some(world) = World::new() else { return };
    let no_swap = if orlop_sys::mount::tmpfs_has("noswap") { ",noswap" } else { "" };
    for (flag, expected) in [
        ("--tmpfs /tmp", "noexec,nosuid,nodev,rprivate,mode=1777".to_owned()),
        ("--tmpfs /c:size=1g,mode=1770", "noexec,nosuid,nodev,rprivate,mode=1770,size=1073741824".to_owned()),
        ("--tmpfs /c:exec,suid,dev,ro,size=10%", "exec,suid,dev,rprivate,ro,size=10%,mode=1777".to_owned()),
        (
            "--tmpfs /run/secrets:mode=0700,uid=1000,gid=7",
            format!("noexec,nosuid,nodev,rprivate{no_swap},mode=700,uid=1000,gid=7"),
        ),
        (
            "--mount type=tmpfs,target=/c,tmpfs-size=1k,tmpfs-mode=700",
            "noexec,nosuid,nodev,rprivate,mode=700,size=1024".to_owned(),
        ),
    ] {
        assert_eq!(options_of(&world.apply(&[flag]).unwrap()[0]), expected, "{flag}");
    }
    world.assert_nothing_left();
}

#[test]
fn a_failure_takes_back_what_came_before() {
    let Some(world) = World::new() else { return };
    world.dir("gone");
    let mounts = world.resolve(&["-v ab:/x", "--mount type=bind,source=./gone,target=/y"]).unwrap().mounts;
    fs::remove_dir(world.path("gone")).unwrap();
    let error = world.apply_mounts(&mounts).unwrap_err().to_string();
    assert!(error.contains("bind source path does not exist"), "{error}");
    world.assert_nothing_left();
    // -v makes it again, as Docker does at each start.
    let mounts = world.resolve(&["-v ./again:/y"]).unwrap().mounts;
    fs::remove_dir(world.path("again")).unwrap();
    world.apply_mounts(&mounts).unwrap();
    assert!(world.path("again").is_dir());
}

#[test]
fn a_hundred_mounts_and_a_bind_of_everything() {
    let Some(world) = World::new() else { return };
    let flags: Vec<String> =
        (0..99).map(|number| format!("-v vol{number:02}:/m/{number:02}")).chain(["-v .:/all".to_owned()]).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let applied = world.apply(&flags).unwrap();
    assert_eq!(applied.len(), 100);
    assert_eq!(world.mounts().len(), 101, "the recursive bind has none of the clones in it");
    world.release();
    world.assert_nothing_left();
    assert!(world.data("vol42").is_dir());
}

#[test]
fn a_shared_run_directory_keeps_our_mounts_to_itself() {
    let Some(world) = World::new() else { return };
    // As systemd sets up /run, and once more elsewhere, as a peer.
    let run = world.mount_tmpfs("run", Propagation::Shared);
    let peer = world.dir("peer");
    attach(clone_tree(orlop_sys::path::open_directory(&run).unwrap(), false).unwrap(), &peer).unwrap();
    world.apply(&["-v vol:/x", "-v .:/host"]).unwrap();
    for number in ["0", "1"] {
        let path = world.container.hex() + "/" + number;
        let places = world.mounts().iter().filter(|mount| mount.mount_point.ends_with(&path)).count();
        assert_eq!(places, 1, "neither in the peer nor in the bind of everything");
    }
    world.release();
    let left: Vec<_> = world.mounts().into_iter().map(|mount| mount.mount_point).collect();
    assert_eq!(left, [run, peer]);
}

#[test]
fn a_volume_that_stands_for_a_directory_is_mounted_while_it_is_used() {
    let Some(world) = World::new() else { return };
    world.image_file("app/file", "image");
    let device = world.dir("device");
    let flag = format!(
        "--mount source=nas,target=/app,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={}",
        device.display()
    );
    let mounts = world.resolve(&[&flag]).unwrap().mounts;
    world.add_container_row("test", &["nas"]);
    let applied = world.apply_mounts(&mounts).unwrap();
    assert_eq!(fs::read_to_string(source_of(&applied[0]).join("file")).unwrap(), "image");
    assert_eq!(fs::read_to_string(device.join("file")).unwrap(), "image");
    orlop_mounts::release(&world.state, &mounts, world.container, &world.run_dir()).unwrap();
    world.assert_nothing_left();
    assert!(device.join("file").exists());
    assert_eq!(fs::read_dir(world.data("nas")).unwrap().count(), 0);
}

#[test]
fn releasing_one_container_leaves_the_other_its_mounts() {
    let Some(mut world) = World::new() else { return };
    let device = world.dir("device");
    let nas = format!(
        "--mount source=nas,target=/nas,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={}",
        device.display()
    );
    let mounts = world.resolve(&[&nas, "-v vol:/vol", "-v ./device:/bind"]).unwrap().mounts;
    let mut containers = Vec::new();
    for name in ["first", "second"] {
        world.container = Id::random();
        world.add_container_row(name, &["nas", "vol"]);
        let sources: Vec<_> = world.apply_mounts(&mounts).unwrap().iter().map(source_of).collect();
        containers.push((world.container, world.run_dir(), sources));
    }
    let (first, second) = (&containers[0], &containers[1]);
    orlop_mounts::release(&world.state, &mounts, first.0, &first.1).unwrap();
    for source in &second.2 {
        assert!(world.is_mounted(source));
        fs::write(source.join("file"), "").unwrap();
    }
    assert!(world.is_mounted(&world.data("nas")), "the driver's mount stays until its last user has gone");
    orlop_mounts::release(&world.state, &mounts, second.0, &second.1).unwrap();
    assert_eq!(world.mounts(), []);
    assert!(device.join("file").exists());
}
