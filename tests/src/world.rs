//! A world is a directory with a data root, a run root, a home and a PATH of its own, in which `docker` is the binary
//! under test. Dropping it, also while a test panics, removes its containers the way a user would and then looks at
//! what is left: anything that is counts as a defect of the program.
//!
//! ```text
//! /var/tmp/oe.XXXXXX/          one session
//!     images/                  archives that the generator made
//!     3/                       one world
//!         bin/{orlop,docker}   a copy and a link to it, so that a process can be told by its executable
//!         data/ run/ home/ cwd/ host/
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::images::Images;
use crate::terminal::Terminal;
use crate::{Outcome, leaks, say};

/// How long a command may take when nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What all worlds of one run share.
pub struct Session {
    /// The archives.
    pub images: Images,
    dir: tempfile::TempDir,
    program: PathBuf,
    worlds: AtomicU32,
    leaks: Mutex<Vec<String>>,
    cgroups_before: BTreeSet<PathBuf>,
}

impl Session {
    /// Begins a session that tests `program`.
    ///
    /// # Errors
    /// When `program` isn't there or no directory can be made below /var/tmp.
    pub fn begin(program: &Path) -> Outcome<Arc<Self>> {
        let program = fs::canonicalize(program).map_err(|error| format!("{}: {error}", program.display()))?;
        // A short name: a unix socket's path has 108 bytes.
        let dir = tempfile::Builder::new().prefix("oe.").tempdir_in("/var/tmp").map_err(|error| error.to_string())?;
        let images = dir.path().join("images");
        fs::create_dir(&images).map_err(|error| error.to_string())?;
        Ok(Arc::new(Self {
            images: Images::new(images),
            dir,
            program,
            worlds: AtomicU32::new(1),
            leaks: Mutex::new(Vec::new()),
            cgroups_before: leaks::cgroups(),
        }))
    }

    /// What worlds of this session left behind, and what is left now that all are gone.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        let mut found = self.leaks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        found.extend(leaks::describe(self.dir.path()));
        let idle =
            |group: &PathBuf| fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| pids.trim().is_empty());
        let new = || -> Vec<PathBuf> {
            leaks::cgroups().difference(&self.cgroups_before).filter(|g| idle(g)).cloned().collect()
        };
        // Another engine on this machine may be between making a cgroup and filling it.
        let first = new();
        if !first.is_empty() {
            std::thread::sleep(Duration::from_secs(2));
            found.extend(
                new().iter().filter(|group| first.contains(group)).map(|group| format!("cgroup {}", group.display())),
            );
        }
        found
    }
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code; 128 and the number for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// The output of a command that must have succeeded, without the last line break.
    ///
    /// # Errors
    /// When it failed: the message has all that it said.
    pub fn ok(self) -> Outcome<String> {
        if self.code == 0 {
            return Ok(self.stdout.trim_end_matches('\n').to_owned());
        }
        Err(self.describe())
    }

    /// The words on standard error of a command that must have failed with `code`.
    ///
    /// # Errors
    /// When it ended with another code.
    pub fn fails(self, code: i32) -> Outcome<String> {
        if self.code == code {
            return Ok(self.stderr);
        }
        Err(format!("expected exit code {code}: {}", self.describe()))
    }

    fn describe(&self) -> String {
        format!("exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, shorten(&self.stdout), shorten(&self.stderr))
    }
}

fn shorten(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().take(40).map(|line| line.chars().take(400).collect::<String>() + "\n").collect::<String>();
    if lines.len() > 40 { format!("{shown}… {} lines more\n", lines.len() - 40) } else { shown }
}

/// A hermetic environment with the program under test.
pub struct World {
    session: Arc<Session>,
    name: String,
    dir: PathBuf,
    data: PathBuf,
    children: Vec<Child>,
    env: Vec<(String, String)>,
}

impl World {
    /// A new, empty world; `name` is what a leak will be reported under.
    ///
    /// # Errors
    /// When its directories can't be made.
    pub fn new(session: &Arc<Session>, name: &str) -> Outcome<Self> {
        let number = session.worlds.fetch_add(1, Ordering::Relaxed);
        let dir = session.dir.path().join(number.to_string());
        let make = || -> std::io::Result<()> {
            for part in ["bin", "home", "cwd", "host", "files"] {
                fs::create_dir_all(dir.join(part))?;
            }
            let program = dir.join("bin/orlop");
            fs::hard_link(&session.program, &program).or_else(|_| fs::copy(&session.program, &program).map(|_| ()))?;
            std::os::unix::fs::symlink("orlop", dir.join("bin/docker"))?;
            // The documents say sudo; the tests are root already.
            fs::write(dir.join("bin/sudo"), "#!/bin/sh\nexec \"$@\"\n")?;
            fs::set_permissions(dir.join("bin/sudo"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            fs::write(dir.join("files/config.toml"), "")
        };
        make().map_err(|error| format!("{}: {error}", dir.display()))?;
        let data = dir.join("data");
        Ok(Self {
            session: Arc::clone(session),
            name: name.to_owned(),
            dir,
            data,
            children: Vec::new(),
            env: Vec::new(),
        })
    }

    /// The directory of this world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data root.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Moves the data root, for instance onto a file system of its own, before the first command.
    pub fn set_data(&mut self, data: PathBuf) {
        self.data = data;
    }

    /// Sets one more environment variable for all that follows.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Loads images of the generator by their names.
    ///
    /// # Errors
    /// When one can't be made or loaded.
    pub fn load(&self, names: &[&str]) -> Outcome {
        for name in names {
            let archive = self.session.images.archive(name)?;
            self.sh(&format!("docker load -q -i {}", archive.display()))?
                .ok()
                .map_err(|said| format!("load {name}: {said}"))?;
        }
        Ok(())
    }

    /// The archive of an image of the generator.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn archive(&self, name: &str) -> Outcome<PathBuf> {
        self.session.images.archive(name)
    }

    /// The session's generator.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.session.images
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(self.dir.join("cwd")).env_clear().process_group(0);
        command.env(
            "PATH",
            format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.dir.join("bin").display()),
        );
        command.env("HOME", self.dir.join("home")).env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.env("ORLOP_DATA_ROOT", &self.data).env("ORLOP_RUN_ROOT", self.dir.join("run"));
        command.env("ORLOP_CONFIG", self.dir.join("files/config.toml"));
        command.env("W", &self.dir).env("DATA", &self.data).env("HOST", self.dir.join("host"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a line of bash and waits for it.
    ///
    /// # Errors
    /// When it can't be started, or doesn't end within [`PATIENCE`].
    pub fn sh(&self, script: &str) -> Outcome<Ran> {
        self.sh_with(script, "", PATIENCE)
    }

    /// As [`World::sh`], with what it finds on standard input and how long it may take.
    ///
    /// # Errors
    /// When it can't be started or takes longer; it is killed then, with all that it started in its process group.
    pub fn sh_with(&self, script: &str, stdin: &str, patience: Duration) -> Outcome<Ran> {
        // Files, not pipes: a daemon that wrongly keeps its caller's output open must not make the test hang.
        let file = || tempfile::tempfile_in(self.dir.join("files")).map_err(|error| error.to_string());
        let (mut input, out, err) = (file()?, file()?, file()?);
        std::io::Write::write_all(&mut input, stdin.as_bytes()).map_err(|error| error.to_string())?;
        std::io::Seek::rewind(&mut input).map_err(|error| error.to_string())?;
        let copy = |file: &File| file.try_clone().map_err(|error| error.to_string());
        let mut command = self.command(script);
        command.stdin(input).stdout(copy(&out)?).stderr(copy(&err)?);
        let mut child = command.spawn().map_err(|error| format!("bash: {error}"))?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break Some(status);
            }
            if started.elapsed() > patience {
                kill_group(&mut child);
                break None;
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        let (stdout, stderr) = (read_back(out), read_back(err));
        match status {
            Some(status) => Ok(Ran { code: code_of(status), stdout, stderr }),
            None => Err(format!("no end within {patience:?}: {script}\n--- stdout\n{stdout}--- stderr\n{stderr}")),
        }
    }

    /// Starts a line of bash in the background; its output goes to `files/NAME.out` and `files/NAME.err`. It is killed
    /// when the world ends.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&mut self, name: &str, script: &str) -> Outcome {
        let file =
            |kind: &str| File::create(self.dir.join(format!("files/{name}.{kind}"))).map_err(|error| error.to_string());
        let mut command = self.command(script);
        command.stdin(Stdio::null()).stdout(file("out")?).stderr(file("err")?);
        self.children.push(command.spawn().map_err(|error| format!("bash: {error}"))?);
        Ok(())
    }

    /// Starts a line of bash on a terminal of its own.
    ///
    /// # Errors
    /// When there is no pseudo-terminal, or it can't be started.
    pub fn terminal(&self, script: &str, rows: u16, columns: u16) -> Outcome<Terminal> {
        let mut command = self.command("exec setsid -c -w bash -c \"$SCRIPT\"");
        command.env("SCRIPT", script).env("TERM", "dumb");
        Terminal::start(command, rows, columns)
    }

    /// Starts a line of bash that ends in `exec` of the program, waits until that runs, and kills it with -9 after
    /// `moment`. Says whether the program still ran then; otherwise the kill came too late.
    ///
    /// # Errors
    /// When it can't be started, or the program doesn't run within [`PATIENCE`].
    pub fn kill_inside(&mut self, script: &str, moment: Duration) -> Outcome<bool> {
        self.spawn("killed", script)?;
        let mut child = self.children.pop().ok_or("nothing was started")?;
        let program = self.dir.join("bin/orlop");
        let link = format!("/proc/{}/exe", child.id());
        // The link of a process that has ended can't be read any more.
        let runs = || fs::read_link(&link).is_ok_and(|executable| executable == program);
        let started = Instant::now();
        while !runs() {
            if child.try_wait().map_err(|error| error.to_string())?.is_some() {
                return Ok(false);
            }
            if started.elapsed() > PATIENCE {
                kill_group(&mut child);
                return Err(format!("the program doesn't begin: {script}"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(moment);
        let landed = runs();
        kill_group(&mut child);
        Ok(landed)
    }

    /// Kills (with -9) everything that [`World::spawn`] started.
    pub fn kill_spawned(&mut self) {
        for mut child in self.children.drain(..) {
            kill_group(&mut child);
        }
    }

    /// Repeats a line of bash until it succeeds.
    ///
    /// # Errors
    /// When it still fails after `patience`.
    pub fn until(&self, script: &str, patience: Duration) -> Outcome<String> {
        let started = Instant::now();
        loop {
            let ran = self.sh(script)?;
            if ran.code == 0 {
                return ran.ok();
            }
            if started.elapsed() > patience {
                return ran.ok().map_err(|said| format!("still false after {patience:?}: {script}\n{said}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Removes what the test made as a user would, then looks for what is left.
    fn clean_up(&mut self) {
        self.kill_spawned();
        let mut complaints = Vec::new();
        if self.data.join("state.db").exists() {
            let removal = "ids=$(docker ps -aq) && { [ -z \"$ids\" ] || docker rm -f -v $ids >/dev/null; }";
            match self.sh(removal).and_then(Ran::ok) {
                Ok(_) => {}
                Err(said) => complaints.push(format!("removal of all containers: {said}")),
            }
        }
        // What ends a container goes on for a moment after the answer; three seconds are more than that.
        let deadline = Instant::now() + Duration::from_secs(3);
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            left = self.left();
        }
        complaints.extend(left);
        leaks::force(&self.dir);
        if !complaints.is_empty() {
            let complaints = complaints.into_iter().map(|complaint| format!("{}: {complaint}", self.name));
            self.session.leaks.lock().unwrap_or_else(PoisonError::into_inner).extend(complaints);
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            say(&format!("{}: {error}", self.dir.display()));
        }
    }

    /// A file system that the test itself mounted for the data root is not the program's to remove.
    fn left(&self) -> Vec<String> {
        let own = format!("mount {}", self.dir.join("disk").display());
        leaks::describe(&self.dir).into_iter().filter(|line| *line != own && !line.starts_with("loop device")).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.clean_up();
    }
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn read_back(mut file: File) -> String {
    let mut bytes = Vec::new();
    let read = std::io::Seek::rewind(&mut file).and_then(|()| std::io::Read::read_to_end(&mut file, &mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("output can't be read: {error}"),
    }
}

/// Kills a child and its process group, and waits for the child.
fn kill_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Gone already is what we want.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}
