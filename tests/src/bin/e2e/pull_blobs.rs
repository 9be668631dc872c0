//! Pulls and the blobs that lie here already: kept ones, and those that a hostile image calls its own.

use std::collections::BTreeSet;

use orlop_tests::Outcome;
use orlop_tests::registry::{self, Content, Registry, Reply, digest, mirror};
use orlop_tests::world::World;

use crate::pull::{QUICK, nothing_left};
use crate::{Case, contains, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("pull::blobs_may_stay", blobs_may_stay),
        case("pull::a_layer_may_stand_twice", twice),
        case("pull::what_is_anothers_stays", anothers),
    ]
}

const KEEP: &str = "keep-blobs = true\n";
const BLOBS: &str = "cd $DATA/content && find blobs layers -type f 2>/dev/null | sort";
const SUMS: &str = "cd $DATA/content && for f in $(find blobs layers -type f 2>/dev/null); do \
    test $(basename $f) = $(sha256sum < $f | cut -d' ' -f1) || exit 1; done";

/// Where the blobs of these images lie, in the order of `sort`.
fn all(images: &[&registry::Made]) -> String {
    let layers = images.iter().flat_map(|made| &made.layers).map(|digest| format!("layers/{}", &digest[7..]));
    let others = images.iter().flat_map(|made| [&made.config, &made.manifest]);
    let others = others.map(|digest| format!("blobs/sha256/{}", &digest[7..]));
    layers.chain(others).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("\n")
}

/// `keep-blobs`: what came stays beside the files, for as long as an image has it.
fn blobs_may_stay(world: &mut World) -> Outcome {
    let mut content = Content::new();
    let one = registry::image(&mut content, "library/x", "1", &[5000, 300], 5);
    let other = registry::image(&mut content, "library/x", "2", &[5000, 400], 5);
    let registry = Registry::start(content, |_| Reply::Usual)?;
    mirror(world, &registry.address, &format!("{QUICK}{KEEP}"))?;
    world.sh("docker pull -q x:1 && docker pull -q x:2")?.ok()?;
    same("blobs", &world.sh(BLOBS)?.ok()?, &all(&[&one, &other]))?;
    world.sh(SUMS)?.ok()?;
    // What nobody needs goes an hour later; these are needed.
    let old = "touch -d '2 hours ago' $DATA/content/*/* $DATA/content/blobs/sha256/* && docker system tend";
    world.sh(old)?.ok()?;
    same("blobs after tend", &world.sh(BLOBS)?.ok()?, &all(&[&one, &other]))?;
    world.sh("cd $DATA/content/layers && echo x > $(echo x | sha256sum | cut -d' ' -f1)")?.ok()?;
    world.sh(old)?.ok()?;
    same("blobs after tend", &world.sh(BLOBS)?.ok()?, &all(&[&one, &other]))?;
    world.sh("docker rmi x:1")?.ok()?;
    same("blobs of the other image", &world.sh(BLOBS)?.ok()?, &all(&[&other]))?;
    world.sh("docker rmi x:2")?.ok()?;
    nothing_left(world, "removed images")
}

/// One layer in two places of an image.
fn twice(world: &mut World) -> Outcome {
    let mut content = Content::new();
    let made = registry::image(&mut content, "library/x", "1", &[5000], 5);
    let (layer, size) =
        (made.layers[0].clone(), content[&format!("library/x/blobs/{}", made.layers[0])].1.len() as u64);
    let blobs = [(layer.clone(), size), (layer.clone(), size)];
    let twice = registry::image_of(&mut content, "library/x", "2", &[layer.clone(), layer], &blobs, "true");
    let registry = Registry::start(content, |_| Reply::Usual)?;
    for settings in ["", KEEP] {
        mirror(world, &registry.address, &format!("{QUICK}{settings}"))?;
        world.sh("docker pull -q x:2")?.ok()?;
        if settings == KEEP {
            same("blobs", &world.sh(BLOBS)?.ok()?, &all(&[&twice]))?;
        }
        world.sh("docker rmi x:2")?.ok()?;
        nothing_left(world, "removed images")?;
    }
    Ok(())
}

/// Images whose manifests call the blobs of another image their layers, pulled and removed: the other has all of its own
/// afterwards.
fn anothers(world: &mut World) -> Outcome {
    let mut content = Content::new();
    let victim = registry::image(&mut content, "library/x", "1", &[5000, 300], 5);
    let bytes = |digest: &String| {
        let places = ["blobs", "manifests"].map(|place| content.get(&format!("library/x/{place}/{digest}")));
        places.into_iter().flatten().map(|(_, bytes)| bytes.clone()).next().unwrap_or_default()
    };
    let targets = [&victim.config, &victim.manifest, &victim.layers[1]].map(|digest| (digest.clone(), bytes(digest)));
    let nothing = digest(b"no layer has this");
    let mut tags = Vec::new();
    for (index, (digest, bytes)) in targets.into_iter().enumerate() {
        let target = &[(digest.clone(), bytes.len() as u64)];
        content.insert(format!("library/y/blobs/{digest}"), ("application/octet-stream", bytes));
        let (fails, comes) = (format!("fails{index}"), format!("comes{index}"));
        registry::image_of(&mut content, "library/y", &fails, std::slice::from_ref(&nothing), target, &fails);
        // Its one layer is there, whatever blob it is said to be.
        registry::image_of(&mut content, "library/y", &comes, &victim.layers[..1], target, &comes);
        tags.push((fails, comes));
    }
    let registry = Registry::start(content, |_| Reply::Usual)?;
    for settings in ["", KEEP] {
        mirror(world, &registry.address, &format!("{QUICK}{settings}"))?;
        world.sh("docker pull -q x:1")?.ok()?;
        let before = world.sh(BLOBS)?.ok()?;
        for (fails, comes) in &tags {
            world.sh(&format!("docker pull -q y:{fails}"))?.fails(1)?;
            same(&format!("blobs after {fails} {settings}"), &world.sh(BLOBS)?.ok()?, &before)?;
            world.sh(&format!("docker pull -q y:{comes} && docker rmi y:{comes}"))?.ok()?;
            same(&format!("blobs after {comes} {settings}"), &world.sh(BLOBS)?.ok()?, &before)?;
        }
        world.sh(SUMS)?.ok()?;
        contains("the image", &world.sh("docker image inspect x:1")?.ok()?, &victim.config)?;
        world.sh("docker rmi x:1")?.ok()?;
        nothing_left(world, "removed images")?;
    }
    Ok(())
}
