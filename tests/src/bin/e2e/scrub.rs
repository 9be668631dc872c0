//! Images whose files changed behind our back: found, named, and stored anew while a container runs on them.

use orlop_tests::Outcome;
use orlop_tests::archive::{Image, LayerWriter, root, write_docker_archive};
use orlop_tests::registry;
use orlop_tests::world::World;

use crate::{Case, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, tools: &[&str], run| Case { name, missing: missing_tools(tools), run };
    vec![
        case("scrub::a_running_container_keeps_the_damaged_layer", &["jq"], running),
        case("scrub::beside_everything", &[], beside),
        case("scrub::an_archive_that_is_kept", &[], kept),
        case("scrub::without_descriptors", &[], without_descriptors),
        case("scrub::fetched_again", &["docker-registry", "skopeo"], fetched),
    ]
}

/// Flips a bit of a file in the layer that has it, and leaves its times as they are.
const FLIP: &str = "f=$(find $DATA/overlay2 -path '*/diff/bin/busybox'); touch -r $f $W/times && \
    printf '\\377' | dd of=$f bs=1 seek=500000 conv=notrunc status=none && touch -r $W/times $f";

fn running(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let archive = world.archive("busybox")?.display().to_string();
    same("a clean store", &world.sh("docker image scrub 2>&1")?.ok()?, "1 image, 1 layer checked: nothing differs")?;
    world.sh("docker run -d --name box busybox sleep 1000 && docker create --name later busybox true")?.ok()?;
    world.sh(FLIP)?.ok()?;
    world.sh("docker image scrub > $W/out 2> $W/err")?.fails(1)?;
    world.sh("grep -E '/bin/busybox +content has changed +busybox:latest' $W/out")?.ok()?;
    world.sh("grep 'Container box runs on a damaged layer' $W/err && grep 'load or pull it again' $W/err")?.ok()?;
    world.sh("! docker commit box copy 2> $W/err && grep 'not what they were' $W/err")?.ok()?;
    let json = "docker image scrub --dry-run --format json busybox 2>/dev/null | jq -r .Path";
    same("as JSON", &world.sh(json)?.ok()?, "/bin/busybox")?;

    world.sh(&format!("docker load -q -i {archive} && docker image scrub"))?.ok()?;
    let below = |name: &str| format!("docker inspect -f '{{{{.GraphDriver.Data.LowerDir}}}}' {name}");
    let old = world.sh(&below("box"))?.ok()?;
    world.sh("docker exec box true && docker stop -t 0 box && docker start box && docker exec box true")?.ok()?;
    let new = world.sh(&below("box"))?.ok()?;
    if old == new {
        return Err(format!("the container still stands on {old}"));
    }
    // Nothing stands on the damaged one once the other container has left it as well, so it goes with that.
    world.sh("docker start -a later")?.ok()?;
    world.sh(&format!("! test -e {old} && test -e {new}"))?.ok()?;
    same(
        "what keeps it",
        &world.sh("docker image why --format '{{.KeptBy}}' busybox")?.ok()?,
        "tag busybox:latest, running container box, container later",
    )?;
    world.sh("docker rm -f box later && docker image why busybox | grep 'Removing the image would free'")?.ok()?;
    Ok(())
}

/// Saves and scrubs while images come and go beside them, and containers run on one that stays.
fn beside(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let archive = world.archive("n8n")?.display().to_string();
    world.sh("docker run -d --name box busybox sleep 1000 && docker save -o $W/whole.tar busybox")?.ok()?;
    let others = format!(
        "( for i in 1 2 3 4 5 6 7 8; do docker load -q -i {archive}; docker rmi -f n8nio/n8n:1.0 n8nio/n8n:2.0 \
         n8nio/n8n:latest; done ) > $W/others 2>&1 &"
    );
    let work = "for i in 1 2 3 4 5 6 7 8; do \
        docker save busybox | cmp - $W/whole.tar || echo save; \
        docker image scrub > $W/scrub 2>&1 || cat $W/scrub; \
        docker save -o $W/n8n.tar n8nio/n8n 2> $W/err || grep -q 'No such image' $W/err || cat $W/err; \
        docker exec box true || echo exec; done";
    same("what failed", &world.sh(&format!("{others} {work}; wait; cat $W/others | grep -i error; true"))?.ok()?, "")?;
    world.sh("docker image scrub && docker rm -f box && docker rmi busybox")?.ok()?;
    same("layers", &world.sh("find $DATA/overlay2 -name busybox -o -name n8n.bin")?.ok()?, "")
}

/// A layer whose entries replace each other more often than a record holds: its archive is kept beside its files.
fn kept(world: &mut World) -> Outcome {
    let failed = |error: std::io::Error| format!("making the archive: {error}");
    let work = world.dir().to_owned();
    let mut layer = LayerWriter::create(work.join("layer.tar")).map_err(failed)?;
    let name = |number: u32| format!("{}/{}", "long".repeat(18), number % 10);
    layer.dir(&"long".repeat(18), root(0o755)).map_err(failed)?;
    for number in 0..30_000 {
        layer.file(&name(number), root(0o644), number.to_string().as_bytes()).map_err(failed)?;
    }
    let layer = layer.finish().map_err(failed)?;
    let blob = format!("blobs/sha256/{}", layer.diff_id.trim_start_matches("sha256:"));
    let image = Image { tags: vec!["kept:1".to_owned()], layers: vec![layer], config: serde_json::json!({}) };
    write_docker_archive(&work.join("image.tar"), &[image]).map_err(failed)?;

    world.sh("docker load -q -i $W/image.tar")?.ok()?;
    let beside = "ls $(dirname $DATA/overlay2/*/layer.tar.zst)";
    same("beside the files", &world.sh(beside)?.ok()?, "diff\nlayer.tar.zst\ntree.zst")?;
    same("scrubbed", &world.sh("docker image scrub 2>&1")?.ok()?, "1 image, 1 layer checked: nothing differs")?;
    world.sh(&format!("docker save -o $W/1.tar kept:1 && tar -xOf $W/1.tar {blob} | cmp - $W/layer.tar"))?.ok()?;
    world.sh("docker rmi kept:1 && docker load -q -i $W/1.tar && docker save kept:1 | cmp - $W/1.tar")?.ok()?;

    world.sh("printf '\\377' | dd of=$(echo $DATA/overlay2/*/layer.tar.zst) bs=1 seek=5000 conv=notrunc")?.ok()?;
    world.sh("docker save -o $W/2.tar kept:1; test $? = 1 && ! test -e $W/2.tar")?.ok()?;
    world.sh("docker image scrub > $W/out; test $? = 1 && grep 'its kept archive is damaged' $W/out")?.ok()?;
    world.sh("docker load -q -i $W/1.tar && docker image scrub && docker save kept:1 | cmp - $W/1.tar")?.ok()?;
    Ok(())
}

/// What fails for want of file descriptors says nothing about the layers.
fn without_descriptors(world: &mut World) -> Outcome {
    world.load(&["busybox"])?;
    let archive = world.archive("busybox")?.display().to_string();
    let verbs = "for n in $(seq 3 40); do \
        (ulimit -n $n; docker save -o $W/saved.tar busybox; docker image scrub > $W/found) > $W/said 2>&1; \
        if test -s $W/found; then echo $n; cat $W/found; fi; \
        docker image why busybox | grep damaged; done; true";
    same("found damaged", &world.sh(verbs)?.ok()?, "")?;
    let loads = format!(
        "docker rmi busybox && for n in $(seq 3 40); do \
            (ulimit -n $n; docker load -q -i {archive}) > $W/said 2>&1 || continue; \
            test -z \"$(find $DATA/overlay2 -name layer.tar.zst)\" && docker rmi busybox || exit 1; done"
    );
    world.sh(&loads)?.ok()?;
    Ok(())
}

fn fetched(world: &mut World) -> Outcome {
    let archive = world.archive("busybox")?.display().to_string();
    let address = registry::empty(world)?;
    let name = format!("{address}/team/busybox:1");
    world
        .sh(&format!(
            "skopeo copy --insecure-policy -q --dest-tls-verify=false docker-archive:{archive} docker://{name}"
        ))?
        .ok()?;
    world.sh(&format!("docker pull -q {name}"))?.ok()?;
    world.sh(FLIP)?.ok()?;
    world.sh("docker image scrub > $W/out 2> $W/err")?.fails(1)?;
    world.sh("grep 'fetched again from 127.0.0.1' $W/err && docker image scrub")?.ok()?;
    world.sh(&format!("docker run --rm {name} true"))?.ok()?;
    Ok(())
}
