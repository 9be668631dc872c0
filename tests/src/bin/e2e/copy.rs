//! `cp`, with Docker's rules of what becomes what, for a container that runs and for one that doesn't.

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, contains, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("copy::rules", rules),
        case("copy::volumes_and_links", volumes_and_links),
        case("copy::archives", archives),
        case("copy::killed", killed),
        case("copy::killed_among_many", killed_among_many),
        case("copy::top_and_stats", top_and_stats),
    ]
}

const SOURCE: &str = "mkdir -p src/sub && echo one > src/file && ln src/file src/same && ln -s file src/link \
    && echo two > src/sub/deep && chmod 4755 src/sub/deep && chown 1000:1001 src/file && touch -d @1000000000 src/file";

fn rules(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh(SOURCE)?.ok()?;
    world.sh("docker run -d --name on busybox sleep 300; docker create --name off busybox sleep 300")?.ok()?;
    for name in ["on", "off"] {
        for (line, code, part) in [
            ("docker cp src NAME:/new", 0, "Successfully copied 8B to NAME:/new"),
            ("docker cp src NAME:/new", 0, ""),
            ("docker cp -q src/. NAME:/tmp", 0, ""),
            ("docker cp src/file NAME:/tmp/other", 0, ""),
            ("docker cp -a src/file NAME:/tmp/owned", 0, ""),
            ("docker cp src/file NAME:/none/", 1, "destination directory must exist"),
            ("docker cp src/file NAME:/none/file", 1, "Could not find the file /none/file in container NAME"),
            ("docker cp src NAME:/tmp/other", 1, "cannot copy directory"),
            ("docker cp nothing NAME:/tmp", 1, "nothing: No such file"),
            ("docker cp NAME:/nothing .", 1, "Could not find the file /nothing in container NAME"),
            ("docker cp NAME:/new out-NAME", 0, ""),
            ("docker cp NAME:/new/link link-NAME", 0, ""),
            ("docker cp -L NAME:/new/link followed-NAME", 0, ""),
            ("docker cp NAME:/new nowhere/out", 1, "does not exist"),
        ] {
            let line = line.replace("NAME", name);
            let said = match code {
                0 => world.sh(&format!("{line} 2>&1"))?.ok()?,
                code => world.sh(&line)?.fails(code)?,
            };
            contains(&line, &said, &part.replace("NAME", name))?;
        }
        let host = format!("cat out-{name}/sub/deep followed-{name}; readlink link-{name}; stat -c %h out-{name}/file");
        same("on the host", &world.sh(&host)?.ok()?, "two\none\nfile\n2")?;
    }
    world.sh("docker start off")?.ok()?;
    let inside =
        "cd /new; stat -c '%n %u %a %Y %h' file; stat -c %a sub/deep; readlink link; cat src/file /tmp/sub/deep
        stat -c '%u:%g %Y' /tmp/owned; cat /tmp/other; ls -A / /tmp | grep orlop-cp || true";
    for name in ["on", "off"] {
        let seen = world.sh(&format!("docker exec {name} sh -c \"{inside}\""))?.ok()?;
        same(name, &seen, "file 0 644 1000000000 2\n4755\nfile\none\ntwo\n1000:1001 1000000000\none")?;
    }
    contains("two", &world.sh("docker cp on:/a off:/b")?.fails(1)?, "copying between containers is not supported")?;
    contains("none", &world.sh("docker cp src src2")?.fails(1)?, "must specify at least one container source")
}

/// Paths lead where the container's programs see them, and never out of it.
fn volumes_and_links(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("echo host > file; echo secret > $W/secret; mkdir -p $HOST/bind")?.ok()?;
    for verb in ["run -d", "create"] {
        let name = verb.split(' ').next().unwrap_or_default();
        let create = format!("docker {verb} --name {name} -v vol-{name}:/data -v $HOST/bind:/bind:ro busybox");
        world.sh(&format!("{create} sh -c 'ln -s /data /way; ln -s $W/secret /out; sleep 300'"))?.ok()?;
        world.sh(&format!("docker cp file {name}:/data/ && cat $DATA/volumes/vol-{name}/_data/file"))?.ok()?;
        let refusal = world.sh(&format!("docker cp file {name}:/bind/"))?.fails(1)?;
        contains("read-only", &refusal, "Read-only file system")?;
    }
    world.until("docker exec run ls /way /out", std::time::Duration::from_secs(10)).ok();
    world.sh("docker cp file run:/way/through && cat $DATA/volumes/vol-run/_data/through")?.ok()?;
    contains("out", &world.sh("docker cp -L run:/out stolen")?.fails(1)?, "Could not find the file /out")?;
    world.sh("docker create --name ro --read-only -v vol-ro:/data busybox true && docker cp file ro:/data/")?.ok()?;
    contains("ro", &world.sh("docker cp file ro:/tmp/")?.fails(1)?, "container rootfs is marked read-only")
}

fn archives(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh(SOURCE)?.ok()?;
    world.sh("docker run -d --name on busybox sleep 300; docker create --name off busybox sleep 300")?.ok()?;
    for name in ["on", "off"] {
        world.sh(&format!("tar c src | docker cp - {name}:/tmp"))?.ok()?;
        let listed = world.sh(&format!("docker cp {name}:/tmp/src - | tar t | sort"))?.ok()?;
        same("names", &listed, "src/\nsrc/file\nsrc/link\nsrc/same\nsrc/sub/\nsrc/sub/deep")?;
        let owner = world.sh(&format!("docker cp {name}:/tmp/src/file - | tar tv --numeric-owner | cut -d' ' -f2"))?;
        same("owner", &owner.ok()?, "1000/1001")?;
        world.sh(&format!("tar c src | docker cp - {name}:/nothing"))?.fails(1)?;
        world.sh(&format!("tar c src | head -c 700 | docker cp - {name}:/tmp"))?.fails(1)?;
    }
    match missing_tools(&["setfattr", "getfattr"]) {
        None => attributes(world)?,
        Some(reason) => orlop_tests::say(&format!("skipped: extended attributes in copy::archives: {reason}")),
    }
    world.sh("tar cP --transform 's|^src|../../up|' src | docker cp - on:/tmp")?.fails(1)?;
    world
        .sh("mkdir evil && ln -s / evil/root && tar c evil/root > evil.tar && rm evil/root && mkdir evil/root")?
        .ok()?;
    world.sh("echo x > evil/root/evil-was-here && tar rf evil.tar evil/root/evil-was-here")?.ok()?;
    // Through a link of the archive it stays in the container.
    world
        .sh("docker cp - on:/tmp < evil.tar && docker exec on cat /evil-was-here && test ! -e /evil-was-here")?
        .ok()?;
    Ok(())
}

/// Extended attributes, both ways.
fn attributes(world: &World) -> Outcome {
    world
        .sh("cp -r src noted && setfattr -n user.note -v kept noted/file && setfattr -n user.note -v dir noted")?
        .ok()?;
    for name in ["on", "off"] {
        world.sh(&format!("tar c --xattrs noted | docker cp - {name}:/tmp && mkdir -p {name}"))?.ok()?;
        world.sh(&format!("docker cp {name}:/tmp/noted - | tar x --xattrs -C {name}"))?.ok()?;
        let seen = world.sh(&format!("getfattr --only-values -n user.note {name}/noted/file {name}/noted"))?;
        same("attributes", &seen.ok()?, "keptdir")?;
    }
    Ok(())
}

/// A copy that is killed leaves the old file or the new one, and no other name.
fn killed(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world
        .sh("docker run -d --name box -v data:/data busybox sleep 300; dd if=/dev/urandom of=big bs=1M count=64")?
        .ok()?;
    world.sh("head -c 1000 big > small && docker cp small box:/data/file")?.ok()?;
    for moment in [5, 10, 20, 40, 80] {
        world.kill_inside("exec docker cp big box:/data/file", std::time::Duration::from_millis(moment))?;
        let left = world.sh("ls -A $DATA/volumes/data/_data | grep -v '^.orlop-cp-'")?.ok()?;
        same("names", &left, "file")?;
        let whole = "cmp -s big $DATA/volumes/data/_data/file || cmp small $DATA/volumes/data/_data/file";
        world.sh(whole)?.ok()?;
    }
    let left = "ls -A $DATA/volumes/data/_data $DATA/containers/* | grep -e orlop-cp- -e '^cp-'";
    // What a kill between two calls of the kernel leaves: an entry, and the record that tells of it.
    let token = "0123456789abcdef";
    for (stop, path) in [("true", "data"), ("docker stop -t 0 box", "data")] {
        world.sh(&format!(
            "{stop}; printf 'container\\0/{path}\\0' > $DATA/containers/$(docker inspect -f '{{{{.Id}}}}' box)/cp-{token}
            : > $DATA/volumes/data/_data/.orlop-cp-{token}; orlop system tend"
        ))?
        .ok()?;
        world.until(&format!("! {left}"), std::time::Duration::from_secs(20))?;
    }
    Ok(())
}

/// Each file of many takes the place of another, so the kill often comes while one has its hidden name.
fn killed_among_many(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker run -d --name box -v data:/data busybox sleep 300; mkdir -p many && seq 3000 | split -l 1 -a 3 - many/f")?.ok()?;
    world.sh("docker cp many box:/data/ && docker cp many box:/")?.ok()?;
    for (moment, target) in [(4, "/data/"), (8, "/"), (12, "/data/"), (16, "/"), (24, "/data/")] {
        let line = format!("while :; do docker cp -q many box:{target}; done");
        world.spawn("copies", &line)?;
        std::thread::sleep(std::time::Duration::from_millis(200 + moment));
        world.kill_spawned();
        world.sh("orlop system tend")?.ok()?;
        let left = "docker exec box ls -A /data/many /many | grep orlop-cp; ls $DATA/containers/* | grep '^cp-'";
        world.until(&format!("test -z \"$({left})\""), std::time::Duration::from_secs(20))?;
    }
    Ok(())
}

fn top_and_stats(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker run -d --name box busybox sh -c 'sleep 300 & sleep 300'")?.ok()?;
    world.until("docker top box | grep -c 'sleep 300$' | grep -x 2", std::time::Duration::from_secs(10))?;
    contains("titles", &world.sh("docker top box -o pid,comm")?.ok()?, "PID")?;
    let stats = world.sh("docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}'")?.ok()?;
    contains("stats", &stats, "box 2 ")?;
    contains("limit", &stats, "iB / ")?;
    world.sh("docker stop -t 0 box")?.ok()?;
    contains("stopped", &world.sh("docker top box")?.fails(1)?, "is not running")?;
    contains("all", &world.sh("docker stats --no-stream -a")?.ok()?, "0B / 0B")
}
