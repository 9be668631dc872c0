//! The images that the tests use, under the names of the documents that the acceptance list comes from. Each is made
//! from this machine's own tools, so nothing is downloaded: `busybox` and `alpine` from Debian's busybox-static,
//! `postgres` is the real server of Debian's postgresql package, the others are stand-ins with the paths, owners and
//! volumes that their namesakes have.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::Outcome;
use crate::archive::{Image, Layer, LayerWriter, Owner, root, write_docker_archive};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n\
    node:x:1000:1000::/home/node:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\npostgres:x:999:\nnode:x:1000:\nnogroup:x:65534:\n";

/// Runs until it is told to stop, at once when it is.
const SERVE: &str = "trap 'exit 0' TERM INT QUIT; while :; do sleep 3600 & wait $!; done";

/// The entrypoint of the `postgres` image: makes a database in an empty PGDATA, drops root, becomes the server.
const POSTGRES_ENTRYPOINT: &str = r#"#!/bin/sh
set -e
[ "${1#-}" = "$1" ] || set -- postgres "$@"
if [ "$1" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chown -R postgres:postgres "$PGDATA" /run/postgresql
    chmod 0700 "$PGDATA"
    exec /usr/bin/setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync >/dev/null
    echo "host all all all trust" >> "$PGDATA/pg_hba.conf"
    echo "database made"
fi
exec "$@"
"#;

/// Archives by name, each made when it is first asked for.
pub struct Images {
    dir: PathBuf,
    made: Mutex<BTreeMap<String, PathBuf>>,
}

impl Images {
    /// Archives will lie in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, made: Mutex::new(BTreeMap::new()) }
    }

    /// The docker-archive that is called `name`.
    ///
    /// # Errors
    /// When the name is unknown, or a tool or package that it is made of is missing.
    pub fn archive(&self, name: &str) -> Outcome<PathBuf> {
        // One at a time: they share layers, and two cores make two large ones no faster side by side.
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(path) = made.get(name) {
            return Ok(path.clone());
        }
        let path = self.dir.join(format!("{}.tar", name.replace(['/', ':'], "_")));
        let images = self.make(name).map_err(|error| format!("image {name}: {error}"))?;
        write_docker_archive(&path, &images).map_err(|error| format!("{}: {error}", path.display()))?;
        made.insert(name.to_owned(), path.clone());
        Ok(path)
    }

    /// A new layer in the directory of these images.
    ///
    /// # Errors
    /// When its file can't be written, or `fill` fails.
    pub fn layer(&self, name: &str, fill: impl FnOnce(&mut LayerWriter) -> io::Result<()>) -> io::Result<Layer> {
        // Tests that run at the same moment make the same layers: nobody may see half of one.
        let unique = tempfile::NamedTempFile::new_in(&self.dir)?.into_temp_path();
        let mut writer = LayerWriter::create(unique.to_path_buf())?;
        fill(&mut writer)?;
        let path = self.dir.join(format!("layer-{name}.tar"));
        let layer = Layer { path: path.clone(), ..writer.finish()? };
        unique.persist(path)?;
        Ok(layer)
    }

    /// The layer that every image here stands on: busybox with all its names, /etc, /tmp and the like.
    ///
    /// # Errors
    /// When there is no static busybox on this machine.
    pub fn base(&self) -> io::Result<Layer> {
        let busybox = static_busybox()?;
        let names = Command::new(&busybox).arg("--list-full").output()?;
        let names = String::from_utf8_lossy(&names.stdout).into_owned();
        self.layer("base", |layer| {
            for dir in ["bin", "sbin", "usr", "usr/bin", "usr/sbin", "etc", "dev", "proc", "sys", "run", "home", "opt"]
            {
                layer.dir(dir, root(0o755))?;
            }
            for dir in ["var", "var/lib", "var/log", "var/cache"] {
                layer.dir(dir, root(0o755))?;
            }
            layer.symlink("var/run", "/run")?;
            layer.dir("tmp", root(0o1777))?;
            layer.dir("root", root(0o700))?;
            layer.host_file(&busybox, "bin/busybox", 0o755)?;
            let links: BTreeSet<&str> =
                names.lines().filter(|name| *name != "bin/busybox" && !name.starts_with("linuxrc")).collect();
            for name in links {
                layer.symlink(name, "/bin/busybox")?;
            }
            layer.file("etc/passwd", root(0o644), PASSWD.as_bytes())?;
            layer.file("etc/group", root(0o644), GROUP.as_bytes())
        })
    }

    fn make(&self, name: &str) -> io::Result<Vec<Image>> {
        let base = self.base()?;
        let image = |tag: &str, more: Vec<Layer>, config: Value| Image {
            tags: vec![tag.to_owned()],
            layers: std::iter::once(base.clone()).chain(more).collect(),
            config: with_path(config),
        };
        if let Some(count) = name.strip_prefix("layers-") {
            let count: usize = count.parse().map_err(io::Error::other)?;
            let more = (1..count)
                .map(|index| {
                    self.layer(&format!("{name}-{index}"), |layer| {
                        layer.dir("layers", root(0o755))?;
                        layer.file(&format!("layers/{index}"), root(0o644), index.to_string().as_bytes())
                    })
                })
                .collect::<io::Result<Vec<_>>>()?;
            return Ok(vec![image(&format!("{name}:latest"), more, json!({"Cmd": ["sh"]}))]);
        }
        Ok(match name {
            "busybox" => vec![image("busybox:latest", vec![], json!({"Cmd": ["sh"]}))],
            "alpine" => {
                let release =
                    self.layer("alpine", |layer| layer.file("etc/alpine-release", root(0o644), b"3.20.0\n"))?;
                vec![image("alpine:latest", vec![release], json!({"Cmd": ["/bin/sh"]}))]
            }
            // Print what they see, so that the plain commands of the documents show something.
            "app" | "app1" | "app2" => {
                vec![image(&format!("{name}:latest"), vec![], json!({"Cmd": ["cat", "/proc/mounts"]}))]
            }
            "myapp" | "myapp-new" => {
                let text = if name == "myapp" { "default config\n" } else { "newer config\n" };
                let owner = Owner { mode: 0o640, uid: 1000, gid: 1000 };
                let app = self.layer(name, |layer| {
                    layer.dir("app", Owner { mode: 0o750, ..owner })?;
                    layer.file("app/config.txt", owner, text.as_bytes())?;
                    layer.dir("app/data", owner_dir(owner))?;
                    layer.symlink("app/link", "config.txt")?;
                    layer.hardlink("app/data/again", "app/config.txt")
                })?;
                vec![image("myapp:latest", vec![app], json!({"Cmd": ["ls", "-A", "/app"]}))]
            }
            "nginx" => {
                let conf = self.layer("nginx", |layer| {
                    layer.file("etc/nginx/nginx.conf", root(0o644), b"events {}\n")?;
                    layer.file("usr/share/nginx/html/index.html", root(0o644), b"<h1>it works</h1>\n")
                })?;
                vec![image("nginx:latest", vec![conf], json!({"Cmd": ["sh", "-c", SERVE], "StopSignal": "SIGQUIT"}))]
            }
            "mysql" => {
                let owner = Owner { mode: 0o750, uid: 999, gid: 999 };
                let data = self.layer("mysql", |layer| layer.dir("var/lib/mysql", owner))?;
                let serve = format!("echo started >> /var/lib/mysql/ibdata1; {SERVE}");
                let config = json!({"Cmd": ["sh", "-c", serve], "Volumes": {"/var/lib/mysql": {}}});
                vec![image("mysql:latest", vec![data], config)]
            }
            "n8n" => ["1.0", "2.0", "latest"]
                .into_iter()
                .map(|tag| {
                    let node = self.layer("node", |layer| {
                        for dir in ["home/node", "home/node/.n8n"] {
                            layer.dir(dir, Owner { mode: 0o755, uid: 1000, gid: 1000 })?;
                        }
                        layer.stream("usr/local/bin/node.bin", root(0o755), 4 << 20, Noise(7))
                    })?;
                    let version = self.layer(&format!("n8n-{tag}"), |layer| {
                        layer.file("opt/n8n.version", root(0o644), format!("{tag}\n").as_bytes())?;
                        layer.stream("opt/n8n.bin", root(0o644), 1 << 20, Noise(tag.len() as u64 + 11))
                    })?;
                    let serve = format!("echo data >> $HOME/.n8n/database.sqlite; {SERVE}");
                    let config = json!({
                        "Cmd": ["sh", "-c", serve],
                        "Env": ["HOME=/home/node"], "User": "node", "WorkingDir": "/home/node",
                    });
                    Ok(image(&format!("n8nio/n8n:{tag}"), vec![node, version], config))
                })
                .collect::<io::Result<Vec<_>>>()?,
            "big" => {
                let big = self.layer("big", |layer| layer.stream("big.bin", root(0o644), 1 << 30, Noise(1)))?;
                vec![image("big:latest", vec![big], json!({"Cmd": ["sh", "-c", SERVE]}))]
            }
            "python" => vec![image("python:latest", vec![self.python()?], json!({"Cmd": ["python3"]}))],
            "postgres" => vec![image("postgres:latest", vec![self.postgres()?], postgres_config())],
            other => return Err(io::Error::other(format!("no image is called {other}"))),
        })
    }

    /// The interpreter with its standard library: it can lock, map and watch files, which busybox can't.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn python(&self) -> io::Result<Layer> {
        let binary = std::fs::canonicalize("/usr/bin/python3")?;
        let name = binary.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut files: BTreeMap<String, PathBuf> = libraries(&binary)?.into_iter().collect();
        for file in files_below(&Path::new("/usr/lib").join(&name))? {
            let text = file.to_string_lossy().into_owned();
            if text.ends_with(".so") {
                files.extend(libraries(&file)?);
            }
            if text.ends_with(".so") || (text.ends_with(".py") && !text.contains("/test") && !text.contains("/config-"))
            {
                files.insert(text, file);
            }
        }
        self.layer("python", |layer| {
            merged_usr_links(layer)?;
            layer.host_file(&binary, "usr/bin/python3", 0o755)?;
            files.iter().try_for_each(|(name, source)| layer.host_file(source, &merged_usr(name), 0o755))
        })
    }

    /// The server, its clients, libraries, share files and time zones, all from Debian's package.
    fn postgres(&self) -> io::Result<Layer> {
        let home = postgres_home()?;
        let version = home.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut binaries = vec![PathBuf::from("/usr/bin/setpriv")];
        for name in ["postgres", "initdb", "pg_dump", "pg_dumpall", "psql", "pg_isready", "pg_ctl"] {
            binaries.push(home.join("bin").join(name));
        }
        for binary in &binaries {
            for (name, source) in libraries(binary)? {
                files.insert(name, source);
            }
            files.insert(binary.to_string_lossy().into_owned(), binary.clone());
        }
        let share = PathBuf::from(format!("/usr/share/postgresql/{version}"));
        for tree in [home.join("lib"), share, PathBuf::from("/usr/share/zoneinfo")] {
            for file in files_below(&tree)? {
                // The JIT is the one optional part; it would bring LLVM along.
                if !file.to_string_lossy().contains("llvmjit") && !file.to_string_lossy().contains("/bitcode/") {
                    files.insert(file.to_string_lossy().into_owned(), file);
                }
            }
        }
        self.layer("postgres", |layer| {
            merged_usr_links(layer)?;
            for (name, source) in &files {
                let name = merged_usr(name);
                let mode = if name.starts_with("usr/share") { 0o644 } else { 0o755 };
                layer.host_file(source, &name, mode)?;
            }
            let owner = Owner { mode: 0o700, uid: 999, gid: 999 };
            layer.dir("var/lib/postgresql", owner_dir(owner))?;
            layer.dir("var/lib/postgresql/data", owner)?;
            layer.dir("run/postgresql", Owner { mode: 0o2775, ..owner })?;
            layer.file("usr/local/bin/docker-entrypoint.sh", root(0o755), POSTGRES_ENTRYPOINT.as_bytes())
        })
    }
}

fn owner_dir(owner: Owner) -> Owner {
    Owner { mode: 0o755, ..owner }
}

fn with_path(mut config: Value) -> Value {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match config.get_mut("Env").and_then(Value::as_array_mut) {
        Some(env) if env.iter().any(|entry| entry.as_str().is_some_and(|text| text.starts_with("PATH="))) => {}
        Some(env) => env.insert(0, json!(path)),
        None => config["Env"] = json!([path]),
    }
    config
}

fn postgres_config() -> Value {
    let bin = postgres_home().map(|home| home.join("bin").display().to_string()).unwrap_or_default();
    json!({
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres"],
        "Env": [
            "PGDATA=/var/lib/postgresql/data", "PGUSER=postgres",
            format!("PATH={bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ],
        "Volumes": {"/var/lib/postgresql/data": {}},
        "StopSignal": "SIGINT",
    })
}

/// The newest PostgreSQL of Debian's packages on this machine.
///
/// # Errors
/// When there is none.
pub fn postgres_home() -> io::Result<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").map_err(|_| io::Error::other("postgresql is not installed"))?;
    versions
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/postgres").exists())
        .max()
        .ok_or_else(|| io::Error::other("postgresql is not installed"))
}

/// A busybox that needs no library.
///
/// # Errors
/// When there is none.
pub fn static_busybox() -> io::Result<PathBuf> {
    for path in ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"] {
        let path = PathBuf::from(path);
        if path.exists() && libraries(&path)?.is_empty() {
            return Ok(path);
        }
    }
    Err(io::Error::other("no static busybox (Debian: busybox-static)"))
}

/// The shared libraries of a program, loader included: path inside the image, file on this machine.
fn libraries(binary: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let output = Command::new("ldd").arg(binary).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(|path| (path.to_owned(), PathBuf::from(path)))
        .collect())
}

/// `/lib/x` is `usr/lib/x` where the machine's /lib is a link to /usr/lib.
fn merged_usr(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if matches!(first, "lib" | "lib64") && Path::new("/").join(first).is_symlink() {
        return format!("usr/{path}");
    }
    path.to_owned()
}

fn merged_usr_links(layer: &mut LayerWriter) -> io::Result<()> {
    for link in ["lib", "lib64"] {
        if Path::new("/").join(link).is_symlink() {
            layer.symlink(link, &format!("usr/{link}"))?;
        }
    }
    Ok(())
}

fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// Bytes that compress badly and are the same in each run (xorshift64*).
pub struct Noise(pub u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}
