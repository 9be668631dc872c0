//! Pulls by every engine from one docker-registry on loopback, with cold caches.

use std::fs;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use orlop_tests::archive::root;
use orlop_tests::images::Noise;
use orlop_tests::registry;

use super::groups::{archive, many, peak_megabytes, row, settle};
use super::lab::{Lab, Peer};
use super::table::{milliseconds, section};
use crate::Outcome;
use crate::shell::capture;

/// Debian's registry; ended when this goes.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start(lab: &Lab) -> Outcome<Self> {
        let config = lab.dir().join("registry.yml");
        let address = registry::configure(&config, &lab.dir().join("registry"), "")?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("docker-registry: {error}"))?;
        let registry = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.address).is_err() {
            if Instant::now() > deadline {
                return Err("docker-registry doesn't answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }

    /// Pushes an archive, compressed by gzip as pushes are; returns its name there.
    fn push(&self, archive: &Path, tag: &str) -> Outcome<String> {
        let name = format!("{}/{tag}", self.address);
        let mut command = Command::new("skopeo");
        command.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"]);
        capture(command.arg(format!("docker-archive:{}", archive.display())).arg(format!("docker://{name}")))?;
        Ok(name)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What compresses by about half, as files of programs do.
struct Half {
    noise: Noise,
    at: usize,
}

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const PIECE: usize = 4096;
        let length = buffer.len().min(PIECE - self.at % PIECE);
        let piece = &mut buffer[..length];
        match self.at / PIECE % 2 {
            0 => self.noise.read_exact(piece)?,
            _ => piece.fill(b'x'),
        }
        self.at += length;
        Ok(length)
    }
}

/// 1 GB in 8 layers, half of it incompressible.
fn large(lab: &Lab) -> Outcome<PathBuf> {
    let layer = |number: u64| {
        lab.images.layer(&format!("half{number}"), |layer| {
            (0..16).try_for_each(|file| {
                let content = Half { noise: Noise(number * 16 + file + 1), at: 0 };
                layer.stream(&format!("half/{number}-{file}"), root(0o644), 8 << 20, content)
            })
        })
    };
    let layers = (0..8).map(layer).collect::<io::Result<Vec<_>>>().map_err(|error| error.to_string())?;
    archive(lab, "half:1", layers)
}

/// Has the kernel forget what it read; says whether it may be told so.
fn drop_caches() -> bool {
    settle();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn pulls(peer: &Peer, name: &str) -> Outcome {
    match peer.name {
        "podman" => peer.does(&["pull", "-q", "--tls-verify=false", name]),
        _ => peer.does(&["pull", "-q", name]),
    }
}

/// The same image by every engine, and what ours needs for it.
pub fn pull(lab: &Lab) -> Outcome<String> {
    let registry = Registry::start(lab)?;
    let images = [("1 GB in 8 layers", large(lab)?, "half:1"), ("20,000 small files", many(lab)?, "many:1")];
    let (mut times, mut needs) = (Vec::new(), Vec::new());
    let mut cold = true;
    for (what, archive, tag) in images {
        let name = registry.push(&archive, tag)?;
        let cold_here = drop_caches();
        cold &= cold_here;
        times.push(row(lab, 3, &format!("pull of {what}"), |peer, _| {
            drop_caches();
            let time = milliseconds(|| pulls(peer, &name))?;
            peer.does(&["rmi", "-f", &name])?;
            Ok(time)
        })?);
        let peak = peak_megabytes(&mut lab.orlop().command(&["pull", "-q", &name]))?;
        let overhead = overhead(lab)?;
        lab.orlop().does(&["rmi", "-f", &name])?;
        needs.push((
            what.to_owned(),
            vec![("MB of memory at most".to_owned(), peak), ("% of disk beside its files".to_owned(), overhead)],
        ));
    }
    let cold = if cold {
        "Caches are dropped before each turn"
    } else {
        "This kernel drops no caches on demand, so they are warm"
    };
    let words = format!(
        "From Debian's docker-registry on loopback, layers compressed by gzip; the image is removed after each turn. {cold}."
    );
    let more = needs_table(&needs);
    Ok(section("pull", &words, &times) + &more)
}

/// Disk that is not the files of layers, in per cent of these: records beside them, configs, manifests.
fn overhead(lab: &Lab) -> Outcome<f64> {
    let data = lab.run_root().with_file_name("data");
    rustix::fs::sync();
    let script = "cd \"$1\" && all=$(du -sk overlay2 content | awk '{s += $1} END {print s}') && \
        files=$(du -skc overlay2/*/diff | tail -1 | cut -f1) && echo $(( (all - files) * 100000 / files ))";
    let text = capture(Command::new("sh").args(["-c", script, "sh"]).arg(data))?;
    text.trim().parse::<f64>().map(|thousandths| thousandths / 1000.0).map_err(|error| format!("{error}: {text:?}"))
}

/// Figures of different units: no ratios between them.
fn needs_table(rows: &[(String, Vec<(String, f64)>)]) -> String {
    let mut text =
        "\nOrlop alone: the resident peak (VmHWM), and what lies on the disk besides the image's files.\n\n".to_owned();
    let Some((_, first)) = rows.first() else { return text };
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    text += &format!("| image | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
    for (what, figures) in rows {
        let figures: Vec<String> = figures.iter().map(|(_, figure)| format!("{figure:.1}")).collect();
        text += &format!("| {what} | {} |\n", figures.join(" | "));
    }
    text
}
