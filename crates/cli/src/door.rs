//! The CLI as a door to the engine: which engine is meant, and whether this process may use it.

use crate::args::global::GlobalArgs;
use crate::failure::Failure;
use orlop_engine::{Config, Engine, Roots};
use std::path::{Path, PathBuf};

/// What stood before the verb.
#[derive(Debug)]
pub struct Door {
    /// The name that it was called by: `orlop` or `docker`.
    pub program: String,
    /// Flags before the verb.
    pub globals: GlobalArgs,
}

impl Door {
    /// A path that a flag gives, or else a variable.
    fn path(flag: Option<&PathBuf>, variable: &str) -> Option<PathBuf> {
        let from_environment = || std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        flag.cloned().or_else(from_environment)
    }

    /// Where the engine that is meant lives.
    fn roots(&self) -> Result<Roots, Failure> {
        let default = Roots::default();
        let absolute = |given: Option<PathBuf>, default: PathBuf| match given {
            None => Ok(default),
            Some(path) => {
                std::path::absolute(&path).map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))
            }
        };
        let given = |flag: &Option<PathBuf>, variable| Self::path(flag.as_ref(), variable);
        Ok(Roots {
            data: absolute(given(&self.globals.data_root, "ORLOP_DATA_ROOT"), default.data)?,
            run: absolute(given(&self.globals.run_root, "ORLOP_RUN_ROOT"), default.run)?,
        })
    }

    /// Opens the engine that the user means.
    pub fn engine(&self) -> Result<Engine, Failure> {
        self.refuse_other_engine()?;
        self.local_engine()
    }

    /// As [`Self::engine`], for verbs that mount or unmount: what they mount shall be the host's, whoever calls.
    pub fn mounting_engine(&self) -> Result<Engine, Failure> {
        Engine::enter_host_mounts();
        self.engine()
    }

    /// Opens this host's engine, whatever engine the user's Docker talks to: for verbs that a timer or the shim calls.
    pub fn local_engine(&self) -> Result<Engine, Failure> {
        self.require_root()?;
        let roots = self.roots()?;
        let config = self.config()?;
        let command = self.command(&roots, self.config_path().as_deref())?;
        Ok(Engine::open(roots, config, command)?)
    }

    fn config_path(&self) -> Option<PathBuf> {
        Self::path(self.globals.config.as_ref(), "ORLOP_CONFIG")
    }

    /// The settings of this host.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(match self.config_path() {
            Some(path) => Config::read(&path, true)?,
            None => Config::read(Path::new(Config::PATH), false)?,
        })
    }

    /// What calls this program again for the same engine.
    fn command(&self, roots: &Roots, config: Option<&Path>) -> Result<Vec<String>, Failure> {
        let program = std::env::current_exe()?;
        let config = config.map(std::path::absolute).transpose()?;
        let flags =
            [("--data-root", Some(&roots.data)), ("--run-root", Some(&roots.run)), ("--config", config.as_ref())];
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| Failure::invalid(format!("{}: the path is not valid UTF-8", path.display())))
        };
        let mut command = vec![text(&program)?];
        for (flag, path) in flags {
            if let Some(path) = path {
                command.extend([flag.to_owned(), text(path)?]);
            }
        }
        Ok(command)
    }

    fn refuse_other_engine(&self) -> Result<(), Failure> {
        match self.other_engine() {
            Some(engine) => Err(Failure::unsupported(format!(
                "{engine} names another engine, and this version can't talk to one; unset it to use the engine on this host"
            ))),
            None => Ok(()),
        }
    }

    fn require_root(&self) -> Result<(), Failure> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(Failure::Message {
            text: format!(
                "permission denied: {0} mounts file systems and makes namespaces, which only root may do; try 'sudo {0} ...'",
                self.program
            ),
            kind: orlop_model::ErrorKind::Denied,
        })
    }

    /// What names an engine other than this host's: the flag, the variable or the file, as Docker looks for them.
    fn other_engine(&self) -> Option<String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(host) = self.globals.host.last() {
            return Some(format!("--host {host}"));
        }
        if let Some(context) = &self.globals.context {
            return (context != "default").then(|| format!("--context {context}"));
        }
        if let Some(host) = variable("DOCKER_HOST") {
            return Some(format!("DOCKER_HOST={host}"));
        }
        if let Some(context) = variable("DOCKER_CONTEXT") {
            return (context != "default").then(|| format!("DOCKER_CONTEXT={context}"));
        }
        let directory = variable("DOCKER_CONFIG").map(PathBuf::from);
        let directory = directory.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".docker")))?;
        let file = directory.join("config.json");
        let context = current_context(&file)?;
        (context != "default").then(|| format!("the context {context:?} in {}", file.display()))
    }
}

/// The context that `docker context use` chose. A file that can't be read chooses none, as for Docker.
fn current_context(file: &Path) -> Option<String> {
    let text = std::fs::read(file).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    config.get("currentContext")?.as_str().filter(|context| !context.is_empty()).map(str::to_owned)
}
