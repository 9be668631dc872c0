//! Mirrors that bring nonsense, registries that make sizes up, and names that a terminal would obey.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use orlop_tests::Outcome;
use orlop_tests::registry::{self, Asked, Content, MANIFEST, Made, Registry, Reply, digest, mirror};
use orlop_tests::world::World;
use serde_json::json;

use crate::pull::{QUICK, nothing_left};
use crate::{Case, contains, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("pull::mirrors_that_bring_nonsense", nonsense),
        case("pull::only_what_is_missing_needs_space", space),
        case("pull::attempts_end", attempts),
        case("pull::hostile_words", hostile_words),
    ]
}

/// What a mirror does to a request for this image.
type Behaviour = fn(&Asked, &Made) -> Reply;

fn html() -> Reply {
    Reply::Says(200, vec![("Content-Type", "text/html".to_owned())], b"<html>Sign in to this network</html>".to_vec())
}

/// `reply` for paths that have this in them.
fn when(asked: &Asked, part: &str, reply: impl Fn() -> Reply) -> Reply {
    if asked.path.contains(part) { reply() } else { Reply::Usual }
}

const NONSENSE: &[(&str, &str, Behaviour)] = &[
    ("a page for everything", "can't be read", |_, _| html()),
    ("a manifest without an end", "more than 4194304 bytes", |asked, _| {
        when(asked, "/manifests/", || Reply::Endless(MANIFEST))
    }),
    ("another manifest than it says", "but sha256:5555", |asked, _| {
        when(asked, "/manifests/", || {
            let announced = ("Docker-Content-Digest", format!("sha256:{}", "5".repeat(64)));
            Reply::Says(200, vec![announced], b"{\"schemaVersion\":2}".to_vec())
        })
    }),
    ("schema 1", "schema 1", |asked, _| {
        when(asked, "/manifests/", || Reply::Says(200, vec![], b"{\"schemaVersion\":1}".to_vec()))
    }),
    ("a page for the config", "has more than", |asked, made| {
        when(asked, &made.config, || Reply::Says(200, vec![], vec![b'x'; 100_000]))
    }),
    ("another config", "has the digest", |asked, made| when(asked, &made.config, || Reply::Flip(0))),
    ("a page for a layer", "its descriptor says", |asked, made| when(asked, &made.layers[0], html)),
    ("another layer", "has the digest", |asked, made| when(asked, &made.layers[0], || Reply::Flip(1000))),
    ("a layer that is no archive", "layer", |asked, made| when(asked, &made.layers[1], || Reply::Flip(150))),
    ("a layer without an end", "layer", |asked, made| {
        when(asked, &made.layers[0], || Reply::Endless("application/octet-stream"))
    }),
];

/// Whatever a mirror brings, the next one is asked; what each had to say is told when none has the image.
fn nonsense(world: &mut World) -> Outcome {
    for (what, words, behaviour) in NONSENSE {
        let mut content = Content::new();
        let made = Arc::new(registry::image(&mut content, "team/x", "1", &[300_000, 100_000], 7));
        let known = Arc::clone(&made);
        let bad = Registry::start(content.clone(), move |asked| behaviour(asked, &known))?;
        let whole = Registry::start(content.clone(), |_| Reply::Usual)?;
        let name = format!("{}/team/x:1", whole.address);
        two_of(world, &whole, &bad)?;
        world.sh(&format!("docker pull -q {name}"))?.ok().map_err(|said| format!("{what}: {said}"))?;
        if bad.asked().is_empty() {
            return Err(format!("{what}: the mirror was not asked"));
        }
        world.sh(&format!("docker rmi {name}"))?.ok()?;
        nothing_left(world, what)?;
        // The registry is no better.
        let known = Arc::clone(&made);
        let worse = Registry::start(content, move |asked| behaviour(asked, &known))?;
        two_of(world, &worse, &bad)?;
        let said = world.sh(&format!("docker pull -q {}/team/x:1", worse.address))?.fails(1)?;
        contains(what, &said, words)?;
        contains(what, &said, &bad.address)?;
        same(&format!("lines of {what}"), &said.lines().count().to_string(), "1")?;
        nothing_left(world, what)?;
    }
    Ok(())
}

/// A registry and its mirror.
fn two_of(world: &World, registry: &Registry, mirror: &Registry) -> Outcome {
    let text = format!("[registry.\"{}\"]\nmirrors = [\"http://{}\"]\n{QUICK}", registry.address, mirror.address);
    std::fs::write(world.dir().join("files/config.toml"), text).map_err(|error| error.to_string())
}

/// No disk has room for these layers: one of them is here already, the other has to come.
fn space(world: &mut World) -> Outcome {
    const HUGE: u64 = 1 << 50;
    let mut content = Content::new();
    let made = registry::image(&mut content, "library/x", "1", &[5000], 5);
    let blob = [(digest(b"huge"), HUGE)];
    registry::image_of(&mut content, "library/x", "here", &made.layers, &blob, "here");
    registry::image_of(&mut content, "library/x", "missing", &[digest(b"missing")], &blob, "missing");
    let registry = Registry::start(content, |_| Reply::Usual)?;
    mirror(world, &registry.address, QUICK)?;
    world.sh("docker pull -q x:1 && docker pull -q x:here")?.ok()?;
    registry.forget();
    let said = world.sh("docker pull -q x:missing")?.fails(1)?;
    contains("missing", &said, &format!("the image's layers that are not here have {HUGE} bytes, and the disk has "))?;
    same("requests for it", &registry.count(&blob[0].0).to_string(), "0")?;
    world.sh("docker rmi x:here x:1")?.ok()?;
    nothing_left(world, "removed images")
}

/// A registry that wants to be asked again at once, for longer than waits can double.
fn attempts(world: &mut World) -> Outcome {
    let mut content = Content::new();
    registry::image(&mut content, "library/x", "1", &[5000], 5);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let registry = Registry::start(content, move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0..80 => Reply::Says(429, vec![("Retry-After", "0".to_owned())], vec![]),
        _ => Reply::Usual,
    })?;
    mirror(world, &registry.address, "[images]\nmax-download-attempts = 100\n")?;
    world.sh("docker pull -q x:1")?.ok()?;
    mirror(world, &registry.address, "[images]\nmax-download-attempts = 101\n")?;
    let said = world.sh("docker pull -q x:1")?.fails(1)?;
    contains("a setting without an end", &said, "max-download-attempts must be 0 to 100")?;
    mirror(world, &registry.address, QUICK)
}

/// What an image or a registry says of itself reaches the terminal as one line of letters.
fn hostile_words(world: &mut World) -> Outcome {
    const ESCAPE: &str = "a\u{1b}]0;x\u{7}\nb";
    let mut content = Content::new();
    let made = registry::image(&mut content, "library/x", "1", &[5000], 5);
    let layer = |kind: &str| json!({"mediaType": kind, "digest": made.layers[0], "size": 7168});
    let mut put = |tag: &str, config: serde_json::Value, kind: &str| {
        let config = config.to_string().into_bytes();
        let of_config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": of_config, "layers": [layer(kind)]});
        content.insert(format!("library/x/blobs/{}", digest(&config)), ("application/octet-stream", config));
        content.insert(format!("library/x/manifests/{tag}"), (MANIFEST, manifest.to_string().into_bytes()));
    };
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let rootfs = json!({"type": "layers", "diff_ids": made.layers});
    put("platform", json!({"os": ESCAPE, "architecture": ESCAPE, "rootfs": rootfs}), tar);
    put("foreign", json!({"os": "linux", "rootfs": rootfs}), &format!("foreign {ESCAPE}"));
    put("type", json!({"os": "linux", "rootfs": {"type": ESCAPE}}), tar);
    let registry = Registry::start(content, |_| Reply::Usual)?;
    mirror(world, &registry.address, QUICK)?;
    for tag in ["platform", "foreign", "type"] {
        let said = world.sh(&format!("docker pull -q --platform linux/s390x x:{tag}"))?.fails(1)?;
        one_line_of_letters(tag, said.trim_end())?;
    }
    Ok(())
}

fn one_line_of_letters(what: &str, text: &str) -> Outcome {
    match !text.contains(char::is_control) {
        true => Ok(()),
        false => Err(format!("{what}: {text:?}")),
    }
}
