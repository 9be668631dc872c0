//! What goes over a shim's socket: frames of one type byte, a big-endian u32 length and that many bytes.
//!
//! A connection carries one request at a time. `Attach` and `Exec` turn it into a session: output, then one `Exit`.
//! Input has a window ([`STDIN_WINDOW`]): a client sends no more than that ahead of the shim's `StdinTaken`, so that a
//! resize or a signal never waits behind input that the program doesn't read.

use crate::Error;
use crate::spec::ProcessInput;
use serde::{Deserialize, Serialize};

/// How many bytes of input may be under way.
pub const STDIN_WINDOW: usize = 256 * 1024;
/// The largest payload either side accepts.
pub const MAX_PAYLOAD: usize = 4 * 1024 * 1024;
/// The largest payload of output or input in one frame.
pub const CHUNK: usize = 64 * 1024;
/// How far a client that isn't in the foreground may lag before it is dropped.
pub const MAX_LAG: usize = 1024 * 1024;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    /// Client: [`AttachRequest`].
    Attach = 0x01,
    /// Client: [`ExecRequest`].
    Exec = 0x02,
    /// Client: bytes for the session's stdin.
    Stdin = 0x03,
    /// Client: no more stdin.
    StdinEnd = 0x04,
    /// Client: [`ResizeRequest`].
    Resize = 0x05,
    /// Client: [`SignalRequest`].
    Signal = 0x06,
    /// Client: the user is stopping this container.
    Stopping = 0x07,
    /// Client: asks for [`ShimState`].
    State = 0x08,
    /// Shim: the request was done; JSON that depends on it.
    Done = 0x81,
    /// Shim: [`Failure`].
    Failed = 0x82,
    /// Shim: bytes of stdout.
    Stdout = 0x83,
    /// Shim: bytes of stderr.
    Stderr = 0x84,
    /// Shim: [`ExitMessage`], the session's last frame.
    Exit = 0x85,
    /// Shim: u32, that many bytes of stdin went on to the program.
    StdinTaken = 0x86,
}

impl FrameType {
    /// The type with this byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Attach,
            0x02 => Self::Exec,
            0x03 => Self::Stdin,
            0x04 => Self::StdinEnd,
            0x05 => Self::Resize,
            0x06 => Self::Signal,
            0x07 => Self::Stopping,
            0x08 => Self::State,
            0x81 => Self::Done,
            0x82 => Self::Failed,
            0x83 => Self::Stdout,
            0x84 => Self::Stderr,
            0x85 => Self::Exit,
            0x86 => Self::StdinTaken,
            _ => return None,
        })
    }
}

/// Which streams a client wants of the container's first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// It will send input.
    pub stdin: bool,
    /// It wants stdout.
    pub stdout: bool,
    /// It wants stderr.
    pub stderr: bool,
    /// It gets every byte and the program waits for it; otherwise it is dropped when [`MAX_LAG`] behind.
    pub foreground: bool,
}

/// A further process in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// 64 hexadecimal digits, chosen by the caller; `exec-ID.json` in the run directory tells about it.
    pub id: String,
    /// What to run.
    pub process: ProcessInput,
    /// Keep stdin open for the client.
    pub stdin: bool,
    /// Nobody follows it: `exec -d`. The answer comes once it runs.
    pub detach: bool,
}

/// A terminal's new size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeRequest {
    /// An exec session's id; none: the session of this connection, or the first process.
    pub exec: Option<String>,
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRequest {
    /// An exec session's id; none: the session of this connection, or the first process.
    pub exec: Option<String>,
    /// Its number, 1 to 64.
    pub signal: i32,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitMessage {
    /// The exit code; 128 + n when signal n ended it.
    pub code: i32,
}

/// Why a request failed or a client is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which error it becomes at the client.
    pub kind: FailureKind,
    /// One line.
    pub message: String,
}

/// The kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The program isn't there (127).
    CommandNotFound,
    /// The program can't be executed (126).
    CommandNotExecutable,
    /// The OCI runtime isn't on the machine.
    RuntimeMissing,
    /// The OCI runtime refused.
    Runtime,
    /// The request makes no sense.
    Invalid,
    /// The process isn't running.
    NotRunning,
    /// The client was too slow or the shim could not go on.
    Shim,
}

/// What a shim tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// The container's id.
    pub id: String,
    /// The shim's own process id, as the host sees it.
    pub shim_pid: u32,
    /// The container's first process, as the host sees it; 0 before it runs.
    pub pid: u32,
    /// The first process runs.
    pub running: bool,
    /// The user is stopping it.
    pub stopping: bool,
    /// Log lines that could not be written.
    pub log_lines_dropped: u64,
    /// Ids of exec sessions that run.
    pub execs: Vec<String>,
}

/// A frame as it goes over the socket.
pub fn frame(kind: FrameType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(kind as u8);
    // Payloads are bounded by MAX_PAYLOAD, which is far below 4 GiB.
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A frame whose payload is JSON.
pub fn json_frame(kind: FrameType, payload: &impl Serialize) -> Vec<u8> {
    // These are plain structs with string keys, which always serialize.
    frame(kind, &serde_json::to_vec(payload).unwrap_or_default())
}

/// Type and length.
const HEADER: usize = 5;

/// Bytes that came in, cut into frames.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame; none until more has come. An unknown type or a length above [`MAX_PAYLOAD`] is an error,
    /// after which the connection is of no use.
    pub fn next_frame(&mut self) -> Result<Option<(FrameType, Vec<u8>)>, Error> {
        let rest = &self.bytes[self.taken..];
        let Some(header) = rest.first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        let kind = FrameType::from_byte(kind)
            .ok_or_else(|| Error::Shim(format!("unknown frame type {kind:#04x} on the shim's socket")))?;
        if length > MAX_PAYLOAD {
            return Err(Error::Shim(format!("a frame of {length} bytes is larger than {MAX_PAYLOAD}")));
        }
        let Some(payload) = rest.get(HEADER..HEADER + length) else { return Ok(None) };
        let payload = payload.to_vec();
        self.taken += HEADER + length;
        Ok(Some((kind, payload)))
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error {
            Error::CommandNotFound(_) => FailureKind::CommandNotFound,
            Error::CommandNotExecutable(_) => FailureKind::CommandNotExecutable,
            Error::RuntimeMissing(binary) => {
                return Self { kind: FailureKind::RuntimeMissing, message: binary.clone() };
            }
            Error::Invalid(_) => FailureKind::Invalid,
            Error::NotRunning(_) => FailureKind::NotRunning,
            Error::Shim(_) => FailureKind::Shim,
            Error::Runtime(_) | Error::Io { .. } => FailureKind::Runtime,
        };
        Self { kind, message: error.to_string() }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::CommandNotFound => Self::CommandNotFound(failure.message),
            FailureKind::CommandNotExecutable => Self::CommandNotExecutable(failure.message),
            FailureKind::RuntimeMissing => Self::RuntimeMissing(failure.message),
            FailureKind::Runtime => Self::Runtime(failure.message),
            FailureKind::Invalid => Self::Invalid(failure.message),
            FailureKind::NotRunning => Self::NotRunning(failure.message),
            FailureKind::Shim => Self::Shim(failure.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let bytes = [frame(FrameType::Stdin, b"abc"), frame(FrameType::StdinEnd, b""), frame(FrameType::Exit, b"{}")];
        let bytes = bytes.concat();
        for cut in 1..bytes.len() {
            let mut inbox = Inbox::default();
            let mut frames = Vec::new();
            for part in bytes.chunks(cut) {
                inbox.extend(part);
                while let Some(frame) = inbox.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            let wanted =
                [(FrameType::Stdin, b"abc".to_vec()), (FrameType::StdinEnd, vec![]), (FrameType::Exit, b"{}".to_vec())];
            assert_eq!(frames, wanted, "cut {cut}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&[0x7f, 0, 0, 0, 0][..], &[0x03, 0xff, 0xff, 0xff, 0xff]] {
            let mut inbox = Inbox::default();
            inbox.extend(bytes);
            assert!(inbox.next_frame().is_err());
        }
    }
}
