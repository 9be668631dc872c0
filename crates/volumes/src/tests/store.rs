use super::*;
use orlop_model::filter::{Filters, VOLUME_PRUNE, VOLUMES};
use orlop_model::{ErrorKind, Kind};
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn a_volume_is_made_once_with_dockers_modes() {
    let world = World::new();
    assert!(world.create("mydata").created);
    std::fs::write(world.data("mydata").join("file"), b"kept").unwrap();
    assert!(!world.create("mydata").created);
    assert_eq!(std::fs::read(world.data("mydata").join("file")).unwrap(), b"kept");
    for (path, mode) in [("volumes", 0o701), ("volumes/mydata", 0o701), ("volumes/mydata/_data", 0o755)] {
        assert_eq!(world.path().join(path).metadata().unwrap().mode() & 0o7777, mode, "{path}");
    }
    world.check();
}

#[test]
fn inspect_has_dockers_fields_in_dockers_order() {
    let world = World::new();
    world.create("plain");
    let json = serde_json::to_string(&inspect(&world.state, &name("plain")).unwrap()).unwrap();
    let expected = format!(
        r#""Driver":"local","Labels":null,"Mountpoint":"{}","Name":"plain","Options":null,"Scope":"local"}}"#,
        world.data("plain").display()
    );
    assert!(json.starts_with(r#"{"CreatedAt":"2"#) && json.ends_with(&expected), "{json}");
    let anonymous =
        create(&world.state, CreateVolume { name: None, labels: map(&[("a", "b")]), ..request("ignored", &[]) });
    let anonymous = anonymous.unwrap().volume;
    assert_eq!((anonymous.name.as_str().len(), anonymous.anonymous), (64, true));
    assert_eq!(anonymous.labels, map(&[("a", "b"), ("com.docker.volume.anonymous", "")]));
}

#[test]
fn the_record_beside_the_data_says_all_that_the_row_says() {
    let world = World::new();
    let row = world.create_with("memory", &[("type", "tmpfs"), ("device", "tmpfs")]).unwrap().volume;
    let record = std::fs::read(world.path().join("volumes/memory/volume.json")).unwrap();
    assert_eq!(serde_json::from_slice::<orlop_state::VolumeRow>(&record).unwrap(), row);
}

#[test]
fn errors_use_dockers_words() {
    let world = World::new();
    world.create("taken");
    std::fs::create_dir_all(world.path().join("volumes/stray")).unwrap();
    let with = |driver: &str, name: &str, options: &[(&str, &str)]| {
        create(&world.state, CreateVolume { driver: Some(driver.to_owned()), ..request(name, options) }).unwrap_err()
    };
    for (error, kind, words) in [
        (with("rexray/ebs", "new", &[]), ErrorKind::NotFound, "plugin \"rexray/ebs\" not found"),
        (
            with("local", "taken", &[("type", "tmpfs"), ("device", "tmpfs")]),
            ErrorKind::Conflict,
            "volume name must be unique",
        ),
        (with("local", "stray", &[]), ErrorKind::Conflict, "volumes/stray exists but belongs to no volume"),
        (inspect(&world.state, &name("gone")).unwrap_err(), ErrorKind::NotFound, "get gone: no such volume"),
        (world.remove("gone").unwrap_err(), ErrorKind::NotFound, "get gone: no such volume"),
        (trash::restore(&world.state, "gone").unwrap_err(), ErrorKind::NotFound, "restore gone"),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let forced = remove(&world.state, &name("gone"), RemoveVolume { force: true, now: false }).unwrap();
    assert_eq!(forced, Removal::Missing);
    std::fs::remove_dir(world.path().join("volumes/stray")).unwrap();
    world.check();
}

#[test]
fn a_removed_volume_comes_back_the_latest_first() {
    let world = World::new();
    for content in ["one", "two"] {
        world.create("data");
        std::fs::write(world.data("data").join("file"), content).unwrap();
        world.remove("data").unwrap();
        assert!(!world.data("data").exists());
        world.check();
    }
    assert_eq!(trash::list(&world.state).unwrap().len(), 2);
    trash::restore(&world.state, "data").unwrap();
    assert_eq!(std::fs::read(world.data("data").join("file")).unwrap(), b"two");
    let error = trash::restore(&world.state, "data").unwrap_err();
    assert!(matches!(error, Error::RestoreExists { .. }), "{error}");
    world.remove("data").unwrap();
    let oldest = trash::list(&world.state).unwrap().last().unwrap().id;
    trash::restore(&world.state, &oldest.hex()[..12]).unwrap();
    assert_eq!(std::fs::read(world.data("data").join("file")).unwrap(), b"one");
    world.check();
    assert_eq!(world.path().join("trash").metadata().unwrap().mode() & 0o777, 0o700);

    let (ids, bytes) = trash::empty(&world.state, |_| true).unwrap();
    assert_eq!(ids.len(), 1);
    assert!(bytes >= 4096, "{bytes}");
    assert!(trash::restore(&world.state, "data").is_err());
    world.check();
}

#[test]
fn now_deletes_for_good() {
    let world = World::new();
    world.create("data");
    std::fs::write(world.data("data").join("file"), vec![1; 100_000]).unwrap();
    let removal = remove(&world.state, &name("data"), RemoveVolume { force: false, now: true }).unwrap();
    assert!(matches!(removal, Removal::Deleted(bytes) if bytes >= 100_000), "{removal:?}");
    assert!(trash::list(&world.state).unwrap().is_empty());
    world.check();
}

#[test]
fn a_creation_is_taken_back_unless_somebody_has_begun_to_use_it() {
    let world = World::new();
    for (use_it, gone) in [("no", true), ("files", false), ("container", false)] {
        world.create("data");
        let id = Id::random();
        match use_it {
            "files" => std::fs::write(world.data("data").join("file"), b"").unwrap(),
            "container" => world.put_container(id, "data", false),
            _ => {}
        }
        assert_eq!(undo_create(&world.state, &name("data")).unwrap(), gone, "{use_it}");
        assert_eq!(get(&world.state, &name("data")).is_err(), gone, "{use_it}");
        assert!(trash::list(&world.state).unwrap().is_empty());
        world.remove_container(id);
        remove(&world.state, &name("data"), RemoveVolume { force: true, now: true }).unwrap();
    }
    assert!(undo_create(&world.state, &name("data")).unwrap());
    world.check();
}

#[test]
fn a_volume_that_a_container_refers_to_stays() {
    let world = World::new();
    world.create("data");
    for running in [true, false] {
        let id = world.container("data", running);
        let error = world.remove("data").unwrap_err().to_string();
        assert_eq!(error, format!("remove data: volume is in use - [{id}]"));
        world.remove_container(id);
    }
    world.remove("data").unwrap();
    world.check();
}

#[test]
fn a_volume_that_another_namespace_has_mounted_stays() {
    let world = World::new();
    world.create("data");
    std::fs::create_dir(world.data("data").join("sub")).unwrap();
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let script = format!(
        "mount --make-rprivate / && mount --bind {} {} && echo ready && read line",
        world.data("data").join("sub").display(),
        place.path().display()
    );
    let child = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return say("skipped: no unshare(1) here") };
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    let result = world.remove("data");
    drop(child.stdin.take());
    child.wait().unwrap();
    if line.trim() != "ready" {
        return say("skipped: can't mount in a namespace here");
    }
    assert!(matches!(result, Err(Error::MountedElsewhere { .. })), "{result:?}");
    world.remove("data").unwrap();
    world.check();
}

#[test]
fn lists_are_filtered_and_prunes_keep_named_volumes() {
    let world = World::new();
    for (volume, labels) in [("used", &[][..]), ("free", &[("keep", "yes")]), ("other", &[])] {
        create(&world.state, CreateVolume { labels: map(labels), ..request(volume, &[]) }).unwrap();
    }
    let anonymous =
        create(&world.state, CreateVolume { name: None, ..request("xx", &[]) }).unwrap().volume.name.to_string();
    world.container("used", false);
    let listed = |filters: &[&str]| -> Vec<String> {
        let filters = Filters::parse(filters, VOLUMES).unwrap();
        list(&world.state, &filters).unwrap().into_iter().map(|volume| volume.name.to_string()).collect()
    };
    assert_eq!(listed(&[]).len(), 4);
    assert_eq!(listed(&["dangling=false"]), ["used"]);
    assert_eq!(listed(&["dangling=true"]).len(), 3);
    assert_eq!(listed(&["label=keep"]), ["free"]);
    assert_eq!(listed(&["name=e", "label=keep=yes", "driver=local"]), ["free"]);
    assert!(listed(&["driver=other"]).is_empty());

    let plan =
        |all, filters: &[&str]| plan_prune(&world.state, all, &Filters::parse(filters, VOLUME_PRUNE).unwrap()).unwrap();
    let some = plan(false, &[]);
    assert_eq!((some.volumes.len(), some.kept_named), (1, 2));
    assert_eq!(plan(false, &["all=1", "label!=keep"]).volumes.len(), 2);
    let pruned = prune(&world.state, some).unwrap();
    assert_eq!(pruned.deleted[0].0.as_str(), anonymous);
    assert!(pruned.trashed_bytes > 0);
    // One that comes into use between plan and prune is left out.
    let all = plan(true, &[]);
    world.container("other", true);
    let pruned = prune(&world.state, all).unwrap();
    assert_eq!(pruned.deleted.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["free"]);
    assert_eq!(listed(&[]), ["other", "used"]);
    world.check();
}

#[test]
fn nothing_in_a_volume_leads_out_of_it() {
    let world = World::new();
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write(outside.path().join("precious"), b"host").unwrap();
    world.create("data");
    symlink(outside.path(), world.data("data").join("link")).unwrap();
    symlink(outside.path().join("precious"), world.data("data").join("file")).unwrap();
    symlink("..", world.data("data").join("up")).unwrap();
    let usage = usage(&world.state, &get(&world.state, &name("data")).unwrap()).unwrap().unwrap();
    assert_eq!((usage.files, usage.directories), (3, 0));
    world.remove("data").unwrap();
    trash::empty(&world.state, |_| true).unwrap();
    assert_eq!(std::fs::read(outside.path().join("precious")).unwrap(), b"host");
    world.check();
}

#[test]
fn a_trash_on_another_file_system_is_named() {
    let world = World::new();
    world.create("data");
    std::fs::create_dir_all(world.path().join("trash")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("tmpfs", world.path().join("trash"), "tmpfs", flags, c"size=1m") {
        return say(&format!("skipped: can't mount a tmpfs: {error}"));
    }
    let error = world.remove("data").unwrap_err().to_string();
    assert!(error.contains("another file system") && error.contains("remove data"), "{error}");
    assert!(world.data("data").exists());
    world.check();
    remove(&world.state, &name("data"), RemoveVolume { force: false, now: true }).unwrap();
    world.check();
}

#[test]
fn a_volume_whose_directory_is_missing_can_be_forgotten() {
    let world = World::new();
    world.create("data");
    std::fs::remove_dir_all(world.path().join("volumes/data")).unwrap();
    let error = mount(&world.state, &name("data"), Id::random()).map(drop).unwrap_err().to_string();
    assert!(error.contains("is missing") && error.contains("orlop volume rm data"), "{error}");
    assert_eq!(world.remove("data").unwrap(), Removal::Deleted(0));
    world.check();
    assert!(world.create("data").created);
}

#[test]
fn a_creation_whose_record_a_power_cut_emptied_is_made_anew() {
    let world = World::new();
    let path = volume_path(&world.state, &name("data"));
    std::fs::create_dir_all(path.join("_data")).unwrap();
    std::fs::write(path.join("volume.json"), b"").unwrap();
    assert!(create(&world.state, request("data", &[])).unwrap().created);
    // With content it is somebody's.
    let path = volume_path(&world.state, &name("kept"));
    std::fs::create_dir_all(path.join("_data")).unwrap();
    std::fs::write(path.join("volume.json"), b"").unwrap();
    std::fs::write(path.join("_data/file"), b"x").unwrap();
    assert!(matches!(create(&world.state, request("kept", &[])), Err(Error::Stray { .. })));
    assert!(path.join("_data/file").exists());
}
