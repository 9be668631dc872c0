//! What is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use orlop_tests::archive::{Image, Layer, root, write_docker_archive};
use orlop_tests::images::Noise;
use serde_json::json;

use super::lab::{Lab, Peer};
use super::table::{Turn, milliseconds, section, take_turns};
use crate::Outcome;
use crate::shell::capture;

fn turn<'a>(name: &str, work: impl FnMut(usize) -> Outcome<f64> + 'a) -> Turn<'a> {
    (name.to_owned(), Box::new(work))
}

/// One row: the same work by every engine.
pub(super) fn row<'a>(
    lab: &'a Lab,
    rounds: usize,
    work: &str,
    of: impl Fn(&'a Peer, usize) -> Outcome<f64>,
) -> Outcome<(String, Vec<(String, f64)>)> {
    let of = &of;
    let turns = lab.peers().iter().map(|peer| turn(peer.name, move |round| of(peer, round))).collect();
    Ok((work.to_owned(), take_turns(rounds, turns)?))
}

/// A container that does nothing, beside bare runc and a floor made by hand.
pub fn run(lab: &Lab) -> Outcome<String> {
    lab.load("busybox")?;
    let bundle = bundle(lab)?;
    let same = same_bundle(lab, &bundle.join("rootfs"))?;
    let mut turns: Vec<Turn<'_>> = lab
        .peers()
        .iter()
        .map(|peer| turn(peer.name, move |_| milliseconds(|| peer.runs(&["busybox", "true"]))))
        .collect();
    for (name, bundle) in [("runc run", &bundle), ("same spec", &same)] {
        turns.push(turn(name, move |round| {
            let mut command = Command::new("runc");
            command.arg("--root").arg(lab.dir().join("runc")).args(["run", "--bundle"]).arg(bundle);
            milliseconds(|| capture(command.arg(format!("bare{round}"))).map(|_| ()))
        }));
    }
    turns.push(turn("unshare", |_| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "chroot"])
            .arg(bundle.join("rootfs"))
            .arg("/bin/true");
        milliseconds(|| capture(&mut command).map(|_| ()))
    }));
    let figures = take_turns(25, turns)?;
    let words = "A container of busybox that runs `true`, without a network, removed at its end. `runc run` starts the same from a \
                 ready\nbundle with the spec that runc proposes, `same spec` with Orlop's own (seccomp, masked paths), `unshare` is the floor: new namespaces and a chroot, nothing else.";
    Ok(section("run", words, &[("run --rm busybox true".to_owned(), figures)]))
}

/// A bundle for bare runc: busybox and the spec that runc itself proposes, without a terminal.
fn bundle(lab: &Lab) -> Outcome<PathBuf> {
    let bundle = lab.dir().join("bundle");
    fs::create_dir_all(bundle.join("rootfs")).map_err(|error| error.to_string())?;
    let base = lab.images.base().map_err(|error| error.to_string())?;
    capture(Command::new("tar").arg("xf").arg(&base.path).arg("-C").arg(bundle.join("rootfs")))?;
    let _ = fs::remove_file(bundle.join("config.json"));
    capture(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle))?;
    let path = bundle.join("config.json");
    let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let mut spec: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["true"]);
    fs::write(&path, spec.to_string()).map_err(|error| error.to_string())?;
    Ok(bundle)
}

/// The spec that Orlop hands to runc, over a ready root.
fn same_bundle(lab: &Lab, root: &Path) -> Outcome<PathBuf> {
    let bundle = lab.dir().join("same");
    fs::create_dir_all(&bundle).map_err(|error| error.to_string())?;
    lab.orlop().does(&["run", "-d", "--name", "same", "--network", "none", "busybox", "sleep", "1000"])?;
    let id = capture(&mut lab.orlop().command(&["inspect", "--format", "{{.Id}}", "same"]))?;
    let path = lab.run_root().join("containers").join(id.trim()).join("config.json");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    lab.orlop().does(&["rm", "-f", "same"])?;
    let mut spec: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    spec["root"]["path"] = json!(root);
    spec["process"]["args"] = json!(["true"]);
    spec["linux"]["cgroupsPath"] = json!("/same");
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        // The files over /etc/hosts and its like went with the container.
        mounts.retain(|mount| mount["type"] != "bind");
    }
    fs::write(bundle.join("config.json"), spec.to_string()).map_err(|error| error.to_string())?;
    Ok(bundle)
}

/// What only looks, and the creation of a volume.
pub fn lists(lab: &Lab) -> Outcome<String> {
    for name in ["busybox", "n8n", "myapp", "nginx"] {
        lab.load(name)?;
    }
    for peer in lab.peers() {
        for number in 0..1000 {
            peer.does(&["volume", "create", &format!("volume{number}")])?;
        }
        for number in 0..30 {
            peer.does(&["create", "--network", "none", "--name", &format!("box{number}"), "busybox", "true"])?;
        }
    }
    let looks = |work: &str, words: &'static [&'static str]| {
        row(lab, 25, work, move |peer, _| milliseconds(|| peer.does(words)))
    };
    let rows = [
        looks("volume ls, 1,000 volumes", &["volume", "ls"])?,
        looks("volume inspect", &["volume", "inspect", "volume500"])?,
        looks("ps -a, 30 containers", &["ps", "-a"])?,
        looks("images, 6 images", &["images"])?,
        row(lab, 25, "volume create", |peer, round| {
            milliseconds(|| peer.does(&["volume", "create", &format!("new{round}")]))
        })?,
    ];
    for peer in lab.peers() {
        let ids = capture(&mut peer.command(&["ps", "-aq"]))?;
        peer.does(&[&["rm"], ids.split_whitespace().collect::<Vec<_>>().as_slice()].concat())?;
    }
    Ok(section("lists", "From the command to its end, with the volumes and containers named.", &rows))
}

/// Archives of the two shapes that hurt: much data, many files.
pub fn load(lab: &Lab) -> Outcome<String> {
    let rows =
        [("load of 1 GB in 8 layers", large(lab)?, "large:1"), ("load of 20,000 small files", many(lab)?, "many:1")]
            .map(|(work, archive, tag)| {
                row(lab, 3, work, move |peer, _| {
                    let time = milliseconds(|| peer.does(&["load", "-q", "-i", &archive.display().to_string()]))?;
                    peer.does(&["rmi", "-f", tag])?;
                    settle();
                    Ok(time)
                })
            })
            .into_iter()
            .collect::<Outcome<Vec<_>>>()?;
    Ok(section("load", "An archive from the page cache, uncompressed; the image is removed after each turn.", &rows))
}

/// What one turn left to be written must not be written in the next one's time.
pub(super) fn settle() {
    rustix::fs::sync();
    std::thread::sleep(Duration::from_millis(300));
}

pub(super) fn archive(lab: &Lab, tag: &str, layers: Vec<Layer>) -> Outcome<PathBuf> {
    let path = lab.dir().join(format!("{}.tar", tag.replace(':', "_")));
    let image = Image { tags: vec![tag.to_owned()], layers, config: json!({"Cmd": ["true"]}) };
    write_docker_archive(&path, &[image]).map_err(|error| error.to_string())?;
    Ok(path)
}

fn large(lab: &Lab) -> Outcome<PathBuf> {
    let layer = |number: u64| {
        lab.images.layer(&format!("large{number}"), |layer| {
            (0..16).try_for_each(|file| {
                layer.stream(&format!("large/{number}-{file}"), root(0o644), 8 << 20, Noise(number * 16 + file + 1))
            })
        })
    };
    let layers = (0..8).map(layer).collect::<std::io::Result<Vec<_>>>().map_err(|error| error.to_string())?;
    archive(lab, "large:1", layers)
}

/// Busybox, and 20,000 files of 1 KiB in 200 directories below /files.
pub(super) fn many(lab: &Lab) -> Outcome<PathBuf> {
    let make = || -> std::io::Result<Vec<Layer>> {
        let files = lab.images.layer("many", |layer| {
            layer.dir("files", root(0o755))?;
            for dir in 0..200 {
                layer.dir(&format!("files/{dir}"), root(0o755))?;
                (0..100).try_for_each(|file| {
                    layer.stream(&format!("files/{dir}/{file}"), root(0o644), 1024, Noise(dir * 100 + file + 1))
                })?;
            }
            Ok(())
        })?;
        Ok(vec![lab.images.base()?, files])
    };
    archive(lab, "many:1", make().map_err(|error| error.to_string())?)
}

/// The first use of a volume at a path where the image has 20,000 files.
pub fn volume_initialisation(lab: &Lab) -> Outcome<String> {
    let archive = many(lab)?.display().to_string();
    for peer in lab.peers() {
        peer.does(&["load", "-q", "-i", &archive])?;
        peer.runs(&["many:1", "true"])?;
    }
    let first = row(lab, 5, "run -v new:/files, 20,000 files", |peer, round| {
        let mount = format!("fresh{round}:/files");
        let time = milliseconds(|| peer.runs(&["-v", &mount, "many:1", "true"]))?;
        settle();
        Ok(time)
    })?;
    let again = row(lab, 5, "run -v used:/files", |peer, _| {
        milliseconds(|| peer.runs(&["-v", "fresh0:/files", "many:1", "true"]))
    })?;
    Ok(section(
        "init",
        "A volume that is empty and is filled from the image, and the same volume once more.",
        &[first, again],
    ))
}

/// Measures by itself, so that the start of its container doesn't count: prints milliseconds.
const WRITER: &str = r#"
import os, sys, time
work, place, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
block = os.urandom(1 << 20)
started = time.perf_counter()
if work == "sequential":
    fd = os.open(place + "/big", os.O_WRONLY | os.O_CREAT)
    for _ in range(count): os.write(fd, block)
    os.fsync(fd)
elif work == "fsync":
    fd = os.open(place + "/log", os.O_WRONLY | os.O_CREAT)
    for _ in range(count):
        os.write(fd, block[:4096]); os.fsync(fd)
elif work == "files":
    os.mkdir(place + "/many")
    for number in range(count):
        with open(f"{place}/many/{number}", "wb") as file: file.write(block[:1024])
print((time.perf_counter() - started) * 1000)
"#;

/// Where bytes can go, beside the plain directory of the host.
pub fn throughput(lab: &Lab) -> Outcome<String> {
    let script = lab.dir().join("writer.py");
    fs::write(&script, WRITER).map_err(|error| error.to_string())?;
    with_big_file(lab)?;
    let mount = format!("{}:/writer.py:ro", script.display());
    // The same interpreter inside and outside.
    let inside = |flags: &[&str], before: &str, work: &str, place: &str, count: usize| -> Outcome<f64> {
        let measured = format!("{before}python3 /writer.py {work} {place} {count}");
        let words = [&["run", "--rm", "-v", &mount], flags, &["writer:1", "/bin/sh", "-c", &measured]].concat();
        number(&capture(&mut lab.orlop().command(&words))?)
    };
    let mut rows = Vec::new();
    for (title, work, count) in [
        ("256 MiB, then fsync", "sequential", 256),
        ("500 times 4 KiB and fsync", "fsync", 500),
        ("10,000 files of 1 KiB", "files", 10_000),
    ] {
        let host = |round: usize| -> Outcome<f64> {
            let dir = lab.dir().join(format!("host-{work}-{round}"));
            fs::create_dir(&dir).map_err(|error| error.to_string())?;
            let time = number(&capture(
                Command::new("/usr/bin/python3").arg(&script).arg(work).arg(&dir).arg(count.to_string()),
            )?);
            gone(&dir)?;
            time
        };
        let bind = |round: usize| -> Outcome<f64> {
            let dir = lab.dir().join(format!("bind-{work}-{round}"));
            fs::create_dir(&dir).map_err(|error| error.to_string())?;
            let time = inside(&["-v", &format!("{}:/place", dir.display())], "", work, "/place", count);
            gone(&dir)?;
            time
        };
        let volume = |round: usize| -> Outcome<f64> {
            let name = format!("volume-{work}-{round}");
            let time = inside(&["-v", &format!("{name}:/place")], "", work, "/place", count);
            lab.orlop().does(&["volume", "rm", &name])?;
            lab.orlop().does(&["volume", "trash", "empty", "-f"])?;
            settle();
            time
        };
        let mut turns: Vec<Turn<'_>> = vec![
            turn("host", host),
            turn("volume", volume),
            turn("bind", bind),
            turn("tmpfs", |_| inside(&["--tmpfs", "/place:size=1g"], "", work, "/place", count)),
            turn("layer, new file", |_| inside(&[], "mkdir /place; ", work, "/place", count)),
        ];
        if work != "files" {
            turns.push(turn("layer, file of the image", |_| inside(&[], "", work, "/image", count)));
            turns.push(turn("layer, after copy-up", |_| {
                inside(&[], "for f in big log; do : >> /image/$f; done; sync; ", work, "/image", count)
            }));
        }
        let mut figures = take_turns(7, turns)?;
        figures.resize_with(7, || ("-".to_owned(), f64::NAN));
        rows.push((title.to_owned(), figures));
    }
    let words = "Milliseconds for the same writes by the same interpreter, in a container of Orlop and on the plain host directory. `file \
                 of\nthe image` overwrites a file of 256 MiB that the image brought, its copy-up included; `after copy-up` does so once it \
                 is\ncopied. A ratio is the share of the host's throughput that is reached.";
    Ok(section("throughput", words, &rows))
}

fn gone(dir: &Path) -> Outcome {
    fs::remove_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    settle();
    Ok(())
}

fn number(text: &str) -> Outcome<f64> {
    text.trim().parse().map_err(|error| format!("{error}: {text:?}"))
}

/// The python image with files that can be overwritten.
fn with_big_file(lab: &Lab) -> Outcome {
    let make = || -> std::io::Result<Vec<Layer>> {
        let image = lab.images.layer("overwritten", |layer| {
            layer.dir("image", root(0o755))?;
            layer.stream("image/big", root(0o644), 256 << 20, Noise(3))?;
            layer.stream("image/log", root(0o644), 256 << 20, Noise(5))
        })?;
        Ok(vec![lab.images.base()?, lab.images.python()?, image])
    };
    let path = archive(lab, "writer:1", make().map_err(|error| error.to_string())?)?;
    lab.orlop().does(&["load", "-q", "-i", &path.display().to_string()])
}

/// The most that a load ever held.
pub fn memory(lab: &Lab) -> Outcome<String> {
    let mut rows = Vec::new();
    for (work, archive, tag) in
        [("1 GB in 8 layers", large(lab)?, "large:1"), ("20,000 small files", many(lab)?, "many:1")]
    {
        for compress in ["", "gzip", "zstd"] {
            let file = match compress {
                "" => archive.clone(),
                tool => {
                    let packed = archive.with_extension(tool);
                    let script = format!("{tool} -c < {} > {}", archive.display(), packed.display());
                    capture(Command::new("sh").args(["-c", &script]))?;
                    packed
                }
            };
            let peak = peak_megabytes(&mut lab.orlop().command(&["load", "-q", "-i", &file.display().to_string()]))?;
            lab.orlop().does(&["rmi", "-f", tag])?;
            rows.push((format!("{work} {compress}"), vec![("MB at most".to_owned(), peak)]));
        }
    }
    Ok(section("memory", "The resident peak of `orlop load` (VmHWM).", &rows))
}

pub(super) fn peak_megabytes(command: &mut Command) -> Outcome<f64> {
    let mut child = command.stdout(std::process::Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak = peak.max(kilobytes.unwrap_or_default() * 1024.0 / 1e6);
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return if status.success() { Ok(peak) } else { Err(format!("load failed: {status}")) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
