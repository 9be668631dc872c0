//! Archives of every kind and of every bad kind, into a store of its own.
mod common;

use common::*;
use orlop_images::{Error, Source};
use orlop_model::{ErrorKind, ImageRef, Kind};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

fn two_layers() -> Image {
    Image::new(vec![
        tar(&[("etc/", b""), ("etc/os-release", b"ID=test\n"), ("gone", b"x")]),
        tar(&[("etc/hello", b"world"), (".wh.gone", b"")]),
    ])
}

fn names(loaded: &[orlop_images::Loaded]) -> Vec<String> {
    loaded.iter().flat_map(|image| image.names.iter().map(ImageRef::familiar)).collect()
}

#[test]
fn every_format_gives_the_same_image() {
    let image = two_layers();
    let docker = image.docker_files(&["acme/app:1.0", "acme/app:latest"]);
    let oci = |pack: fn(&[u8]) -> Vec<u8>| tar_of(&image.oci_files(Some("acme/app:1.0"), GZIP, pack));
    let mut mixed = image.oci_files(Some("acme/app:1.0"), "application/vnd.oci.image.layer.v1.tar", <[u8]>::to_vec);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes));
    let manifest = serde_json::json!([{
        "Config": blob(&image.config),
        "RepoTags": ["acme/app:1.0"],
        "Layers": image.layers.iter().map(|layer| blob(layer)).collect::<Vec<_>>(),
    }]);
    mixed.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap());
    for (what, bytes) in [
        ("docker-archive", tar_of(&docker)),
        ("docker-archive.gz", gzip(&tar_of(&docker))),
        ("docker-archive.zst", zstd(&tar_of(&docker))),
        ("oci gzip", oci(gzip)),
        ("oci zstd", oci(zstd)),
        ("oci plain", oci(<[u8]>::to_vec)),
        ("oci plain, gzip outside", gzip(&oci(<[u8]>::to_vec))),
        ("docker 25", tar_of(&mixed)),
    ] {
        let root = Root::new();
        let loaded = root.load_bytes(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(loaded[0].id.to_string(), image.id(), "{what}");
        assert!(names(&loaded).contains(&"acme/app:1.0".to_owned()), "{what}");
        assert!(!loaded[0].existed);
        root.check_consistent();
        let again = root.load_bytes(&bytes).unwrap();
        assert!(again[0].existed && again[0].moved.is_empty(), "{what}");
        root.check_consistent();
        let row = root.state.read(|tx| orlop_images::resolve(tx, "acme/app:1.0")).unwrap().row;
        let diff = root.driver.diff(row.layers[1]);
        assert_eq!(std::fs::read(diff.join("etc/hello")).unwrap(), b"world");
        orlop_images::remove(root.store(), &image.id(), true).unwrap();
        assert!(root.is_empty(), "{what}: something is left after rmi");
    }
}

#[test]
fn directories_and_streams_are_read_as_well() {
    let image = two_layers();
    let directory = tempfile::tempdir().unwrap();
    write_tree(directory.path(), &image.oci_files(Some("latest"), GZIP, gzip));
    let root = Root::new();
    let loaded = root.load(directory.path()).unwrap();
    assert_eq!(loaded[0].id.to_string(), image.id());
    assert_eq!(names(&loaded), [""; 0]);

    let bytes = tar_of(&image.docker_files(&["app"]));
    let stream = |fd: OwnedFd| orlop_images::load(root.store(), Source::Stream(fd), &|_| {}).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let piped = bytes.clone();
    let feeder = std::thread::spawn(move || writer.write_all(&piped).unwrap());
    assert_eq!(names(&stream(reader.into())), ["app:latest"]);
    feeder.join().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let file_at_start =
        std::fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
    assert_eq!(names(&stream(file_at_start.into())), ["app:latest"]);
    root.check_consistent();
}

#[test]
fn links_nested_indexes_and_platforms() {
    // Second copies of a layer as symlinks, as old Docker wrote them.
    let layer = tar(&[("same", b"x")]);
    let image = Image::new(vec![layer.clone(), tar(&[("other", b"y")]), layer.clone()]);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in image.docker_files(&["linked"]) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if name.starts_with("0000") && name.contains("2/layer") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, &name, format!("../{:064x}/layer.tar", 0)).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, &name, bytes.as_slice()).unwrap();
        }
    }
    let root = Root::new();
    root.load_bytes(&builder.into_inner().unwrap()).unwrap();
    root.check_consistent();

    // An index in the index, with a foreign platform first and an attestation.
    let mut files = two_layers().oci_files(None, GZIP, gzip);
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let mut native = index["manifests"][0].clone();
    native["platform"] = serde_json::json!({"os": "linux", "architecture": orlop_model::Platform::host().architecture});
    let absent = |platform: serde_json::Value, annotations: serde_json::Value| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 5,
            "digest": format!("sha256:{}", sha256(b"absent")), "platform": platform, "annotations": annotations})
    };
    let inner = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [
        absent(serde_json::json!({"os": "windows", "architecture": "s390x"}), serde_json::json!(null)),
        native,
        absent(serde_json::json!({"os": "unknown", "architecture": "unknown"}),
            serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"})),
    ]}))
    .unwrap();
    let outer = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "size": inner.len(),
        "digest": format!("sha256:{}", sha256(&inner)),
        "annotations": {"io.containerd.image.name": "docker.io/acme/many:1", "org.opencontainers.image.ref.name": "1"}}]});
    files.insert(format!("blobs/sha256/{}", sha256(&inner)), inner);
    files.insert("index.json".to_owned(), serde_json::to_vec(&outer).unwrap());
    assert_eq!(names(&root.load_bytes(&tar_of(&files)).unwrap()), ["acme/many:1"]);
}

type Files = BTreeMap<String, Vec<u8>>;

/// One bad archive, and a word that its error must say.
type Bad = (&'static str, Vec<u8>, &'static str);

fn bad_archives() -> Vec<Bad> {
    let image = two_layers();
    let good = image.docker_files(&["app"]);
    let oci = image.oci_files(Some("app:1"), GZIP, gzip);
    let whole = tar_of(&good);
    let changed = |files: &Files, change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        tar_of(&files)
    };
    let manifest = |item: serde_json::Value| {
        changed(&good, &|files| {
            files.insert("manifest.json".to_owned(), serde_json::to_vec(&serde_json::json!([item])).unwrap());
        })
    };
    let config = format!("{}.json", sha256(&image.config));
    let layer = |index: usize| format!("{index:064x}/layer.tar");
    let index = |descriptor: serde_json::Value| {
        changed(&oci, &|files| {
            let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]});
            files.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
        })
    };
    let first = serde_json::from_slice::<serde_json::Value>(&oci["index.json"]).unwrap()["manifests"][0].clone();
    let with = |key: &str, value: serde_json::Value| {
        let mut descriptor = first.clone();
        descriptor[key] = value;
        index(descriptor)
    };
    let short_layers = serde_json::json!({"Config": config, "RepoTags": [], "Layers": [layer(0)]});
    let outside = serde_json::json!({"Config": config, "RepoTags": [], "Layers": ["../../etc/passwd", layer(1)]});
    let absent = serde_json::json!({"Config": config, "RepoTags": [], "Layers": [layer(0), "nowhere/layer.tar"]});
    let bad_name = serde_json::json!({"Config": config, "RepoTags": ["a b"], "Layers": [layer(0), layer(1)]});
    let mut loops = tar::Builder::new(Vec::new());
    for (name, target) in [("manifest.json", "a"), ("a", "manifest.json")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        loops.append_link(&mut header, name, target).unwrap();
    }
    let values = format!("[{}1]", "1,".repeat(200_000));
    vec![
        ("empty", vec![], "empty"),
        ("text", b"hello world, this is no archive at all\n".repeat(40), "not a tar archive"),
        ("short text", b"hi".to_vec(), "truncated"),
        ("zeros", vec![0; 10_240], "not an image archive"),
        ("another tar", tar(&[("etc/passwd", b"root")]), "not an image archive"),
        ("truncated", whole[..whole.len() - 3000].to_vec(), "truncated"),
        (
            "truncated gzip",
            {
                let gz = gzip(&whole);
                gz[..gz.len() / 2].to_vec()
            },
            "truncated",
        ),
        (
            "damaged gzip",
            {
                let mut gz = gzip(&whole);
                let half = gz.len() / 2;
                gz[half..half + 9].fill(0xff);
                gz
            },
            "decompress",
        ),
        ("xz", b"\xfd7zXZ\0rest".to_vec(), "xz"),
        ("bzip2", b"BZh91AY&SY".to_vec(), "bzip2"),
        (
            "layer missing",
            changed(&good, &|files| {
                files.remove(&layer(1));
            }),
            "has no \"0000",
        ),
        (
            "layer changed",
            changed(&good, &|files| {
                files.insert(layer(1), tar(&[("x", b"y")]));
            }),
            "digest",
        ),
        (
            "layer no tar",
            changed(&good, &|files| {
                files.insert(layer(1), vec![9; 1024]);
            }),
            "layer",
        ),
        (
            "config changed",
            changed(&good, &|files| {
                files.get_mut(&config).unwrap().push(b' ');
            }),
            "digest",
        ),
        (
            "config missing",
            changed(&good, &|files| {
                files.remove(&config);
            }),
            "has no",
        ),
        ("fewer layers than diff_ids", manifest(short_layers), "2 diff_ids"),
        ("layer outside", manifest(outside), "leads out"),
        ("layer named but absent", manifest(absent), "nowhere/layer.tar"),
        ("bad name", manifest(bad_name), "invalid reference"),
        (
            "empty manifest",
            changed(&good, &|files| {
                files.insert("manifest.json".to_owned(), b"[]".to_vec());
            }),
            "names no image",
        ),
        (
            "bad manifest",
            changed(&good, &|files| {
                files.insert("manifest.json".to_owned(), b"{".to_vec());
            }),
            "manifest.json",
        ),
        (
            "64 MiB manifest",
            changed(&good, &|files| {
                files.insert("manifest.json".to_owned(), vec![b' '; 64 << 20]);
            }),
            "at most",
        ),
        (
            "many values",
            changed(&good, &|files| {
                files.insert("manifest.json".to_owned(), values.clone().into_bytes());
            }),
            "values",
        ),
        ("symlinks in a circle", loops.into_inner().unwrap(), "circle"),
        ("wrong size", with("size", serde_json::json!(7)), "descriptor says 7"),
        (
            "wrong digest",
            changed(&oci, &|files| {
                let name = format!("blobs/{}", first["digest"].as_str().unwrap().replace(':', "/"));
                let length = files[&name].len();
                files.insert(name, vec![b'x'; length]);
            }),
            "was announced",
        ),
        ("unknown manifest", with("mediaType", serde_json::json!("application/x-unknown")), "x-unknown"),
        ("other digest", with("digest", serde_json::json!("sha512:00")), "digest"),
        (
            "no layout file",
            changed(&oci, &|files| {
                files.remove("oci-layout");
            }),
            "oci-layout",
        ),
        (
            "layout 2",
            changed(&oci, &|files| {
                files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"2.0"}"#.to_vec());
            }),
            "2.0",
        ),
        (
            "foreign layer",
            tar_of(&image.oci_files(None, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", gzip)),
            "foreign",
        ),
        ("unknown layer", tar_of(&image.oci_files(None, "application/x-layer", gzip)), "x-layer"),
        (
            "blob not as its diff_id",
            tar_of(&image.oci_files(None, GZIP, |layer| gzip(&[layer, &[0; 512]].concat()))),
            "digest",
        ),
        (
            "index in itself",
            index(serde_json::json!({"mediaType": "application/vnd.oci.image.index.v1+json",
            "size": oci["index.json"].len(), "digest": format!("sha256:{}", sha256(&oci["index.json"]))})),
            "has no",
        ),
        (
            "no manifests",
            changed(&oci, &|files| {
                files.insert("index.json".to_owned(), b"{}".to_vec());
            }),
            "names no image",
        ),
    ]
}

#[test]
fn a_bad_archive_gives_one_line_and_leaves_nothing() {
    let root = Root::new();
    for (what, bytes, word) in bad_archives() {
        let error = root.load_bytes(&bytes).expect_err(what);
        let text = error.to_string();
        assert!(text.contains(word) && !text.contains('\n'), "{what}: {text}");
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported),
            "{what}: {:?} {text}",
            error.kind()
        );
        assert!(root.is_empty(), "{what}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(root.load(empty.path()).unwrap_err().to_string().contains("not an image archive"));
    assert_eq!(root.load(Path::new("/no/such/file")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(root.is_empty());
}

#[test]
fn a_layout_directory_does_not_lead_outside() {
    let image = two_layers();
    let directory = tempfile::tempdir().unwrap();
    write_tree(directory.path(), &image.oci_files(None, GZIP, gzip));
    let config = directory.path().join("blobs/sha256").join(sha256(&image.config));
    let outside = tempfile::tempdir().unwrap();
    std::fs::rename(&config, outside.path().join("config")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("config"), &config).unwrap();
    let root = Root::new();
    assert!(root.load(directory.path()).unwrap_err().to_string().contains("leads out"));
    std::fs::remove_file(&config).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &config, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(root.load(directory.path()).unwrap_err().to_string().contains("not a regular file"));
    assert!(root.is_empty());
}

#[test]
fn a_gzip_bomb_stops_early() {
    // 1.5 GiB of zeros in an archive that begins well.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut header = tar::Header::new_gnu();
    header.set_path("manifest.json").unwrap();
    header.set_size(3 << 30);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1536 {
        encoder.write_all(&zeros).unwrap();
    }
    let root = Root::new();
    let error = root.load_bytes(&encoder.finish().unwrap()).unwrap_err();
    assert!(error.to_string().contains("expands more than"), "{error}");
    assert!(root.is_empty());
}

#[test]
fn one_bad_image_of_two_leaves_neither() {
    let good = two_layers();
    let bad = Image::new(vec![good.layers[0].clone(), tar(&[("third", b"3")])]);
    let mut files = good.docker_files(&["good"]);
    let mut items: Vec<serde_json::Value> = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let config = format!("{}.json", sha256(&bad.config));
    files.insert(config.clone(), bad.config.clone());
    items.push(serde_json::json!({"Config": config, "RepoTags": ["bad"], "Layers": [format!("{:064x}/layer.tar", 0), "third.tar"]}));
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&items).unwrap());
    files.insert("third.tar".to_owned(), tar(&[("third", b"4")]));
    let root = Root::new();
    root.load_bytes(&tar_of(&files)).unwrap_err();
    assert!(root.is_empty());
    files.insert("third.tar".to_owned(), bad.layers[1].clone());
    assert_eq!(names(&root.load_bytes(&tar_of(&files)).unwrap()), ["good:latest", "bad:latest"]);
    root.check_consistent();
    let usage = root.state.read(|tx| orlop_images::usage(&root.state, tx)).unwrap();
    assert_eq!((usage.total, usage.active), (2, 0));
    assert!(usage.images.iter().all(|image| image.shared > 0 && image.shared < image.size), "{usage:?}");
}

#[test]
fn the_same_image_loaded_by_many_at_once_is_there_once() {
    let layers =
        (0..6).map(|index| tar(&[("data", &noise(300_000, index)), (&format!("file{index}"), b"x")])).collect();
    let image = Image::new(layers);
    let mut archive = tempfile::NamedTempFile::new().unwrap();
    archive.write_all(&tar_of(&image.docker_files(&["many"]))).unwrap();
    let root = Root::new();
    let loaded: Vec<bool> = std::thread::scope(|scope| {
        let load = || {
            let own = Root::at(&root.path);
            own.load(archive.path()).unwrap()[0].existed
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(load)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(loaded.iter().filter(|existed| !**existed).count(), 1, "{loaded:?}");
    root.check_consistent();
}

#[test]
fn loads_and_removals_in_a_crowd_stay_consistent() {
    let shared = tar(&[("shared", &noise(100_000, 77))]);
    let archives: Vec<_> = (0..3)
        .map(|index| {
            let image = Image::new(vec![shared.clone(), tar(&[("own", &noise(50_000, index)), (".wh.shared", b"")])]);
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&tar_of(&image.docker_files(&[&format!("crowd:{index}")]))).unwrap();
            file
        })
        .collect();
    let root = Root::new();
    std::thread::scope(|scope| {
        for (index, archive) in archives.iter().enumerate() {
            let root = &root;
            scope.spawn(move || {
                let own = Root::at(&root.path);
                for _ in 0..8 {
                    own.load(archive.path()).unwrap();
                    match orlop_images::remove(own.store(), &format!("crowd:{index}"), false) {
                        Ok(_) | Err(Error::NotFound { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(root.is_empty());
}

/// The other half of the test below: loads what it is told in a process that can be killed.
#[test]
fn child_that_loads() {
    let Some(root) = std::env::var_os("ORLOP_TEST_ROOT") else { return };
    let root = Root::at(Path::new(&root));
    root.load(Path::new(&std::env::var_os("ORLOP_TEST_ARCHIVE").unwrap())).unwrap();
    if let Some(report) = std::env::var_os("ORLOP_TEST_REPORT") {
        std::fs::write(report, std::fs::read("/proc/self/status").unwrap()).unwrap();
    }
}

fn child(root: &Path, archive: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_that_loads"]).env("ORLOP_TEST_ROOT", root).env("ORLOP_TEST_ARCHIVE", archive);
    command.stdout(std::process::Stdio::null());
    command
}

#[test]
fn killed_in_the_middle_leaves_an_image_whole_or_absent() {
    let layers: Vec<_> = (0..4).map(|index| tar(&[("data", &noise(6_000_000, index)), (".wh.x", b"")])).collect();
    let image = Image::new(layers);
    let mut archive = tempfile::NamedTempFile::new().unwrap();
    archive.write_all(&gzip(&tar_of(&image.docker_files(&["killed"])))).unwrap();
    let root = Root::new();
    let mut killed = 0;
    for step in 0..25 {
        let mut process = child(&root.path, archive.path()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20 + step * 12));
        process.kill().unwrap();
        killed += usize::from(!process.wait().unwrap().success());
        let row = root.state.read(|tx| Ok::<_, Error>(orlop_images::resolve(tx, "killed").ok())).unwrap();
        if let Some(found) = row {
            for (layer, index) in found.row.layers.iter().zip(0..) {
                assert_eq!(std::fs::read(root.driver.diff(*layer).join("data")).unwrap(), noise(6_000_000, index));
            }
            orlop_images::recover(root.store()).unwrap();
            root.check_consistent();
            orlop_images::remove(root.store(), "killed", false).unwrap();
        }
    }
    assert!(killed > 3, "only {killed} of 25 were killed before their end");
    // A young blob without an image is left for an hour, since its load may be on its way.
    let blobs = root.path.join("content/blobs/sha256");
    if blobs.is_dir() {
        let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(4000);
        for entry in std::fs::read_dir(blobs).unwrap() {
            std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(hour_ago).unwrap();
        }
    }
    orlop_images::recover(root.store()).unwrap();
    assert!(root.is_empty());
    assert!(child(&root.path, archive.path()).status().unwrap().success());
    root.check_consistent();
}

#[test]
fn a_load_takes_less_than_200_mb() {
    let layers =
        (0..6).map(|index| tar(&[("data", &noise(24_000_000, index)), ("zeros", &vec![0; 20_000_000])])).collect();
    let image = Image::new(layers);
    let mut archive = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    archive.write_all(&tar_of(&image.oci_files(Some("big:1"), GZIP, gzip))).unwrap();
    let peak = peak_of_a_load(archive.path());
    assert!(peak < 200_000, "peak of {peak} kB");
}

#[test]
fn large_zstd_windows_share_their_memory() {
    let image = Image::new((0..3).map(|index| tar(&[("data", &noise(1 << 20, index).repeat(134))])).collect());
    let pack = |bytes: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut archive = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    archive.write_all(&tar_of(&image.oci_files(Some("long:1"), ZSTD, pack))).unwrap();
    let peak = peak_of_a_load(archive.path());
    assert!((130_000..200_000).contains(&peak), "peak of {peak} kB");
}

/// In kB, as a process of its own.
fn peak_of_a_load(archive: &Path) -> u64 {
    let root = Root::new();
    let report = tempfile::NamedTempFile::new().unwrap();
    assert!(child(&root.path, archive).env("ORLOP_TEST_REPORT", report.path()).status().unwrap().success());
    let status = std::fs::read_to_string(report.path()).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A small ext4 in a file; unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn new(mebibytes: u64) -> Result<Self, String> {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = directory.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(mebibytes << 20).unwrap();
        let mount = directory.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| match Command::new(program).args(arguments).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(format!("{program}: {error}")),
        };
        run("mkfs.ext4", &["-q".as_ref(), file.as_ref()])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), file.as_ref(), mount.as_ref()])?;
        Ok(Self { directory })
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("mount")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_gives_one_line_and_leaves_nothing() {
    let disk = match SmallDisk::new(48) {
        Ok(disk) => disk,
        Err(error) => return skipped(&format!("no loop device: {error}")),
    };
    let root = Root::at(&disk.path());
    let big = Image::new((0..3).map(|index| tar(&[("data", &noise(30_000_000, index))])).collect());
    for bytes in [tar_of(&big.docker_files(&["big"])), gzip(&tar_of(&big.docker_files(&["big"])))] {
        let error = root.load_bytes(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(root.is_empty());
    }
    root.load_bytes(&tar_of(&two_layers().docker_files(&["small"]))).unwrap();
    // Not one byte left: rmi works all the same.
    let mut filler = std::fs::File::create(disk.path().join("filler")).unwrap();
    while filler.write_all(&[1; 65536]).is_ok() {}
    while filler.write_all(&[1; 512]).is_ok() {}
    let _ = filler.sync_all();
    orlop_images::remove(root.store(), "small", false).unwrap();
    assert!(root.is_empty());
}
