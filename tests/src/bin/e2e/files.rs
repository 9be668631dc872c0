//! A container's files taken out of it: `diff`, `export`, `commit`, and `import`.

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, contains, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("files::diff_says_what_changed", diff),
        case("files::an_export_holds_everything_but_volumes", export),
        case("files::a_commit_is_the_container_as_an_image", commit),
        case("files::a_commit_has_the_volumes_of_v", commit_volumes),
        case("files::a_commit_stops_the_container_meanwhile", commit_of_a_writer),
        case("files::a_killed_commit_holds_nobody", commit_killed),
        case("files::an_import_runs", import),
        case("files::what_is_wrong_is_told_and_nothing_stays", wrong),
        Case {
            name: "files::others_read_what_is_exported_and_committed",
            missing: missing_tools(&["bsdtar", "skopeo"]),
            run: others,
        },
    ]
}

/// A container that has changed something of every kind.
fn changed(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world
        .sh("docker run --name cc -v vol:/vol -v $W:/mnt/here busybox sh -c '
            echo one > /etc/new; mkdir -p /opt/a/b; echo two > /opt/a/b/f; ln /opt/a/b/f /opt/a/linked; ln -s f /opt/a/s
            chmod 4755 /opt/a/b/f; chown 7:8 /opt/a/b; rm /bin/cat; echo in the volume > /vol/f; mkfifo /opt/pipe
            chmod 711 /root; touch -d @1000 /opt/old; chmod 777 /bin; chmod 755 /bin; echo x > /tmp/t; rm /tmp/t'")?
        .ok()
        .map(drop)
}

fn diff(world: &mut World) -> Outcome {
    changed(world)?;
    let expected = "C /bin\nD /bin/cat\nC /etc\nA /etc/new\nA /mnt/here\nC /opt\nA /opt/a\nA /opt/a/b\nA /opt/a/b/f\nA /opt/a/linked\n\
         A /opt/a/s\nA /opt/old\nA /opt/pipe\nC /root\nA /vol";
    let told = world.sh("docker diff cc")?.ok()?;
    let told: Vec<&str> = told.lines().filter(|line| *line != "C /mnt" && *line != "A /mnt").collect();
    same("diff", &told.join("\n"), expected)?;
    // It is the same while the container runs, and by the long form.
    world.sh("docker run -d --name rr busybox sh -c 'touch /x; sleep 1000'")?.ok()?;
    world.until("docker container diff rr | grep -qx 'A /x'", std::time::Duration::from_secs(10))?;
    same(
        "a container that has changed nothing",
        &world.sh("docker create --name nn busybox; docker diff nn")?.ok()?[64..],
        "",
    )
}

fn export(world: &mut World) -> Outcome {
    changed(world)?;
    world.sh("docker export cc | tar xf - -C $(mkdir $W/x && echo $W/x)")?.ok()?;
    let seen = "cd $W/x && cat etc/new opt/a/linked && stat -c '%a %u %g %h' opt/a/b/f opt/a/b && readlink opt/a/s && stat -c %Y opt/old \
         && ls -A vol mnt/here && test -p opt/pipe && test ! -e bin/cat && test -e bin/sh && ls -A etc | grep -c host";
    same(
        "what was exported",
        &world.sh(seen)?.ok()?,
        "one\ntwo\n4755 0 0 2\n755 7 8 2\nf\n1000\nmnt/here:\n\nvol:\n2",
    )?;
    world.sh("docker export -o $W/c.tar cc && docker export cc | cmp - $W/c.tar")?.ok()?;
    same("its mode", &world.sh("stat -c %a $W/c.tar")?.ok()?, "600")?;
    // A link is followed, and a pipe is written into: neither is replaced.
    world.sh("echo old > $W/real; ln -s real $W/link; docker export -o $W/link cc && test -L $W/link && cmp $W/c.tar $W/real")?.ok()?;
    world.sh("docker export -o /dev/stdout cc | cmp - $W/c.tar; test -L /dev/stdout")?.ok()?;
    world.sh("mkfifo $W/pipe; cat $W/pipe > $W/piped & docker export -o $W/pipe cc && wait && test -p $W/pipe && cmp $W/c.tar $W/piped")?.ok()?;
    same(
        "mounts of a container that does not run",
        &world.sh("grep -c $DATA /proc/mounts")?.fails(1).map(|_| String::new())?,
        "",
    )?;
    // Of a running container, and it can be started, stopped and removed after that.
    world.sh("docker start cc && docker export cc | tar tf - | grep -x opt/a/b/f && docker rm -f cc")?.ok().map(drop)
}

/// `-v PATH` is in Config.Volumes as typed (dockerd 20.10 gives the same), what has a source is not.
fn commit_volumes(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let expected = r#"{"//f":{},"/data":{},"/e/":{}}"#;
    world
        .sh("docker create --name vv -v /e/ -v //f -v /data -v named:/n -v /tmp:/host --tmpfs /t busybox true")?
        .ok()?;
    same("container", &world.sh("docker inspect -f '{{json .Config.Volumes}}' vv")?.ok()?, expected)?;
    world.sh("docker commit vv mine:v")?.ok()?;
    same("image", &world.sh("docker image inspect -f '{{json .Config.Volumes}}' mine:v")?.ok()?, expected)?;
    world.sh("docker create --name ww -v /data mine:v true")?.ok()?;
    let places = "docker inspect -f '{{range .Mounts}}{{.Destination}} {{.Type}} {{end}}' ww";
    same("its container", world.sh(places)?.ok()?.trim(), "/data volume /e volume /f volume")?;
    world.sh("docker rm -v vv ww && docker rmi mine:v")?.ok()?;
    same("volumes left", &world.sh("docker volume ls -q")?.ok()?, "named")
}

fn commit(world: &mut World) -> Outcome {
    changed(world)?;
    let id = world
        .sh("docker commit -a 'me <me@x>' -m 'a message' -c 'ENV A=\"b c\"' -c 'CMD [\"sh\",\"-c\",\"echo $A\"]' -c 'LABEL x=y' cc mine:1")?
        .ok()?;
    same("the id", &world.sh("docker image inspect -f '{{.Id}}' mine:1")?.ok()?, id.trim())?;
    same("what it runs", &world.sh("docker run --rm mine:1")?.ok()?, "b c")?;
    let seen = "docker run --rm mine:1 sh -c 'read a < /etc/new; read b < /opt/a/linked; echo $a $b; stat -c \"%a %u %g %h\" /opt/a/b/f /opt/a/b
        readlink /opt/a/s; stat -c %Y /opt/old; ls -A /vol; test -p /opt/pipe && test ! -e /bin/cat && stat -c %a /root'";
    same("what it holds", &world.sh(seen)?.ok()?, "one two\n4755 0 0 2\n755 7 8 2\nf\n1000\n711")?;
    let history = world.sh("docker history --no-trunc --format '{{.Comment}}' mine:1 | head -1")?.ok()?;
    same("its history", &history, "a message")?;
    same(
        "author and labels",
        &world.sh("docker image inspect -f '{{.Author}} {{.Config.Labels.x}}' mine:1")?.ok()?,
        "me <me@x> y",
    )?;
    // One more on top; and what lies below is shared with the image of the container.
    world
        .sh("docker run --name dd mine:1 sh -c 'rm -r /opt/a; echo three > /etc/new' && docker commit dd mine:2")?
        .ok()?;
    same(
        "the second",
        &world.sh("docker run --rm mine:2 sh -c 'read a < /etc/new; echo $a; ls /opt'")?.ok()?,
        "three\nold\npipe",
    )?;
    let layers = world.sh("docker image inspect -f '{{len .RootFS.Layers}}' busybox mine:1 mine:2")?.ok()?;
    let counts: Vec<usize> = layers.split_whitespace().filter_map(|count| count.parse().ok()).collect();
    match counts[..] {
        [one, two, three] if two == one + 1 && three == two + 1 => {}
        _ => return Err(format!("layers of the image and its two children: {layers}")),
    }
    // The image of the container may be gone by force; its layers are not.
    world.sh("docker rmi -f mine:1 && docker commit dd mine:3 && docker run --rm mine:3 sh -c 'read a < /etc/new; echo $a' | grep -x three")?.ok()?;
    // A layer that changes nothing may stand in an image more than once.
    for round in 1..=3 {
        let from = if round == 1 { "busybox".to_owned() } else { format!("empty:{}", round - 1) };
        world
            .sh(&format!("docker create --name e{round} {from} true && docker commit e{round} empty:{round}"))?
            .ok()?;
    }
    let layers = world.sh("docker image inspect -f '{{len .RootFS.Layers}}' busybox empty:1 empty:2 empty:3; docker run --rm empty:3 true")?;
    let counts: Vec<usize> = layers.ok()?.split_whitespace().filter_map(|count| count.parse().ok()).collect();
    if counts.windows(2).any(|pair| pair[1] != pair[0] + 1) {
        return Err(format!("layers of images that change nothing: {counts:?}"));
    }
    // A second time it is another image, without a name.
    let ids = world.sh("docker commit cc; docker commit cc")?.ok()?;
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.dedup();
    if ids.len() == 2 { Ok(()) } else { Err(format!("two commits: {ids:?}")) }
}

fn commit_of_a_writer(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    // Two files that are always written one after the other: the first is never behind the second, and at most one ahead.
    world
        .sh("docker run -d --name ww busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i > /t; mv /t /a; echo $i > /t; mv /t /b; done'")?
        .ok()?;
    world.until("docker exec ww test -e /b", std::time::Duration::from_secs(10))?;
    for round in 1..=3 {
        world.sh(&format!("docker commit ww w:{round}"))?.ok()?;
        let both =
            world.sh(&format!("docker run --rm w:{round} sh -c 'read a < /a; read b < /b; echo $((a - b))'"))?.ok()?;
        if !["0", "1"].contains(&both.trim()) {
            return Err(format!("a commit took the files at different times: {both}"));
        }
    }
    // It goes on after that, and one that was paused before stays so.
    let goes_on = "one=$(docker exec ww sh -c 'read a < /a; echo $a'); sleep 0.5; docker exec ww sh -c \"read a < /a; test \\$a -gt $one\"";
    world.sh(goes_on)?.ok()?;
    world.sh("docker pause ww && docker commit ww && docker ps --format '{{.Status}}' | grep -q Paused && docker unpause ww")?.ok()?;
    world.sh("docker commit --pause=false ww && docker rm -f ww")?.ok().map(drop)
}

fn commit_killed(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    world.sh("docker run -d --name ww busybox sh -c 'dd if=/dev/zero of=/big bs=1M count=400; touch /made; while :; do touch /t; sleep 0.05; done'")?.ok()?;
    world.until("docker exec ww test -e /made", std::time::Duration::from_secs(60))?;
    world
        .sh("docker commit ww > $W/out & pid=$!; for i in $(seq 400); do
                 if [ \"$(docker inspect -f '{{.State.Paused}}' ww)\" = true ]; then kill -9 $pid; break; fi
             done; wait $pid; test ! -s $W/out")?
        .ok()?;
    same("after the kill", &world.sh("docker inspect -f '{{.State.Status}}' ww")?.ok()?, "running")?;
    let goes_on =
        "one=$(docker exec ww stat -c %y /t); sleep 0.3; test \"$one\" != \"$(docker exec ww stat -c %y /t)\"";
    world.sh(goes_on)?.ok()?;
    same("images", &world.sh("docker images -q | wc -l")?.ok()?, "1")?;
    world.sh("docker rm -f ww && ls -A $DATA/content/ingest")?.ok().and_then(|left| same("what is left", &left, "ww"))
}

fn import(world: &mut World) -> Outcome {
    changed(world)?;
    world.sh("docker export -o $W/c.tar cc")?.ok()?;
    for (what, line) in [
        ("a file", "docker import -c 'CMD [\"sh\"]' -m note $W/c.tar im:1"),
        ("stdin", "docker import - im:1 < $W/c.tar"),
        ("a pipe with gzip", "gzip -c $W/c.tar | docker import - im:1"),
        ("a pipe with zstd", "zstd -qc $W/c.tar | docker image import - im:1"),
    ] {
        world.sh(line)?.ok().map_err(|said| format!("{what}: {said}"))?;
        same(what, &world.sh("docker run --rm im:1 sh -c 'read a < /etc/new; echo $a'")?.ok()?, "one")?;
        world.sh("docker rmi im:1")?.ok()?;
    }
    world.sh("docker import --platform linux/arm/v7 -m note $W/c.tar im:2")?.ok()?;
    same(
        "platform and note",
        &world.sh("docker image inspect -f '{{.Architecture}} {{.Variant}} {{.Comment}}' im:2")?.ok()?,
        "arm v7 note",
    )
}

fn wrong(world: &mut World) -> Outcome {
    changed(world)?;
    world.sh("docker export -o $W/c.tar cc; head -c 1000000 $W/c.tar > $W/cut.tar; seq 1000 > $W/text")?.ok()?;
    let before = world.sh("docker images -aq; ls -A $W")?.ok()?;
    for (line, code, part) in [
        ("docker diff nothing", 1, "No such container: nothing"),
        ("docker export nothing", 1, "No such container: nothing"),
        ("docker export -o $W/none/x cc", 1, "does not exist"),
        ("docker export -o $W cc", 1, "is a directory"),
        ("docker commit nothing", 1, "No such container: nothing"),
        ("docker commit cc 'Not A Name'", 1, "invalid reference format"),
        ("docker commit -c 'RUN true' cc", 1, "RUN is not a valid change command"),
        ("docker commit -c 'EXPOSE x' cc", 1, "invalid containerPort"),
        ("docker import $W/nothing", 1, "no such file"),
        ("docker import $W/text", 1, "not a tar archive"),
        ("docker import $W/cut.tar", 1, ""),
        ("docker import https://x/y.tar", 1, "can't be imported"),
        ("docker import -c 'COPY a b' $W/c.tar", 1, "COPY is not a valid change command"),
        ("docker import --platform x/y $W/c.tar", 1, "unknown operating system"),
        ("docker export -o /dev/full cc", 1, ""),
        ("docker export cc > /dev/full", 1, "No space left"),
    ] {
        let said = world.sh(line)?.fails(code).map_err(|said| format!("{line}: {said}"))?;
        contains(line, &said.to_lowercase(), &part.to_lowercase())?;
    }
    same("what is there", &world.sh("docker images -aq; ls -A $W")?.ok()?, &before)?;
    // A name that would remove another one from the image.
    world.sh("docker run --name wh busybox touch /bin/.wh.sh")?.ok()?;
    contains("commit", &world.sh("docker commit wh")?.fails(1)?, "/bin/.wh.sh can't be in an image")?;
    world.sh("docker rm wh")?.ok()?;
    // A reader that goes away ends it, and the container is as it was.
    world.sh("docker export cc | head -c 100 > /dev/null; docker start cc && docker rm -f cc")?.ok().map(drop)
}

fn others(world: &mut World) -> Outcome {
    changed(world)?;
    world
        .sh("docker export cc | bsdtar tvf - > $W/list && grep -q ' opt/a/linked link to opt/a/b/f$' $W/list")?
        .ok()?;
    world.sh("docker commit cc mine && docker save -o $W/mine.tar mine")?.ok()?;
    let layers = world.sh("skopeo inspect --config docker-archive:$W/mine.tar | grep -c sha256:")?.ok()?;
    let ours = world.sh("docker image inspect -f '{{len .RootFS.Layers}}' mine")?.ok()?;
    same("layers that skopeo reads", &layers, &ours)
}
