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
        case("kill::volume_rm", volume_rm),
        case("kill::run", run),
        case("kill::first_use", first_use),
        case("kill::rm", rm),
    ]
}

/// Milliseconds after which the command is killed.
const MOMENTS: [u64; 12] = [1, 3, 6, 10, 15, 20, 30, 40, 60, 90, 140, 220];

fn killed_after(world: &mut World, moment: u64, line: &str) -> Outcome {
    world.spawn("killed", &format!("exec {line}"))?;
    std::thread::sleep(Duration::from_millis(moment));
    world.kill_spawned();
    Ok(())
}

fn load(world: &mut World) -> Outcome {
    let archive = world.archive("n8n")?;
    let load = format!("docker load -q -i {}", archive.display());
    for moment in MOMENTS {
        killed_after(world, moment, &load)?;
        for id in world.sh("docker images -q")?.ok()?.lines() {
            let ran =
                world.sh(&format!("docker run --rm {id} sh -c 'cat /opt/n8n.bin /usr/local/bin/node.bin | wc -c'"))?;
            same(&format!("bytes in {id}, killed after {moment} ms"), &ran.ok()?, "5242880")?;
        }
    }
    world.sh(&load)?.ok()?;
    same("images", &world.sh("docker images -q | wc -l")?.ok()?, "3")?;
    world.sh("docker rmi n8nio/n8n:1.0 n8nio/n8n:2.0 n8nio/n8n:latest")?.ok()?;
    let left = world.sh("find $DATA/overlay2 -name busybox -o -name 'n8n.bin'")?.ok()?;
    same("layers left of killed loads", &left, "")
}

fn volume_rm(world: &mut World) -> Outcome {
    let fill = "docker volume create v1 && seq 500 | (cd $DATA/volumes/v1/_data && xargs touch)";
    world.sh(fill)?.ok()?;
    for moment in MOMENTS {
        killed_after(world, moment, "docker volume rm v1")?;
        if world.sh("docker volume ls -q")?.ok()? != "v1" {
            world.sh("docker volume restore v1")?.ok().map_err(|said| format!("killed after {moment} ms: {said}"))?;
        }
        let files = world.sh("ls $DATA/volumes/v1/_data | wc -l")?.ok()?;
        same(&format!("files, killed after {moment} ms"), &files, "500")?;
    }
    world.sh("docker volume rm v1 && docker volume create v1")?.ok()?;
    same("a new volume of the name", &world.sh("ls -A $DATA/volumes/v1/_data")?.ok()?, "")
}

fn run(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    for moment in MOMENTS {
        killed_after(world, moment, "docker run -d --name box -v data:/data busybox sleep 300")?;
        let list = world.sh("docker ps -a --format '{{.Names}} {{.State}}'")?.ok()?;
        if !matches!(list.as_str(), "" | "box running" | "box created" | "box exited") {
            return Err(format!("killed after {moment} ms: {list}"));
        }
        let removal = world.sh("ids=$(docker ps -aq); [ -z \"$ids\" ] || docker rm -f $ids")?;
        removal.ok().map_err(|said| format!("killed after {moment} ms: {said}"))?;
        let again = world.sh("docker run --rm --name box -v data:/data busybox true")?;
        again.ok().map_err(|said| format!("killed after {moment} ms, run again: {said}"))?;
    }
    Ok(())
}

fn first_use(world: &mut World) -> Outcome {
    world.load(&["myapp"])?;
    for moment in MOMENTS {
        killed_after(world, moment, "docker run --rm -v fresh:/app myapp true")?;
        let seen = world.sh("docker run --rm -v fresh:/app myapp sh -c 'ls /app; cat /app/config.txt'")?.ok()?;
        same(&format!("content, killed after {moment} ms"), &seen, "config.txt\ndata\nlink\ndefault config")?;
        world.until(
            "ids=$(docker ps -aq); [ -z \"$ids\" ] || docker rm -f $ids; docker volume rm fresh",
            Duration::from_secs(10),
        )?;
    }
    Ok(())
}

fn rm(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    for moment in MOMENTS {
        world.sh("docker run -d --name box -v data:/data busybox sleep 300")?.ok()?;
        killed_after(world, moment, "docker rm -f box")?;
        let removal = world.sh("ids=$(docker ps -aq); [ -z \"$ids\" ] || docker rm -f $ids")?;
        removal.ok().map_err(|said| format!("killed after {moment} ms: {said}"))?;
        same("containers", &world.sh("docker ps -aq")?.ok()?, "")?;
    }
    Ok(())
}
