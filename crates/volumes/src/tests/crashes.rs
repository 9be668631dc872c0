//! kill -9 at every step of every verb.

use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Runs in a process of its own, which the crash points may kill.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Some(root) = std::env::var_os("ORLOP_TEST_ROOT") else { return };
    let state = State::open(Path::new(&root)).unwrap();
    let verbs = std::env::var("ORLOP_TEST_VERBS").unwrap();
    let content = PathBuf::from(std::env::var_os("ORLOP_TEST_CONTENT").unwrap_or_default());
    for verb in verbs.split(',') {
        match verb {
            "create" => drop(create(&state, request("data", &[])).unwrap()),
            "remove" => match remove(&state, &name("data"), RemoveVolume { force: true, now: false }) {
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            },
            "remove-now" => {
                remove(&state, &name("data"), RemoveVolume { force: false, now: true }).unwrap();
            }
            "restore" => drop(trash::restore(&state, "data").unwrap()),
            "empty" => drop(trash::empty(&state, |_| true).unwrap()),
            "initialise" => match initialise_from(&state, "data", &content) {
                Ok(_) | Err(Error::NoSuchVolume(_)) => {}
                Err(error) => panic!("{error}"),
            },
            "run" => (0..5).for_each(|_| run(&state, &content)),
            "prune" => (0..5).for_each(|_| {
                let plan = plan_prune(&state, true, &Default::default()).unwrap();
                prune(&state, plan).unwrap();
            }),
            "use" => {
                // What fifty containers that start at once do.
                create(&state, request("data", &[])).unwrap();
                assert_ne!(content, PathBuf::new());
                let mounted = mount(&state, &name("data"), Id::random()).unwrap();
                let opened = orlop_sys::path::open_directory(&content).unwrap();
                let first = initialise(&state, &mounted, first_use_options(&opened)).unwrap();
                assert!(is_whole(&mounted.path), "{first:?}");
                if first != FirstUse::Nothing {
                    let done = Path::new(&root).join(format!("did-{}", Id::random()));
                    std::fs::write(done, b"").unwrap();
                }
            }
            other => panic!("unknown verb {other}"),
        }
    }
}

/// What the engine does for `run -v data:/data`, in its order.
fn run(state: &State, content: &Path) {
    let id = Id::random();
    let row = |running| container_row(id, "data", running);
    loop {
        create(state, request("data", &[])).unwrap();
        let inserted = state.write(|tx| {
            require(tx, &[name("data")])?;
            Ok::<_, Error>(tx.table::<TestContainer>().insert(&row(false))?)
        });
        match inserted {
            Ok(()) => break,
            Err(Error::NoSuchVolume(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let mounted = mount(state, &name("data"), id).unwrap();
    let opened = orlop_sys::path::open_directory(content).unwrap();
    initialise(state, &mounted, first_use_options(&opened)).unwrap();
    assert!(is_whole(&mounted.path));
    drop(mounted);
    state.write(|tx| tx.table::<TestContainer>().put(&row(true))).unwrap();
    assert!(is_whole(&data_path(state, &name("data"))));
    unmount(state, &name("data"), id).unwrap();
    state.write(|tx| tx.containers().delete(&id.hex())).unwrap();
}

pub(super) fn command(root: &Path, content: &Path, verbs: &str, kill_at: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "tests::crashes::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("ORLOP_TEST_ROOT", root)
        .env("ORLOP_TEST_CONTENT", content)
        .env("ORLOP_TEST_VERBS", verbs)
        .env("ORLOP_TEST_KILL_AT", kill_at);
    command
}

fn kill(world: &World, content: &Path, verb: &str, at: &str) {
    let output = command(world.path(), content, verb, at).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(9), "{verb} never came to {at:?}: {text}");
}

#[test]
fn create_and_remove_and_restore_and_empty() {
    let nothing = Path::new("/nowhere");
    // The verb, where it is killed, whether the volume is there afterwards, and how many things are in the trash.
    for (verb, at, there, trashed) in [
        ("create", "create: half", false, 0),
        ("create", "create: aside", false, 0),
        ("create", "create: moved", false, 0),
        ("remove", "remove: intent", false, 1),
        ("remove", "remove: moved", false, 1),
        ("remove-now", "remove: intent", false, 1),
        ("remove-now", "remove: moved", false, 0),
        ("remove-now", "empty: marked", false, 0),
        ("restore", "restore: intent", false, 1),
        ("restore", "restore: moved", true, 0),
        ("empty", "empty: marked", false, 0),
        ("empty", "empty: deleted", false, 0),
    ] {
        let world = World::new();
        if verb != "create" {
            world.create("data");
            std::fs::write(world.data("data").join("file"), b"content").unwrap();
        }
        if verb == "restore" || verb == "empty" {
            world.remove("data").unwrap();
        }
        kill(&world, nothing, verb, at);
        recover(&world.state).unwrap();
        world.check();
        assert_eq!(get(&world.state, &name("data")).is_ok(), there, "{verb} {at}");
        assert_eq!(trash::list(&world.state).unwrap().len(), trashed, "{verb} {at}");
        if trashed == 1 {
            trash::restore(&world.state, "data").unwrap();
        }
        if there || trashed == 1 {
            assert_eq!(std::fs::read(world.data("data").join("file")).unwrap(), b"content", "{verb} {at}");
        }
        assert_eq!(world.create("data").created, !there && trashed == 0, "{verb} {at}");
        world.check();
        assert_eq!(recover(&world.state).unwrap(), 0);
    }
}

#[test]
fn the_next_verb_settles_what_it_meets() {
    for (verb, at, next) in [
        ("create", "create: moved", "create"),
        ("remove", "remove: moved", "create"),
        ("remove", "remove: intent", "restore"),
        ("restore", "restore: moved", "remove"),
        ("restore", "restore: intent", "restore"),
    ] {
        let world = World::new();
        if verb != "create" {
            world.create("data");
        }
        if verb == "restore" {
            world.remove("data").unwrap();
        }
        kill(&world, Path::new("/nowhere"), verb, at);
        // The trash knows of a removal only when that is settled, which every start of a verb does.
        if next == "restore" {
            recover(&world.state).unwrap();
        }
        let output = command(world.path(), Path::new("/nowhere"), next, "").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        world.check();
    }
}

#[test]
fn a_first_use_is_complete_or_absent() {
    for at in ["initialise: intent", "initialise: copied", "initialise: synced", "initialise: filled"] {
        let (world, content) = (World::new(), make_content());
        world.create("data");
        kill(&world, content.path(), "initialise", at);
        recover(&world.state).unwrap();
        world.check();
        let data = world.data("data");
        assert!(names(&data).is_empty() || is_whole(&data), "{at}");
        world.initialise("data", content.path()).unwrap();
        assert!(is_whole(&data), "{at}");
        world.check();
    }
}

/// Content whose root has several entries.
fn make_wide_content() -> tempfile::TempDir {
    let content = make_content();
    for name in ["one", "two", "three"] {
        std::fs::write(content.path().join(name), b"image").unwrap();
    }
    content
}

fn is_whole_and_wide(data: &Path) -> bool {
    names(data) == ["a", "one", "three", "two"] && is_whole(data)
}

#[test]
fn a_first_use_in_place_is_complete_or_absent_and_takes_nothing_from_others() {
    for (at, filled) in [
        ("initialise: intent", false),
        ("initialise: copied", false),
        ("initialise: synced", false),
        ("initialise: whole", true),
        ("initialise: moved one", true),
        ("initialise: filled", true),
    ] {
        for (reboot, written) in [(false, false), (true, false), (false, true), (true, true)] {
            let (world, content) = (World::new(), make_wide_content());
            let device = tempfile::tempdir_in("/var/tmp").unwrap();
            let path = device.path().to_str().unwrap();
            world.create_with("data", &[("type", "none"), ("o", "bind"), ("device", path)]).unwrap();
            let probe = command(world.path(), content.path(), "initialise", at).output().unwrap();
            if probe.status.signal() != Some(9) {
                return say("skipped: can't bind here");
            }
            // A mount made by the child is in our namespace as well; a reboot takes it away.
            if reboot {
                let _ = rustix::mount::unmount(world.data("data"), rustix::mount::UnmountFlags::DETACH);
            }
            // A program that had the volume all the time: it edits what it finds, and makes what it doesn't.
            if written {
                std::fs::create_dir_all(device.path().join("a")).unwrap();
                std::fs::write(device.path().join("a/program"), b"mine").unwrap();
                std::fs::write(device.path().join("one"), b"mine").unwrap();
            }
            recover(&world.state).unwrap();
            world.check();
            assert!(get(&world.state, &name("data")).unwrap().mounted_for.is_empty());
            match (filled, written) {
                (false, false) => assert!(names(device.path()).is_empty(), "{at}"),
                (false, true) => assert_eq!(names(device.path()), ["a", "one"], "{at}"),
                (true, false) => assert!(is_whole_and_wide(device.path()), "{at}"),
                (true, true) => assert_eq!(names(device.path()), ["a", "one", "three", "two"], "{at}"),
            }
            if written {
                assert_eq!(std::fs::read(device.path().join("a/program")).unwrap(), b"mine", "{at}");
                assert_eq!(std::fs::read(device.path().join("one")).unwrap(), b"mine", "{at}");
            }
            world.remove("data").unwrap();
            world.check();
        }
    }
}

#[test]
fn a_symlink_put_into_a_half_filled_volume_leads_nowhere() {
    for at in ["initialise: copied", "initialise: whole"] {
        let (world, content) = (World::new(), make_wide_content());
        let (device, outside) = (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/var/tmp").unwrap());
        std::fs::write(outside.path().join("one"), b"host").unwrap();
        let path = device.path().to_str().unwrap();
        world.create_with("data", &[("type", "none"), ("o", "bind"), ("device", path)]).unwrap();
        let probe = command(world.path(), content.path(), "initialise", at).output().unwrap();
        if probe.status.signal() != Some(9) {
            return say("skipped: can't bind here");
        }
        let staging = device.path().join(&names(device.path())[0]);
        std::fs::rename(&staging, device.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(outside.path(), &staging).unwrap();
        recover(&world.state).unwrap();
        world.check();
        assert_eq!(names(outside.path()), ["one"]);
        assert_eq!(std::fs::read(outside.path().join("one")).unwrap(), b"host");
    }
}

#[test]
fn what_somebody_put_into_a_half_made_volume_stays() {
    for at in ["create: half", "create: aside", "create: moved"] {
        let world = World::new();
        kill(&world, Path::new("/nowhere"), "create", at);
        std::fs::create_dir_all(world.data("data").join("backup")).unwrap();
        std::fs::write(world.data("data").join("backup/file"), b"precious").unwrap();
        recover(&world.state).unwrap();
        let error = create(&world.state, request("data", &[])).unwrap_err();
        assert!(matches!(error, Error::Stray { .. }), "{error}");
        assert_eq!(std::fs::read(world.data("data").join("backup/file")).unwrap(), b"precious", "{at}");
        assert_eq!(names(&world.path().join("volumes")), ["data"]);
    }
}

#[test]
fn a_directory_without_a_row_goes_only_when_it_says_nothing() {
    // What the record says, what else lies there, and whether it stays.
    let options = [("type", "tmpfs"), ("device", "tmpfs")];
    for (options, file, stays) in [
        (&[][..], None, false),
        (&options[..], None, true),
        (&[][..], Some("_data/file"), true),
        (&[][..], Some("file"), true),
    ] {
        let world = World::new();
        world.create_with("data", options).unwrap();
        world.state.write(|tx| tx.volumes().delete("data")).unwrap();
        if let Some(file) = file {
            std::fs::write(world.path().join("volumes/data").join(file), b"mine").unwrap();
        }
        recover(&world.state).unwrap();
        assert_eq!(names(&world.path().join("volumes")).len(), usize::from(stays), "{options:?} {file:?}");
        // Whoever creates it has a new one, unless somebody's file is in the way.
        assert_eq!(create(&world.state, request("data", &[])).is_ok(), file.is_none(), "{options:?} {file:?}");
        if let Some(file) = file {
            assert_eq!(std::fs::read(world.path().join("volumes/data").join(file)).unwrap(), b"mine");
        }
    }
    // Another volume's directory under this name is none of ours.
    let world = World::new();
    world.create("other");
    std::fs::rename(world.path().join("volumes/other"), world.path().join("volumes/data")).unwrap();
    assert!(matches!(create(&world.state, request("data", &[])), Err(Error::Stray { .. })));
}

#[test]
fn a_creation_that_fails_leaves_nothing() {
    let world = World::new();
    crash::fail_at("create: sync");
    assert!(create(&world.state, request("data", &[])).is_err());
    world.check();
    assert_eq!(names(&world.path().join("volumes")).len(), 0);
}

#[test]
fn a_volume_that_is_being_made_is_no_leftover() {
    let world = World::new();
    world.create("data");
    let aside = world.path().join("volumes/.creating-x");
    std::fs::create_dir(&aside).unwrap();
    let held = world.state.lock_shared("volume", ".creating").unwrap();
    assert_eq!(recover(&world.state).unwrap(), 0);
    assert!(aside.exists());
    drop(held);
    assert_eq!(recover(&world.state).unwrap(), 1);
    assert!(!aside.exists());
}

#[test]
fn a_move_that_was_done_but_not_synced_counts_as_done() {
    for (verb, at, there) in [("remove", "trash: sync", false), ("restore", "restore: sync", true)] {
        let world = World::new();
        world.create("data");
        std::fs::write(world.data("data").join("file"), b"content").unwrap();
        if verb == "restore" {
            world.remove("data").unwrap();
        }
        crash::fail_at(at);
        let error = match verb {
            "remove" => world.remove("data").unwrap_err(),
            _ => trash::restore(&world.state, "data").unwrap_err(),
        };
        assert!(error.is(rustix::io::Errno::IO), "{error}");
        world.check();
        assert_eq!(get(&world.state, &name("data")).is_ok(), there, "{verb}");
        assert_eq!(trash::list(&world.state).unwrap().len(), usize::from(!there), "{verb}");
        if !there {
            trash::restore(&world.state, "data").unwrap();
        }
        assert_eq!(std::fs::read(world.data("data").join("file")).unwrap(), b"content");
    }
}

#[test]
fn a_disk_that_does_not_answer_is_not_an_empty_one() {
    // The directory above as a file or a loop of links: stat answers something else than ENOENT, as a bad disk does.
    let break_it = |path: &Path| {
        std::fs::rename(path, path.with_extension("aside")).unwrap();
        std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap();
    };
    let mend_it = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        std::fs::rename(path.with_extension("aside"), path).unwrap();
    };
    for (verb, at, there) in [
        ("remove", "remove: intent", "trash"),
        ("remove", "remove: moved", "trash"),
        ("remove", "remove: moved", "volumes"),
        ("restore", "restore: intent", "trash"),
        ("restore", "restore: moved", "trash"),
        ("empty", "empty: marked", "trash"),
    ] {
        let world = World::new();
        world.create("data");
        std::fs::write(world.data("data").join("file"), b"content").unwrap();
        if verb != "remove" {
            world.remove("data").unwrap();
        }
        kill(&world, Path::new("/nowhere"), verb, at);
        let rows = || world.state.read(|tx| Ok::<_, Error>((tx.volumes().list()?, tx.trash().list()?))).unwrap();
        let before = rows();
        break_it(&world.path().join(there));
        recover(&world.state).unwrap_err();
        assert_eq!(rows(), before, "{verb} {at} {there}");
        mend_it(&world.path().join(there));
        recover(&world.state).unwrap();
        world.check();
    }
}

/// Killed at any moment, not only at the points that somebody thought of.
#[test]
fn kills_at_any_moment() {
    let (world, content) = (World::new(), make_content());
    let verbs = "create,initialise,remove,restore,remove,create,initialise,remove-now,create,remove,empty";
    for round in 0..60u64 {
        let mut child = command(world.path(), content.path(), verbs, "")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The verbs take some 40 ms after 10 ms of start.
        std::thread::sleep(std::time::Duration::from_micros(8_000 + round * 700));
        let _ = child.kill();
        child.wait().unwrap();
        recover(&world.state).unwrap();
        world.check();
        let data = world.data("data");
        assert!(!data.exists() || names(&data).is_empty() || is_whole(&data), "round {round}");
        for row in trash::list(&world.state).unwrap() {
            let data = trash::path(&world.state, row.id).join("_data");
            assert!(names(&data).is_empty() || is_whole(&data), "round {round}");
        }
        trash::empty(&world.state, |_| true).unwrap();
        remove(&world.state, &name("data"), RemoveVolume { force: true, now: true }).unwrap();
    }
}
