//! A container's log.

use crate::Error;
use orlop_model::Timestamp;
use std::ops::ControlFlow;
use std::path::Path;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output; also a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log (a long line has several).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// When it was read from the program.
    pub time: Timestamp,
    /// From which stream.
    pub stream: Stream,
    /// The text, with its newline where it had one.
    pub text: String,
}

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Only this many of the last lines; none: all.
    pub tail: Option<u64>,
    /// Only lines at or after this.
    pub since: Option<Timestamp>,
    /// Only lines before this.
    pub until: Option<Timestamp>,
    /// Go on with what is added.
    pub follow: bool,
}

/// Hands the log's lines to `sink`, oldest first; a log that is not there is empty.
///
/// With `follow` it returns when `running` says that the container has ended and everything was handed over. `sink`
/// ends it with `Break`.
pub fn read(
    path: &Path,
    query: &LogQuery,
    running: &mut dyn FnMut() -> bool,
    sink: &mut dyn FnMut(&LogEntry) -> ControlFlow<()>,
) -> Result<(), Error> {
    let _ = (path, query, running, sink);
    Ok(())
}
