//! The foreground: a client's streams tied to a container's or an exec session's.

use crate::container::Phase;
use crate::{Engine, Error, Result};
use orlop_runtime::attach::{Connection, SessionEnd, SessionOptions, Stdio};

pub use orlop_runtime::attach::SessionOptions as AttachRequest;

/// How a foreground session ended.
pub use orlop_runtime::attach::SessionEnd as Session;

impl Engine {
    /// Joins a running container's first process.
    pub fn attach(&self, name: &str, options: &SessionOptions) -> Result<Connection> {
        let container = self.container(name)?;
        let status = &container.details.status;
        let refusal = match status.phase {
            _ if status.restarting.is_some() => "You cannot attach to a restarting container, wait until it is running",
            Phase::Running if status.paused => "You cannot attach to a paused container, unpause it first",
            Phase::Running => "",
            _ => "You cannot attach to a stopped container, start it first",
        };
        if !refusal.is_empty() {
            return Err(Error::Conflict(refusal.to_owned()));
        }
        self.ensure_shim(&container)?;
        Ok(orlop_runtime::attach::attach(&self.bundle(container.id), options)?)
    }

    /// Copies between this process's streams and the session until one of its ends.
    pub fn session(&self, connection: Connection, options: &SessionOptions) -> Result<SessionEnd> {
        Ok(orlop_runtime::attach::session(connection, options, Stdio::inherit()?)?)
    }
}

/// Rows and columns of the terminal that a session is tied to, so that the program finds them from its first moment on.
pub(crate) fn console_size(options: &SessionOptions) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdin()).ok().filter(|_| options.terminal)?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
