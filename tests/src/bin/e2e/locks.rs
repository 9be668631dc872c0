//! Two containers on one volume see what two processes on one directory see: each scenario runs on the host first,
//! then in containers, and both must say the same.

use std::path::Path;
use std::time::Duration;

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, same};

pub fn cases() -> Vec<Case> {
    let missing = (!Path::new("/usr/bin/python3").exists()).then(|| "this machine has no /usr/bin/python3".to_owned());
    let case = |name, run| Case { name, missing: missing.clone(), run };
    vec![
        case("locks::flock", |world| scenario(world, FLOCK)),
        case("locks::fcntl", |world| scenario(world, FCNTL)),
        case("locks::append", |world| scenario(world, APPEND)),
        case("locks::shared_mmap", |world| scenario(world, MMAP)),
        case("locks::inotify_sees_the_hosts_edit", inotify),
    ]
}

/// What two processes do, and what each must print.
struct Scenario {
    first: (&'static str, &'static str),
    second: (&'static str, &'static str),
}

/// `wait` and `mark` let the two take turns.
const PRELUDE: &str = r#"
import fcntl, mmap, os, sys, time
D = sys.argv[1] + "/"
def mark(name): open(D + name, "w").close()
def wait(name):
    for _ in range(1500):
        if os.path.exists(D + name): return
        time.sleep(0.02)
    sys.exit("never saw " + name)
def tried(what):
    try: what(); return "taken"
    except (BlockingIOError, PermissionError): return "refused"
"#;

const FLOCK: Scenario = Scenario {
    first: (
        r#"
f = open(D + "file", "a+")
print(tried(lambda: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)))
mark("held"); wait("tried"); fcntl.flock(f, fcntl.LOCK_UN); mark("free"); wait("end")
"#,
        "taken\n",
    ),
    second: (
        r#"
wait("held"); f = open(D + "file", "a+")
take = lambda kind: tried(lambda: fcntl.flock(f, kind | fcntl.LOCK_NB))
print(take(fcntl.LOCK_EX), take(fcntl.LOCK_SH))
mark("tried"); wait("free")
print(take(fcntl.LOCK_EX)); mark("end")
"#,
        "refused refused\ntaken\n",
    ),
};

const FCNTL: Scenario = Scenario {
    first: (
        r#"
f = open(D + "file", "w+")
print(tried(lambda: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)))
mark("held"); wait("tried"); f.close(); mark("free"); wait("end")
"#,
        "taken\n",
    ),
    second: (
        r#"
wait("held"); f = open(D + "file", "r+")
take = lambda start: tried(lambda: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, start))
print(take(8), take(10)); mark("tried"); wait("free")
print(take(8)); mark("end")
"#,
        "refused taken\ntaken\n",
    ),
};

const APPEND: Scenario = Scenario {
    first: (
        r#"
f = os.open(D + "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
mark("a"); wait("b")
for _ in range(5000): os.write(f, b"A" * 30 + b"\n")
mark("done"); print("done")
"#,
        "done\n",
    ),
    second: (
        r#"
f = os.open(D + "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
wait("a"); mark("b")
for _ in range(5000): os.write(f, b"B" * 30 + b"\n")
wait("done")
lines = open(D + "log").read().splitlines()
print(len(lines), lines.count("A" * 30), lines.count("B" * 30))
"#,
        "10000 5000 5000\n",
    ),
};

const MMAP: Scenario = Scenario {
    first: (
        r#"
open(D + "file", "wb").write(b"\0" * 8192)
m = mmap.mmap(os.open(D + "file", os.O_RDWR), 8192, mmap.MAP_SHARED)
mark("mapped"); wait("other"); m[100:105] = b"hello"
mark("written"); wait("answered"); print(m[5000:5005].decode())
"#,
        "world\n",
    ),
    second: (
        r#"
wait("mapped"); m = mmap.mmap(os.open(D + "file", os.O_RDWR), 8192, mmap.MAP_SHARED)
mark("other"); wait("written"); print(m[100:105].decode())
m[5000:5005] = b"world"; mark("answered")
"#,
        "hello\n",
    ),
};

fn scenario(world: &mut World, scenario: Scenario) -> Outcome {
    world.load(&["python"])?;
    for (name, script) in [("first", scenario.first.0), ("second", scenario.second.0)] {
        let path = world.dir().join("host").join(format!("{name}.py"));
        std::fs::write(&path, format!("{PRELUDE}{script}")).map_err(|error| error.to_string())?;
    }
    let expected = format!("{}{}", scenario.first.1, scenario.second.1);
    let host = "mkdir $W/plain; /usr/bin/python3 $HOST/first.py $W/plain > $W/1 & /usr/bin/python3 $HOST/second.py $W/plain > $W/2; wait; cat $W/1 $W/2";
    same("on the host", &world.sh(host)?.ok()?, expected.trim_end())?;
    let run = "docker run --rm -v shared:/shared -v $HOST:/scripts:ro python python3";
    let containers = format!(
        "docker volume create shared > $W/0; {run} /scripts/first.py /shared > $W/1 & \
         {run} /scripts/second.py /shared > $W/2; wait; cat $W/1 $W/2"
    );
    same("between containers", &world.sh(&containers)?.ok()?, expected.trim_end())
}

/// Waits for one event on the file that the host will edit; 2 is IN_MODIFY.
const WATCH: &str = r#"
import ctypes, os, struct, sys
c = ctypes.CDLL(None)
fd = c.inotify_init()
c.inotify_add_watch(fd, b"/bind", 2)
open("/bind/.ready", "w").close()
while True:
    data = os.read(fd, 4096)
    mask, _, size = struct.unpack_from("III", data, 4)
    print(mask, data[16:16 + size].rstrip(b"\0").decode(), flush=True)
    break
"#;

fn inotify(world: &mut World) -> Outcome {
    world.load(&["python"])?;
    world.sh("echo one > $HOST/file")?.ok()?;
    std::fs::write(world.dir().join("files/watch.py"), WATCH).map_err(|error| error.to_string())?;
    let run = "docker run --name watcher -v $HOST:/bind -v $W/files/watch.py:/watch.py:ro python python3 /watch.py";
    world.spawn("watch", run)?;
    world.until("test -e $HOST/.ready", Duration::from_secs(30))?;
    world.sh("echo two >> $HOST/file")?.ok()?;
    world.until("grep -x '2 file' $W/files/watch.out", Duration::from_secs(10))?;
    Ok(())
}
