//! Names, lists, removals and prunes of images that are there.
mod common;

use common::*;
use orlop_images::{Error, Removal, apply_prune, inspect, lines, list, plan_prune, remove, tag};
use orlop_model::filter::{self, Filters};
use orlop_model::{ContainerName, Digest, Id, ImageRef, Timestamp};
use orlop_state::rows::trash::{TrashContent, TrashRow};
use orlop_state::{ContainerRow, ImageRow};

fn layer(name: &str) -> Vec<u8> {
    tar(&[(name, &noise(20_000, name.len() as u64))])
}

fn load(root: &Root, names: &[&str], layers: &[&str], labels: serde_json::Value) -> Image {
    let defaults = serde_json::json!({"Cmd": ["sh"], "Labels": labels});
    let image = Image::with(layers.iter().map(|name| layer(name)).collect(), defaults);
    root.load_bytes(&tar_of(&image.docker_files(names))).unwrap();
    image
}

fn image_row(root: &Root, name: &str) -> ImageRow {
    root.state.read(|tx| orlop_images::resolve(tx, name)).unwrap().row
}

fn container(root: &Root, image: &str, running: bool) -> ContainerRow {
    let image = image_row(root, image);
    let id = Id::random();
    let row = ContainerRow {
        id,
        name: ContainerName::random(9),
        image: image.id,
        layers: image.layers,
        writable: Id::random(),
        volumes: vec![],
        running,
        details: serde::de::IgnoredAny,
    };
    put_container(root, &row);
    row
}

fn put_container(root: &Root, row: &ContainerRow) {
    // The engine writes rows with its own details.
    let ContainerRow { id, name, image, layers, writable, volumes, running, .. } = row.clone();
    let row = ContainerRow { id, name, image, layers, writable, volumes, running, details: () };
    root.state.write(|tx| tx.table::<ContainerRow<()>>().put(&row)).unwrap();
}

fn printed(removed: &orlop_images::Removed) -> Vec<String> {
    removed.lines.iter().map(ToString::to_string).collect()
}

fn filters(arguments: &[&str]) -> Filters {
    let allowed: Vec<&str> = filter::IMAGES.iter().chain(filter::IMAGE_PRUNE).copied().collect();
    Filters::parse(arguments, &allowed).unwrap()
}

#[test]
fn lists_by_name_label_and_age() {
    let root = Root::new();
    load(&root, &["acme/web:1", "acme/web:latest"], &["a", "bb"], serde_json::json!({"tier": "web"}));
    load(&root, &["db"], &["a", "ccc"], serde_json::json!({"tier": "db"}));
    load(&root, &[], &["dddd"], serde_json::json!(null));
    let names = |arguments: &[&str]| -> Vec<String> {
        let mut names: Vec<String> = lines(&list(root.store(), &filters(arguments)).unwrap())
            .into_iter()
            .map(|line| format!("{}:{}", line.repository, line.tag))
            .collect();
        names.sort();
        names
    };
    for (arguments, expected) in [
        (vec![], vec!["<none>:<none>", "acme/web:1", "acme/web:latest", "db:latest"]),
        (vec!["dangling=true"], vec!["<none>:<none>"]),
        (vec!["dangling=false"], vec!["acme/web:1", "acme/web:latest", "db:latest"]),
        (vec!["reference=acme/*"], vec!["acme/web:1", "acme/web:latest"]),
        (vec!["reference=*:latest", "reference=acme/web:1"], vec!["acme/web:1", "db:latest"]),
        (vec!["label=tier"], vec!["acme/web:1", "acme/web:latest", "db:latest"]),
        (vec!["label=tier=db"], vec!["db:latest"]),
        (vec!["until=2000-01-01"], vec![]),
        (vec!["before=db"], vec!["acme/web:1", "acme/web:latest"]),
        (vec!["since=db"], vec!["<none>:<none>"]),
    ] {
        assert_eq!(names(&arguments), expected, "{arguments:?}");
    }
    assert!(matches!(list(root.store(), &filters(&["before=nothing"])), Err(Error::NotFound { .. })));
}

#[test]
fn a_name_moves_and_the_old_image_dangles() {
    let root = Root::new();
    let old = load(&root, &["app"], &["a"], serde_json::json!(null));
    let new = Image::new(vec![layer("bb")]);
    let loaded = root.load_bytes(&tar_of(&new.docker_files(&["app"]))).unwrap();
    assert_eq!(loaded[0].moved[0].1.to_string(), old.id());
    tag(root.store(), &old.id()[7..15], &ImageRef::parse("old:1").unwrap()).unwrap();
    let inspected = inspect(root.store(), "old:1").unwrap();
    assert_eq!((inspected.id.to_string(), inspected.repo_tags), (old.id(), vec!["old:1".to_owned()]));
    let pinned = ImageRef::parse(&format!("x@{}", old.id())).unwrap();
    assert!(matches!(tag(root.store(), "app", &pinned), Err(Error::TagDigest)));
    assert!(matches!(tag(root.store(), "nothing", &ImageRef::parse("x").unwrap()), Err(Error::NotFound { .. })));
}

#[test]
fn removal_follows_dockers_rules() {
    let root = Root::new();
    let image = load(&root, &["app:1", "app:2"], &["a", "bb"], serde_json::json!(null));
    load(&root, &["other"], &["a", "ccc"], serde_json::json!(null));
    let user = container(&root, "app:1", false);
    let refuse = |name: &str, force: bool| remove(root.store(), name, force).unwrap_err().to_string();
    let short = &image.id()[7..19];
    assert_eq!(
        refuse(short, false),
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    );
    assert_eq!(printed(&remove(root.store(), "app:2", false).unwrap()), ["Untagged: app:2"]);
    assert_eq!(
        refuse("app:1", false),
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - container {} is using its referenced image {short}",
            user.id.short()
        )
    );
    assert_eq!(
        refuse(short, false),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
            user.id.short()
        )
    );
    put_container(&root, &ContainerRow { running: true, ..user.clone() });
    assert_eq!(
        refuse(short, true),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
            user.id.short()
        )
    );
    put_container(&root, &user);
    let layers = image_row(&root, "app:1").layers;
    // What the container needs stays, although the image goes.
    assert_eq!(
        printed(&remove(root.store(), "app:1", true).unwrap()),
        ["Untagged: app:1".to_owned(), format!("Deleted: {}", image.id())]
    );
    assert!(layers.iter().all(|layer| root.driver.diff(*layer).is_dir()));
    // Once it is gone, its layers go, but not the one that another image has.
    root.state.write(|tx| tx.table::<ContainerRow<()>>().delete(&user.id.hex())).unwrap();
    let recovered = orlop_images::recover(root.store()).unwrap();
    assert_eq!(recovered.layers, 1);
    assert!(root.driver.diff(layers[0]).is_dir() && !root.driver.diff(layers[1]).is_dir());
    root.check_consistent();
    let removed = remove(root.store(), "other", false).unwrap();
    assert_eq!(removed.lines.len(), 4, "{removed:?}");
    assert!(removed.freed >= 40_000, "{}", removed.freed);
    assert!(root.is_empty());
}

#[test]
fn a_name_of_a_running_container_s_image_is_taken_by_force() {
    let root = Root::new();
    let image = load(&root, &["app"], &["a"], serde_json::json!(null));
    container(&root, "app", true);
    let removed = remove(root.store(), "app", true).unwrap();
    assert_eq!(removed.lines, [Removal::Untagged("app:latest".to_owned())]);
    assert_eq!(image_row(&root, &image.id()).id.to_string(), image.id());
}

#[test]
fn what_lies_in_the_trash_keeps_no_layer() {
    let root = Root::new();
    load(&root, &["app"], &["a", "bb"], serde_json::json!(null));
    let row = image_row(&root, "app");
    let name: ContainerName = "gone".parse().unwrap();
    let content = TrashContent::WritableLayer { container: Id::random(), name, image: row.id, layers: row.layers };
    let trash = TrashRow { id: Id::random(), removed: Timestamp::now(), content, emptying: false };
    root.state.write(|tx| tx.trash().put(&trash)).unwrap();
    remove(root.store(), "app", false).unwrap();
    assert!(root.is_empty());
}

#[test]
fn prune_takes_dangling_images_and_with_all_every_unused_one() {
    let root = Root::new();
    load(&root, &["used"], &["a", "bb"], serde_json::json!({"keep": "yes"}));
    load(&root, &["unused:1", "unused:2"], &["a", "ccc"], serde_json::json!({"keep": "yes"}));
    load(&root, &[], &["dddd"], serde_json::json!(null));
    container(&root, "used", false);
    let plan = |all: bool, arguments: &[&str]| plan_prune(root.store(), all, &filters(arguments)).unwrap();
    for (all, arguments, images, kept) in [
        (false, vec![], 1, 1),
        (true, vec![], 2, 0),
        (false, vec!["dangling=false"], 2, 0),
        (true, vec!["label=keep"], 1, 0),
        (true, vec!["label!=keep"], 1, 0),
        (true, vec!["until=2000-01-01"], 0, 0),
        (true, vec!["until=1h"], 2, 0),
    ] {
        let plan = plan(all, &arguments);
        assert_eq!((plan.images.len(), plan.kept), (images, kept), "{all} {arguments:?}");
    }
    let dangling = apply_prune(root.store(), &plan(false, &[])).unwrap();
    assert_eq!(dangling.lines.len(), 2);
    assert!(dangling.freed >= 20_000);
    // An image that gets a container or a name between plan and removal stays.
    let planned = plan(true, &[]);
    tag(root.store(), "unused:1", &ImageRef::parse("unused:3").unwrap()).unwrap();
    assert_eq!(apply_prune(root.store(), &planned).unwrap().lines, []);
    let removed = apply_prune(root.store(), &plan(true, &[])).unwrap();
    assert_eq!(removed.lines.iter().filter(|line| matches!(line, Removal::Untagged(_))).count(), 3);
    assert_eq!(list(root.store(), &Filters::default()).unwrap().len(), 1);
    root.check_consistent();
    let usage = root.state.read(|tx| orlop_images::usage(&root.state, tx)).unwrap();
    assert_eq!((usage.total, usage.active, usage.reclaimable), (1, 1, 0));
}

#[test]
fn history_and_inspect_tell_of_every_layer() {
    let root = Root::new();
    let image = load(&root, &["app"], &["a", "bb"], serde_json::json!({"a": "b"}));
    let history = orlop_images::history(root.store(), "app").unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].id.map(|id: Digest| id.to_string()), Some(image.id()));
    assert_eq!(history.iter().map(|line| line.size).collect::<Vec<_>>(), [20_000, 20_000]);
    assert_eq!((history[0].tags.as_slice(), history[1].id), (["app:latest".to_owned()].as_slice(), None));
    let json = serde_json::to_value(inspect(root.store(), "app").unwrap()).unwrap();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "Id",
            "RepoTags",
            "RepoDigests",
            "Parent",
            "Comment",
            "Created",
            "DockerVersion",
            "Author",
            "Config",
            "Architecture",
            "Os",
            "Size",
            "GraphDriver",
            "RootFS",
            "Metadata"
        ]
    );
    assert_eq!(json["Size"], 40_000);
    assert_eq!(json["RootFS"]["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn a_damaged_config_is_noticed_and_a_load_heals_it() {
    let root = Root::new();
    let image = load(&root, &["app"], &["a"], serde_json::json!(null));
    let blob = root.path.join("content/blobs/sha256").join(&image.id()[7..]);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    assert!(matches!(inspect(root.store(), "app"), Err(Error::Corrupt { .. })));
    assert_eq!(list(root.store(), &Filters::default()).unwrap().len(), 1);
    root.load_bytes(&tar_of(&image.docker_files(&["app"]))).unwrap();
    inspect(root.store(), "app").unwrap();
}

#[test]
fn an_image_of_the_host_goes_the_same_way() {
    let root = Root::new();
    let name = ImageRef::parse("tools").unwrap();
    let build = |binaries: &[&str]| {
        let binaries: Vec<String> = binaries.iter().map(|&binary| binary.to_owned()).collect();
        orlop_images::from_host(root.store(), &name, &binaries, &|_| {})
    };
    let one = build(&["sh", "ls"]).unwrap();
    let two = build(&["sh", "ls"]).unwrap();
    assert_eq!((one.id, one.existed, two.existed), (two.id, false, true));
    root.check_consistent();
    assert!(build(&["no-such-program"]).unwrap_err().to_string().contains("no-such-program"));
    remove(root.store(), "tools", false).unwrap();
    assert!(root.is_empty());
}

#[test]
fn an_image_with_the_same_layer_twice_can_be_mounted() {
    let root = Root::new();
    load(&root, &["twice"], &["a", "bb", "a"], serde_json::json!(null));
    let chain: Vec<Id> = image_row(&root, "twice").layers.into_iter().rev().collect();
    let writable = Id::random();
    root.driver.prepare(writable, &chain).unwrap();
    let merged = root.driver.mount(writable).unwrap();
    let found: Vec<bool> = ["a", "bb"].iter().map(|name| merged.join(name).is_file()).collect();
    root.driver.unmount(writable).unwrap();
    root.driver.remove(writable).unwrap();
    assert_eq!(found, [true, true]);
}

#[test]
fn a_name_that_reads_as_an_id_is_refused() {
    let root = Root::new();
    load(&root, &["app"], &["a"], serde_json::json!(null));
    let name = ImageRef::parse("sha256:abc").unwrap();
    assert!(matches!(orlop_images::tag(root.store(), "app", &name), Err(orlop_images::Error::DigestAsName(_))));
}
