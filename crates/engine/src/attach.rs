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
        if container.details.status.phase != Phase::Running {
            return Err(Error::Conflict("You cannot attach to a stopped container, start it first".to_owned()));
        }
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
