//! `logs`.

use crate::{Engine, Error, Result};
use orlop_runtime::log::{LogEntry, LogQuery};
use std::ops::ControlFlow;

/// `logs`.
pub use orlop_runtime::log::LogQuery as LogRequest;

impl Engine {
    /// Hands the container's output to `sink`, oldest first; with `follow` until it has ended.
    pub fn logs(&self, name: &str, query: &LogQuery, sink: &mut dyn FnMut(&LogEntry) -> ControlFlow<()>) -> Result<()> {
        let container = self.container(name)?;
        if crate::logging::driver(&container.details.host.options.log) == "none" {
            return Err(Error::Unsupported("configured logging driver does not support reading".to_owned()));
        }
        let id = container.id;
        // A row that can't be read ends the following; the next command names the reason.
        let mut running = || matches!(self.row(id), Ok(Some(container)) if self.is_running(&container));
        Ok(orlop_runtime::log::read(&self.log_path(id), query, &mut running, sink)?)
    }
}
