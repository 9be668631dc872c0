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
        ("create", "create: intent", false, 0),
        ("create", "create: half", false, 0),
        ("create", "create: directories", false, 0),
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
        ("create", "create: half", "create"),
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

#[test]
fn a_first_use_in_place_is_cleaned_by_its_list() {
    for at in ["initialise: intent", "initialise: listed", "initialise: copied", "initialise: filled"] {
        for reboot in [false, true] {
            let (world, content) = (World::new(), make_content());
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
            // Somebody else's file stays, and so do the directories above it.
            let partial = device.path().join("a").exists() && !at.ends_with("filled");
            if partial {
                std::fs::write(device.path().join("a/b/foreign"), b"mine").unwrap();
            }
            recover(&world.state).unwrap();
            world.check();
            assert!(get(&world.state, &name("data")).unwrap().mounted_for.is_empty());
            if partial {
                assert_eq!(names(&device.path().join("a")), ["b"], "{at}");
                assert_eq!(std::fs::read(device.path().join("a/b/foreign")).unwrap(), b"mine");
            } else {
                assert!(names(device.path()).is_empty() || is_whole(device.path()), "{at}");
            }
            world.remove("data").unwrap();
            world.check();
        }
    }
}

#[test]
fn a_symlink_put_into_a_half_filled_volume_leads_nowhere() {
    let (world, content) = (World::new(), make_content());
    let (device, outside) = (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/var/tmp").unwrap());
    std::fs::write(outside.path().join("file-1"), b"host").unwrap();
    let path = device.path().to_str().unwrap();
    world.create_with("data", &[("type", "none"), ("o", "bind"), ("device", path)]).unwrap();
    let probe = command(world.path(), content.path(), "initialise", "initialise: copied").output().unwrap();
    if probe.status.signal() != Some(9) {
        return say("skipped: can't bind here");
    }
    std::fs::rename(device.path().join("a"), device.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(outside.path(), device.path().join("a")).unwrap();
    recover(&world.state).unwrap();
    assert_eq!(std::fs::read(outside.path().join("file-1")).unwrap(), b"host");
    world.check();
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
