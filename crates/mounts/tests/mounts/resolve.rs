//! Merging, checking and making: what a container's row will say.

use crate::support::World;
use orlop_mounts::{Inherited, Origin, ResolvedKind, ResolvedMount};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// `target from what [ro]`, one mount per word group.
fn show(mounts: &[ResolvedMount]) -> Vec<String> {
    let show = |mount: &ResolvedMount| {
        let what = match &mount.kind {
            ResolvedKind::Volume(volume) if volume.anonymous => "anonymous".to_owned(),
            ResolvedKind::Volume(volume) => volume.name.to_string(),
            ResolvedKind::Bind(_) => "bind".to_owned(),
            ResolvedKind::Tmpfs(_) => "tmpfs".to_owned(),
        };
        let origin = match &mount.origin {
            Origin::Flag => "flag",
            Origin::VolumesFrom(container) => container,
            Origin::Image => "image",
        };
        format!("{} {what} {origin}{}", mount.target, if mount.read_only { " ro" } else { "" })
    };
    mounts.iter().map(show).collect()
}

#[test]
fn flags_beat_other_containers_which_beat_the_image() {
    let Some(world) = World::new() else { return };
    let first = world.resolve_with(&["-v one:/a", "-v both:/b:ro", "--tmpfs /t"], &[], &["/image"]).unwrap();
    assert_eq!(show(&first.mounts), ["/a one flag", "/b both flag ro", "/image anonymous image", "/t tmpfs flag"]);
    let second = world.resolve(&["-v two:/a"]).unwrap();
    let inherited: [Inherited; 2] = [world.inherited("db:ro", &first.mounts), world.inherited("web", &second.mounts)];
    let third = world
        .resolve_with(&["-v mine:/b", "--tmpfs /deep/er", "-v /x/y"], &inherited, &["/a/", "b", "/deep//er", "/new"])
        .unwrap();
    assert_eq!(
        show(&third.mounts),
        [
            "/a two web",
            "/b mine flag",
            "/image anonymous db ro",
            "/new anonymous image",
            "/deep/er tmpfs flag",
            "/x/y anonymous flag",
        ]
    );
    assert_eq!(third.created_volumes.len(), 3);
    third.undo(&world.state).unwrap();
    assert_eq!(world.volumes().len(), 4);
    assert!(world.volumes().contains(&"one".to_owned()) && !world.volumes().contains(&"mine".to_owned()));
}

#[test]
fn a_row_keeps_all_of_it_and_inspect_shows_dockers_fields() {
    let Some(world) = World::new() else { return };
    let host = world.host("host");
    let flags = [
        "-v data:/data",
        &format!("-v {host}:/host:ro,rslave"),
        "--mount type=volume,source=data,target=/m,volume-subpath=x",
        "--tmpfs /t:size=1m",
    ];
    let mounts = world.resolve(&flags).unwrap().mounts;
    let json = serde_json::to_string(&mounts).unwrap();
    assert_eq!(serde_json::from_str::<Vec<ResolvedMount>>(&json).unwrap(), mounts);
    let points: Vec<_> = mounts.iter().map(ResolvedMount::point).collect();
    let data = world.host("data/volumes/data/_data");
    let expected = serde_json::json!([
        {"Type": "volume", "Name": "data", "Source": data, "Destination": "/data", "Driver": "local", "Mode": "z",
         "RW": true, "Propagation": ""},
        {"Type": "bind", "Source": host, "Destination": "/host", "Mode": "ro,rslave", "RW": false,
         "Propagation": "rslave"},
        {"Type": "volume", "Name": "data", "Source": data, "Destination": "/m", "Driver": "local", "Mode": "z",
         "RW": true, "Propagation": ""},
        {"Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": true, "Propagation": ""},
    ]);
    assert_eq!(serde_json::to_value(&points).unwrap(), expected);
}

#[test]
fn missing_sources_are_made_for_v_only() {
    let Some(world) = World::new() else { return };
    let deep = world.host("some/deep/er");
    let resolved = world.resolve(&[&format!("-v {deep}:/x")]).unwrap();
    assert_eq!(resolved.created_directories.len(), 3);
    let mode = fs::metadata(&deep).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    fs::write(world.path("some/file"), "kept").unwrap();
    resolved.undo(&world.state).unwrap();
    assert!(!world.path("some/deep").exists(), "what is empty goes");
    assert!(world.path("some/file").exists(), "what is not stays");

    for (flag, path) in [
        (format!("-v {}:/x", world.host("run/daemon.sock")), "run"),
        (format!("-v {}:/etc/app.conf", world.host("conf/app.conf")), "conf"),
        (format!("--mount type=bind,source={},target=/x", world.host("none")), "none"),
    ] {
        world.image_file("etc/app.conf", "");
        let error = world.resolve(&[&flag, "-v fresh:/y"]).unwrap_err().to_string();
        let message = "invalid mount config for type \"bind\": bind source path does not exist: ";
        assert!(error.starts_with(message), "{error}");
        assert!(!error.contains('\n') && !world.path(path).exists());
        assert_eq!(world.volumes(), [""; 0], "checked before anything was made");
    }
    let made = world.resolve(&["--mount type=bind,source=./made,target=/x,bind-create-src"]).unwrap();
    assert_eq!(made.created_directories, [world.path("made")]);
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_made() {
    let Some(world) = World::new() else { return };
    world.image_file("etc/passwd", "");
    fs::write(world.path("file"), "").unwrap();
    let below_file = format!("-v {}/x:/x", world.host("file"));
    let not_there = world.host("x");
    for (flags, message) in [
        (vec!["-v ab:/x", "--tmpfs /x"], "Duplicate mount point: /x".to_owned()),
        (
            vec!["-v ab:/x", "-v cd:/etc/passwd"],
            "cannot mount volume over existing file, file exists /etc/passwd".to_owned(),
        ),
        (
            vec!["-v ab:/y", &below_file],
            format!(
                "invalid mount config for type \"bind\": stat {}/x: Not a directory (os error 20)",
                world.host("file")
            ),
        ),
        (
            vec!["-v ab:/x", "--mount type=bind,source=./x,target=/y"],
            format!("invalid mount config for type \"bind\": bind source path does not exist: {not_there}"),
        ),
    ] {
        assert_eq!(world.resolve(&flags).unwrap_err().to_string(), message);
        assert_eq!(world.volumes(), [""; 0]);
    }
    // A driver that isn't there is known only when the volume is made; the one before it is taken back.
    let error = world.resolve(&["-v ab:/x", "--mount source=cd,target=/y,volume-driver=rexray/ebs"]).unwrap_err();
    assert!(error.to_string().contains("rexray/ebs"), "{error}");
    assert_eq!(world.volumes(), [""; 0]);
    let error = world.resolve_with(&[], &[], &["/"]).unwrap_err().to_string();
    assert_eq!(error, "invalid specification: destination can't be '/'");
}

#[test]
fn a_volume_beside_the_images_data_is_told() {
    let Some(world) = World::new() else { return };
    world.image_dir("var/lib/postgresql/data");
    let volume = &["/var/lib/postgresql/data"][..];
    for (flags, expected) in [
        (
            &["-v mydata:/data"][..],
            &["mydata is at /data; postgres keeps its data in /var/lib/postgresql/data, now an anonymous volume"][..],
        ),
        (
            &["-v mydata:/data", "-v other:/more"],
            &["mydata is at /data, other is at /more; postgres keeps its data in /var/lib/postgresql/data, now an \
               anonymous volume"],
        ),
        (&["-v mydata:/var/lib/postgresql/data"], &[]),
        (&["-v mydata:/var/lib/postgresql"], &[]),
        (&["-v mydata:/var/lib/postgresql/data/pgdata"], &[]),
        (&["-v mydata:/data", "-v pg:/var/lib/postgresql/data"], &[]),
        (&["-v /data", "--tmpfs /tmp"], &[]),
    ] {
        assert_eq!(world.resolve_with(flags, &[], volume).unwrap().warnings, expected, "{flags:?}");
    }
}
