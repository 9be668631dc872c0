//! Registries on loopback: Debian's docker-registry, and one of our own that does as a test says and keeps a record of
//! what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::archive::architecture;
use crate::world::World;

/// Writes the config of a docker-registry that keeps its content in `storage`; `http` are further settings of its `http`.
/// Returns the address on loopback where it is going to be.
///
/// # Errors
/// When there is no port, or the config can't be written.
pub fn configure(config: &Path, storage: &Path, http: &str) -> Outcome<String> {
    // Free a moment ago; whoever takes it in between makes the start fail.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = free.map_err(|error| error.to_string())?.to_string();
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"{address}\"{http}}}\n",
        storage.display()
    );
    std::fs::write(config, text).map_err(|error| format!("{}: {error}", config.display()))?;
    Ok(address)
}

/// Starts Debian's docker-registry in the world. Returns its address.
///
/// # Errors
/// When it doesn't answer.
pub fn empty(world: &mut World) -> Outcome<String> {
    serve(world, "registry", "")
}

fn serve(world: &mut World, name: &str, http: &str) -> Outcome<String> {
    let address = configure(&world.dir().join(format!("files/{name}.yml")), &world.dir().join(name), http)?;
    world.spawn(name, &format!("exec docker-registry serve $W/files/{name}.yml"))?;
    world.until(&format!("exec 3<>/dev/tcp/{}", address.replace(':', "/")), Duration::from_secs(20))?;
    Ok(address)
}

/// Starts Debian's docker-registry in the world, pushes images of the generator into it (`n8nio/n8n:latest` of the archive
/// `n8n`), and makes it the mirror of Docker Hub. Returns its address.
///
/// # Errors
/// When it doesn't answer, or skopeo can't push.
pub fn debian(world: &mut World, archive: &str, names: &[&str]) -> Outcome<String> {
    let archive = world.archive(archive)?;
    let address = empty(world)?;
    for name in names {
        let push = format!(
            "skopeo copy -q --insecure-policy --dest-tls-verify=false docker-archive:{}:{name} docker://{address}/{name}",
            archive.display()
        );
        world.sh(&push)?.ok()?;
    }
    mirror(world, &address, "")?;
    Ok(address)
}

/// Starts Debian's docker-registry with a certificate of its own for 127.0.0.1 in the world; `$W/cert.pem` is its own
/// authority. Returns its address.
///
/// # Errors
/// When it doesn't answer, or openssl can't make a certificate.
pub fn debian_with_tls(world: &mut World) -> Outcome<String> {
    world
        .sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
            -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout $W/key.pem -out $W/cert.pem 2>&1")?
        .ok()?;
    let at = |name: &str| world.dir().join(name).display().to_string();
    let tls = format!(", tls: {{certificate: {}, key: {}}}", at("cert.pem"), at("key.pem"));
    serve(world, "registry-tls", &tls)
}

/// Makes `address` the mirror of Docker Hub in the world's config, with further `settings` after it.
///
/// # Errors
/// When the config can't be written.
pub fn mirror(world: &World, address: &str, settings: &str) -> Outcome {
    let text = format!("[registry.\"docker.io\"]\nmirrors = [\"http://{address}\"]\n{settings}");
    std::fs::write(world.dir().join("files/config.toml"), text).map_err(|error| error.to_string())
}

/// A request that the registry got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// With its query.
    pub path: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    /// How many requests for this path came before it.
    pub before: usize,
}

impl Asked {
    /// Where a range begins; 0 without one.
    #[must_use]
    pub fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0)
    }
}

/// What it answers.
pub enum Reply {
    /// As a good registry would.
    Usual,
    /// This.
    Says(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// As usual, but the connection ends after so many bytes of the body.
    Cut(usize),
    /// The whole content, whatever range was asked for; ends after so many bytes.
    Whole(usize),
    /// As usual, with one bit of this byte changed.
    Flip(usize),
    /// A body of this type without an end and without a length.
    Endless(&'static str),
    /// As usual, one byte each 50 ms after so many.
    Trickle(usize),
    /// As usual up to so many bytes, then nothing until the registry is told to go on.
    Stuck(usize),
}

type Behaviour = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A registry of the test's own.
pub struct Registry {
    /// `127.0.0.1:PORT`
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

/// What lies in it: path below `/v2/`, type and bytes.
pub type Content = BTreeMap<String, (&'static str, Vec<u8>)>;

/// The type of an image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Registry {
    /// Starts one with this content.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(content: Content, behaviour: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Outcome<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = socket.local_addr().map_err(|error| error.to_string())?.to_string();
        let registry = Self { address, asked: Arc::default(), stop: Arc::default() };
        let shared = Arc::new(Shared {
            content,
            behaviour: Box::new(behaviour),
            asked: Arc::clone(&registry.asked),
            stop: Arc::clone(&registry.stop),
        });
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // A client that goes away is what half of these tests are about.
                    let _ = shared.serve(&stream);
                });
            }
        });
        Ok(registry)
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests for paths that have this in them, since the last [`Self::forget`].
    #[must_use]
    pub fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path.contains(part)).count()
    }

    /// Begins a new record.
    pub fn forget(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

struct Shared {
    content: Content,
    behaviour: Box<Behaviour>,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                match line.trim_end().split_once(':') {
                    Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
                    None => break,
                };
            }
            let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
            let asked = {
                let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                let before = all.iter().filter(|asked| asked.path == path).count();
                let asked = Asked { path, headers, before };
                all.push(asked.clone());
                asked
            };
            if !self.answer(stream, &asked)? {
                return Ok(());
            }
        }
    }

    /// False when the connection is at its end.
    fn answer(&self, mut stream: &TcpStream, asked: &Asked) -> std::io::Result<bool> {
        let known = asked.path.strip_prefix("/v2/").and_then(|path| self.content.get(path));
        let reply = (self.behaviour)(asked);
        let (kind, bytes) = match (&reply, known) {
            (Reply::Says(status, headers, body), _) => {
                let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes())?;
                stream.write_all(body)?;
                return Ok(true);
            }
            (Reply::Endless(kind), _) => {
                stream.write_all(
                    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n").as_bytes(),
                )?;
                while !self.stop.load(Ordering::Relaxed) {
                    stream.write_all(&[b' '; 1 << 16])?;
                }
                return Ok(false);
            }
            (_, Some((kind, bytes))) => (*kind, bytes),
            (_, None) if asked.path == "/v2/" => ("application/json", &Vec::new()),
            (_, None) => {
                let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes())?;
                stream.write_all(body)?;
                return Ok(true);
            }
        };
        let whole = matches!(reply, Reply::Whole(_));
        let from = if whole { 0 } else { asked.from().min(bytes.len()) };
        let body = &bytes[from..];
        let status = match from {
            0 => "200 OK".to_owned(),
            _ => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        match reply {
            Reply::Cut(after) | Reply::Whole(after) if after < body.len() => {
                stream.write_all(&body[..after])?;
                stream.shutdown(std::net::Shutdown::Both)?;
                Ok(false)
            }
            Reply::Trickle(after) => {
                stream.write_all(&body[..after.min(body.len())])?;
                for byte in body.iter().skip(after) {
                    if self.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(true)
            }
            Reply::Stuck(after) => {
                stream.write_all(&body[..after.min(body.len())])?;
                while !self.stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(false)
            }
            Reply::Flip(at) => {
                let mut body = body.to_vec();
                body[at] ^= 1;
                stream.write_all(&body)?;
                Ok(true)
            }
            _ => {
                stream.write_all(body)?;
                Ok(true)
            }
        }
    }
}

/// An image for a [`Registry`].
pub struct Made {
    /// `sha256:…` of each layer's blob.
    pub layers: Vec<String>,
    /// `sha256:…` of the config.
    pub config: String,
    /// `sha256:…` of the manifest.
    pub manifest: String,
    /// Bytes of the manifest.
    pub size: usize,
}

/// `sha256:…` of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Puts an image into `content` as `repository:tag`: a plain layer for each of `sizes`, with one file of so many bytes,
/// whose content `seed` decides.
pub fn image(content: &mut Content, repository: &str, tag: &str, sizes: &[usize], seed: u64) -> Made {
    let layers: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(index, size)| layer(index, *size, seed)).collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let blobs: Vec<(String, u64)> = layers.iter().map(|layer| (digest(layer), layer.len() as u64)).collect();
    for layer in layers {
        content.insert(format!("{repository}/blobs/{}", digest(&layer)), ("application/octet-stream", layer));
    }
    image_of(content, repository, tag, &diff_ids, &blobs, "true")
}

/// The same of layers that are said to have these diff_ids and to lie in these blobs, digest and size; the command makes
/// it another image than the next one of the same layers.
pub fn image_of(
    content: &mut Content,
    repository: &str,
    tag: &str,
    diff_ids: &[String],
    blobs: &[(String, u64)],
    command: &str,
) -> Made {
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {"Cmd": [command]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let descriptors: Vec<_> = blobs
        .iter()
        .map(|(digest, size)| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": descriptors,
    });
    let manifest = manifest.to_string().into_bytes();
    let layers = blobs.iter().map(|(digest, _)| digest.clone()).collect();
    let made = Made { layers, config: digest(&config), manifest: digest(&manifest), size: manifest.len() };
    content.insert(format!("{repository}/blobs/{}", made.config), ("application/octet-stream", config));
    content.insert(format!("{repository}/manifests/{}", made.manifest), (MANIFEST, manifest.clone()));
    content.insert(format!("{repository}/manifests/{tag}"), (MANIFEST, manifest));
    made
}

fn layer(index: usize, size: usize, seed: u64) -> Vec<u8> {
    let mut noise = Vec::with_capacity(size);
    let read = crate::images::Noise(seed + index as u64).take(size as u64).read_to_end(&mut noise);
    read.expect("noise has no end");
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_mtime(crate::archive::MTIME);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, format!("file{index}"), noise.as_slice()).expect("memory takes it");
    archive.into_inner().expect("memory takes it")
}
