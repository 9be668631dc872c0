//! Archives that skopeo, umoci, buildah, podman and a real Docker write, from one image.
mod common;

use common::*;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn have(program: &str) -> bool {
    let found = std::env::var("PATH").unwrap().split(':').any(|part| Path::new(part).join(program).is_file());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// An image with a whiteout, a link and an opaque directory, as an OCI layout.
fn base(directory: &Path) -> (Image, PathBuf) {
    let image = Image::new(vec![
        tar(&[("etc/", b""), ("etc/os-release", b"ID=test\n"), ("gone", b"x"), ("dir/", b""), ("dir/old", b"o")]),
        tar(&[("etc/hello", b"world"), (".wh.gone", b""), ("dir/.wh..wh..opq", b""), ("dir/new", b"n")]),
    ]);
    let layout = directory.join("base");
    write_tree(&layout, &image.oci_files(Some("latest"), GZIP, gzip));
    (image, layout)
}

/// Loads it and looks at its files; the names that it got.
fn check(root: &Root, path: &Path) -> Vec<String> {
    let loaded = root.load(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    root.check_consistent();
    let row = root.state.read(|tx| orlop_images::resolve(tx, &loaded[0].id.to_string())).unwrap().row;
    let found: Vec<_> =
        row.layers.iter().rev().filter_map(|id| std::fs::read(root.driver.diff(*id).join("etc/hello")).ok()).collect();
    assert_eq!(found[0], b"world");
    loaded.iter().flat_map(|image| image.names.iter().map(orlop_model::ImageRef::familiar)).collect()
}

#[test]
fn skopeo_writes_archives_and_layouts() {
    if !have("skopeo") {
        return;
    }
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let (image, layout) = base(directory.path());
    let from = format!("oci:{}:latest", layout.display());
    let root = Root::new();
    for (kind, name, file, expected) in [
        ("docker-archive", ":acme/app:1", "docker.tar", vec!["acme/app:1"]),
        ("oci-archive", ":acme/app:2", "oci.tar", vec!["acme/app:2"]),
        ("oci", ":3.1", "layout", vec![]),
        ("oci", ":acme/app:4", "layout2", vec!["acme/app:4"]),
    ] {
        let path = directory.path().join(file);
        run("skopeo", &["copy", "--insecure-policy", &from, &format!("{kind}:{}{name}", path.display())]);
        assert_eq!(check(&root, &path), expected, "{kind}");
    }
    let id = root.state.read(|tx| orlop_images::resolve(tx, "acme/app:2")).unwrap().row.id;
    assert_eq!(id.to_string(), image.id());
}

#[test]
fn umoci_changes_an_image() {
    if !have("umoci") {
        return;
    }
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let (_, layout) = base(directory.path());
    let bundle = directory.path().join("bundle");
    let name = format!("{}:latest", layout.display());
    run("umoci", &["unpack", "--image", &name, bundle.to_str().unwrap()]);
    std::fs::write(bundle.join("rootfs/etc/more"), "m").unwrap();
    std::fs::remove_file(bundle.join("rootfs/dir/new")).unwrap();
    run("umoci", &["repack", "--image", &format!("{}:acme/umoci:1", layout.display()), bundle.to_str().unwrap()]);
    let root = Root::new();
    assert_eq!(check(&root, &layout), ["acme/umoci:1"]);
}

#[test]
fn buildah_and_podman_save() {
    if !have("buildah") || !have("podman") {
        return;
    }
    // buildah makes a reference of the path, so it must be lower case.
    let prefix = format!("orlop-{}", orlop_model::Id::random().short());
    let directory = tempfile::Builder::new().prefix(&prefix).rand_bytes(0).tempdir_in("/var/tmp").unwrap();
    let (image, layout) = base(directory.path());
    let path = |name: &str| directory.path().join(name);
    let storage = [
        "--root".to_owned(),
        path("root").display().to_string(),
        "--runroot".to_owned(),
        path("run").display().to_string(),
        "--storage-driver".to_owned(),
        "vfs".to_owned(),
    ];
    let run = |program: &str, arguments: &[&str]| {
        let all: Vec<&str> = storage.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        String::from_utf8(run(program, &all).stdout).unwrap().trim().to_owned()
    };
    let root = Root::new();
    let from = format!("oci:{}:latest", layout.display());
    let pulled = run("buildah", &["pull", "--policy", "always", &from]);
    let container = run("buildah", &["from", "--pull-never", &pulled]);
    let extra = path("extra");
    std::fs::write(&extra, "extra").unwrap();
    run("buildah", &["copy", &container, extra.to_str().unwrap(), "/etc/extra"]);
    let to = path("buildah.tar");
    run("buildah", &["commit", &container, &format!("oci-archive:{}:acme/buildah:1", to.display())]);
    assert_eq!(check(&root, &to), ["acme/buildah:1"]);

    run("podman", &["tag", &pulled, "localhost/acme/podman:1"]);
    for (format, file) in
        [("docker-archive", "podman.tar"), ("oci-archive", "podman-oci.tar"), ("oci-dir", "podman-dir")]
    {
        let to = path(file);
        run("podman", &["save", "-q", "--format", format, "-o", to.to_str().unwrap(), "localhost/acme/podman:1"]);
        let names = check(&root, &to);
        if format != "oci-dir" {
            assert_eq!(names, ["localhost/acme/podman:1"], "{format}");
        }
    }
    let id = root.state.read(|tx| orlop_images::resolve(tx, "localhost/acme/podman:1")).unwrap().row.id;
    assert_eq!(id.to_string(), image.id());
}

/// A daemon with a data root of its own; stopped by the pid that was started.
struct Dockerd {
    process: Child,
    socket: String,
}

impl Dockerd {
    fn start(directory: &Path) -> Result<Self, String> {
        let path = |name: &str| directory.join(name).display().to_string();
        let socket = format!("unix://{}", path("docker.sock"));
        let log = std::fs::File::create(directory.join("dockerd.log")).unwrap();
        let process = Command::new("dockerd")
            .args(["--iptables=false", "--bridge=none", "--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["-H", &socket, "--pidfile", &path("pid")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut daemon = Self { process, socket };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            if daemon.docker(&["version"]).status.success() {
                return Ok(daemon);
            }
            if let Ok(Some(status)) = daemon.process.try_wait() {
                return Err(format!("dockerd ended: {status}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("dockerd did not come up".to_owned())
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        Command::new("docker").args(["-H", &self.socket]).args(arguments).output().unwrap()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

#[test]
fn docker_saves_and_says_the_same() {
    if !have("dockerd") || !have("docker") {
        return;
    }
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let daemon = match Dockerd::start(directory.path()) {
        Ok(daemon) => daemon,
        Err(error) => return skipped(&error),
    };
    let docker = |arguments: &[&str]| {
        let output = daemon.docker(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let layer = tar(&[("etc/", b""), ("etc/hello", b"world")]);
    // The same layer twice: old Docker writes the second as a symlink.
    let image = Image::new(vec![layer.clone(), tar(&[("etc/hello", b"world"), ("b", b"2")]), layer]);
    let given = directory.path().join("given.tar");
    std::fs::write(&given, tar_of(&image.docker_files(&["acme/app:1", "acme/app:2"]))).unwrap();
    docker(&["load", "-i", given.to_str().unwrap()]);
    let saved = directory.path().join("saved.tar");
    docker(&["save", "-o", saved.to_str().unwrap(), "acme/app:1", "acme/app:2"]);
    let root = Root::new();
    let mut names = check(&root, &saved);
    names.sort();
    assert_eq!(names, ["acme/app:1", "acme/app:2"]);
    let theirs: serde_json::Value = serde_json::from_str(&docker(&["image", "inspect", "acme/app:1"])).unwrap();
    let ours = serde_json::to_value(orlop_images::inspect(root.store(), "acme/app:1").unwrap()).unwrap();
    for field in [
        "Id",
        "RepoTags",
        "RepoDigests",
        "Parent",
        "Comment",
        "Created",
        "DockerVersion",
        "Author",
        "Architecture",
        "Os",
        "Size",
        "RootFS",
    ] {
        assert_eq!(ours[field], theirs[0][field], "{field}");
    }
    for field in ["Env", "Cmd", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels"] {
        assert_eq!(ours["Config"][field], theirs[0]["Config"][field], "Config.{field}");
    }
    // The same words for the same removals.
    for (name, force) in
        [("acme/app", false), ("acme/app:1", false), (&image.id()[7..19], false), ("acme/app:2", false)]
    {
        let output = daemon.docker(&if force { vec!["rmi", "-f", name] } else { vec!["rmi", name] });
        let theirs = match output.status.success() {
            true => String::from_utf8(output.stdout).unwrap(),
            false => String::from_utf8(output.stderr).unwrap(),
        };
        let ours = match orlop_images::remove(root.store(), name, force) {
            Ok(removed) => removed.lines.iter().map(|line| format!("{line}\n")).collect(),
            Err(error) => format!("Error response from daemon: {error}\n"),
        };
        assert_eq!(ours.lines().take(2).collect::<Vec<_>>(), theirs.lines().take(2).collect::<Vec<_>>(), "rmi {name}");
    }
    let leftover = root.state.read(|tx| tx.layers().list()).unwrap();
    assert!(leftover.is_empty(), "{leftover:?}");
}
