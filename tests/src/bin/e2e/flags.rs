//! Each flag of `run` by what the container sees of it: /proc, its cgroup, its mounts; or by how it is refused.

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, contains, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("flags::effects", effects),
        Case { name: "flags::cgroup_v1", missing: no_cgroup_v1(), run: cgroup_v1 },
        Case { name: "flags::cgroup_v2", missing: no_cgroup_v2(), run: cgroup_v2 },
        case("flags::refusals", refusals),
        case("flags::security", security),
        case("flags::shared_namespaces", shared_namespaces),
        Case { name: "flags::init", missing: no_init(), run: init },
        case("flags::id_file", id_file),
        case("flags::rename_and_update", rename_and_update),
        case("flags::list_filters", list_filters),
        case("flags::completion_and_hints", completion_and_hints),
    ]
}

fn no_cgroup_v1() -> Option<String> {
    let there = std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    (!there).then(|| "this machine has no memory controller of cgroup v1".to_owned())
}

fn no_cgroup_v2() -> Option<String> {
    let text = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    (!text.contains("memory")).then(|| "this machine has no memory controller of cgroup v2".to_owned())
}

fn no_init() -> Option<String> {
    let there = std::path::Path::new("/usr/bin/tini-static").exists();
    (!there).then(|| "this machine has no tini-static".to_owned())
}

/// Flags, what is run, and what it must print.
type Effect<'a> = (&'a str, &'a str, &'a str);

fn check(world: &World, effects: &[Effect<'_>]) -> Outcome {
    let mut wrong = Vec::new();
    for (flags, command, expected) in effects {
        let line = format!("docker run --rm {flags} busybox sh -c '{command}'");
        match world.sh(&line)?.ok() {
            Ok(seen) if seen.trim_end() == *expected => {}
            Ok(seen) => wrong.push(format!("{line}: expected {expected:?}, seen {:?}", seen.trim_end())),
            Err(said) => wrong.push(format!("{line}: {said}")),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

const SHM: &str = "grep -o \"shm.*size=[0-9]*k\" /proc/mounts | sed \"s/.*size=//\"";

fn effects(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("printf 'A=1\n# no\nB= two\n' > $W/env; printf 'one=1\ntwo\n' > $W/labels")?.ok()?;
    check(
        world,
        &[
            ("--env-file $W/env", "echo \"$A$B\"", "1 two"),
            ("-h box", "hostname; cat /etc/hostname; echo $HOSTNAME", "box\nbox\nbox"),
            ("--domainname example.org", "cat /proc/sys/kernel/domainname", "example.org"),
            ("--add-host db:10.0.0.9 --add-host six:::1", "grep -wE \"db|six\" /etc/hosts", "10.0.0.9\tdb\n::1\tsix"),
            ("--network host --add-host me:host-gateway", "grep -w me /etc/hosts", "127.0.0.1\tme"),
            (
                "--dns 9.9.9.9 --dns 1.1.1.1",
                "grep nameserver /etc/resolv.conf",
                "nameserver 9.9.9.9\nnameserver 1.1.1.1",
            ),
            (
                "--dns-search a.example --dns-search b.example",
                "grep search /etc/resolv.conf",
                "search a.example b.example",
            ),
            ("--dns-option ndots:3", "grep options /etc/resolv.conf", "options ndots:3"),
            ("--shm-size 1m", SHM, "1024k"),
            ("", SHM, "65536k"),
            ("--ipc none", "ls -d /dev/shm 2>&1 | sed \"s/.*: //\"", "No such file or directory"),
            ("--sysctl kernel.shmmax=123456", "cat /proc/sys/kernel/shmmax", "123456"),
            ("--sysctl net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward", "1"),
            ("--ulimit nofile=100:200", "ulimit -Sn; ulimit -Hn", "100\n200"),
            ("--ulimit core=0 --ulimit nproc=50", "ulimit -c; ulimit -u", "0\n50"),
            ("--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500"),
            ("--group-add 777 --group-add 778", "id -G", "0 777 778"),
            ("-u 5:6 --group-add 777", "id -G", "6 777"),
            ("--device /dev/null:/dev/nothing:r", "stat -c \"%F %t %T\" /dev/nothing", "character special file 1 3"),
            ("--pid host", "test $$ -gt 1 && ls -d /proc/1", "/proc/1"),
            ("", "echo $$", "1"),
            ("--cgroupns private", "cut -d: -f3 /proc/self/cgroup | sort -u", "/"),
            ("--read-only", "touch /x 2>&1 | sed \"s/.*: //\"", "Read-only file system"),
            ("-a stdout", "echo seen; echo unseen >&2", "seen"),
            ("--userns host", "tr -s \" \" </proc/self/uid_map", " 0 0 4294967295"),
            ("--runtime runc", "echo ok", "ok"),
            ("--uts host", "test $(hostname) = $(cat /proc/sys/kernel/hostname) && echo ok", "ok"),
        ],
    )?;
    same(
        "the UTS namespace",
        &world.sh("docker run --rm --uts host busybox readlink /proc/self/ns/uts")?.ok()?,
        &world.sh("readlink /proc/self/ns/uts")?.ok()?,
    )?;
    // What is stored for others to see.
    let create = "docker create --name dd --annotation a=b -l c=d --label-file $W/labels --expose 80-81/udp \
        --stop-signal USR1 --stop-timeout 3 busybox";
    world.sh(create)?.ok()?;
    let seen = "docker inspect -f '{{json .HostConfig.Annotations}} {{json .Config.Labels}} {{json .Config.ExposedPorts}} \
        {{.Config.StopSignal}} {{.Config.StopTimeout}}' dd";
    same(
        "inspect",
        world.sh(seen)?.ok()?.trim_end(),
        r#"{"a":"b"} {"c":"d","one":"1","two":""} {"80/udp":{},"81/udp":{}} USR1 3"#,
    )
}

/// Below /sys/fs/cgroup of a container that has cgroup v1 its own limits stand.
fn cgroup_v1(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let cat = |file: &str| format!("cat /sys/fs/cgroup/{file}");
    let files = [
        ("-m 32m", cat("memory/memory.limit_in_bytes"), "33554432"),
        ("-m 32m", cat("memory/memory.memsw.limit_in_bytes"), "67108864"),
        ("-m 32m --memory-swap 48m", cat("memory/memory.memsw.limit_in_bytes"), "50331648"),
        ("-m 32m --memory-reservation 16m", cat("memory/memory.soft_limit_in_bytes"), "16777216"),
        ("--memory-swappiness 7", cat("memory/memory.swappiness"), "7"),
        (
            "-m 32m --oom-kill-disable",
            "grep oom_kill_disable /sys/fs/cgroup/memory/memory.oom_control".to_owned(),
            "oom_kill_disable 1",
        ),
        ("--cpus 0.5", cat("cpu/cpu.cfs_quota_us"), "50000"),
        (
            "--cpu-period 50000 --cpu-quota 20000",
            format!("{}; {}", cat("cpu/cpu.cfs_period_us"), cat("cpu/cpu.cfs_quota_us")),
            "50000\n20000",
        ),
        ("-c 300", cat("cpu/cpu.shares"), "300"),
        (
            "--cpuset-cpus 0 --cpuset-mems 0",
            format!("{}; {}", cat("cpuset/cpuset.cpus"), cat("cpuset/cpuset.mems")),
            "0\n0",
        ),
        ("--pids-limit 33", cat("pids/pids.max"), "33"),
        ("--pids-limit -1", cat("pids/pids.max"), "max"),
        (
            "--device-cgroup-rule \"c 10:200 rw\"",
            "grep -c \"c 10:200 rw\" /sys/fs/cgroup/devices/devices.list".to_owned(),
            "1",
        ),
        (
            "--cgroup-parent /orlop/flags-test",
            "grep -c orlop/flags-test/ /proc/self/cgroup | grep -vx 0 >/dev/null && echo ok".to_owned(),
            "ok",
        ),
    ];
    let effects: Vec<Effect<'_>> =
        files.iter().map(|(flags, command, expected)| (*flags, command.as_str(), *expected)).collect();
    let checked = check(world, &effects);
    // A parent that a user names stays, as under Docker.
    world.sh("find /sys/fs/cgroup/*/orlop/flags-test -depth -type d -exec rmdir {} +")?.ok()?;
    checked?;
    let throttled = world.sh(
        "dev=$(ls /dev/loop0 2>/dev/null) || exit 0; docker run --rm --device-read-bps $dev:1mb --device-write-iops $dev:7 busybox \
         cat /sys/fs/cgroup/blkio/blkio.throttle.read_bps_device /sys/fs/cgroup/blkio/blkio.throttle.write_iops_device",
    )?;
    let seen = throttled.ok()?;
    if seen.is_empty() { Ok(()) } else { same("rates", &seen, "7:0 1048576\n7:0 7") }
}

fn cgroup_v2(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    check(
        world,
        &[
            ("-m 32m", "cat /sys/fs/cgroup/memory.max", "33554432"),
            ("-m 32m --memory-reservation 16m", "cat /sys/fs/cgroup/memory.low", "16777216"),
            ("--cpus 0.5", "cat /sys/fs/cgroup/cpu.max", "50000 100000"),
            ("--cpuset-cpus 0", "cat /sys/fs/cgroup/cpuset.cpus", "0"),
            ("--pids-limit 33", "cat /sys/fs/cgroup/pids.max", "33"),
        ],
    )
}

fn refusals(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let mut wrong = Vec::new();
    for (flags, part) in [
        ("-m 5m", "Minimum memory limit allowed is 6MB"),
        ("-m x", "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
        ("-m 32m --memory-swap 16m", "Minimum memoryswap limit should be larger than memory limit, see usage"),
        ("--memory-swap 32m", "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ("-m 32m --memory-reservation 64m", "Minimum memory limit can not be less than memory reservation limit"),
        ("--memory-swappiness 101", "valid memory swappiness range is 0-100"),
        ("--cpus 1 --cpu-quota 5000", "Nano CPUs and CPU Quota cannot both be set"),
        ("--cpus 4096", "range of CPUs is from 0.01 to"),
        ("--cpus x", "failed to parse x as a rational number"),
        ("--cpuset-cpus 4096", "Requested CPUs are not available - requested 4096, available: 0"),
        ("--cpuset-cpus a", "Invalid value a for cpuset cpus"),
        ("--cpuset-mems 99", "Requested memory nodes are not available"),
        ("--cpu-period 10", "CPU cfs period can not be less than 1ms"),
        ("--cpu-rt-runtime 10 --cpu-rt-period 5", "cpu real-time runtime cannot be higher than cpu real-time period"),
        ("--blkio-weight 5", "Range of blkio weight is from 10 to 1000"),
        ("--blkio-weight-device /dev/x:5", "invalid weight for device: /dev/x:5"),
        ("--device-write-bps x", "bad format: x"),
        ("--device-read-iops /dev/no-such:1", "\"/dev/no-such\": no such file or directory"),
        ("--pids-limit -2", "pids-limit must be"),
        ("--ulimit x=1", "invalid ulimit type: x"),
        ("--ulimit nofile=9:1", "ulimit soft limit must be less than or equal to hard limit: 9 > 1"),
        ("--shm-size x", "invalid argument \"x\" for \"--shm-size\" flag"),
        ("--oom-score-adj 1001", "range for oom score adj is [-1000, 1000]"),
        ("--sysctl kernel.panic=1", "sysctl \"kernel.panic\" is not allowed"),
        ("--network host --sysctl net.ipv4.ip_forward=1", "not allowed in host network namespace"),
        ("--cap-add nothing", "invalid capability: \"nothing\""),
        ("--security-opt x", "invalid --security-opt: \"x\""),
        ("--security-opt seccomp=/none", "opening seccomp profile (/none) failed: No such file"),
        ("--device /dev/no-such", "custom device \"/dev/no-such\": no such file or directory"),
        ("--device /dev/null:x", "x is not an absolute path"),
        ("--device-cgroup-rule x", "invalid device cgroup format 'x'"),
        ("--group-add nobody-here", "unable to find group nobody-here"),
        ("--pid x", "--pid: invalid PID mode"),
        ("--pid container:nobody", "No such container: nobody"),
        ("--ipc x", "invalid IPC mode: x"),
        ("--uts x", "--uts: invalid UTS mode"),
        ("--userns remap", "--userns: invalid USER mode"),
        ("--cgroupns x", "--cgroupns: invalid CGROUP mode"),
        ("--uts host -h x", "conflicting options: hostname and the UTS mode"),
        ("--network container:", "invalid container format container:<name|id>"),
        ("--network nowhere", "--network nowhere: networks come with a later version"),
        ("--add-host x", "bad format for add-host: \"x\""),
        ("--add-host x:y", "invalid IP address in add-host: \"y\""),
        ("--add-host x:host-gateway", "unable to derive the IP value for host-gateway"),
        ("--dns x", "IP address is not correctly formatted: x"),
        ("--dns-search 'a b'", "a b is not a valid domain"),
        ("--expose x", "invalid range format for --expose: x"),
        ("--env-file /none", "env file /none: No such file"),
        ("--runtime nothing", "unknown or invalid runtime name: nothing"),
        ("--gpus all", "--gpus is not there: a GPU needs a driver of its vendor"),
        ("--link a:b", "--link is not there"),
        ("--kernel-memory 1g", "--kernel-memory is not there"),
        ("--storage-opt size=1g", "--storage-opt is not there"),
        ("--isolation hyperv", "--isolation is not there: it is for Windows"),
        ("--ip 10.0.0.1", "--ip comes with a later version"),
        ("-a nowhere", "valid streams are STDIN, STDOUT and STDERR"),
        ("-d -a stdout", "conflicting options: cannot specify both --attach and --detach"),
    ] {
        let line = format!("docker run --rm {flags} busybox true");
        match world.sh(&line)?.fails(125) {
            Ok(said) if said.contains(part) => {}
            Ok(said) => wrong.push(format!("{line}: {part:?} is not in {said:?}")),
            Err(said) => wrong.push(format!("{line}: {said}")),
        }
    }
    same("containers", &world.sh("docker ps -aq")?.ok()?, "")?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// A profile that lets everything through but mkdir.
const NO_MKDIR: &str = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "archMap": null,
    "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": null }] }"#;

fn security(world: &mut World) -> Outcome {
    const BOUNDING: &str = "sed -n \"s/CapBnd:.0*//p\" /proc/self/status";
    const FILTER: &str = "sed -n \"s/Seccomp:.//p\" /proc/self/status";
    world.load(&["busybox"])?;
    world.sh(&format!("printf '%s' '{NO_MKDIR}' > $W/profile.json; echo '{{' > $W/broken.json"))?.ok()?;
    check(
        world,
        &[
            ("", BOUNDING, "a80425fb"),
            ("--cap-drop ALL", "sed -n \"s/CapBnd:.//p\" /proc/self/status", "0000000000000000"),
            ("--cap-drop all --cap-add chown --cap-add CAP_KILL", BOUNDING, "21"),
            ("--cap-drop MKNOD", BOUNDING, "a00425fb"),
            ("-u 5 --cap-add NET_ADMIN", "sed -n \"s/CapEff:.//p\" /proc/self/status", "0000000000000000"),
            ("", FILTER, "2"),
            ("--security-opt seccomp=unconfined", FILTER, "0"),
            ("--security-opt seccomp=$W/profile.json", "mkdir /x 2>&1 | sed \"s/.*: //\"", "Function not implemented"),
            ("", "sed -n \"s/NoNewPrivs:.//p\" /proc/self/status", "0"),
            ("--security-opt no-new-privileges", "sed -n \"s/NoNewPrivs:.//p\" /proc/self/status", "1"),
            ("", "grep -c \"^proc /proc/sys \" /proc/mounts", "1"),
            ("--security-opt systempaths=unconfined", "grep -c \"^proc /proc/sys \" /proc/mounts; true", "0"),
            ("--security-opt apparmor=unconfined --security-opt label=disable", "echo ok", "ok"),
            ("--privileged", FILTER, "0"),
            ("--privileged", "grep -c \"^proc /proc/sys \" /proc/mounts; true", "0"),
            ("--privileged", "grep -E \" /sys(/fs/cgroup)? \" /proc/mounts | grep -vc \" ro,\"", "2"),
            ("--privileged", "mount -t tmpfs none /tmp && echo ok", "ok"),
            ("", "mount -t tmpfs none /tmp 2>&1 | sed \"s/.*: //\"", "permission denied (are you root?)"),
            ("--privileged", "test -c /dev/kmsg && echo ok", "ok"),
        ],
    )?;
    same(
        "every capability",
        &world.sh("docker run --rm --privileged busybox sh -c 'grep CapBnd /proc/self/status'")?.ok()?,
        &world.sh("grep CapPrm /proc/self/status | sed s/CapPrm/CapBnd/")?.ok()?,
    )?;
    let broken = world.sh("docker run --rm --security-opt seccomp=$W/broken.json busybox true")?.fails(125)?;
    contains("a broken profile", &broken, "compacting json for seccomp profile")?;
    // What exec starts is confined alike.
    world
        .sh("docker run -d --name ee --cap-drop ALL --security-opt no-new-privileges --group-add 9 busybox sleep 1000")?
        .ok()?;
    let inside = "docker exec ee sh -c 'sed -n \"s/CapBnd:.0*//p;s/NoNewPrivs:.//p\" /proc/self/status; id -G'";
    same("exec", &world.sh(inside)?.ok()?, "\n1\n0 9")
}

fn shared_namespaces(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world
        .sh("docker run -d --name aa --ipc shareable --shm-size 2m -h donor --add-host x:10.1.1.1 busybox sleep 1000")?
        .ok()?;
    world.sh("docker run -d --name own busybox sleep 1000")?.ok()?;
    let namespace = |container: &str, kind: &str| -> Outcome<String> {
        world.sh(&format!("docker exec {container} readlink /proc/self/ns/{kind}"))?.ok()
    };
    let (net, ipc) = (namespace("aa", "net")?, namespace("aa", "ipc")?);
    same(
        "--network container:",
        &world.sh("docker run --rm --network container:aa busybox sh -c 'readlink /proc/self/ns/net; hostname; grep -w x /etc/hosts'")?.ok()?,
        &format!("{net}\ndonor\n10.1.1.1\tx"),
    )?;
    same(
        "--ipc container:",
        &world.sh("docker exec aa sh -c 'echo hello > /dev/shm/file' && docker run --rm --ipc container:aa busybox sh -c 'readlink /proc/self/ns/ipc; cat /dev/shm/file'")?.ok()?,
        &format!("{ipc}\nhello"),
    )?;
    contains("--pid container:", &world.sh("docker run --rm --pid container:aa busybox ps")?.ok()?, "sleep 1000")?;
    let private = world.sh("docker run --rm --ipc container:own busybox true")?.fails(125)?;
    contains("a private IPC namespace", &private, "non-shareable IPC")?;
    for (flag, what) in [("--pid", "PID"), ("--network", "network")] {
        world
            .sh(&format!("docker create --name late {flag} container:own busybox true && docker stop -t 0 own"))?
            .ok()?;
        let said = world.sh("docker start late")?.fails(1)?;
        contains(flag, &said, &format!("cannot join {what} of a non running container"))?;
        world.sh("docker rm late && docker start own")?.ok()?;
    }
    let conflict = world.sh("docker run --rm --network container:aa -h x busybox true")?.fails(125)?;
    contains("a name of its own", &conflict, "conflicting options: hostname and the network mode")?;
    same(
        "--ipc host",
        &world.sh("docker run --rm --ipc host busybox readlink /proc/self/ns/ipc")?.ok()?,
        &world.sh("readlink /proc/self/ns/ipc")?.ok()?,
    )
}

fn init(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    check(world, &[("--init", "cat /proc/1/comm; test $$ -gt 1 && echo ok", "docker-init\nok")])?;
    world.sh("docker run --rm --init busybox sh -c 'exit 7'")?.fails(7)?;
    // It hands signals on.
    world
        .sh("docker run -d --name ii --init busybox sh -c 'trap \"exit 3\" TERM; echo ready; while :; do sleep 0.1; done'")?
        .ok()?;
    world.until("docker logs ii | grep ready", std::time::Duration::from_secs(20))?;
    world.sh("docker kill -s TERM ii")?.ok()?;
    same("its exit code", &world.sh("docker wait ii")?.ok()?, "3")
}

fn id_file(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let id = world.sh("docker create --cidfile $W/id --name cc busybox true")?.ok()?;
    same("the file", &world.sh("cat $W/id")?.ok()?, id.trim_end())?;
    let again = world.sh("docker run --rm --cidfile $W/id busybox true")?.fails(125)?;
    contains(
        "a file that is there",
        &again,
        "container ID file found, make sure the other container isn't running or delete",
    )?;
    // One that can't be made leaves no file; one whose program can't be started exists, and so does its file.
    world.sh("docker create --cidfile $W/id2 --name cc busybox true")?.fails(125)?;
    world.sh("test ! -e $W/id2")?.ok()?;
    world.sh("docker run --cidfile $W/nowhere/id busybox true")?.fails(125)?;
    same("containers", &world.sh("docker ps -aq | wc -l")?.ok()?, "1")?;
    world.sh("docker run --cidfile $W/id3 busybox /none")?.fails(127)?;
    world.sh("docker rm $(cat $W/id3)")?.ok()?;
    world.sh("docker run --rm --cidfile $W/id4 busybox /none")?.fails(127)?;
    world.sh("test ! -e $W/id4").and_then(|ran| ran.ok()).map(|_| ())
}

fn rename_and_update(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker run -d --name one -m 32m busybox sleep 1000 && docker create --name two busybox true")?.ok()?;
    for (line, part) in [
        ("docker rename one two", "Conflict. The container name \"/two\" is already in use"),
        ("docker rename one one", "Renaming a container with the same name as its current name"),
        ("docker rename one 'a b'", "Invalid container name (a b)"),
        ("docker rename nobody three", "No such container: nobody"),
        ("docker update one", "you must provide one or more flags when using this command"),
        ("docker update -m 1g one", "Memory limit should be smaller than already set memoryswap limit"),
        ("docker update -m 1m one", "Minimum memory limit allowed is 6MB"),
        ("docker update --restart sometimes one", "unknown policy 'sometimes'"),
        ("docker update --cpus 4096 one", "range of CPUs is from 0.01 to"),
    ] {
        contains(line, &world.sh(line)?.fails(1)?, part)?;
    }
    world.sh("docker rename one three && docker rename two one")?.ok()?;
    same("names", &world.sh("docker ps -a --format '{{.Names}}' | sort")?.ok()?, "one\nthree")?;
    let soon = std::time::Duration::from_secs(20);
    world.until("docker events --since 1m --until 0s --filter event=rename | grep oldName=/one", soon)?;
    world.sh("docker update -m 48m --cpus 0.5 --pids-limit 44 --restart on-failure:3 three one")?.ok()?;
    let seen = "docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} \
        {{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}' three one";
    let expected = "50331648 500000000 44 on-failure:3";
    same("inspect", &world.sh(seen)?.ok()?, &format!("{expected}\n{expected}"))?;
    let files = match no_cgroup_v1() {
        None => "memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
        Some(_) => "memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max",
    };
    let limits = world.sh(&format!("docker exec three cat /sys/fs/cgroup/{files}"))?.ok()?;
    contains("limits of the running one", &limits, "50331648\n44\n50000")
}

fn list_filters(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    for line in [
        "docker create --name c1 --label a=1 --expose 80/tcp busybox true",
        "docker run --name c2 --network host busybox false || true",
        "docker run -d --name c3 -v vol:/data --expose 8000-8002/udp busybox sleep 1000",
    ] {
        world.sh(line)?.ok()?;
    }
    let mut wrong = Vec::new();
    for (filters, expected) in [
        ("", "c3 c2 c1"),
        ("-f status=created", "c1"),
        ("-f status=running -f status=exited", "c3 c2"),
        ("-f exited=1", "c2"),
        ("-f exited=0", ""),
        ("-f ancestor=busybox", "c3 c2 c1"),
        ("-f ancestor=nothing", ""),
        ("-f before=c2", "c1"),
        ("-f since=c1", "c3 c2"),
        ("-f expose=80", "c1"),
        ("-f expose=8001/udp", "c3"),
        ("-f expose=7000-8000/udp", "c3"),
        ("-f publish=80", ""),
        ("-f health=none", "c3 c2 c1"),
        ("-f health=healthy", ""),
        ("-f is-task=true", ""),
        ("-f is-task=false -f name=^/c1$", "c1"),
        ("-f network=host", "c2"),
        ("-f network=none", "c3 c1"),
        ("-f volume=vol", "c3"),
        ("-f volume=/data", "c3"),
        ("-f label=a", "c1"),
        ("-f label=a=2", ""),
        ("-f name=c", "c3 c2 c1"),
        ("-n 2", "c3 c2"),
        ("-l", "c3"),
    ] {
        let line = format!("docker ps -a {filters} --format '{{{{.Names}}}}' | tr '\\n' ' '");
        let seen = world.sh(&line)?.ok()?;
        if seen.trim_end() != expected {
            wrong.push(format!("{line}: expected {expected:?}, seen {seen:?}"));
        }
    }
    for (filter, part) in [
        ("status=sleeping", "invalid filter 'status=sleeping'"),
        ("health=ill", "invalid filter 'health=ill'"),
        ("is-task=maybe", "invalid filter 'is-task=[maybe]'"),
        ("expose=x", "invalid filter 'expose=x'"),
        ("before=nobody", "No such container: nobody"),
        ("nothing=1", "invalid filter 'nothing'"),
    ] {
        contains(filter, &world.sh(&format!("docker ps -f {filter}"))?.fails(1)?, part)?;
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn completion_and_hints(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker volume create n8n_n8n_data && docker create --name shop-db-1 busybox true")?.ok()?;
    for (line, code, part) in [
        ("docker volume inspect n8n_data", 1, "Hint: did you mean n8n_n8n_data?"),
        ("docker volume rm n8n_dat", 1, "get n8n_dat: no such volume"),
        ("docker start db", 1, "Hint: did you mean shop-db-1?"),
        ("docker rmi busybx", 1, "Hint: did you mean busybox"),
        ("docker pss", 1, "Hint: did you mean 'docker ps'?"),
        ("docker volume inspct x", 1, "Hint: did you mean 'docker volume inspect'?"),
        ("docker completion tcsh", 1, "there is one for bash, zsh and fish"),
    ] {
        contains(line, &world.sh(line)?.fails(code)?, part)?;
    }
    let script = "source <(docker completion bash) && complete -p docker >/dev/null && \
        complete_it() { COMP_WORDS=(docker \"$@\"); COMP_CWORD=$#; _docker; echo \"${COMPREPLY[*]}\"; }";
    for (words, expected) in [
        ("volume rm ''", "n8n_n8n_data"),
        ("start sh", "shop-db-1"),
        ("run busy", "busybox:latest"),
        ("run --memory-s", "--memory-swap --memory-swappiness"),
        ("volume ins", "inspect"),
        ("compl", "completion"),
        ("run busybox x", ""),
    ] {
        let seen = world.sh(&format!("{script}; complete_it {words} | tr '\\n' ' '"))?.ok()?;
        same(words, seen.trim_end(), expected)?;
    }
    Ok(())
}
