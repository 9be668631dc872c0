//! Images whose files changed behind our back: found, named, and stored anew while a container runs on them.

use orlop_tests::Outcome;
use orlop_tests::world::World;

use crate::{Case, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, tools: &[&str], run| Case { name, missing: missing_tools(tools), run };
    vec![
        case("scrub::a_running_container_keeps_the_damaged_layer", &["jq"], running),
        case("scrub::beside_everything", &[], beside),
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
    // Nothing stands on the damaged one once the other container has left it as well.
    world.sh("docker start -a later && docker system tend")?.ok()?;
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

fn fetched(world: &mut World) -> Outcome {
    let archive = world.archive("busybox")?.display().to_string();
    let config =
        "version: 0.1\\nstorage:\\n  filesystem:\\n    rootdirectory: $W/registry\\nhttp:\\n  addr: 127.0.0.1:$PORT\\n";
    let port = 20_000 + std::process::id() % 20_000;
    world.set_env("PORT", &port.to_string());
    world.sh(&format!("printf \"{config}\" > $W/registry.yml"))?.ok()?;
    world.spawn("registry", "exec docker-registry serve $W/registry.yml")?;
    let push = format!(
        "skopeo copy --insecure-policy -q --dest-tls-verify=false docker-archive:{archive} \
         docker://127.0.0.1:$PORT/team/busybox:1"
    );
    world.until(&push, std::time::Duration::from_secs(30))?;
    world.sh("docker pull -q 127.0.0.1:$PORT/team/busybox:1")?.ok()?;
    world.sh(FLIP)?.ok()?;
    world.sh("docker image scrub > $W/out 2> $W/err")?.fails(1)?;
    world.sh("grep 'fetched again from 127.0.0.1' $W/err && docker image scrub")?.ok()?;
    world.sh("docker run --rm 127.0.0.1:$PORT/team/busybox:1 true")?.ok()?;
    Ok(())
}
