//! The peers, each with roots of its own in one directory that is gone afterwards.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use orlop_tests::images::Images;
use orlop_tests::leaks;
use rustix::process::{Pid, Signal};

use crate::Outcome;
use crate::shell::{capture, which};

/// One engine: how it is called.
pub struct Peer {
    /// The column that it stands in.
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    run_flags: &'static [&'static str],
    env: Vec<(&'static str, PathBuf)>,
}

impl Peer {
    /// A command of this engine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it, output thrown away.
    pub fn does(&self, arguments: &[&str]) -> Outcome {
        capture(&mut self.command(arguments)).map(|_| ())
    }

    /// `run --rm` without a network and with what this machine allows.
    pub fn runs(&self, arguments: &[&str]) -> Outcome {
        let words: Vec<&str> =
            ["run", "--rm", "--network", "none"].iter().chain(self.run_flags).chain(arguments).copied().collect();
        self.does(&words)
    }

    /// `run -d` the same way; the container is called `name`.
    pub fn starts(&self, name: &str, arguments: &[&str]) -> Outcome {
        let words: Vec<&str> = ["run", "-d", "--name", name, "--network", "none"]
            .iter()
            .chain(self.run_flags)
            .chain(arguments)
            .copied()
            .collect();
        self.does(&words)
    }

    /// What says its version.
    pub fn version(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--version");
        command
    }
}

/// All peers, and the images that they are given.
pub struct Lab {
    /// The generator of archives.
    pub images: Images,
    dir: tempfile::TempDir,
    peers: Vec<Peer>,
    dockerd: Option<Child>,
}

impl Lab {
    /// Starts what has to be started.
    pub fn set(orlop: PathBuf) -> Outcome<Self> {
        let dir = tempfile::Builder::new().prefix("ob.").tempdir_in("/var/tmp").map_err(|error| error.to_string())?;
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("images")).map_err(|error| error.to_string())?;
        std::fs::write(at("config.toml"), "").map_err(|error| error.to_string())?;
        let mut peers = vec![Peer {
            name: "orlop",
            program: orlop,
            arguments: Vec::new(),
            run_flags: &[],
            env: vec![
                ("ORLOP_DATA_ROOT", at("orlop/data")),
                ("ORLOP_RUN_ROOT", at("orlop/run")),
                ("ORLOP_CONFIG", at("config.toml")),
            ],
        }];
        let mut lab = Self { images: Images::new(at("images")), dockerd: None, peers: Vec::new(), dir };
        if let (Some(client), Some(daemon)) = (which("docker"), which("dockerd")) {
            peers.push(lab.docker(client, &daemon)?);
        } else {
            println!("left out: docker is not installed");
        }
        if let Some(program) = which("podman") {
            peers.push(lab.podman(program)?);
        } else {
            println!("left out: podman is not installed");
        }
        lab.peers = peers;
        Ok(lab)
    }

    fn docker(&mut self, client: PathBuf, daemon: &Path) -> Outcome<Peer> {
        let socket = format!("unix://{}", self.dir().join("d.sock").display());
        let mut command = Command::new(daemon);
        command.args(["--iptables=false", "--bridge=none", "-H", &socket]);
        for (flag, name) in [("--data-root", "d/data"), ("--exec-root", "d/exec"), ("--pidfile", "d.pid")] {
            command.arg(flag).arg(self.dir().join(name));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        self.dockerd = Some(command.spawn().map_err(|error| format!("{}: {error}", daemon.display()))?);
        let peer = Peer {
            name: "docker",
            program: client,
            arguments: vec!["-H".to_owned(), socket],
            // Without CAP_SYS_RESOURCE the daemon's own limits can't be raised to its defaults.
            run_flags: &["--ulimit", "nofile=1024:1024"],
            env: Vec::new(),
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = peer.does(&["info"]) {
            if Instant::now() > deadline {
                return Err(format!("dockerd doesn't answer: {error}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(peer)
    }

    fn podman(&self, program: PathBuf) -> Outcome<Peer> {
        let at = |name: &str| self.dir().join(name).display().to_string();
        // Its locks in shared memory are one table for the whole machine, and an aborted bench leaves them taken.
        let settings = self.dir().join("containers.conf");
        std::fs::write(&settings, "[engine]\nlock_type = \"file\"\n").map_err(|error| error.to_string())?;
        let arguments =
            ["--root", &at("p/root"), "--runroot", &at("p/run"), "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
                .map(str::to_owned);
        Ok(Peer {
            name: "podman",
            program,
            arguments: arguments.to_vec(),
            run_flags: &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
            env: vec![("CONTAINERS_CONF", settings)],
        })
    }

    /// The engines, ours first.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Ours.
    pub fn orlop(&self) -> &Peer {
        &self.peers[0]
    }

    /// Our run root.
    pub fn run_root(&self) -> std::path::PathBuf {
        self.dir().join("orlop/run")
    }

    /// The directory of all roots.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Gives every engine an image of the generator.
    pub fn load(&self, name: &str) -> Outcome {
        let archive = self.images.archive(name)?.display().to_string();
        self.peers.iter().try_for_each(|peer| peer.does(&["load", "-q", "-i", &archive]))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for peer in &self.peers {
            let ids = capture(&mut peer.command(&["ps", "-aq"])).unwrap_or_default();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty()
                && let Err(error) = peer.does(&[&["rm", "-f", "-v"], ids.as_slice()].concat())
            {
                eprintln!("{}: {error}", peer.name);
            }
        }
        if let Some(mut dockerd) = self.dockerd.take() {
            if let Some(pid) = i32::try_from(dockerd.id()).ok().and_then(Pid::from_raw) {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, Signal::TERM);
            }
            let _ = dockerd.wait();
        }
        leaks::force(self.dir.path());
    }
}
