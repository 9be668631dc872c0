//! What is saved comes back, here and in other programs.

mod common;

use common::{Root, gzip, noise, sha256, tar, zstd};
use orlop_images::{Error, save, save_file};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

/// A docker-archive of two images that share a layer.
fn two_images() -> Vec<u8> {
    let shared = tar(&[("shared", &noise(300_000, 1)), ("twice", b"first"), ("twice", b"second")]);
    let one = [tar(&[("one", b"1")]), b"garbage behind the end".to_vec()].concat();
    let two = tar(&[("two", &noise(5000, 2)), (".wh.shared", b"")]);
    let config = |layers: &[&Vec<u8>]| {
        let ids: Vec<String> = layers.iter().map(|layer| format!("\"sha256:{}\"", sha256(layer))).collect();
        format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/bin/sh"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            ids.join(",")
        )
    };
    let (first, second) = (config(&[&shared, &one]), config(&[&shared, &two]));
    let manifest = r#"[{"Config":"1.json","RepoTags":["team/app:1","team/app:2","other:x"],"Layers":["s","1"]},
        {"Config":"2.json","RepoTags":["team/app:3"],"Layers":["s","2"]}]"#;
    tar(&[
        ("manifest.json", manifest.as_bytes()),
        ("1.json", first.as_bytes()),
        ("2.json", second.as_bytes()),
        ("s", &gzip(&shared)),
        ("1", &one),
        ("2", &zstd(&two)),
    ])
}

fn saved(root: &Root, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut bytes = Vec::new();
    save(root.store(), &names, &mut bytes).unwrap();
    root.check_consistent();
    bytes
}

fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        assert!(files.insert(name, content).is_none(), "each file once");
    }
    files
}

fn names(root: &Root) -> BTreeMap<String, String> {
    let tags = root.state.read(|tx| tx.tags().list()).unwrap();
    tags.into_iter().map(|tag| (tag.name, tag.image.to_string())).collect()
}

#[test]
fn images_come_back_with_their_ids() {
    let root = Root::new();
    root.load_bytes(&two_images()).unwrap();
    let archive = saved(&root, &["team/app", "other:x"]);
    assert_eq!(archive, saved(&root, &["other:x", "team/app:1", "team/app:2", "team/app:3"]), "whatever the order");
    let files = files(&archive);
    // Two configs, two manifests, three layers.
    assert_eq!(files.keys().filter(|name| name.starts_with("blobs/sha256/") && name.len() > 13).count(), 7);
    for (name, content) in &files {
        if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
            assert_eq!(sha256(content), hex);
        }
    }
    let again = Root::new();
    again.load_bytes(&archive).unwrap();
    assert_eq!(names(&again), names(&root));
    assert_eq!(saved(&again, &["team/app", "other:x"]), archive, "saved again it is the same");

    // As an OCI layout alone.
    let layout = tempfile::tempdir_in("/var/tmp").unwrap();
    for (name, content) in files.iter().filter(|(name, _)| !name.ends_with('/') && *name != "manifest.json") {
        let path = layout.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let third = Root::new();
    third.load(layout.path()).unwrap();
    assert_eq!(names(&third), names(&root));
}

#[test]
fn what_is_given_decides_which_names_go_along() {
    let root = Root::new();
    root.load_bytes(&two_images()).unwrap();
    let ids = names(&root);
    let id = &ids["docker.io/team/app:1"];
    for (given, expected) in [
        (&["team/app:1"][..], &["docker.io/team/app:1"][..]),
        (&["team/app"], &["docker.io/team/app:1", "docker.io/team/app:2", "docker.io/team/app:3"]),
        (&[id.as_str()], &[]),
        (&[&id[7..19], "other:x"], &["docker.io/library/other:x"]),
    ] {
        let again = Root::new();
        again.load_bytes(&saved(&root, given)).unwrap();
        assert_eq!(names(&again).keys().map(String::as_str).collect::<Vec<_>>(), expected, "{given:?}");
    }
    let mut nothing = Vec::new();
    let missing = save(root.store(), &["team/app:1".to_owned(), "nobody".to_owned()], &mut nothing);
    assert!(matches!(missing, Err(Error::NotFound { name, .. }) if name == "nobody:latest"));
    assert!(nothing.is_empty());
    root.check_consistent();
}

#[test]
fn a_file_is_whole_or_as_it_was() {
    let root = Root::new();
    root.load_bytes(&two_images()).unwrap();
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = directory.path().join("saved.tar");
    let app = ["team/app".to_owned()];
    let entries = || std::fs::read_dir(directory.path()).unwrap().count();
    save_file(root.store(), &app, &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), saved(&root, &["team/app"]));
    assert_eq!(entries(), 1);

    // A layer that has changed meanwhile: named, and the file stays as it was.
    let layer = root.state.read(|tx| tx.layers().list()).unwrap().into_iter().max_by_key(|row| row.size).unwrap();
    let changed = root.driver.diff(layer.id).join("shared");
    let mut bytes = std::fs::read(&changed).unwrap();
    bytes[1234] ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    let before = std::fs::read(&path).unwrap();
    let failed = save_file(root.store(), &app, &path).unwrap_err();
    assert!(matches!(&failed, Error::LayerDamaged { diff_id, .. } if *diff_id == layer.diff_id), "{failed}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(entries(), 1);

    for (path, expected) in [
        (directory.path().join("none/saved.tar"), "invalid output path: directory"),
        (directory.path().to_owned(), "is a directory"),
        ("/dev/null".into(), "invalid output path: \"/dev/null\" must be a directory or a regular file: got a device"),
    ] {
        let error = save_file(root.store(), &app, &path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_layer_without_a_record_is_named_and_a_load_repairs_it() {
    let root = Root::new();
    root.load_bytes(&two_images()).unwrap();
    let layer = root.state.read(|tx| tx.layers().list()).unwrap().into_iter().max_by_key(|row| row.size).unwrap();
    std::fs::remove_file(root.driver.directory(layer.id).join("tar-split.zst")).unwrap();
    let failed = save(root.store(), &["team/app:1".to_owned()], &mut Vec::new()).unwrap_err();
    assert!(failed.to_string().contains("has no record"), "{failed}");
    root.load_bytes(&two_images()).unwrap();
    orlop_images::recover(root.store()).unwrap();
    saved(&root, &["team/app:1"]);
}

#[test]
fn an_image_that_is_removed_meanwhile_is_saved_all_the_same() {
    /// Removes the image as soon as something is written.
    struct Removing<'a>(&'a Root, Vec<u8>);
    impl std::io::Write for Removing<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.1.is_empty() {
                orlop_images::remove(self.0.store(), "team/app:3", true).unwrap();
            }
            self.1.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let root = Root::new();
    root.load_bytes(&two_images()).unwrap();
    let expected = saved(&root, &["team/app:3"]);
    let mut output = Removing(&root, Vec::new());
    save(root.store(), &["team/app:3".to_owned()], &mut output).unwrap();
    assert_eq!(output.1, expected);
    root.check_consistent();
    assert_eq!(root.state.read(|tx| tx.layers().list()).unwrap().len(), 2, "the removed image's own layer is gone");
}

#[test]
fn skopeo_reads_it() {
    let root = Root::new();
    root.load_bytes(&two_images()).unwrap();
    if Command::new("skopeo").arg("--version").output().is_err() {
        return common::skipped("skopeo is not installed");
    }
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = directory.path().join("saved.tar");
    save_file(root.store(), &["team/app:1".to_owned()], &path).unwrap();
    let id = &names(&root)["docker.io/team/app:1"];
    for from in ["docker-archive", "oci-archive"] {
        let to = directory.path().join(from);
        skopeo(&format!("{from}:{}", path.display()), &to);
        assert!(to.join(&id[7..]).exists(), "{from}: the config is the same");
    }
}

fn skopeo(from: &str, to: &Path) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q", "--preserve-digests", from, &format!("dir:{}", to.display())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{from}: {}", String::from_utf8_lossy(&output.stderr));
}
