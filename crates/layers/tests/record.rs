//! Archives come back byte for byte out of the layers that they became.

mod common;

use common::{Header, Tar, has, run, temporary};
use orlop_layers::record::{check, keep};
use orlop_layers::{Archived, Budget, Error, LayerArchive, Limits, Options, Result, Unpacked, settle, unpack};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Unpacks into a layer's directory of its own, with a record.
fn store(archive: &[u8], directory: &Path) -> Result<Unpacked> {
    let diff = directory.join("diff");
    std::fs::create_dir_all(&diff).unwrap();
    unpack(archive, &diff, Options { blob_digest: false, record: true }, &Budget::new(Limits::default()))
}

fn made_again(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = LayerArchive::open(directory).unwrap();
    archive.read_to_end(&mut bytes).unwrap();
    assert_eq!(archive.size(), bytes.len() as u64);
    bytes
}

fn differences(directory: &Path) -> Vec<String> {
    let diff_id = LayerArchive::open(directory).map(|archive| archive.diff_id());
    let diff_id = diff_id.unwrap_or_else(|_| format!("sha256:{}", "0".repeat(64)).parse().unwrap());
    let mut lines = Vec::new();
    check(directory, diff_id, &mut |one| lines.push(format!("{}: {}", one.path.display(), one.what))).unwrap();
    lines
}

/// The archive comes back, and nothing differs.
fn comes_back(archive: &[u8], what: &str) {
    let base = temporary();
    let unpacked = store(archive, base.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(unpacked.archived, Archived::Yes, "{what}");
    settle(&base.path().join("diff"), &unpacked.dependencies, &[]).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(made_again(base.path()) == archive, "{what}: it came back differently");
    assert_eq!(differences(base.path()), Vec::<String>::new(), "{what}");
    assert!(!base.path().join("replaced").exists(), "{what}");
}

fn text(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect()
}

#[test]
fn entries_that_replace_each_other() {
    let link = |name: &str, target: &str| Tar::default().hardlink(name, target).0;
    let parts = |parts: Vec<Vec<u8>>| Tar(parts.concat()).end();
    let long = text(700_000);
    let archives: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("only an end", Tar::default().end()),
        ("a file", Tar::default().file("a", "hello").end()),
        ("twice", Tar::default().file("a", "one").file("a", &long).file("a", "three").end()),
        ("twice the same", Tar::default().file("a", "one").file("a", "one").end()),
        ("a file becomes a directory", Tar::default().file("a", "one").dir("a", 0o755).file("a/b", "two").end()),
        (
            "a directory becomes a file",
            Tar::default().dir("a", 0o755).file("a/b", "1").dir("a/c", 0o700).file("a/c/d", &long).file("a", "2").end(),
        ),
        (
            "a directory goes and comes back",
            Tar::default().dir("a", 0o755).file("a/b", "1").file("a", "2").dir("a", 0o755).file("a/b", "3").end(),
        ),
        (
            "a link outlives its file",
            parts(vec![Tar::default().file("a", &long).0, link("b", "a"), Tar::default().file("a", "new").0]),
        ),
        (
            "both names go",
            parts(vec![
                Tar::default().file("a", "first").0,
                link("b", "a"),
                Tar::default().file("a", "new").0,
                Tar::default().file("b", "newer").0,
            ]),
        ),
        ("a whiteout over a file", Tar::default().file("a", "one").whiteout("", "a").end()),
        ("a file over a whiteout", Tar::default().whiteout("", "a").file("a", "one").end()),
        ("a whiteout with content", Tar::default().file(".wh.x", "what is this").end()),
        ("an opaque directory", Tar::default().dir("d", 0o755).file("d/a", "1").file("d/.wh..wh..opq", "x").end()),
        ("what AUFS left", Tar::default().file(".wh..wh.plnk/1.2", "ignored").file("a", "b").end()),
        (
            "a refused device",
            Tar::default().add("dev", Header { kind: b'3', ..Header::default() }, b"").file("x", "y").end(),
        ),
        (
            "symlinked directory",
            Tar::default().dir("d", 0o755).symlink("l", "d").file("l/a", "1").file("d/a", "2").end(),
        ),
        ("no end marker", Tar::default().file("a", "one").file("b", &long).0),
        ("garbage", [Tar::default().file("a", "one").end(), b"garbage".repeat(50_000)].concat()),
        ("no padding", Tar::default().file("a", "one").0[..515].to_vec()),
        ("dirty padding", {
            let mut archive = Tar::default().file("a", "one").file("b", "two").end();
            archive[600] = 7;
            archive
        }),
        (
            "overlay's attributes",
            Tar::default().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).dir("d", 0o755).end(),
        ),
        ("global headers", {
            let global = Header { kind: b'g', ..Header::default() };
            Tar::default().add("pax_global_header", global, b"19 comment=hello!!\n").file("a", "b").end()
        }),
        (
            "sparse 0.1",
            Tar::default()
                .pax(&[("GNU.sparse.size", b"1000000"), ("GNU.sparse.map", b"10,5,500000,6,1000000,0")])
                .file("s", "helloworld!")
                .end(),
        ),
        (
            "sparse 0.0",
            Tar::default()
                .pax(&[
                    ("GNU.sparse.size", b"70000"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.offset", b"0"),
                    ("GNU.sparse.numbytes", b"3"),
                    ("GNU.sparse.offset", b"60000"),
                    ("GNU.sparse.numbytes", b"4"),
                ])
                .file("s", "onetwo!")
                .file("s", "and replaced")
                .end(),
        ),
    ];
    for (what, archive) in archives {
        comes_back(&archive, what);
        comes_back_compressed(&archive, what);
    }
}

/// The same in members of gzip and in frames of zstd.
fn comes_back_compressed(archive: &[u8], what: &str) {
    let (front, back) = archive.split_at(archive.len() / 3);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    for stream in [[gzip(front), gzip(back)].concat(), [zstd(front), zstd(back)].concat()] {
        let base = temporary();
        assert_eq!(store(&stream, base.path()).unwrap().archived, Archived::Yes, "{what}");
        assert!(made_again(base.path()) == archive, "{what}");
    }
}

#[test]
fn a_settled_layer_keeps_its_record() {
    // The parents that the archive omits lie behind a link below, where the archive has something as well.
    let base = temporary();
    let below = base.path().join("below");
    let lower =
        Tar::default().dir("usr", 0o711).dir("usr/bin", 0o755).symlink("bin", "usr/bin").file("file", "x").end();
    store(&lower, &below).unwrap();
    let upper = Tar::default()
        .file("usr/bin/same", &text(5000))
        .file("bin/tool", &text(9000))
        .file("bin/same", "wins")
        .file("bin/sub/deep", "deep")
        .file("usr/bin/sub/other", "other")
        .hardlink("bin/second", "bin/tool")
        .hardlink("lower", "file")
        .whiteout("bin", "nothing")
        .end();
    let layer = base.path().join("layer");
    let unpacked = store(&upper, &layer).unwrap();
    assert_eq!(unpacked.archived, Archived::Yes);
    assert!(!unpacked.dependencies.is_empty());
    let settled = settle(&layer.join("diff"), &unpacked.dependencies, &[below.join("diff")]).unwrap();
    assert_eq!(settled, Archived::Yes);
    assert!(layer.join("diff/usr/bin/tool").exists() && !layer.join("diff/bin").exists());
    assert!(made_again(&layer) == upper);
    assert_eq!(differences(&layer), Vec::<String>::new());
    assert!(!layer.join("replaced").exists());
}

#[test]
fn what_tar_programs_write() {
    let (from, base) = (temporary(), temporary());
    let at = |name: &str| from.path().join(name);
    std::fs::create_dir_all(at("dir/sub")).unwrap();
    std::fs::write(at("dir/file"), text(100_000)).unwrap();
    std::fs::hard_link(at("dir/file"), at("dir/sub/second")).unwrap();
    std::os::unix::fs::symlink("dir/file", at("link")).unwrap();
    run("mknod", &[at("null").to_str().unwrap(), "c", "1", "3"]);
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    for piece in 0..30_u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", piece * 100_000).unwrap();
    }
    drop(sparse);
    let plain = |program: &str, arguments: &[&str]| {
        let archive = base.path().join("archive");
        let all = [arguments, &["-C", from.path().to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]].concat();
        run(program, &all);
        comes_back(&std::fs::read(&archive).unwrap(), &format!("{program} {arguments:?}"));
    };
    plain("tar", &["--format=v7", "--exclude=./null"]);
    for format in ["--format=oldgnu", "--format=gnu", "--format=ustar", "--format=pax"] {
        plain("tar", &[format]);
    }
    plain("tar", &["--format=oldgnu", "--sparse"]);
    plain("tar", &["--format=gnu", "--sparse"]);
    for version in ["0.0", "0.1", "1.0"] {
        plain("tar", &["--format=pax", "--sparse", &format!("--sparse-version={version}")]);
    }
    run("chown", &["3000000:3000000", at("dir/file").to_str().unwrap()]);
    std::fs::write(at(&"long-name-".repeat(20)), "long").unwrap();
    plain("tar", &["--format=gnu"]);
    plain("tar", &["--format=pax", "--blocking-factor=100"]);
    if has("bsdtar") {
        for format in ["gnutar", "pax", "ustar"] {
            let format = format!("--format={format}");
            let exclude: &[&str] = if format.ends_with("ustar") { &["--exclude", "*long-name*"] } else { &[] };
            plain("bsdtar", &[&[&format[..]], exclude].concat());
        }
    }
}

#[test]
fn everything_that_changes_is_named() {
    let archive = Tar::default()
        .dir("dir", 0o755)
        .file("dir/flipped", &text(50_000))
        .file("dir/gone", "gone")
        .file("dir/mode", "mode")
        .file("dir/owner", "owner")
        .pax(&[("SCHILY.xattr.user.note", b"hello")])
        .file("dir/attribute", "attribute")
        .symlink("dir/link", "mode")
        .file("dir/time", "time")
        .file("dir/short", "shortened")
        .file("dir/becomes", "a directory")
        .add("dir/null", Header { kind: b'3', device: (1, 3), ..Header::default() }, b"")
        .end();
    type Damage = fn(&Path);
    fn keep_times(path: &Path, change: impl FnOnce()) {
        let times = std::fs::metadata(path).unwrap().modified().unwrap();
        change();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(times).unwrap();
    }
    let damages: [(&str, Damage, &str); 11] = [
        (
            "dir/flipped",
            |p| {
                keep_times(p, || {
                    let mut bytes = std::fs::read(p).unwrap();
                    bytes[33_333] ^= 4;
                    std::fs::write(p, bytes).unwrap();
                })
            },
            "content has changed",
        ),
        ("dir/gone", |p| std::fs::remove_file(p).unwrap(), "file is missing"),
        ("dir/mode", |p| drop(run("chmod", &["4755", p.to_str().unwrap()])), "mode is 4755, was 0644"),
        ("dir/owner", |p| drop(run("chown", &["5:6", p.to_str().unwrap()])), "owner is 5:6, was 0:0"),
        (
            "dir/attribute",
            |p| drop(run("setfattr", &["-n", "user.note", "-v", "other", p.to_str().unwrap()])),
            "attribute user.note has another value",
        ),
        (
            "dir/link",
            |p| {
                std::fs::remove_file(p).unwrap();
                std::os::unix::fs::symlink("owner", p).unwrap();
            },
            "link target is \"owner\", was \"mode\"",
        ),
        ("dir/time", |p| drop(run("touch", &["-d", "2001-01-01", p.to_str().unwrap()])), "modification time is"),
        ("dir/short", |p| keep_times(p, || std::fs::write(p, "sho").unwrap()), "size is 3, was 9"),
        (
            "dir/becomes",
            |p| {
                std::fs::remove_file(p).unwrap();
                std::fs::create_dir(p).unwrap();
            },
            "is a directory, was a file",
        ),
        (
            "dir/null",
            |p| {
                std::fs::remove_file(p).unwrap();
                run("mknod", &[p.to_str().unwrap(), "c", "1", "5"]);
            },
            "device is 1:5, was 1:3",
        ),
        ("extra", |p| std::fs::write(p, "extra").unwrap(), "file was not there"),
    ];
    for (path, damage, expected) in damages {
        let base = temporary();
        store(&archive, base.path()).unwrap();
        assert_eq!(differences(base.path()), Vec::<String>::new());
        damage(&base.path().join("diff").join(path));
        let found = differences(base.path());
        let wanted = format!("{path}: {expected}");
        assert!(found.iter().any(|line| line.starts_with(&wanted)), "{wanted:?} is not in {found:?}");
        let fails = LayerArchive::open(base.path()).unwrap().read_to_end(&mut Vec::new()).is_err();
        let in_content = ["dir/flipped", "dir/gone", "dir/short", "dir/becomes"].contains(&path);
        assert_eq!(fails, in_content, "{path}");
    }
}

#[test]
fn a_damaged_record_is_told_and_an_archive_that_was_kept_comes_back() {
    let archive = Tar::default().file("a", &text(100_000)).end();
    for file in ["tar-split.zst", "tree.zst"] {
        let base = temporary();
        store(&archive, base.path()).unwrap();
        let path = base.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 9, 20, 61, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            assert!(!differences(base.path()).is_empty(), "{file} {at}");
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(!differences(base.path()).is_empty(), "{file} cut off");
        std::fs::remove_file(&path).unwrap();
        assert!(!differences(base.path()).is_empty(), "{file} gone");
    }
    let base = temporary();
    let unpacked = store(&archive, base.path()).unwrap();
    std::fs::remove_file(base.path().join("tar-split.zst")).unwrap();
    assert!(keep(base.path(), &b"another"[..], unpacked.diff_id, Limits::default()).is_err());
    assert!(!base.path().join("layer.tar.zst").exists());
    keep(base.path(), &archive[..], unpacked.diff_id, Limits::default()).unwrap();
    assert!(made_again(base.path()) == archive);
    assert_eq!(differences(base.path()), Vec::<String>::new());
}

#[test]
fn an_archive_that_replaces_too_much_is_kept_instead() {
    // Moves are remembered by their paths, so long ones are enough.
    let deep = format!("{}/", "d".repeat(255)).repeat(15);
    let path = format!("{deep}file");
    let mut archive = Tar::default();
    for number in 0..5000_u32 {
        archive = archive.pax(&[("path", path.as_bytes())]).file("short", &number.to_string());
    }
    let archive = archive.end();
    let base = temporary();
    let unpacked = store(&archive, base.path()).unwrap();
    assert!(
        matches!(&unpacked.archived, Archived::No(reason) if reason.contains("too many")),
        "{:?}",
        unpacked.archived
    );
    assert!(!base.path().join("tar-split.zst").exists() && !base.path().join("replaced").exists());
    keep(base.path(), &archive[..], unpacked.diff_id, Limits::default()).unwrap();
    settle(&base.path().join("diff"), &unpacked.dependencies, &[]).unwrap();
    assert!(made_again(base.path()) == archive);
    assert_eq!(differences(base.path()), Vec::<String>::new());
}

#[test]
fn random_archives_come_back() {
    // Few names, so that entries meet; a generator of its own, so that a failure comes again with its seed.
    let mut back = 0;
    for seed in 0..600_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let names = ["a", "b", "a/b", "a/c", "b/a", "a/b/c", "d/e", "l", "l/a"];
        let mut tar = Tar::default();
        for _ in 0..random(30) {
            let name = names[random(names.len() as u64) as usize];
            let other = names[random(names.len() as u64) as usize];
            let content = text([0, 1, 511, 512, 513, 70_000][random(6) as usize]);
            tar = match random(8) {
                0 => tar.dir(name, 0o755),
                1 => tar.hardlink(name, other),
                2 => tar.symlink(name, ["a", "b", "..", "/d"][random(4) as usize]),
                3 => tar.whiteout("a", "b"),
                _ => tar.file(name, &content),
            };
        }
        let archive = if random(2) == 0 { tar.end() } else { tar.0 };
        let base = temporary();
        let directory = base.path().join("layer");
        // Some are no layers; those that are come back.
        let unpacked = match store(&archive, &directory) {
            Err(Error::Archive(_) | Error::Entry { .. }) => continue,
            unpacked => unpacked.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
        };
        back += 1;
        assert_eq!(unpacked.archived, Archived::Yes, "seed {seed}");
        let below = base.path().join("below");
        let lower =
            Tar::default().dir("x", 0o700).dir("a", 0o755).symlink("l", "x").file("b", "low").file("d", "f").end();
        store(&lower, &below).unwrap();
        let parents: Vec<PathBuf> = vec![below.join("diff")];
        let settled = match settle(&directory.join("diff"), &unpacked.dependencies, &parents) {
            Err(Error::Chain(_)) => continue,
            settled => settled.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
        };
        assert!(!matches!(settled, Archived::No(_)), "seed {seed}: {settled:?}");
        assert!(made_again(&directory) == archive, "seed {seed}");
        assert_eq!(differences(&directory), Vec::<String>::new(), "seed {seed}");
    }
    assert!(back > 100, "only {back} of them were layers");
}
