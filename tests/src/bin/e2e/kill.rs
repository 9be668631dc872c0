//! The command line is killed with -9 in the middle of a verb. The next command works, and what it shows is whole:
//! either as if the verb had not begun, or as if it had ended.

use std::time::Duration;

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("kill::load", load),
        case("kill::save", save),
        case("kill::volume_rm", volume_rm),
        case("kill::run", run),
        case("kill::first_use", first_use),
        case("kill::rm", rm),
    ]
}

/// Milliseconds after which the command is killed, from the moment at which the program runs.
const MOMENTS: [u64; 12] = [0, 1, 2, 4, 6, 10, 15, 25, 40, 70, 120, 220];

/// How many of the kills must have come before the verb had ended by itself; the late ones show nothing.
const LANDINGS: usize = 3;

/// Kills `line` at each of [`MOMENTS`], with `before` run before each and `after` looking at what is left, both with the
/// number of the moment.
fn at_each_moment(
    world: &mut World,
    line: &str,
    mut before: impl FnMut(&mut World) -> Outcome,
    mut after: impl FnMut(&mut World, usize) -> Outcome,
) -> Outcome {
    let mut landed = 0;
    for (index, moment) in MOMENTS.into_iter().enumerate() {
        let complain = |said: String| format!("killed after {moment} ms: {said}");
        before(world).map_err(complain)?;
        landed += usize::from(world.kill_inside(&format!("exec {line}"), Duration::from_millis(moment))?);
        after(world, index).map_err(complain)?;
    }
    match landed >= LANDINGS {
        true => Ok(()),
        false => Err(format!("only {landed} of {} kills came while {line:?} ran", MOMENTS.len())),
    }
}

fn nothing(_: &mut World) -> Outcome {
    Ok(())
}

/// Removes all containers as a user would.
const REMOVE_ALL: &str = "ids=$(docker ps -aq) && { [ -z \"$ids\" ] || docker rm -f $ids; }";

fn load(world: &mut World) -> Outcome {
    let archive = world.archive("n8n")?;
    let load = format!("docker load -q -i {}", archive.display());
    at_each_moment(world, &load, nothing, |world, _| {
        for id in world.sh("docker images -q")?.ok()?.lines() {
            let ran =
                world.sh(&format!("docker run --rm {id} sh -c 'cat /opt/n8n.bin /usr/local/bin/node.bin | wc -c'"))?;
            same(&format!("bytes in {id}"), &ran.ok()?, "5242880")?;
        }
        Ok(())
    })?;
    world.sh(&load)?.ok()?;
    same("images", &world.sh("docker images -q | wc -l")?.ok()?, "3")?;
    world.sh("docker rmi n8nio/n8n:1.0 n8nio/n8n:2.0 n8nio/n8n:latest")?.ok()?;
    let left = world.sh("find $DATA/overlay2 -name busybox -o -name 'n8n.bin'")?.ok()?;
    same("layers left of killed loads", &left, "")
}

fn save(world: &mut World) -> Outcome {
    world.load(&["n8n"])?;
    world.sh("mkdir $W/saved && docker save -o $W/whole.tar n8nio/n8n")?.ok()?;
    at_each_moment(world, "docker save -o $W/saved/n8n.tar n8nio/n8n", nothing, |world, _| {
        let left = world.sh("ls -A $W/saved; [ ! -e $W/saved/n8n.tar ] || cmp $W/saved/n8n.tar $W/whole.tar")?.ok()?;
        same("what is there", left.strip_prefix("n8n.tar").unwrap_or(&left), "")?;
        world.sh("rm -f $W/saved/n8n.tar")?.ok().map(|_| ())
    })?;
    // A killed save holds on to nothing.
    world.sh("docker rmi n8nio/n8n:1.0 n8nio/n8n:2.0 n8nio/n8n:latest")?.ok()?;
    same("layers", &world.sh("find $DATA/overlay2 -name n8n.bin")?.ok()?, "")
}

fn volume_rm(world: &mut World) -> Outcome {
    world.sh("docker volume create v1 && seq 500 | (cd $DATA/volumes/v1/_data && xargs touch)")?.ok()?;
    at_each_moment(world, "docker volume rm v1", nothing, |world, _| {
        if world.sh("docker volume ls -q")?.ok()? != "v1" {
            world.sh("docker volume restore v1")?.ok()?;
        }
        same("files", &world.sh("ls $DATA/volumes/v1/_data | wc -l")?.ok()?, "500")
    })?;
    world.sh("docker volume rm v1 && docker volume create v1")?.ok()?;
    same("a new volume of the name", &world.sh("ls -A $DATA/volumes/v1/_data")?.ok()?, "")
}

fn run(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    at_each_moment(world, "docker run -d --name box -v data:/data busybox sleep 300", nothing, |world, _| {
        let list = world.sh("docker ps -a --format '{{.Names}} {{.State}}'")?.ok()?;
        if !matches!(list.as_str(), "" | "box running" | "box created" | "box exited") {
            return Err(list);
        }
        world.sh(REMOVE_ALL)?.ok()?;
        let again = world.sh("docker run --rm --name box -v data:/data busybox true")?;
        again.ok().map(|_| ()).map_err(|said| format!("run again: {said}"))
    })
}

fn first_use(world: &mut World) -> Outcome {
    world.load(&["myapp"])?;
    at_each_moment(world, "docker run --rm -v fresh:/app myapp true", nothing, |world, _| {
        let seen = world.sh("docker run --rm -v fresh:/app myapp sh -c 'ls /app; cat /app/config.txt'")?.ok()?;
        same("content", &seen, "config.txt\ndata\nlink\ndefault config")?;
        let removal = format!("{REMOVE_ALL}; docker volume rm fresh");
        world.until(&removal, Duration::from_secs(10)).map(|_| ())
    })
}

/// What was a container is afterwards one, or its writable layer lies in the trash; its volume is there in any case.
fn rm(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let start = |world: &mut World| {
        world.sh("docker run -d --name box -v data:/data busybox sh -c 'date >> /data/file; exec sleep 300'")?.ok()?;
        world.until("docker exec box test -s /data/file", Duration::from_secs(10)).map(|_| ())
    };
    at_each_moment(world, "docker rm -f box", start, |world, index| {
        let trashed = "docker volume trash ls --format '{{.Type}} {{.Name}}' | grep -cx 'container box'";
        let all = format!("test $(( $(docker ps -aq | wc -l) + $({trashed}) )) = {}", index + 1);
        world.until(&all, Duration::from_secs(5)).map_err(|said| format!("container or trash: {said}"))?;
        same("the volume", &world.sh("docker volume ls -q")?.ok()?, "data")?;
        same("lines in it", &world.sh("wc -l < $DATA/volumes/data/_data/file")?.ok()?, &(index + 1).to_string())?;
        world.sh(REMOVE_ALL)?.ok()?;
        same("containers", &world.sh("docker ps -aq")?.ok()?, "")?;
        same("writable layers in the trash", &world.sh(trashed)?.ok()?, &(index + 1).to_string())
    })
}
