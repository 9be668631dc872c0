//! Archives as other programs make them, and as nobody should.

mod common;

use common::{Header, Tar, allocated, has, run, snapshot, temporary, unpack_into};
use orlop_layers::{Budget, Error, Limits, Options, unpack};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A tree with all that a tar can hold in every format.
fn tree(root: &Path, rich: bool) {
    let at = |name: &str| root.join(name);
    std::fs::create_dir_all(at("dir/sub")).unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::write(at("dir/file"), b"content").unwrap();
    std::fs::write(at("none"), b"").unwrap();
    std::fs::write(at("large"), (0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>()).unwrap();
    std::fs::hard_link(at("dir/file"), at("dir/sub/other-name")).unwrap();
    std::os::unix::fs::symlink("../dir/file", at("empty/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("absolute")).unwrap();
    run("mkfifo", &[at("fifo").to_str().unwrap()]);
    run("mknod", &[at("null").to_str().unwrap(), "c", "1", "3"]);
    run("mknod", &[at("disk").to_str().unwrap(), "b", "8", "1"]);
    run("chown", &["12:34", at("dir/file").to_str().unwrap()]);
    run("chown", &["-h", "77:88", at("absolute").to_str().unwrap()]);
    for (name, mode) in
        [("dir/file", 0o4755), ("none", 0o2600), ("empty", 0o1777), ("dir/sub", 0o2751), ("fifo", 0o640)]
    {
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    if rich {
        let long: String = "long-name-".repeat(24);
        std::fs::create_dir_all(at(&format!("{long}/{long}"))).unwrap();
        std::fs::write(at(&format!("{long}/{long}/file")), b"deep").unwrap();
        std::os::unix::fs::symlink(format!("{long}/{long}"), at("long-link")).unwrap();
        std::fs::hard_link(at(&format!("{long}/{long}/file")), at(&format!("{long}/hard"))).unwrap();
        run("chown", &["3000000:3000001", at("large").to_str().unwrap()]);
        std::fs::write(at("ümläut"), b"utf-8").unwrap();
    }
    run("touch", &["-d", "1985-04-05 06:07:08", at("dir/sub").to_str().unwrap(), at("none").to_str().unwrap()]);
    run("touch", &["-h", "-d", "1999-01-01", at("absolute").to_str().unwrap()]);
    run("touch", &["-d", "2001-02-03 04:05:06", at("dir").to_str().unwrap(), at("dir/file").to_str().unwrap()]);
}

fn compare(archive: &Path, original: &Path, nanos: bool, what: &str) {
    let into = temporary();
    let unpacked = unpack_into(&std::fs::read(archive).unwrap(), into.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(unpacked.dependencies.is_empty(), "{what}: {:?}", unpacked.dependencies);
    pretty(&snapshot(into.path(), nanos), &snapshot(original, nanos), what);
    assert_eq!(
        unpacked.diff_id.to_string().strip_prefix("sha256:").unwrap(),
        String::from_utf8_lossy(&run("sha256sum", &[archive.to_str().unwrap()])).split(' ').next().unwrap()
    );
}

fn pretty(
    found: &std::collections::BTreeMap<String, String>,
    expected: &std::collections::BTreeMap<String, String>,
    what: &str,
) {
    for (path, line) in expected {
        assert_eq!(found.get(path), Some(line), "{what}: {path}");
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{what}: {path} should not be there");
    }
}

#[test]
fn gnu_tar_in_every_format() {
    let (base, from) = (temporary(), temporary());
    tree(from.path(), false);
    let rich = temporary();
    tree(rich.path(), true);
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        // The two old formats know neither long names nor devices as large as these ids.
        let has_all = matches!(format, "gnu" | "pax" | "oldgnu");
        let source = if has_all { rich.path() } else { from.path() };
        let archive = base.path().join(format);
        let skip_devices =
            if format == "v7" { vec!["--exclude=./null", "--exclude=./disk", "--exclude=./fifo"] } else { vec![] };
        let format_option = format!("--format={format}");
        let mut arguments = vec![&format_option[..], "--numeric-owner", "-C", source.to_str().unwrap()];
        arguments.extend(skip_devices.clone());
        arguments.extend(["-cf", archive.to_str().unwrap(), "."]);
        run("tar", &arguments);
        if format == "v7" {
            let oracle = temporary();
            run("tar", &["-C", oracle.path().to_str().unwrap(), "-xpf", archive.to_str().unwrap(), "--numeric-owner"]);
            compare(&archive, oracle.path(), false, format);
            continue;
        }
        compare(&archive, source, format == "pax", format);
    }
}

#[test]
fn bsdtar_in_its_formats() {
    if !has("bsdtar") {
        return;
    }
    let (base, from) = (temporary(), temporary());
    tree(from.path(), true);
    for format in ["gnutar", "pax"] {
        if format == "pax" {
            run("setfacl", &["-m", "u:123:rw", from.path().join("dir/file").to_str().unwrap()]);
            run("setfattr", &["-n", "user.note", "-v", "hello", from.path().join("large").to_str().unwrap()]);
        }
        let archive = base.path().join(format);
        let format_option = format!("--format={format}");
        run(
            "bsdtar",
            &[
                &format_option,
                "--numeric-owner",
                "-C",
                from.path().to_str().unwrap(),
                "-cf",
                archive.to_str().unwrap(),
                ".",
            ],
        );
        compare(&archive, from.path(), format == "pax", format);
    }
}

#[test]
fn attributes_of_gnu_tar() {
    let (base, from) = (temporary(), temporary());
    let at = |name: &str| from.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(from.path().join("dir")).unwrap();
    std::fs::write(from.path().join("capable"), b"x").unwrap();
    std::fs::write(from.path().join("noted"), b"x").unwrap();
    run("chown", &["5:6", &at("capable")]);
    run("setcap", &["cap_net_raw+ep", &at("capable")]);
    run("setfattr", &["-n", "user.a=b%c", "-v", "0x000a3d", &at("noted")]);
    run("setfattr", &["-n", "trusted.x", "-v", "y", &at("dir")]);
    run("setfattr", &["-n", "trusted.overlay.opaque", "-v", "y", &at("dir")]);
    run("setfacl", &["-m", "u:123:rw,g:456:r", &at("noted")]);
    run("setfacl", &["-d", "-m", "u:123:rwx", &at("dir")]);
    std::fs::write(from.path().join("dir/file"), b"inherits nothing").unwrap();
    run("setfacl", &["-b", &at("dir/file")]);
    let archive = base.path().join("tar");
    run(
        "tar",
        &[
            "--format=pax",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "-C",
            from.path().to_str().unwrap(),
            "-cf",
            archive.to_str().unwrap(),
            ".",
        ],
    );
    // Overlay's own attribute must not come through.
    run("setfattr", &["-x", "trusted.overlay.opaque", &at("dir")]);
    compare(&archive, from.path(), true, "xattrs");
}

#[test]
fn sparse_files_stay_sparse() {
    let (base, from) = (temporary(), temporary());
    let make = |name: &str, pieces: u64, step: u64, size: u64| {
        let file = std::fs::File::create(from.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        for piece in 0..pieces {
            std::os::unix::fs::FileExt::write_all_at(&file, &[piece as u8 + 1; 4096], piece * step).unwrap();
        }
    };
    make("many", 100, 1 << 20, 200 << 20);
    make("few", 2, 8 << 20, 50 << 20);
    make("hole", 0, 1, 70 << 20);
    make("data-at-end", 3, 1 << 20, (2 << 20) + 4096);
    for (what, options) in [
        ("oldgnu", &["--format=oldgnu"][..]),
        ("gnu", &["--format=gnu"]),
        ("pax 0.0", &["--format=pax", "--sparse-version=0.0"]),
        ("pax 0.1", &["--format=pax", "--sparse-version=0.1"]),
        ("pax 1.0", &["--format=pax", "--sparse-version=1.0"]),
    ] {
        let archive = base.path().join("tar");
        let mut arguments = options.to_vec();
        arguments.extend(["--sparse", "-C", from.path().to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
        run("tar", &arguments);
        compare(&archive, from.path(), what.starts_with("pax"), what);
        let into = temporary();
        let unpacked = unpack_into(&std::fs::read(&archive).unwrap(), into.path()).unwrap();
        assert_eq!(unpacked.size, (200 << 20) + (50 << 20) + (70 << 20) + (2 << 20) + 4096, "{what}");
        for name in ["many", "few", "hole", "data-at-end"] {
            let (found, wanted) = (allocated(&into.path().join(name)), allocated(&from.path().join(name)));
            assert!(found <= wanted + 8192, "{what}: {name} has {found} bytes allocated instead of {wanted}");
        }
    }
}

#[test]
fn compressed_as_given() {
    let (base, from) = (temporary(), temporary());
    tree(from.path(), true);
    let plain = base.path().join("tar");
    run("tar", &["--format=pax", "-C", from.path().to_str().unwrap(), "-cf", plain.to_str().unwrap(), "."]);
    let mut archives = vec![];
    for (program, options) in
        [("gzip", &["-k"][..]), ("zstd", &["-q", "-k"]), ("zstd", &["-q", "-k", "--long=27", "-o"])]
    {
        if !has(program) {
            continue;
        }
        let mut arguments = options.to_vec();
        let long = base.path().join("long.zst");
        if options.contains(&"-o") {
            arguments.push(long.to_str().unwrap());
            archives.push(long.clone());
        } else {
            archives.push(base.path().join(if program == "gzip" { "tar.gz" } else { "tar.zst" }));
        }
        arguments.push(plain.to_str().unwrap());
        run(program, &arguments);
    }
    let expected = snapshot(from.path(), true);
    for archive in archives {
        let into = temporary();
        let bytes = std::fs::read(&archive).unwrap();
        let unpacked = unpack_into(&bytes, into.path()).unwrap();
        pretty(&snapshot(into.path(), true), &expected, &archive.display().to_string());
        assert_eq!(unpacked.blob_size, bytes.len() as u64);
        let truncated = unpack_into(&bytes[..bytes.len() * 2 / 3], temporary().path()).unwrap_err();
        assert!(matches!(truncated, Error::Archive(_) | Error::Entry { .. }), "{truncated}");
    }
}

#[test]
fn what_is_cut_off_is_named() {
    let whole = Tar::default().dir("a", 0o755).add("a/b", Header::default(), &[1; 5000]).end();
    for (length, expected) in [(100, "within a header"), (512 + 100, "within a header"), (1024 + 100, "within a file")]
    {
        let error = unpack_into(&whole[..length], temporary().path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{length}: {error}");
    }
    // Without an end marker, or with bytes behind it, it is whole.
    let into = temporary();
    let mut without_end = whole.clone();
    without_end.truncate(whole.len() - 1024);
    unpack_into(&without_end, into.path()).unwrap();
    let mut behind = whole.clone();
    behind.extend_from_slice(b"whatever");
    let unpacked = unpack_into(&behind, temporary().path()).unwrap();
    assert_ne!(unpacked.diff_id, unpack_into(&whole, temporary().path()).unwrap().diff_id);
    let mut flipped = whole;
    flipped[3] ^= 1;
    assert!(unpack_into(&flipped, temporary().path()).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn nothing_is_written_outside() {
    let base = temporary();
    let outside = base.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    let before = snapshot(&outside, true);
    let o = outside.to_str().unwrap();
    let device = Header { kind: b'3', device: (1, 3), ..Header::default() };
    let refused = [
        Tar::default().file("../outside/x", "x"),
        Tar::default().file("a/../../outside/x", "x"),
        Tar::default().file("..", "x"),
        Tar::default().dir("../outside", 0o777),
        Tar::default().hardlink("link", "../outside/secret"),
        Tar::default().symlink("../outside/s", "x"),
        Tar::default().add("../outside/null", device, b""),
        Tar::default().file(".wh...", ""),
        Tar::default().file(".wh..", ""),
        Tar::default().file(".wh.", ""),
        Tar::default().file("a/.wh...", ""),
        Tar::default().pax(&[("path", b"../outside/x")]).file("x", "x"),
        Tar::default().pax(&[("path", b"a\0b")]).file("x", "x"),
        Tar::default().symlink("loop", "loop").file("loop/x", "x"),
        Tar::default().file("file", "x").file("file/x", "x"),
        Tar::default().add("fifo", Header { kind: b'6', ..Header::default() }, b"").file("fifo/x", "x"),
        Tar::default().symlink(".", "outside"),
        Tar::default().add("what", Header { kind: b'Z', ..Header::default() }, b""),
        Tar::default().pax(&[("uid", b"4294967295")]).file("x", "x"),
        Tar::default().pax(&[("uid", b"99999999999")]).file("x", "x"),
    ];
    for (number, tar) in refused.into_iter().enumerate() {
        let into = base.path().join(format!("refused-{number}"));
        std::fs::create_dir(&into).unwrap();
        let error = unpack_into(&tar.end(), &into).expect_err(&format!("archive {number}"));
        assert!(matches!(error, Error::Entry { .. } | Error::Archive(_)), "archive {number}: {error:?}");
        assert_eq!(snapshot(&outside, true), before, "archive {number}");
    }
    let contained = [
        Tar::default().symlink("s", o).file("s/x", "x"),
        Tar::default().symlink("s", "../../../../outside").file("s/x", "x"),
        Tar::default().symlink("s", &format!("{o}/secret")).file("s", "x"),
        Tar::default().symlink("s", o).dir("s", 0o700).file("s/x", "x"),
        Tar::default().symlink("s", o).whiteout("s", "secret"),
        Tar::default().symlink("s", o).file("s/.wh..wh..opq", ""),
        Tar::default().symlink("s", o).hardlink("h", "s/secret"),
        Tar::default().symlink("s", &format!("{o}/secret")).hardlink("h", "s").file("h", "overwritten"),
        Tar::default().symlink("a", "b").symlink("b", o).file("a/x", "x"),
        Tar::default().file(&format!("{o}/secret")[..], "absolute"),
        Tar::default().dir("d", 0o755).symlink("d/s", "..").symlink("d/s/t", o).file("t/x", "x"),
    ];
    for (number, tar) in contained.into_iter().enumerate() {
        let into = base.path().join(format!("contained-{number}"));
        std::fs::create_dir(&into).unwrap();
        unpack_into(&tar.end(), &into).unwrap_or_else(|error| panic!("archive {number}: {error}"));
        assert_eq!(snapshot(&outside, true), before, "archive {number}");
    }
}

fn unpacked(tar: Tar) -> (tempfile::TempDir, orlop_layers::Unpacked) {
    let into = temporary();
    let unpacked = unpack_into(&tar.end(), into.path()).unwrap();
    (into, unpacked)
}

fn is_whiteout(path: &Path) -> bool {
    let stat = std::fs::symlink_metadata(path).unwrap();
    stat.mode() & 0o170_000 == 0o020_000 && stat.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value) == Ok(1) && value == *b"y"
}

#[test]
fn whiteouts_and_opaque_directories() {
    let device = || Header { kind: b'3', ..Header::default() };
    let (into, unpacked_layer) = unpacked(
        Tar::default()
            .dir("a", 0o755)
            .whiteout("a", "gone")
            .dir("o", 0o755)
            .whiteout("o", "before")
            .file("o/.wh..wh..opq", "")
            .whiteout("o", "after")
            .dir("o/sub", 0o755)
            .whiteout("o/sub", "deep")
            .file("o/kept", "kept")
            .file(".wh..wh.aufs", "")
            .file(".wh..wh.plnk/1.2", "")
            .file("twice", "x")
            .whiteout("", "twice")
            .whiteout("", "back")
            .file("back", "x")
            .whiteout("", "dir")
            .dir("dir", 0o755)
            .whiteout("", "deep")
            .file("deep/er", "x")
            .add("smuggled", device(), b""),
    );
    let at = |name: &str| into.path().join(name);
    assert!(is_whiteout(&at("a/gone")) && is_whiteout(&at("twice")));
    assert!(is_opaque(&at("o")) && is_opaque(&at("dir")) && is_opaque(&at("deep")) && !is_opaque(&at("a")));
    for name in ["o/before", "o/after", "o/sub/deep", ".wh..wh.aufs", ".wh..wh.plnk", "smuggled"] {
        assert!(!at(name).exists() && std::fs::symlink_metadata(at(name)).is_err(), "{name}");
    }
    assert_eq!(std::fs::read_to_string(at("back")).unwrap(), "x");
    assert_eq!(unpacked_layer.dependencies.whiteouts, [PathBuf::from("a/gone"), "twice".into()]);
    assert!(unpacked_layer.dependencies.parents.is_empty(), "{:?}", unpacked_layer.dependencies);
}

#[test]
fn the_later_entry_wins() {
    let (into, layer) = unpacked(
        Tar::default()
            .file("file", "first")
            .file("file", "second")
            .dir("dir", 0o700)
            .file("dir/kept", "kept")
            .dir("dir", 0o711)
            .dir("gone", 0o755)
            .file("gone/inside", "x")
            .dir("gone/deeper", 0o755)
            .whiteout("gone/deeper", "w")
            .file("gone", "a file now")
            .symlink("link", "dir")
            .dir("link", 0o755)
            .file("link/x", "x")
            .file("one", "1")
            .hardlink("one", "one")
            .hardlink("two", "one")
            .hardlink("two", "one")
            .symlink("s", "nowhere")
            .hardlink("t", "s"),
    );
    let at = |name: &str| into.path().join(name);
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "second");
    assert_eq!(std::fs::read_to_string(at("dir/kept")).unwrap(), "kept");
    assert_eq!(at("dir").metadata().unwrap().mode() & 0o7777, 0o711);
    assert_eq!(std::fs::read_to_string(at("gone")).unwrap(), "a file now");
    assert!(std::fs::symlink_metadata(at("link")).unwrap().is_dir() && is_opaque(&at("link")));
    assert_eq!(std::fs::read_to_string(at("two")).unwrap(), "1");
    assert_eq!(at("one").metadata().unwrap().nlink(), 2);
    assert_eq!(std::fs::read_link(at("t")).unwrap(), Path::new("nowhere"));
    assert!(layer.dependencies.is_empty(), "{:?}", layer.dependencies);
    assert_eq!(layer.size, ("second".len() + "kept".len() + "a file now".len() + 1 + 1) as u64);
}

#[test]
fn times_before_1970_and_fractions() {
    let negative = {
        let mut tar = Tar::default().file("base256", "x");
        tar.0[136..148].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x9c]);
        tar.0[148..156].copy_from_slice(b"        ");
        let sum: u32 = tar.0[..512].iter().map(|&byte| u32::from(byte)).sum();
        tar.0[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        tar
    };
    let (into, _) = unpacked(negative.pax(&[("mtime", b"-1000.25"), ("atime", b"5.5")]).dir("dir", 0o755));
    assert_eq!(into.path().join("base256").metadata().unwrap().mtime(), -100);
    let dir = into.path().join("dir").metadata().unwrap();
    assert_eq!((dir.mtime(), dir.mtime_nsec(), dir.atime(), dir.atime_nsec()), (-1001, 750_000_000, 5, 500_000_000));
}

#[test]
fn symlinked_parents_are_followed_inside() {
    let (into, layer) = unpacked(
        Tar::default()
            .dir("usr", 0o755)
            .dir("usr/lib", 0o750)
            .symlink("lib", "usr/lib")
            .file("lib/a", "a")
            .symlink("usr/abs", "/usr/lib")
            .file("usr/abs/b", "b")
            .symlink("var", "made/later")
            .file("var/c", "c")
            .hardlink("var/d", "lib/a"),
    );
    assert_eq!(std::fs::read_to_string(into.path().join("usr/lib/a")).unwrap(), "a");
    assert_eq!(std::fs::read_to_string(into.path().join("usr/lib/b")).unwrap(), "b");
    assert_eq!(std::fs::read_to_string(into.path().join("made/later/c")).unwrap(), "c");
    assert_eq!(std::fs::read_to_string(into.path().join("made/later/d")).unwrap(), "a");
    assert_eq!(layer.dependencies.parents, [PathBuf::from("made"), "made/later".into()]);
}

#[test]
fn limits_hold() {
    let refuse = |tar: Tar, limits: Limits| {
        let into = temporary();
        let error =
            unpack(&tar.end()[..], into.path(), Options { blob_digest: false, record: false }, &Budget::new(limits))
                .unwrap_err();
        assert!(matches!(error, Error::Limit(_) | Error::Archive(_) | Error::Entry { .. }), "{error:?}");
        error.to_string()
    };
    let some = Limits::default();
    assert!(refuse(Tar::default().file("a", "").file("b", ""), Limits { entries: 1, ..some }).contains("more than 1"));
    assert!(refuse(Tar::default().file("a", "1234"), Limits { size: 3, ..some }).contains("more than 3 bytes"));
    let huge = Header { kind: b'x', size: Some(1 << 21), ..Header::default() };
    assert!(refuse(Tar::default().add("p", huge, b""), some).contains("extended header"));
    let twice = [("SCHILY.xattr.user.x", &[b'x'; 600_000][..])];
    assert!(refuse(Tar::default().pax(&twice).pax(&twice).file("x", ""), some).contains("extended header"));
    let many = (0..40).fold(Tar::default(), |tar, number| tar.dir(&format!("d{number}"), 0o755));
    assert!(refuse(many, Limits { memory: 10_000, ..some }).contains("too many directories"));
    let long = "d/".repeat(2100);
    assert!(refuse(Tar::default().pax(&[("path", long.as_bytes())]).file("x", ""), some).contains("4095"));
    let wide = "n".repeat(256);
    assert!(refuse(Tar::default().pax(&[("path", wide.as_bytes())]).file("x", ""), some).contains("255"));
    let lies = (1_u64 << 50).to_string();
    let tar = Tar::default().pax(&[("size", lies.as_bytes())]).file("big", "");
    assert!(refuse(tar, some).contains("more than"));
    for map in ["5,10,0,5", "0,10", "0,99999999999999999999", "18446744073709551615,5"] {
        let records = [("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"100")];
        refuse(Tar::default().pax(&records).file("x", "12345"), some);
    }
    let one = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")];
    for content in ["", "1\n0", "x\n", "99999999999\n"] {
        refuse(Tar::default().pax(&one).file("x", content), some);
    }
}

#[test]
fn files_are_as_large_as_the_header_says_and_owned_by_whom() {
    let (into, layer) = unpacked(
        Tar::default()
            .add("a", Header { mode: 0o6711, uid: 7, gid: 8, ..Header::default() }, b"12345")
            .add("d/", Header { kind: b'5', mode: 0o3775, uid: 9, gid: 9, ..Header::default() }, b"")
            .add("d/f", Header { mode: 0, ..Header::default() }, b"1")
            .add("d/e", Header { mode: 0o777, ..Header::default() }, b""),
    );
    assert_eq!(layer.size, 6);
    let stat = |name: &str| into.path().join(name).metadata().unwrap();
    let all = ["a", "d", "d/f", "d/e"].map(|name| (stat(name).mode() & 0o7777, stat(name).uid(), stat(name).gid()));
    assert_eq!(all, [(0o6711, 7, 8), (0o3775, 9, 9), (0, 0, 0), (0o777, 0, 0)]);
}

#[test]
fn a_full_disk_is_named() {
    let base = temporary();
    let small = base.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = Mounted::tmpfs(&small, "size=1m");
    let error =
        unpack_into(&Tar::default().add("big", Header::default(), &vec![1; 4 << 20]).end(), &small).unwrap_err();
    assert_eq!(orlop_model::Kind::kind(&error), orlop_model::ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("small/big"), "{error}");
    drop(mounted);
}

struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(path: &Path, options: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", path.to_str().unwrap()]);
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn random_damage_never_panics_or_escapes() {
    let from = temporary();
    tree(from.path(), true);
    std::fs::remove_file(from.path().join("large")).unwrap();
    let archive = run("tar", &["--format=pax", "--sparse", "-C", from.path().to_str().unwrap(), "-cf", "-", "."]);
    let mut seed = 0x1234_5678_9abc_def0_u64;
    for _ in 0..300 {
        let mut damaged = archive.clone();
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let position = (seed >> 33) as usize % damaged.len();
            damaged[position] = (seed >> 20) as u8;
        }
        let mut fixed = damaged;
        // Make the checksums right again, so that the damage gets further than the first check.
        for block in fixed.chunks_exact_mut(512) {
            if &block[257..262] == b"ustar" {
                block[148..156].copy_from_slice(b"        ");
                let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
                let _ = (&mut block[148..156]).write_all(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = unpack_into(&fixed, temporary().path());
    }
}
