//! Damage is found and named, and a load of the same image repairs it.

mod common;

use common::{Root, noise, sha256, tar, zstd};
use orlop_images::{Finding, Keeper, NewImage, commit, recover, scrub, why};
use orlop_model::ImageRef;
use std::path::{Path, PathBuf};

/// Two images, the second on top of the first.
fn images() -> Vec<u8> {
    let base = tar(&[("data", &noise(300_000, 1)), ("small", b"small")]);
    let more = tar(&[("more", &noise(50_000, 2))]);
    let config = |layers: &[&Vec<u8>]| {
        let ids: Vec<String> = layers.iter().map(|layer| format!("\"sha256:{}\"", sha256(layer))).collect();
        format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            ids.join(",")
        )
    };
    let (first, second) = (config(&[&base]), config(&[&base, &more]));
    let manifest = r#"[{"Config":"1.json","RepoTags":["base:1"],"Layers":["base"]},
        {"Config":"2.json","RepoTags":["child:1"],"Layers":["base","more"]}]"#;
    tar(&[
        ("manifest.json", manifest.as_bytes()),
        ("1.json", first.as_bytes()),
        ("2.json", second.as_bytes()),
        ("base", &base),
        ("more", &more),
    ])
}

fn findings(root: &Root, names: &[&str]) -> Vec<Finding> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let scrubbed = scrub(root.store(), &names, false, &|_, _| {}).unwrap();
    assert!(root.state.read(|tx| tx.leases().list()).unwrap().is_empty());
    scrubbed.findings
}

/// Where a file of the layers lies.
fn file(root: &Root, name: &str) -> PathBuf {
    let layers = root.state.read(|tx| tx.layers().list()).unwrap();
    let mut paths = layers.iter().map(|row| root.driver.diff(row.id).join(name));
    paths.find(|path| path.exists()).expect(name)
}

fn flip(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[777] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn damage_is_named_and_a_load_repairs_it() {
    let root = Root::new();
    root.load_bytes(&images()).unwrap();
    assert_eq!(findings(&root, &[]), []);
    let damaged = file(&root, "data");
    flip(&damaged);
    let found = findings(&root, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].images.len(), 2);
    assert_eq!((found[0].path.to_str(), found[0].what.as_str()), (Some("data"), "content has changed"));
    assert_eq!(findings(&root, &["child:1"])[0].images, ["child:1"]);

    // Only the second image is loaded again, and both stand on the new layer then.
    let again = root.load_bytes(&images()).unwrap();
    assert!(again.iter().all(|loaded| !loaded.existed));
    assert_eq!(findings(&root, &[]), []);
    assert!(!damaged.exists(), "nothing stands on it any more");
    assert_eq!(recover(root.store()).unwrap().layers, 0);
    root.check_consistent();

    // What was only touched and is put right again needs no load.
    let touched = file(&root, "small");
    let modified = std::fs::metadata(&touched).unwrap().modified().unwrap();
    let set = |time| std::fs::File::options().write(true).open(&touched).unwrap().set_modified(time).unwrap();
    set(std::time::SystemTime::UNIX_EPOCH);
    assert!(findings(&root, &["base:1"])[0].what.starts_with("modification time is 0."));
    assert!(root.state.read(|tx| tx.layers().list()).unwrap().iter().any(|row| row.damaged));
    set(modified);
    assert_eq!(findings(&root, &["base:1"]), []);
    assert!(root.load_bytes(&images()).unwrap().iter().all(|loaded| loaded.existed));
}

#[test]
fn a_damaged_config_and_a_missing_layer_are_named() {
    let root = Root::new();
    let loaded = root.load_bytes(&images()).unwrap();
    let config = root.path.join("content/blobs/sha256").join(loaded[0].id.hex());
    let whole = std::fs::read(&config).unwrap();
    std::fs::write(&config, b"{}").unwrap();
    let found = findings(&root, &[]);
    assert!(found.len() == 1 && found[0].layer.is_none() && found[0].what.contains("config is damaged"), "{found:?}");
    std::fs::write(&config, whole).unwrap();

    let layer = file(&root, "more").parent().unwrap().to_owned();
    std::fs::remove_dir_all(&layer).unwrap();
    assert_eq!(findings(&root, &[])[0].what, "the layer is missing");
    root.load_bytes(&images()).unwrap();
    assert_eq!(findings(&root, &[]), []);
    recover(root.store()).unwrap();
    root.check_consistent();
}

/// More bytes than can be counted.
#[test]
fn a_record_that_claims_too_much_is_told() {
    let root = Root::new();
    root.load_bytes(&images()).unwrap();
    let record = file(&root, "data").parent().unwrap().parent().unwrap().join("tar-split.zst");
    let bytes = std::fs::read(&record).unwrap();
    // The head stays; then one file with two ranges of u64::MAX bytes each.
    let range = [&[3, 0][..], &[0xff; 9], &[1]].concat();
    let steps = [&[2, 4][..], b"none", &range, &range, &[4, 0, 0]].concat();
    std::fs::write(&record, [&bytes[..60], &zstd(&steps)].concat()).unwrap();
    let found = findings(&root, &["base:1"]);
    assert!(found.iter().any(|one| one.what.ends_with("with 18446744073709551615")), "{found:?}");
}

/// The same content stands in the store twice: for one chain damaged, for another whole.
#[test]
fn the_whole_one_of_two_layers_is_taken() {
    let config = |layers: &[&Vec<u8>]| {
        let ids: Vec<String> = layers.iter().map(|layer| format!("\"sha256:{}\"", sha256(layer))).collect();
        let ids = ids.join(",");
        format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#)
    };
    let (one, other) = (tar(&[("a", b"1")]), tar(&[("a", b"2"), ("b", b"3")]));
    let upper = tar(&[(".wh.a", b""), ("upper", &noise(5000, 3))]);
    let (first, second) = (config(&[&one, &upper]), config(&[&other, &upper]));
    let manifest = r#"[{"Config":"1.json","RepoTags":["first:1"],"Layers":["one","upper"]},
        {"Config":"2.json","RepoTags":["second:1"],"Layers":["other","upper"]}]"#;
    let archive = tar(&[
        ("manifest.json", manifest.as_bytes()),
        ("1.json", first.as_bytes()),
        ("2.json", second.as_bytes()),
        ("one", &one),
        ("other", &other),
        ("upper", &upper),
    ]);
    for damaged in 0..2 {
        let root = Root::new();
        root.load_bytes(&archive).unwrap();
        let diff_id = format!("sha256:{}", sha256(&upper)).parse().unwrap();
        let rows = root.state.read(|tx| tx.layers().list()).unwrap();
        let rows: Vec<_> = rows.into_iter().filter(|row| row.diff_id == diff_id).collect();
        assert_eq!(rows.len(), 2);
        flip(&root.driver.diff(rows[damaged].id).join("upper"));
        assert!(!findings(&root, &[]).is_empty());

        let shown = why(root.store(), &sha256(&upper)).unwrap();
        let mut kept: Vec<_> = shown.layers.iter().map(|layer| (layer.keepers.clone(), layer.damaged)).collect();
        kept.sort_by_key(|(_, is_damaged)| *is_damaged);
        assert_eq!(kept.iter().map(|(_, is_damaged)| *is_damaged).collect::<Vec<_>>(), [false, true]);
        assert_ne!(kept[0].0, kept[1].0, "each with what keeps it");
        assert_eq!(shown.freed, shown.disk);

        // Over a third chain it is stored anew, out of the one that is whole.
        let image = NewImage {
            name: Some(ImageRef::parse("third:1").unwrap()),
            below: vec![format!("sha256:{}", sha256(&upper)).parse().unwrap()],
            ..NewImage::default()
        };
        commit(root.store(), image, |output| output.write_all(&tar(&[("new", b"")])).map_err(Failed::from)).unwrap();
    }
}

/// What `commit` asks of its caller's error.
#[derive(Debug)]
#[expect(dead_code, reason = "shown when the test fails")]
enum Failed {
    Image(orlop_images::Error),
    Write(std::io::Error),
}

impl From<orlop_images::Error> for Failed {
    fn from(error: orlop_images::Error) -> Self {
        Self::Image(error)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

#[test]
fn why_a_layer_is_kept() {
    let root = Root::new();
    root.load_bytes(&images()).unwrap();
    let base = why(root.store(), "base:1").unwrap();
    let [layer] = &base.layers[..] else { panic!("{base:?}") };
    assert_eq!(layer.keepers, [Keeper::Tag("base:1".to_owned()), Keeper::Child("child:1".to_owned())]);
    assert_eq!((base.freed, base.disk), (0, layer.disk));
    let child = why(root.store(), "child:1").unwrap();
    assert_eq!(child.layers.len(), 2);
    assert_eq!(child.layers[0].keepers, [Keeper::Tag("base:1".to_owned()), Keeper::Tag("child:1".to_owned())]);
    assert_eq!(child.freed, child.layers[1].disk);
    let digest = layer.diff_id.hex();
    let by_layer = why(root.store(), &digest[..10]).unwrap();
    assert_eq!((by_layer.image, by_layer.layers[0].diff_id), (None, layer.diff_id));
    assert_eq!(by_layer.freed, layer.disk);
    assert!(why(root.store(), "nobody").is_err());
    let removed = orlop_images::remove(root.store(), "child:1", false).unwrap();
    assert!(removed.freed >= child.freed);
}
