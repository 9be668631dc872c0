//! Pulls: from Debian's registry, and from one that misbehaves.

use std::time::{Duration, Instant};

use orlop_tests::Outcome;
use orlop_tests::registry::{self, Asked, Content, INDEX, MANIFEST, Registry, Reply, digest, mirror};
use orlop_tests::world::{PATIENCE, World};
use serde_json::json;

use crate::{Case, contains, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    let real = |name, run| Case { name, missing: missing_tools(&["docker-registry", "skopeo", "jq"]), run };
    vec![
        real("pull::from_debians_registry", from_debians_registry),
        case("pull::what_breaks_off_goes_on", what_breaks_off_goes_on),
        case("pull::what_is_wrong_is_refused", what_is_wrong_is_refused),
        case("pull::waits_end", waits_end),
        case("pull::a_newer_image_takes_the_name", newer),
        case("pull::platforms", platforms),
        case("pull::killed_and_gone_on", killed),
        case("pull::two_at_once", two_at_once),
        case("pull::run_pulls", run_pulls),
        Case { name: "pull::full_disk", missing: missing_tools(&["mkfs.ext4", "losetup"]), run: full_disk },
    ]
}

/// Time-outs that a test can wait for.
pub const QUICK: &str = "[images]\ndownload-timeout = 1\nmax-download-attempts = 3\n";

/// What a failed pull must not leave: images, layers, what came of blobs.
const LEFT: &str =
    "docker images -aq; ls $DATA/overlay2 2>/dev/null | grep -E '^[0-9a-f]{64}$'; find $DATA/content -type f";

pub fn nothing_left(world: &World, what: &str) -> Outcome {
    same(&format!("left of {what}"), &world.sh(&format!("{LEFT}; true"))?.ok()?, "")
}

/// One image `library/x:1` of two layers in a registry that behaves so, which is the mirror of Docker Hub.
fn serve(
    world: &World,
    sizes: &[usize],
    behaviour: impl Fn(&Asked, &registry::Made) -> Reply + Send + Sync + 'static,
) -> Outcome<(Registry, std::sync::Arc<registry::Made>)> {
    let mut content = Content::new();
    let made = std::sync::Arc::new(registry::image(&mut content, "library/x", "1", sizes, 7));
    let known = std::sync::Arc::clone(&made);
    let registry = Registry::start(content, move |asked| behaviour(asked, &known))?;
    mirror(world, &registry.address, QUICK)?;
    Ok((registry, made))
}

fn from_debians_registry(world: &mut World) -> Outcome {
    let address = registry::debian(world, "n8n", &["n8nio/n8n:latest", "n8nio/n8n:2.0"])?;
    let archive = world.archive("n8n")?;
    let said = world.sh("docker pull n8nio/n8n")?.ok()?;
    contains("output", &said, "Using default tag: latest\nlatest: Pulling from n8nio/n8n\n")?;
    contains("output", &said, ": Pull complete\nDigest: sha256:")?;
    contains("output", &said, "\nStatus: Downloaded newer image for n8nio/n8n:latest\ndocker.io/n8nio/n8n:latest")?;
    // What skopeo compressed on its way has the ids that the archive has.
    let id = world.sh("docker images -q --no-trunc n8nio/n8n:latest")?.ok()?;
    let said = world.sh("docker pull n8nio/n8n:2.0")?.ok()?;
    contains("what both images have", &said, ": Already exists\n")?;
    let digest = format!("skopeo inspect --tls-verify=false docker://{address}/n8nio/n8n:2.0 | jq -r .Digest");
    let digest = world.sh(&digest)?.ok()?;
    same(
        "quiet",
        &world.sh(&format!("docker pull -q n8nio/n8n@{digest}"))?.ok()?,
        &format!("docker.io/n8nio/n8n@{digest}"),
    )?;
    let pinned = format!(
        "docker image inspect -f '{{{{index .RepoDigests 0}}}}' n8nio/n8n:2.0 && docker images --digests -q n8nio/n8n@{digest}"
    );
    contains("RepoDigests", &world.sh(&pinned)?.ok()?, &format!("n8nio/n8n@{digest}"))?;
    let said = world.sh("docker pull n8nio/n8n:2.0")?.ok()?;
    contains("a second pull", &said, "\nStatus: Image is up to date for n8nio/n8n:2.0\n")?;
    world.sh("docker run --rm n8nio/n8n:latest test -s /usr/local/bin/node.bin")?.ok()?;
    world.sh("docker rmi n8nio/n8n:2.0 n8nio/n8n:latest")?.ok()?;
    nothing_left(world, "removed images")?;
    let all = world.sh("docker pull -a n8nio/n8n")?.ok()?;
    contains("all tags", &all, "2.0: Pulling from n8nio/n8n\n")?;
    contains("all tags", &all, "\nStatus: Downloaded newer image for n8nio/n8n\ndocker.io/n8nio/n8n")?;
    world.sh(&format!("docker load -q -i {}", archive.display()))?.ok()?;
    same("the id of pull and of load", &world.sh("docker images -q --no-trunc n8nio/n8n:latest")?.ok()?, &id)?;
    let said = world.sh("docker pull n8nio/n8n:none")?.fails(1)?;
    contains("a tag that isn't there", &said, "Error: manifest for n8nio/n8n:none not found: manifest unknown")?;
    same("lines", &said.lines().count().to_string(), "1")
}

fn blob(made: &registry::Made, layer: usize) -> String {
    format!("/blobs/{}", made.layers[layer])
}

fn what_breaks_off_goes_on(world: &mut World) -> Outcome {
    const SIZES: [usize; 2] = [3 << 20, 100_000];
    // The connection ends thrice, each time after another MiB.
    let (registry, made) =
        serve(world, &SIZES, |asked, made| match asked.path.ends_with(&blob(made, 0)) && asked.before < 3 {
            true => Reply::Cut(700_000),
            false => Reply::Usual,
        })?;
    world.sh("docker pull x:1")?.ok()?;
    let ranges: Vec<usize> =
        registry.asked().iter().filter(|asked| asked.path.ends_with(&blob(&made, 0))).map(Asked::from).collect();
    same("ranges", &format!("{ranges:?}"), "[0, 700000, 1400000, 2100000]")?;
    world.sh("docker rmi x:1")?.ok()?;
    // A registry that knows no ranges sends all of it again.
    let (registry, made) = serve(world, &SIZES, |asked, made| match asked.path.ends_with(&blob(made, 0)) {
        true if asked.before < 2 => Reply::Whole(1_500_000),
        true => Reply::Whole(usize::MAX),
        false => Reply::Usual,
    })?;
    world.sh("docker pull x:1")?.ok()?;
    same("requests", &registry.count(&blob(&made, 0)).to_string(), "3")?;
    world.sh("docker rmi x:1")?.ok()?;
    // One that never gets further is given up; what came stays, and the next pull asks for the rest only.
    let (registry, _) = serve(world, &SIZES, |asked, made| match asked.path.ends_with(&blob(made, 0)) {
        true if asked.from() == 0 => Reply::Cut(2_000_000),
        true if asked.before < 8 => Reply::Cut(0),
        _ => Reply::Usual,
    })?;
    let said = world.sh("docker pull x:1")?.fails(1)?;
    contains("given up", &said, "the connection broke off")?;
    same("lines", &said.lines().count().to_string(), "1")?;
    same("images", &world.sh("docker images -q")?.ok()?, "")?;
    drop(registry);
    let (registry, made) = serve(world, &SIZES, |_, _| Reply::Usual)?;
    world.sh("docker pull x:1")?.ok()?;
    let asked = registry.asked();
    let of_layer: Vec<&Asked> = asked.iter().filter(|asked| asked.path.ends_with(&blob(&made, 0))).collect();
    same(
        "requests for the rest",
        &format!("{:?}", of_layer.iter().map(|asked| asked.from()).collect::<Vec<_>>()),
        "[2000000]",
    )?;
    world.sh("docker rmi x:1")?.ok()?;
    nothing_left(world, "removed images")
}

/// What each pull is answered with must be one line that has these words, and nothing stays.
fn what_is_wrong_is_refused(world: &mut World) -> Outcome {
    type Behaviour = fn(&Asked, &registry::Made) -> Reply;
    const SIZES: [usize; 2] = [300_000, 100_000];
    const JSON: &str = "Content-Type";
    fn says(kind: &str, body: &str) -> Reply {
        Reply::Says(200, vec![(JSON, kind.to_owned())], body.as_bytes().to_vec())
    }
    let cases: &[(&str, &str, Behaviour)] = &[
        ("a layer with other content", "has the digest sha256:", |asked, made| {
            match asked.path.ends_with(&blob(made, 0)) {
                true => Reply::Flip(1000),
                false => Reply::Usual,
            }
        }),
        ("a layer that is too short", "but its descriptor says", |asked, made| {
            match asked.path.ends_with(&blob(made, 0)) {
                true => Reply::Says(200, vec![], vec![b'x'; 1000]),
                false => Reply::Usual,
            }
        }),
        ("a layer without an end", "invalid layer archive", |asked, made| match asked.path.ends_with(&blob(made, 0)) {
            true => Reply::Endless("application/octet-stream"),
            false => Reply::Usual,
        }),
        ("a manifest without an end", "more than 4194304 bytes", |asked, _| match asked.path.contains("/manifests/") {
            true => Reply::Endless(MANIFEST),
            false => Reply::Usual,
        }),
        ("a manifest of 64 MiB", "more than 4194304 bytes", |asked, _| match asked.path.contains("/manifests/") {
            true => Reply::Says(200, vec![(JSON, MANIFEST.to_owned())], vec![b' '; 64 << 20]),
            false => Reply::Usual,
        }),
        ("a config without an end", "the image config has more than", |asked, made| {
            match asked.path.ends_with(&made.config) {
                true => Reply::Endless("application/json"),
                false => Reply::Usual,
            }
        }),
        ("a manifest that is no JSON", "can't be read", |asked, _| match asked.path.contains("/manifests/") {
            true => says(MANIFEST, "<html>"),
            false => Reply::Usual,
        }),
        ("a manifest of another digest", "but sha256:5555", |asked, _| match asked.path.contains("/manifests/") {
            true => Reply::Says(
                200,
                vec![(JSON, MANIFEST.to_owned()), ("Docker-Content-Digest", format!("sha256:{}", "5".repeat(64)))],
                b"{\"schemaVersion\":2}".to_vec(),
            ),
            false => Reply::Usual,
        }),
        ("schema 1", "schema 1", |asked, _| match asked.path.contains("/manifests/") {
            true => says("application/vnd.docker.distribution.manifest.v1+prettyjws", "{\"schemaVersion\":1}"),
            false => Reply::Usual,
        }),
        ("no image at all", "application/vnd.cncf.helm.config.v1+json", |asked, _| {
            match asked.path.contains("/manifests/") {
                true => says(
                    MANIFEST,
                    &json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
                "digest": digest(b"x"), "size": 1}, "layers": []})
                    .to_string(),
                ),
                false => Reply::Usual,
            }
        }),
        ("403", "pull access denied for x, repository does not exist or may require 'docker login'", |asked, _| {
            match asked.path.contains("/manifests/") {
                true => Reply::Says(
                    403,
                    vec![],
                    br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#
                        .to_vec(),
                ),
                false => Reply::Usual,
            }
        }),
        ("401 for ever", "pull access denied for x", |asked, _| match asked.path.starts_with("/token") {
            true => says("application/json", "{\"token\":\"abc\"}"),
            false => Reply::Says(
                401,
                vec![(
                    "WWW-Authenticate",
                    format!("Bearer realm=\"http://{}/token\",service=\"x\"", asked.headers["host"]),
                )],
                vec![],
            ),
        }),
        ("redirects in a circle", "redirects", |asked, _| match asked.path.contains("/manifests/") {
            true => Reply::Says(307, vec![("Location", asked.path.clone())], vec![]),
            false => Reply::Usual,
        }),
    ];
    for (what, words, behaviour) in cases {
        let (registry, _) = serve(world, &SIZES, behaviour)?;
        let said = world.sh("docker pull -q x:1")?.fails(1).map_err(|said| format!("{what}: {said}"))?;
        contains(what, &said, words)?;
        same(&format!("lines of {what}"), &said.lines().count().to_string(), "1")?;
        nothing_left(world, what)?;
        if registry.asked().len() > 12 {
            return Err(format!("{what}: {} requests", registry.asked().len()));
        }
    }
    indexes(world)
}

/// Indexes within indexes, and one that leads nowhere.
fn indexes(world: &World) -> Outcome {
    let mut content = Content::new();
    let made = registry::image(&mut content, "library/x", "image", &[1000], 1);
    let (mut inner, mut size) = (made.manifest, made.size);
    for level in 0..8 {
        let kind = if level == 0 { MANIFEST } else { INDEX };
        let index = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": kind, "digest": inner, "size": size}]})
        .to_string()
        .into_bytes();
        (inner, size) = (digest(&index), index.len());
        content.insert(format!("library/x/manifests/{inner}"), (INDEX, index.clone()));
        content.insert(format!("library/x/manifests/{level}"), (INDEX, index));
    }
    let registry = Registry::start(content, |_| Reply::Usual)?;
    mirror(world, &registry.address, QUICK)?;
    let said = world.sh("docker pull x:7")?.fails(1)?;
    contains("nested indexes", &said, "nested more than 4 deep")?;
    nothing_left(world, "nested indexes")?;
    world.sh("docker pull x:1 && docker rmi x:1")?.ok().map(drop)
}

/// Silence, a trickle, and a server that wants to be left alone.
fn waits_end(world: &mut World) -> Outcome {
    type Behaviour = fn(&Asked, &registry::Made) -> Reply;
    let slow: &[(&str, &str, Behaviour)] = &[
        ("a trickle of a manifest", "can't pull x:1", |asked, _| match asked.path.contains("/manifests/") {
            true => Reply::Trickle(10),
            false => Reply::Usual,
        }),
        ("a trickle of a layer", "can't be fetched", |asked, made| match asked.path.ends_with(&blob(made, 0)) {
            true => Reply::Trickle(1000),
            false => Reply::Usual,
        }),
        ("a layer that stops", "can't be fetched", |asked, made| match asked.path.ends_with(&blob(made, 0)) {
            true => Reply::Stuck(1000),
            false => Reply::Usual,
        }),
        ("come back in a day", "429", |asked, _| match asked.path.contains("/manifests/") {
            true => Reply::Says(429, vec![("Retry-After", "86400".to_owned())], vec![]),
            false => Reply::Usual,
        }),
    ];
    for (what, words, behaviour) in slow {
        let (_registry, _) = serve(world, &[200_000, 100_000], behaviour)?;
        let began = Instant::now();
        let said = world.sh("docker pull -q x:1")?.fails(1).map_err(|said| format!("{what}: {said}"))?;
        contains(what, &said, words)?;
        same(&format!("lines of {what}"), &said.lines().count().to_string(), "1")?;
        if began.elapsed() > PATIENCE / 2 {
            return Err(format!("{what}: it took {:?}", began.elapsed()));
        }
    }
    let (registry, _) =
        serve(world, &[200_000, 100_000], |asked, _| match asked.path.contains("/manifests/") && asked.before == 0 {
            true => Reply::Says(429, vec![("Retry-After", "1".to_owned())], vec![]),
            false => Reply::Usual,
        })?;
    world.sh("docker pull -q x:1")?.ok()?;
    same("requests for the manifest", &registry.count("/manifests/").to_string(), "2")
}

/// The old image stays, known by its digest, until it is pruned.
fn newer(world: &mut World) -> Outcome {
    let pull = |seed: u64| -> Outcome<registry::Made> {
        let mut content = Content::new();
        let made = registry::image(&mut content, "library/x", "1", &[1000], seed);
        let registry = Registry::start(content, |_| Reply::Usual)?;
        mirror(world, &registry.address, QUICK)?;
        world.sh("docker pull -q x:1")?.ok()?;
        Ok(made)
    };
    let (old, new) = (pull(1)?, pull(2)?);
    let images = |what: &str| {
        world
            .sh(&format!(
                "docker images --no-trunc {what} --format '{{{{.Repository}}}} {{{{.Tag}}}} {{{{.ID}}}}' | sort"
            ))?
            .ok()
    };
    same("images", &images("")?, &format!("x 1 {}\nx <none> {}", new.config, old.config))?;
    same("dangling", &images("-f dangling=true")?, &format!("x <none> {}", old.config))?;
    let digests = "docker images --digests --format '{{.Digest}}' | sort";
    let mut expected = [old.manifest.clone(), new.manifest.clone()];
    expected.sort();
    same("digests", &world.sh(digests)?.ok()?, &expected.join("\n"))?;
    world.sh(&format!("docker create --pull never x@{} true && docker rm $(docker ps -aq)", old.manifest))?.ok()?;
    let pruned = world.sh("docker image prune -f")?.ok()?;
    contains("prune", &pruned, &format!("untagged: x@{}\ndeleted: {}\n", old.manifest, old.config))?;
    same("images", &images("")?, &format!("x 1 {}", new.config))?;
    let removed = world.sh("docker rmi x:1")?.ok()?;
    contains("rmi", &removed, &format!("Untagged: x:1\nUntagged: x@{}\nDeleted: {}", new.manifest, new.config))?;
    nothing_left(world, "removed images")
}

fn platforms(world: &mut World) -> Outcome {
    let mut content = Content::new();
    let native = registry::image(&mut content, "library/x", "native", &[1000], 1);
    let foreign = registry::image(&mut content, "library/x", "foreign", &[1000], 9);
    let host = orlop_tests::archive::architecture();
    let entry = |made: &registry::Made, platform: serde_json::Value| json!({"mediaType": MANIFEST, "digest": made.manifest, "size": made.size, "platform": platform});
    let mut attestation = entry(&foreign, json!({"os": "unknown", "architecture": "unknown"}));
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        attestation,
        entry(&foreign, json!({"os": "linux", "architecture": "s390x"})),
        entry(&native, json!({"os": "linux", "architecture": host})),
    ]})
    .to_string()
    .into_bytes();
    let pinned = digest(&index);
    content.insert("library/x/manifests/many".to_owned(), (INDEX, index.clone()));
    content.insert(format!("library/x/manifests/{pinned}"), (INDEX, index));
    let registry = Registry::start(content, |_| Reply::Usual)?;
    mirror(world, &registry.address, QUICK)?;
    world.sh("docker pull -q x:many")?.ok()?;
    same("the native image", &world.sh("docker images -q --no-trunc x:many")?.ok()?, &native.config)?;
    let digests = world.sh("docker image inspect -f '{{json .RepoDigests}}' x:many")?.ok()?;
    same("RepoDigests", &digests, &format!("[\"x@{pinned}\"]"))?;
    let said = world.sh("docker pull -q --platform linux/riscv64 x:many")?.fails(1)?;
    contains("another", &said, "no matching manifest for linux/riscv64 in the manifest list entries")?;
    let said = world.sh("docker pull -q --platform linux/s390x x:native")?.fails(1)?;
    contains("a single manifest", &said, "does not match the specified platform: wanted linux/s390x, actual: linux/")?;
    let said = world.sh("docker pull --platform linux/pdp11 x:many")?.fails(1)?;
    contains("no platform", &said, "unknown operating system or architecture")?;
    world
        .sh(&format!(
            "docker pull -q x@{pinned} && docker rmi x:many x@{pinned} ; docker rmi -f $(docker images -q); true"
        ))?
        .ok()?;
    nothing_left(world, "removed images")
}

/// After a kill the next pull asks for the rest only.
fn killed(world: &mut World) -> Outcome {
    const SIZES: [usize; 3] = [2_000_000, 1_500_000, 1_000_000];
    let (registry, made) = serve(world, &SIZES, |asked, made| match asked.path.ends_with(&blob(made, 1)) {
        true => Reply::Stuck(1_200_000),
        false => Reply::Usual,
    })?;
    mirror(world, &registry.address, "")?;
    world.spawn("pull", "exec docker pull x:1")?;
    let sizes = [tar_size(SIZES[0]), 1_200_000, tar_size(SIZES[2])];
    let checks =
        made.layers.iter().zip(sizes).map(|(layer, size)| format!("test $(stat -c %s {}) = {size}", &layer[7..]));
    let arrived = format!("cd $DATA/content/ingest && {}", checks.collect::<Vec<_>>().join(" && "));
    world.until(&arrived, Duration::from_secs(30))?;
    world.kill_spawned();
    drop(registry);
    same("images", &world.sh("docker images -q")?.ok()?, "")?;
    let (registry, made) = serve(world, &SIZES, |_, _| Reply::Usual)?;
    world.sh("docker pull x:1")?.ok()?;
    let asked = registry.asked();
    let of_layers: Vec<(String, usize)> = asked
        .iter()
        .filter(|asked| made.layers.iter().any(|layer| asked.path.ends_with(layer.as_str())))
        .map(|asked| (asked.path.rsplit('/').next().unwrap_or_default().to_owned(), asked.from()))
        .collect();
    same("requests", &format!("{of_layers:?}"), &format!("{:?}", [(made.layers[1].clone(), 1_200_000_usize)]))?;
    world.sh("docker rmi x:1")?.ok()?;
    nothing_left(world, "removed images")
}

fn tar_size(file: usize) -> usize {
    512 + file.div_ceil(512) * 512 + 1024
}

/// Two pulls of images that share a layer, at the same time, twice each: every blob comes once.
fn two_at_once(world: &mut World) -> Outcome {
    let mut content = Content::new();
    let one = registry::image(&mut content, "library/x", "1", &[2_000_000, 500_000], 5);
    // The same lower layer, another above it.
    let other = registry::image(&mut content, "library/x", "2", &[2_000_000, 600_000], 5);
    same("the layer of both", &one.layers[0], &other.layers[0])?;
    let registry = Registry::start(content, |_| Reply::Usual)?;
    mirror(world, &registry.address, QUICK)?;
    world.sh("docker pull -q x:1 & docker pull -q x:2 & docker pull -q x:1 & docker pull -q x:2 & for job in $(jobs -p); do wait $job || exit 1; done")?.ok()?;
    for layer in one.layers.iter().chain(&other.layers) {
        same(&format!("requests for {layer}"), &registry.count(layer).to_string(), "1")?;
    }
    same("images", &world.sh("docker images -q x | wc -l")?.ok()?, "2")
}

/// `run` of an image that isn't there, and the policies.
fn run_pulls(world: &mut World) -> Outcome {
    let (registry, _) = serve(world, &[1000, 1000], |_, _| Reply::Usual)?;
    let said = world.sh("docker create x:1 true")?;
    contains("stderr", &said.stderr, "Unable to find image 'x:1' locally\n1: Pulling from library/x\n")?;
    contains("stderr", &said.stderr, "\nStatus: Downloaded newer image for x:1\n")?;
    same("stdout is the id alone", &said.ok()?.len().to_string(), "64")?;
    registry.forget();
    world.sh("docker create --pull missing x:1 true")?.ok()?;
    same("requests", &registry.asked().len().to_string(), "0")?;
    let said = world.sh("docker create --pull always -q x:1 true")?;
    same("quiet", &said.stderr, "")?;
    said.ok()?;
    if registry.asked().is_empty() {
        return Err("--pull always asked nobody".to_owned());
    }
    let said = world.sh("docker run --rm --pull never y:1 true")?.fails(125)?;
    same("never", &said, "Error: No such image: y:1\n")?;
    let said = world.sh("docker run --rm y:1 true")?.fails(125)?;
    contains("not in the registry", &said, "Unable to find image 'y:1' locally\nError: manifest for y:1 not found")?;
    let said = world.sh("docker run --pull often y:1 true")?.fails(125)?;
    contains("policy", &said, "invalid pull option: 'often'")
}

fn full_disk(world: &mut World) -> Outcome {
    let mount = "truncate -s 64M $W/disk.img && mkfs.ext4 -q -m 0 $W/disk.img && mkdir $W/disk && mount -o loop $W/disk.img $W/disk";
    world.sh(mount)?.ok()?;
    world.set_data(world.dir().join("disk/data"));
    let (_registry, _) = serve(world, &[30 << 20, 20 << 20], |_, _| Reply::Usual)?;
    let worked = || -> Outcome {
        world.sh("docker volume ls")?.ok()?;
        let said = world.sh("docker pull -q x:1")?.fails(1)?;
        contains("a full disk", &said, "No space left on device")?;
        same("lines", &said.lines().filter(|line| !line.starts_with("Hint: ")).count().to_string(), "1")?;
        nothing_left(world, "a pull on a full disk")
    };
    let worked = worked();
    world.sh("umount $W/disk")?.ok()?;
    worked
}
