//! A container's life: restart policies, health, pause, a killed shim, a boot.

use std::time::Duration;

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, contains, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("life::restart_policies", restart_policies),
        case("life::health", health),
        case("life::pause", pause),
        case("life::killed_shim", killed_shim),
        case("life::stopped_shim", stopped_shim),
        case("life::boot", boot),
        case("life::stop_all", stop_all),
        case("life::restart", restart),
        case("life::log_options", log_options),
        case("life::units", units),
        case("life::other_mount_namespace", other_mount_namespace),
        Case { name: "life::out_of_memory", missing: no_memory_controller(), run: out_of_memory },
        case("life::killed_shell", killed_shell),
        case("life::privileged_exec", privileged_exec),
    ]
}

fn no_memory_controller() -> Option<String> {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let has = std::path::Path::new("/sys/fs/cgroup/memory").exists() || unified.contains("memory");
    (!has).then(|| "this machine's cgroups have no memory controller".to_owned())
}

/// Runs `script` as after a boot: nothing of the run root, no mount and no cgroup of a container is there any more, and
/// the kernel gives another boot id. Containers that it leaves are removed.
fn after_boot(world: &World, script: &str) -> Outcome<String> {
    let gone =
        "for id in $(ls $DATA/containers); do find /sys/fs/cgroup -depth -type d -name $id -exec rmdir {} +; done
        grep -o \" $W/[^ ]*\" /proc/self/mountinfo | sort -ru | xargs -r umount -l
        rm -rf $ORLOP_RUN_ROOT
        cat /proc/sys/kernel/random/uuid > $W/boot_id";
    let boot = "mount --bind $W/boot_id /proc/sys/kernel/random/boot_id && set -e";
    let end = "docker rm -f $(docker ps -aq) > /dev/null";
    std::fs::write(world.dir().join("after"), format!("{boot}\n{script}\n{end}\n"))
        .map_err(|error| error.to_string())?;
    // Its own pid namespace as well: mounts are made in that of process 1, which must see the same boot id.
    world.sh(&format!("{gone}\nunshare -m -p --fork --mount-proc bash $W/after"))?.ok()
}

const SOON: Duration = Duration::from_secs(20);

/// `$(shim NAME)` is the pid of a container's shim: the process that has its run directory in its command line.
const SHIM: &str =
    "shim() { pgrep -f \"internal (shim|adopt) $ORLOP_RUN_ROOT/containers/$(docker inspect -f '{{.Id}}' $1)\\$\"; }
    kill_shim() { local pid=$(shim $1); kill -9 $pid; while readlink /proc/$pid/exe; do sleep 0.01; done; } > /dev/null 2>&1; ";

fn restart_policies(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker run -d --name fails --restart on-failure:2 busybox sh -c 'echo ran; exit 3'")?.ok()?;
    let state = "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}";
    world.until(&format!("docker inspect -f '{state}' fails | grep -x 'exited 2 3'"), SOON)?;
    same("runs", &world.sh("docker logs fails | wc -l")?.ok()?, "3")?;
    world.sh("docker run -d --name fine --restart on-failure busybox true && docker wait fine")?.ok()?;
    same("exit code 0", &world.sh(&format!("docker inspect -f '{state}' fine"))?.ok()?, "exited 0 0")?;
    world.sh("docker run -d --name always --restart always busybox sleep 300")?.ok()?;
    world.sh("kill -9 $(docker inspect -f '{{.State.Pid}}' always)")?.ok()?;
    world.until("docker inspect -f '{{.State.Running}} {{.RestartCount}}' always | grep -x 'true 1'", SOON)?;
    // A user's stop and a user's kill stand.
    world.sh("docker stop -t 0 always && sleep 0.5")?.ok()?;
    same("stopped", &world.sh("docker inspect -f '{{.State.Status}}' always")?.ok()?, "exited")?;
    world.sh("docker start always && docker kill always && docker wait always && sleep 0.5")?.ok()?;
    same("killed", &world.sh(&format!("docker inspect -f '{state}' always"))?.ok()?, "exited 0 137")?;
    // In its back-off: as Docker shows it, refused to rm, ended by stop, taken up by tend when nobody waits any more.
    world.sh("docker run -d --name loops --restart always busybox false")?.ok()?;
    world.until("docker ps --format '{{.Status}}' --filter name=loops | grep '^Restarting (1)'", SOON)?;
    contains("rm", &world.sh("docker rm loops; true")?.ok().map(|_| String::new())?, "")?;
    world.until("docker stop loops && docker inspect -f '{{.State.Status}}' loops | grep -x exited", SOON)?;
    let refusal = world.sh("docker run --rm --restart always busybox true")?.fails(125)?;
    contains("--rm", &refusal, "onflicting options")
}

fn health(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let run = "docker run -d --name box --health-cmd 'cat /ok' --health-interval 100ms --health-retries 2";
    world.sh(&format!("{run} busybox sleep 300"))?.ok()?;
    let status = |word: &str| format!("docker inspect -f '{{{{.State.Health.Status}}}}' box | grep -x {word}");
    world.until(&status("unhealthy"), SOON)?;
    contains("ps", &world.sh("docker ps")?.ok()?, "(unhealthy)")?;
    contains("output", &world.sh("docker inspect -f '{{json .State.Health.Log}}' box")?.ok()?, "No such file")?;
    world.sh("docker exec box sh -c 'echo fine > /ok'")?.ok()?;
    world.until(&status("healthy"), SOON)?;
    world.until("docker events --since 1m --until 0s | grep 'health_status: healthy'", SOON)?;
    world.sh("docker stop -t 0 box")?.ok()?;
    world.sh(&status("unhealthy"))?.ok()?;
    world.sh("docker run -d --name none --no-healthcheck busybox sleep 300")?.ok()?;
    world.sh("docker ps --filter name=none --format '{{.Status}}' | grep -v health")?.ok().map(|_| ())
}

fn pause(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world
        .sh("docker run -d --name box busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done'")?
        .ok()?;
    world.sh("docker pause box && docker ps | grep '(Paused)'")?.ok()?;
    same("state", &world.sh("docker inspect -f '{{.State.Status}} {{.State.Paused}}' box")?.ok()?, "paused true")?;
    contains("exec", &world.sh("docker exec box true")?.fails(1)?, "is paused, unpause the container before exec")?;
    let counts = "docker info -f '{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}'";
    same("counts", &world.sh(counts)?.ok()?, "1 0 1 0")?;
    same("no port", &world.sh("docker port box")?.ok()?, "")?;
    contains("port", &world.sh("docker port box 80")?.fails(1)?, "Error: No public port '80' published for box")?;
    contains("again", &world.sh("docker pause box")?.fails(1)?, "is already paused")?;
    let lines = "docker logs box | wc -l";
    same("it stands still", &world.sh(lines)?.ok()?, &world.sh(&format!("sleep 0.2; {lines}"))?.ok()?)?;
    world.sh("docker unpause box && docker exec box true")?.ok()?;
    contains("unpause", &world.sh("docker unpause box")?.fails(1)?, "is not paused")?;
    world.sh("docker pause box && docker stop -t 1 box && docker start box && docker pause box")?.ok()?;
    contains("rm", &world.sh("docker rm box")?.fails(1)?, "must be unpaused first")?;
    world.sh("docker rm -f box")?.ok().map(|_| ())
}

/// The container goes on, `tend` gives it another shim, and what it writes and how it ends is known.
fn killed_shim(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let script = "while ! [ -e /go ]; do sleep 0.05; done; seq 20000; exit 7";
    world.sh(&format!("docker run -d --name box --restart on-failure:1 busybox sh -c '{script}'"))?.ok()?;
    let pid = world.sh("docker inspect -f '{{.State.Pid}}' box")?.ok()?;
    world.sh(&format!("{SHIM}kill_shim box"))?.ok()?;
    same("it goes on", &world.sh("docker inspect -f '{{.State.Pid}}' box")?.ok()?, &pid)?;
    world.sh("orlop system tend")?.ok()?;
    world.sh(&format!("{SHIM}test -n \"$(shim box)\""))?.ok()?;
    // Killed again: whoever needs a shim brings one.
    world.sh(&format!("{SHIM}kill_shim box; docker exec box sh -c ': > /go'"))?.ok()?;
    same("exit code", &world.sh("docker wait box")?.ok()?, "7")?;
    world.until("docker logs box | grep -cx 20000 | grep -x 2", SOON)?;
    world.until("docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' box | grep -x 'exited 7'", SOON)?;
    // Without anybody who saw it the end is unknown, and says so.
    world.sh(&format!(
        "docker run -d --name lost busybox sleep 300; {SHIM}kill_shim lost; kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' lost)"
    ))?
    .ok()?;
    world
        .until("docker inspect -f '{{.State.ExitCode}} {{.State.Error}}' lost | grep '^255 exit code unknown'", SOON)?;
    Ok(())
}

fn stopped_shim(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker run -d --name box busybox sleep 300")?.ok()?;
    for verb in ["docker exec box true", "docker stop -t 0 box", "docker start box"] {
        world.sh(&format!("{SHIM}pid=$(shim box) && kill -STOP $pid; {verb}"))?.ok()?;
    }
    world.sh(&format!("{SHIM}kill -STOP $(shim box); docker rm -f box"))?.ok().map(|_| ())
}

/// A boot: another boot id in the rows, and an empty run root.
fn boot(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    for (name, policy) in
        [("none", "no"), ("always", "always"), ("unless", "unless-stopped"), ("user", "unless-stopped")]
    {
        let script = "echo kept >> /note; exec sleep 300";
        world.sh(&format!("docker run -d --name {name} --restart {policy} busybox sh -c '{script}'"))?.ok()?;
    }
    world.sh("docker stop -t 0 user")?.ok()?;
    // As a power cut would: everything of the run root goes, with nobody left to write anything down.
    world.sh(&format!(
        "{SHIM}for name in none always unless; do kill -9 $(shim $name) $(docker inspect -f '{{{{.State.Pid}}}}' $name); done"
    ))?
    .ok()?;
    let states = "docker ps -a --format '{{.Names}} {{.State}}' | sort";
    let seen = after_boot(
        world,
        &format!(
            "{states}; orlop system tend --boot; {states}; docker exec always cat /note
             docker inspect -f '{{{{.State.ExitCode}}}} {{{{.State.Error}}}}' none
             docker stop -t 0 always; orlop system tend --boot; {states}"
        ),
    )?;
    let expected = [
        "always exited\nnone exited\nunless exited\nuser exited",
        "always running\nnone exited\nunless running\nuser exited",
        "kept\nkept",
        "255 the machine was restarted while it ran",
        // Once a boot: what the user stops now stays stopped.
        "always\nalways exited\nnone exited\nunless running\nuser exited",
    ];
    same("after a boot", &seen, &expected.join("\n"))
}

fn stop_all(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let script = "trap \"echo ended; exit 5\" TERM; echo ready; while :; do sleep 0.05; done";
    for name in ["one", "two"] {
        world.sh(&format!("docker run -d --name {name} --restart always busybox sh -c '{script}'"))?.ok()?;
        world.until(&format!("docker logs {name} | grep ready"), SOON)?;
    }
    world.sh("orlop system stop-all")?.ok()?;
    for name in ["one", "two"] {
        same("log", &world.sh(&format!("docker logs {name}"))?.ok()?, "ready\nended")?;
        same("state", &world.sh(&format!("docker inspect -f '{{{{.State.Status}}}}' {name}"))?.ok()?, "exited")?;
    }
    // As `systemctl restart` of the unit does, and then a shutdown and a boot.
    world.sh("orlop system tend --boot")?.ok()?;
    same("after a restart", &world.sh("docker ps -q | wc -l")?.ok()?, "2")?;
    world.sh("orlop system stop-all")?.ok()?;
    same("after a boot", &after_boot(world, "orlop system tend --boot; docker ps -q | wc -l")?, "2")
}

fn restart(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world
        .sh("docker run -d --rm --name box busybox sh -c 'echo $(cat /note) run; echo x > /note; exec sleep 300'")?
        .ok()?;
    world.until("docker logs box | grep run", SOON)?;
    same("name", &world.sh("docker restart -t 0 box")?.ok()?, "box")?;
    world.until("docker logs box | grep -x 'x run'", SOON)?;
    world.until("docker events --since 1m --until 0s | grep 'container restart '", SOON)?;
    world.sh("docker stop -t 0 box")?.ok()?;
    contains("gone", &world.sh("docker inspect box")?.fails(1)?, "No such object")
}

fn log_options(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let options = "--log-opt max-size=4k --log-opt max-file=2 --log-opt labels=team --log-opt tag={{.Name}} -l team=db";
    world.sh(&format!("docker run --name small {options} busybox seq 1000 > /dev/null"))?.ok()?;
    let files =
        "cd $DATA/containers/$(docker inspect -f '{{.Id}}' small) && ls *-json.log* | wc -l && cat *-json.log* | wc -c";
    let seen = world.sh(files)?.ok()?;
    match seen.split_once('\n').map(|(files, bytes)| (files, bytes.parse::<u64>())) {
        Some(("2", Ok(4096..=8192))) => {}
        _ => return Err(format!("files and bytes: {seen}")),
    }
    same("details", &world.sh("docker logs --details -n 1 small")?.ok()?, "tag=small,team=db 1000")?;
    world.sh("docker run --name whole --log-opt max-size=-1 busybox seq 1000 > /dev/null")?.ok()?;
    same("all", &world.sh("docker logs whole | wc -l")?.ok()?, "1000")?;
    same("seen", &world.sh("docker run --name silent --log-driver none busybox echo seen")?.ok()?, "seen")?;
    contains("none", &world.sh("docker logs silent")?.fails(1)?, "does not support reading")?;
    for (flags, part) in [
        ("--log-driver foo", "no log driver named 'foo' is registered"),
        ("--log-driver syslog", "the log driver syslog is not there"),
        ("--log-opt foo=1", "unknown log opt 'foo' for json-file log driver"),
    ] {
        contains(flags, &world.sh(&format!("docker run {flags} busybox true"))?.fails(125)?, part)?;
    }
    Ok(())
}

fn units(world: &mut World) -> Outcome {
    world.sh("mkdir units && orlop system install-units --directory $PWD/units && ls units")?.ok()?;
    let names =
        world.sh("orlop system install-units --directory $PWD/units 2>/dev/null | xargs -n 1 basename")?.ok()?;
    same("units", &names, "orlop.service\norlop-tend.service\norlop-tend.timer")?;
    let stop = world.sh("sed -n 's/^ExecStop=//p' units/orlop.service")?.ok()?;
    world.sh(&format!("{stop} && $(sed -n 's/^ExecStart=//p' units/orlop-tend.service)"))?.ok()?;
    world.sh("! command -v systemd-analyze || systemd-analyze verify $PWD/units/orlop-tend.timer")?.ok().map(|_| ())
}

/// Started from a mount namespace that ends at once: in a pid namespace whose process 1 may be asked for its mounts they
/// are there, and elsewhere the container goes on all the same.
fn other_mount_namespace(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("unshare -m docker run -d --name box -v data:/data busybox sleep 300")?.ok()?;
    world.sh("docker exec box sh -c 'echo x > /data/file' && cat $DATA/volumes/data/_data/file")?.ok()?;
    world.sh("docker rm -f box")?.ok()?;
    let inside = "unshare -m docker run -d --name box busybox sleep 300 > /dev/null
        grep -c \"$DATA/[^ ]*merged\" /proc/self/mountinfo
        docker exec box echo works
        docker rm -f box
        grep -c \"$DATA/[^ ]*merged\" /proc/self/mountinfo";
    std::fs::write(world.dir().join("inside"), format!("{inside}\ntrue\n")).map_err(|error| error.to_string())?;
    same("seen", &world.sh("unshare -fpm --mount-proc bash $W/inside")?.ok()?, "1\nworks\nbox\n0")
}

/// One process of it is killed, and it goes on; or all of it ends. Either is told, once and in its order.
fn out_of_memory(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let events = "docker events --since 1m --until 0s --filter event=oom --filter event=die \
        --format '{{.Actor.Attributes.name}} {{.Action}}'";
    world.sh("docker run -d --name on -m 16m busybox sh -c 'tail /dev/zero; echo killed; exec sleep 300'")?.ok()?;
    world.until(&format!("{events} | grep -x 'on oom'"), SOON)?;
    same("running", &world.sh("docker inspect -f '{{.State.Running}}' on")?.ok()?, "true")?;
    world.sh("docker rm -f on; docker run --name off --rm -m 16m busybox tail /dev/zero")?.fails(137)?;
    let seen = world.until(&format!("{events} | grep -q 'off die' && {events} | uniq"), SOON)?;
    same("events", &seen, "on oom\non die\noff oom\noff die")
}

fn killed_shell(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("setsid bash -c 'docker run -d --name box busybox sleep 300; kill -9 -$$'; true")?.ok()?;
    world.sh("docker exec box true && docker rm -f box")?.ok().map(|_| ())
}

fn privileged_exec(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker run -d --name box busybox sleep 300")?.ok()?;
    let bounds = |flag: &str| format!("docker exec {flag} box grep CapEff /proc/self/status");
    let (plain, all) = (world.sh(&bounds(""))?.ok()?, world.sh(&bounds("--privileged"))?.ok()?);
    if plain == all { Err(format!("the same capabilities: {all}")) } else { Ok(()) }
}
