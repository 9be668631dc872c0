//! Fifty at once: no error, no double, nothing lost, and of fifty that want the same thing exactly one does it.

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("crowd::fifty_volumes", fifty_volumes),
        case("crowd::one_volume_fifty_times", one_volume_fifty_times),
        case("crowd::fifty_containers", fifty_containers),
        case("crowd::fifty_first_uses_of_one_volume", fifty_first_uses),
        case("crowd::one_removal_wins", one_removal_wins),
    ]
}

/// Fifty times the same line, all started before any is waited for; `$i` counts. Hands back how many ended with 0 and
/// what the others said.
fn crowd(world: &World, line: &str) -> Outcome<(usize, String)> {
    let script = format!(
        "rm -rf $W/crowd; mkdir $W/crowd; for i in $(seq 50); do \
         ( {line} > $W/crowd/$i.out 2> $W/crowd/$i.err; echo $? > $W/crowd/$i.code ) & done; wait; \
         grep -lx 0 $W/crowd/*.code | wc -l; for i in $(grep -Lx 0 $W/crowd/*.code); do cat ${{i%code}}err; done"
    );
    let said = world.sh(&script)?.ok()?;
    let (count, errors) = said.split_once('\n').unwrap_or((&said, ""));
    Ok((count.trim().parse().map_err(|error| format!("{error}: {said}"))?, errors.to_owned()))
}

/// As `crowd`, where every one must succeed.
fn all(world: &World, line: &str) -> Outcome {
    let (good, errors) = crowd(world, line)?;
    if good == 50 { Ok(()) } else { Err(format!("{line}: {good} of 50 succeeded\n{errors}")) }
}

/// As `crowd`, where exactly one must succeed and each other one says why.
fn one(world: &World, line: &str, reasons: &[&str]) -> Outcome {
    let (good, errors) = crowd(world, line)?;
    let explained = errors.lines().filter(|said| reasons.iter().any(|reason| said.contains(reason))).count();
    if (good, explained) == (1, 49) {
        return Ok(());
    }
    Err(format!("{line}: {good} succeeded, {explained} said one of {reasons:?}\n{errors}"))
}

fn fifty_volumes(world: &mut World) -> Outcome {
    all(world, "docker volume create v$i")?;
    same(
        "volumes",
        &world.sh("docker volume ls -q | sort -u | wc -l; ls $DATA/volumes | grep -c ^v")?.ok()?,
        "50\n50",
    )?;
    all(world, "docker volume rm v$i")?;
    same("volumes", &world.sh("docker volume ls -q | wc -l")?.ok()?, "0")
}

fn one_volume_fifty_times(world: &mut World) -> Outcome {
    all(world, "docker volume create same")?;
    same("answers", &world.sh("cat $W/crowd/*.out | sort -u; docker volume ls -q")?.ok()?, "same\nsame")?;
    world.sh("echo kept > $DATA/volumes/same/_data/file")?.ok()?;
    one(world, "docker volume rm same", &["no such volume", "in progress", "in use"])?;
    let restored =
        world.sh("docker volume restore same; cat $DATA/volumes/same/_data/file; docker volume ls -q")?.ok()?;
    if restored.ends_with("kept\nsame") { Ok(()) } else { Err(format!("after restore: {restored}")) }
}

fn fifty_containers(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    all(world, "docker run --rm -v shared:/shared busybox sh -c \"echo $i >> /shared/log\"")?;
    let seen = world
        .sh("sort -n $DATA/volumes/shared/_data/log | uniq | wc -l; docker ps -aq | wc -l; docker volume ls -q")?;
    same("lines written, containers, volumes", &seen.ok()?, "50\n0\nshared")?;
    all(world, "docker run -d --name b$i busybox sleep 300")?;
    same("running", &world.sh("docker ps -q | wc -l")?.ok()?, "50")?;
    all(world, "docker rm -f b$i")?;
    same("left", &world.sh("docker ps -aq | wc -l")?.ok()?, "0")
}

fn fifty_first_uses(world: &mut World) -> Outcome {
    world.load(&["myapp"])?;
    all(world, "docker run --rm -v fresh:/app myapp cat /app/config.txt")?;
    same("answers", &world.sh("cat $W/crowd/*.out | sort | uniq -c | tr -s ' '")?.ok()?, " 50 default config")
}

fn one_removal_wins(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker create --name box busybox")?.ok()?;
    one(world, "docker rm box", &["No such container", "already in progress"])?;
    world.sh("docker run -d --name box busybox sleep 300")?.ok()?;
    let (good, errors) = crowd(world, "docker run -d --name box busybox sleep 300")?;
    if good != 0 || errors.matches("is already in use").count() != 50 {
        return Err(format!("a name in use was given to {good} more containers\n{errors}"));
    }
    same("containers", &world.sh("docker ps -aq | wc -l")?.ok()?, "1")
}
