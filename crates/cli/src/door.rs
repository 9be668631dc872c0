//! The CLI as a door to the engine: which engine is meant, and whether this process may use it.

use crate::args::global::GlobalArgs;
use crate::failure::Failure;
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
    pub fn path(flag: Option<&PathBuf>, variable: &str) -> Option<PathBuf> {
        let from_environment = || std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        flag.cloned().or_else(from_environment)
    }

    /// Refuses when the user means another engine, or isn't root.
    pub fn check(&self) -> Result<(), Failure> {
        if let Some(engine) = self.other_engine() {
            return Err(Failure::unsupported(format!(
                "{engine} names another engine, and this version can't talk to one; unset it to use the engine on this host"
            )));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::Message {
                text: format!(
                    "permission denied: {0} mounts file systems and makes namespaces, which only root may do; try 'sudo {0} ...'",
                    self.program
                ),
                kind: orlop_model::ErrorKind::Denied,
            });
        }
        Ok(())
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
