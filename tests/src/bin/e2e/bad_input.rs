//! What is wrong is refused in one line, and nothing stays behind: no image, layer, volume, container or file.

use std::fs;

use orlop_tests::Outcome;
use orlop_tests::archive::{Image, root, write_docker_archive};
use orlop_tests::world::{Ran, World};
use serde_json::json;
use tar::EntryType;

use crate::{Case, contains, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("bad_input::archives", archives),
        case("bad_input::references", references),
        case("bad_input::mounts", mounts),
        case("bad_input::layers_that_point_outside", layers_that_point_outside),
        Case { name: "bad_input::full_disk", missing: missing_tools(&["mkfs.ext4", "losetup"]), run: full_disk },
    ]
}

/// Everything below the data root that a verb may have made; the database, locks and the event log come and go.
const FOOTPRINT: &str = "cd $DATA && find . -mindepth 1 -not -path './locks*' -not -path './leases*' -not -path ./content/ingest \
    -not -name 'state.db*' -not -name 'events.jsonl*' -not -name reserve | sort";

/// One line on stderr; the pointer to `--help` that Docker's CLI adds, and a hint at the way out, don't count.
fn one_line(what: &str, ran: Ran, code: i32) -> Outcome<String> {
    let said = ran.fails(code).map_err(|said| format!("{what}: {said}"))?;
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("--help'") && !line.starts_with("Hint: "))
        .collect();
    match lines.as_slice() {
        [line] if line.len() > 10 => Ok((*line).to_owned()),
        _ => Err(format!("{what}: not one clear line: {said:?}")),
    }
}

fn archives(world: &mut World) -> Outcome {
    let whole = world.archive("n8n")?;
    let whole = whole.display();
    let layer = world
        .images()
        .layer("honest", |layer| layer.file("file", root(0o644), b"honest\n"))
        .map_err(|e| e.to_string())?;
    let base = world.images().base().map_err(|error| error.to_string())?;
    let mut lying = layer;
    lying.diff_id = format!("sha256:{}", "5".repeat(64));
    let image = Image { tags: vec!["lying:1".to_owned()], layers: vec![base, lying], config: json!({"Cmd": ["sh"]}) };
    write_docker_archive(&world.dir().join("lying.tar"), &[image]).map_err(|error| error.to_string())?;
    // Directories of the store that the first load makes are no remains of a failed one.
    world.sh(&format!("docker load -q -i {whole} && docker rmi $(docker images -q)"))?.ok()?;
    let before = world.sh(FOOTPRINT)?.ok()?;
    for (what, make) in [
        ("half an archive", format!("head -c $(($(stat -c %s {whole}) / 2)) {whole} > $W/bad.tar")),
        ("an archive without its end", format!("head -c 3000000 {whole} > $W/bad.tar")),
        ("half a gzip stream", format!("gzip -c {whole} | head -c 1000000 > $W/bad.tar")),
        (
            "a zstd stream with a flipped byte",
            format!(
                "zstd -qc {whole} > $W/bad.tar; printf x | dd of=$W/bad.tar bs=1 seek=700000 conv=notrunc status=none"
            ),
        ),
        ("a layer that is not what its digest says", "cp $W/lying.tar $W/bad.tar".to_owned()),
        ("an empty file", ": > $W/bad.tar".to_owned()),
        ("a text", "seq 10000 > $W/bad.tar".to_owned()),
        ("a tar of something else", "tar cf $W/bad.tar -C /etc hostname".to_owned()),
        ("no file", "rm -f $W/bad.tar".to_owned()),
    ] {
        world.sh(&make)?.ok()?;
        one_line(what, world.sh("docker load -i $W/bad.tar")?, 1)?;
        same(&format!("images after {what}"), &world.sh("docker images -aq")?.ok()?, "")?;
        same(&format!("files after {what}"), &world.sh(FOOTPRINT)?.ok()?, &before)?;
    }
    world.sh(&format!("docker load -q -i {whole}"))?.ok().map(|_| ())
}

fn references(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    for (line, code, part) in [
        ("docker run 'Upper Case' true", 125, "invalid reference format"),
        ("docker run busybox:bad:tag true", 125, "invalid reference format"),
        ("docker run busybox@sha256:12 true", 125, "invalid reference format"),
        ("docker tag busybox UPPERcase", 1, "invalid reference format"),
        ("docker tag nothing-here other", 1, "No such image"),
        ("docker rmi nothing-here", 1, "No such image"),
        ("docker volume create ../evil", 1, "create ../evil: \"../evil\" includes invalid characters"),
        ("docker volume create -- -evil", 1, "create -evil: \"-evil\" includes invalid characters"),
        ("docker volume create --driver nothing-here vol", 1, "plugin \"nothing-here\" not found"),
        (
            "docker volume create --opt type=nfs --opt device=:/x vol",
            1,
            "option type=nfs of the local driver is not supported",
        ),
        ("docker run --name 'a b' busybox true", 125, "Invalid container name (a b), only"),
        ("docker start nothing-here", 1, "No such container"),
        ("docker run busybox /no/such/program", 127, "/no/such/program: no such file or directory"),
        ("docker run busybox /etc/passwd", 126, "ermission denied"),
    ] {
        contains(line, &world.sh(line)?.fails(code).map_err(|said| format!("{line}: {said}"))?, part)?;
        one_line(line, world.sh(line)?, code)?;
    }
    same("volumes", &world.sh("docker volume ls -q")?.ok()?, "")
}

fn mounts(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let before = world.sh(FOOTPRINT)?.ok()?;
    for (flags, part) in [
        ("-v one:/x -v two:/x", "Duplicate mount point: /x"),
        ("-v one:/x --tmpfs /x", "Duplicate mount point: /x"),
        ("-v one:/x/ --mount type=tmpfs,target=/x", "Duplicate mount point"),
        ("--mount type=bind,source=$HOST/none,target=/x", "bind source path does not exist"),
        ("-v $HOST/none.sock:/x", "/none.sock (no directory is made for the name of a socket"),
        (
            "-v one:relative",
            "'one:relative': invalid mount config for type \"volume\": invalid mount path: 'relative' mount path must be absolute",
        ),
        ("-v one:/x:bogus", "invalid mode: bogus"),
        ("-v 'one two:/x'", "create one two: \"one two\" includes invalid characters for a local volume name"),
        ("-v one:/", "invalid specification: destination can't be '/'"),
        ("--mount type=weird,target=/x", "invalid mount config for type \"weird\": mount type unknown"),
        ("--mount source=one", "for \"--mount\" flag: target is required"),
        ("--mount type=volume,source=one,target=/x,bogus=1", "unexpected key 'bogus' in 'bogus=1'"),
        ("--mount type=tmpfs,target=/x,tmpfs-size=lots", "invalid value for tmpfs-size: lots"),
        ("--mount type=bind,source=relative,target=/x", "invalid mount path: 'relative' mount path must be absolute"),
        (
            "--tmpfs relative",
            "for \"--tmpfs\" flag: invalid mount config for type \"tmpfs\": invalid mount path: 'relative'",
        ),
        ("--tmpfs /x:size=lots", "invalid tmpfs option \"size=lots\""),
        ("--volumes-from nothing-here", "No such container: nothing-here"),
        ("-p 80:80", "-p, --publish: networks come with a later version"),
        ("-m 5m", "Minimum memory limit allowed is 6MB"),
    ] {
        let said = one_line(flags, world.sh(&format!("docker run {flags} busybox true"))?, 125)?;
        contains(flags, &said, part)?;
        same(
            &format!("containers and volumes after {flags}"),
            &world.sh("docker ps -aq; docker volume ls -q")?.ok()?,
            "",
        )?;
    }
    same("files", &world.sh(FOOTPRINT)?.ok()?, &before)
}

/// Layers that want to write into `$HOST`; loading them may fail or not, running them as well, but the host's directory
/// stays as it was.
fn layers_that_point_outside(world: &mut World) -> Outcome {
    let host = world.dir().join("host");
    fs::write(host.join("canary"), "alive\n").map_err(|error| error.to_string())?;
    let outside = host.display().to_string();
    let up = "../".repeat(20);
    let dots = format!("{up}{}", outside.trim_start_matches('/'));
    type Entry = (EntryType, String, String, &'static [u8]);
    let entry = |kind, name: &str, target: &str, bytes| -> Entry { (kind, name.to_owned(), target.to_owned(), bytes) };
    let file = EntryType::Regular;
    let attacks: Vec<(&str, Vec<Entry>)> = vec![
        ("dots", vec![entry(file, &format!("{dots}/new"), "", b"evil")]),
        ("dots inside", vec![entry(file, &format!("tmp/{dots}/new"), "", b"evil")]),
        ("absolute", vec![entry(file, &format!("{outside}/new"), "", b"evil")]),
        ("symlink", vec![entry(EntryType::Symlink, "door", &outside, b""), entry(file, "door/new", "", b"evil")]),
        (
            "relative symlink",
            vec![entry(EntryType::Symlink, "door", &dots, b""), entry(file, "door/canary", "", b"evil")],
        ),
        (
            "symlinked whiteout",
            vec![entry(EntryType::Symlink, "door", &outside, b""), entry(file, "door/.wh.canary", "", b"")],
        ),
        (
            "symlinked opaque",
            vec![entry(EntryType::Symlink, "door", &outside, b""), entry(file, "door/.wh..wh..opq", "", b"")],
        ),
        (
            "hardlink",
            vec![entry(EntryType::Link, "again", &format!("{outside}/canary"), b""), entry(file, "again", "", b"evil")],
        ),
        (
            "dotted hardlink",
            vec![entry(EntryType::Link, "again", &format!("{dots}/canary"), b""), entry(file, "again", "", b"evil")],
        ),
        (
            "hardlink through a symlink",
            vec![
                entry(EntryType::Symlink, "door", &outside, b""),
                entry(EntryType::Link, "again", "door/canary", b""),
                entry(file, "again", "", b"evil"),
            ],
        ),
        (
            "final symlink",
            vec![
                entry(EntryType::Symlink, "file", &format!("{outside}/canary"), b""),
                entry(file, "file", "", b"evil"),
            ],
        ),
        ("whiteout of the parent", vec![entry(file, ".wh...", "", b"")]),
        ("whiteout of itself", vec![entry(file, ".wh..", "", b"")]),
        (
            "directory over a symlink",
            vec![entry(EntryType::Symlink, "door", &outside, b""), entry(EntryType::Directory, "door", "", b"")],
        ),
    ];
    for (what, entries) in attacks {
        let make = || -> std::io::Result<()> {
            let base = world.images().base()?;
            let layer = world.images().layer("evil", |layer| {
                entries.iter().try_for_each(|(kind, name, target, bytes)| layer.evil(*kind, name, target, bytes))
            })?;
            let image =
                Image { tags: vec!["evil:1".to_owned()], layers: vec![base, layer], config: json!({"Cmd": ["true"]}) };
            write_docker_archive(&world.dir().join("evil.tar"), &[image])
        };
        make().map_err(|error| format!("{what}: {error}"))?;
        let ran = world.sh("docker load -q -i $W/evil.tar")?;
        if ran.code == 0 {
            world.sh(
                "docker run --rm evil:1; docker run --rm -v v1:/door evil:1; docker rmi -f evil:1; docker volume rm v1",
            )?;
        } else {
            one_line(what, ran, 1)?;
        }
        let seen = world.sh("cd $HOST && ls -A && cat canary && stat -c %h canary")?.ok()?;
        same(&format!("the host's directory after {what}"), &seen, "canary\nalive\n1")?;
    }
    Ok(())
}

/// A data root on a small ext4 of its own, full to the last byte.
fn full_disk(world: &mut World) -> Outcome {
    let mount = "truncate -s 96M $W/disk.img && mkfs.ext4 -q -m 0 $W/disk.img && mkdir $W/disk && mount -o loop $W/disk.img $W/disk";
    world.sh(mount)?.ok()?;
    world.set_data(world.dir().join("disk/data"));
    world.load(&["busybox"])?;
    world.sh("docker volume create keep && docker create --name made -v keep:/keep busybox && docker create --name other busybox")?.ok()?;
    world.sh("docker run -d --name alive busybox sleep 300")?.ok()?;
    world.sh("dd if=/dev/zero of=$W/disk/ballast bs=1M status=none; dd if=/dev/zero of=$W/disk/ballast2 bs=1k status=none; true")?.ok()?;
    let free = world.sh("df --output=avail $W/disk | tail -1")?.ok()?;
    same("free blocks", free.trim(), "0")?;
    let before = world.sh(FOOTPRINT)?.ok()?;
    let archive = world.archive("n8n")?;
    let load = format!("docker load -q -i {}", archive.display());
    contains("load", &one_line("load", world.sh(&load)?, 1)?, "o space left")?;
    same("images after the failed load", &world.sh("docker images -q | wc -l")?.ok()?, "1")?;
    same("files after the failed load", &world.sh(FOOTPRINT)?.ok()?, &before)?;
    for line in [
        "docker ps -a",
        "docker volume ls",
        "docker exec alive true",
        "docker rm made",
        "docker volume rm keep",
        "docker stop -t 0 alive",
        "docker rm alive other",
        "docker rmi busybox",
    ] {
        world.sh(line)?.ok().map_err(|said| format!("with 0 bytes free, {line}: {said}"))?;
    }
    world.sh("rm $W/disk/ballast $W/disk/ballast2")?.ok()?;
    world.sh(&load)?.ok()?;
    world.sh("docker volume restore keep && docker run --rm -v keep:/keep n8nio/n8n:latest true")?.ok()?;
    Ok(())
}
