//! Opening an engine: its paths, its settings, its database, its storage driver.

use crate::{Config, Error, Result};
use orlop_layers::{Driver, DriverKind};
use orlop_model::Id;
use orlop_runtime::oci::Runc;
use orlop_state::State;
use orlop_sys::durable;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where an engine lives. Another pair of roots is another, separate engine on the same host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// What must survive.
    pub data: PathBuf,
    /// What must be gone after a reboot.
    pub run: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { data: "/var/lib/orlop".into(), run: "/run/orlop".into() }
    }
}

/// One open engine. Cheap to open; every process and every thread that wants one has its own.
pub struct Engine {
    pub(crate) roots: Roots,
    pub(crate) config: Config,
    pub(crate) state: State,
    /// How to call this program again, for the shim and for what it runs when a container has ended.
    pub(crate) command: Vec<String>,
    boot: OnceLock<String>,
    driver: OnceLock<Box<dyn Driver>>,
}

impl Engine {
    /// Opens the engine below `roots`, making it when it is new, and finishes what a killed process left when that
    /// wasn't done since boot.
    ///
    /// `command` calls this program again with the same roots, by absolute path (`[/usr/bin/orlop, --data-root, …]`).
    pub fn open(roots: Roots, config: Config, command: Vec<String>) -> Result<Self> {
        let state = State::open(&roots.data)?;
        let engine = Self { roots, config, state, command, boot: OnceLock::new(), driver: OnceLock::new() };
        engine.make_directories()?;
        engine.give_up_reserve_when_full();
        engine.tend_cheaply()?;
        Ok(engine)
    }

    /// Goes to where the host's mounts are, if this process is elsewhere (`unshare -m`, a unit with PrivateTmp): for
    /// verbs that mount or unmount, once everything of the caller's that they need is open or read. Where that isn't
    /// allowed, they work in the caller's namespace. To be called while this process has one thread.
    pub fn enter_host_mounts() {
        orlop_sys::mount::enter_namespace_of_init();
    }

    fn make_directories(&self) -> Result<()> {
        let data = &self.roots.data;
        if !data.join("trash").exists() {
            for (name, mode) in [("containers", 0o700), ("volumes", 0o701), ("content", 0o700), ("trash", 0o700)] {
                durable::make_directory(&data.join(name), mode)?;
            }
        }
        let run = &self.roots.run;
        if !run.join("containers").exists() {
            std::fs::create_dir_all(run).map_err(Error::io("create directory", run))?;
            for name in ["containers", "mounts", "runc"] {
                durable::make_directory(&run.join(name), 0o700)?;
            }
        }
        Ok(())
    }

    /// The storage driver: the one that this data root began with.
    pub(crate) fn driver(&self) -> Result<&dyn Driver> {
        if let Some(driver) = self.driver.get() {
            return Ok(&**driver);
        }
        let driver = self.open_driver()?;
        Ok(&**self.driver.get_or_init(|| driver))
    }

    fn open_driver(&self) -> Result<Box<dyn Driver>> {
        let wanted = self.config.driver().map_err(Error::Invalid)?;
        let other = match wanted {
            Some(DriverKind::Overlay2) => Some(DriverKind::Vfs),
            Some(DriverKind::Vfs) => Some(DriverKind::Overlay2),
            None => None,
        };
        // Its images and containers would seem to be gone.
        if let Some(other) = other.filter(|other| self.roots.data.join(other.name()).is_dir()) {
            return Err(Error::Invalid(format!(
                "the data root {} was made with the storage driver {}; choose that, or another data root",
                self.roots.data.display(),
                other.name()
            )));
        }
        Ok(orlop_layers::driver::open(&self.roots.data, wanted)?)
    }

    /// The OCI runtime.
    pub(crate) fn runtime(&self) -> Runc {
        Runc { binary: (&self.config.runtime.binary).into(), root: self.roots.run.join("runc") }
    }

    /// This boot's id: a container of another boot doesn't run.
    pub(crate) fn boot(&self) -> &str {
        self.boot.get_or_init(|| {
            let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            text.trim().to_owned()
        })
    }

    /// The state, for the stores.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The paths.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// `containers/ID` in the data root.
    pub(crate) fn container_dir(&self, id: Id) -> PathBuf {
        self.roots.data.join("containers").join(id.hex())
    }

    /// `containers/ID` in the run root: the OCI bundle and the shim's socket.
    pub(crate) fn bundle(&self, id: Id) -> PathBuf {
        self.roots.run.join("containers").join(id.hex())
    }

    /// `mounts/ID` in the run root: clones of what is mounted into the container.
    pub(crate) fn mounts_dir(&self, id: Id) -> PathBuf {
        self.roots.run.join("mounts").join(id.hex())
    }

    pub(crate) fn log_path(&self, id: Id) -> PathBuf {
        self.container_dir(id).join(format!("{id}-json.log"))
    }

    pub(crate) fn exit_record(&self, id: Id) -> PathBuf {
        self.container_dir(id).join("exit.json")
    }

    /// The command line of an internal verb of this program.
    pub(crate) fn internal(&self, verb: &[&str]) -> Vec<String> {
        self.command.iter().cloned().chain(["internal"].iter().chain(verb).map(|word| (*word).to_owned())).collect()
    }
}

/// Removes a directory tree that is the engine's own; not there is no error.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a file of the engine's own; not there is no error.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
