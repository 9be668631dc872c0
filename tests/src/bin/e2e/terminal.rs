//! Containers on a terminal, and streams that are long, slow or binary.

use orlop_tests::Outcome;
use orlop_tests::world::World;
use std::time::Duration;

use crate::{Case, contains, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("terminal::shell", shell),
        case("terminal::slow_reader", slow_reader),
        case("terminal::binary", binary),
        case("terminal::killed_shim", killed_shim),
    ]
}

const SOON: Duration = Duration::from_secs(30);

/// What a person does: a shell, another window size, Ctrl-C, a second shell beside it, away and back again.
fn shell(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let mut first = world.terminal("docker run -it --name box busybox sh; echo code=$?.", 30, 100)?;
    first.expect("/ # ")?;
    first.ask("stty size", "30 100")?;
    first.resize(40, 120)?;
    first.ask("stty size", "40 120")?;
    first.keys("sleep 300\r")?;
    world.until("docker top box | grep 'sleep 300$'", SOON)?;
    first.keys("\x03")?;
    first.keys("echo ended=$?.\r")?;
    first.expect("ended=130.")?;
    let mut beside = world.terminal("docker exec -it box sh; echo code=$?.", 20, 60)?;
    beside.ask("stty size", "20 60")?;
    beside.resize(21, 61)?;
    beside.ask("stty size", "21 61")?;
    beside.keys("exit 5\r")?;
    beside.expect("code=5.")?;
    // The other window has the size that it had.
    first.ask("stty size", "40 120")?;
    first.keys("\x10\x11")?;
    first.expect("code=0.")?;
    same("detached", &world.sh("docker inspect -f '{{.State.Running}}' box")?.ok()?, "true")?;
    let mut again = world.terminal("docker attach box; echo code=$?.", 25, 80)?;
    again.ask("stty size", "25 80")?;
    again.keys("exit 3\r")?;
    again.expect("code=3.")?;
    same("exit code", &world.sh("docker inspect -f '{{.State.ExitCode}}' box")?.ok()?, "3")
}

/// `$(shim NAME)` is the pid of a container's shim, and `kept NAME` its memory in kB.
const SHIM: &str =
    "shim() { pgrep -f \"internal shim $ORLOP_RUN_ROOT/containers/$(docker inspect -f '{{.Id}}' $1)\\$\"; }
    kept() { sed -n 's/^RssAnon:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$(shim $1)/status; }; ";

/// The program waits for who reads it, nothing piles up in the shim, and every byte arrives.
fn slow_reader(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let flood = "seq 4000000";
    let read = "{ while ! [ -e $W/go ]; do sleep 0.05; done; sha256sum; }";
    let expected = world.sh(&format!("{flood} | sha256sum"))?.ok()?;
    world.sh("docker run -d --name idle busybox sleep 300")?.ok()?;
    for (name, line) in [
        ("run", format!("docker run --name box busybox sh -c '{flood}; : > /done; sleep 0.2'")),
        ("exec", format!("docker exec idle sh -c '{flood}; : > /done'")),
    ] {
        let container = if name == "run" { "box" } else { "idle" };
        world.spawn(name, &format!("rm -f $W/go; {line} | {read} > $W/{name}.sum"))?;
        // It stands when its time on the processor doesn't grow any more.
        let time = "for pid in $(pgrep -f '^sh -c seq 4000000'); do cut -d' ' -f14,15 /proc/$pid/stat; done";
        world.until(&format!("one=$({time}); sleep 0.5; test -n \"$one\" && test \"$one\" = \"$({time})\""), SOON)?;
        world.sh(&format!("docker exec {container} test ! -e /done"))?.ok()?;
        let kept = world.sh(&format!("{SHIM} kept {container}"))?.ok()?;
        if kept.parse::<u64>().map_or(true, |kept| kept > 6_000) {
            return Err(format!("{name}: the shim holds {kept:?} kB"));
        }
        world.sh(": > $W/go")?.ok()?;
        same(name, &world.until(&format!("test -s $W/{name}.sum && cat $W/{name}.sum"), SOON)?, &expected)?;
    }
    Ok(())
}

/// 64 MB of every byte there is, in and out again.
fn binary(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("head -c 64M /dev/urandom > $W/bytes; docker run -d --name box busybox sleep 300")?.ok()?;
    for line in ["docker run --rm -i --log-driver none busybox cat", "docker exec -i box cat"] {
        world.sh(&format!("{line} < $W/bytes | cmp - $W/bytes"))?.ok().map_err(|error| format!("{line}: {error}"))?;
    }
    // With a log beside it.
    world.sh("head -c 4M $W/bytes > $W/few; docker run --rm -i busybox cat < $W/few | cmp - $W/few")?.ok().map(|_| ())
}

/// Whoever types into a container hears that its shim is gone; the container goes on.
fn killed_shim(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.spawn(
        "client",
        "exec 3< <(echo one; exec sleep 300); docker run -i --name box busybox sh -c 'cat; echo end of input; while ! [ -e /go ]; do sleep 0.05; done' <&3; echo code=$?",
    )?;
    world.until("grep one $W/files/client.out", SOON)?;
    world.sh(&format!("{SHIM} kill -9 $(shim box)"))?.ok()?;
    world.until("grep -x code=125 $W/files/client.out", SOON)?;
    contains("client", &world.sh("cat $W/files/client.err")?.ok()?, "with it the standard input of the program")?;
    // Its input has ended, and it goes on.
    same("it goes on", &world.sh("docker inspect -f '{{.State.Running}}' box")?.ok()?, "true")?;
    world.sh("docker exec box sh -c ': > /go'; docker wait box")?.ok()?;
    same("log", &world.sh("docker logs box")?.ok()?, "one\nend of input")
}
