//! One process that the shim looks after, the first one or an exec session: its streams and how far it has come.

use crate::Error;
use crate::log::Stream;
use crate::oci::Call;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags};
use rustix::net::{SocketType, accept_with, bind, listen, recvmsg, socket_with};
use rustix::pty::OpenptFlags;
use std::collections::VecDeque;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The first process's session.
pub(super) const INIT: u64 = 0;

pub(super) struct Session {
    pub key: u64,
    /// The exec session's id; none for the first process.
    pub exec: Option<String>,
    pub args: Vec<String>,
    pub terminal: bool,
    pub phase: Phase,
    /// What the program writes, as long as somebody can write it.
    pub outputs: Vec<Output>,
    pub stdin: Option<Stdin>,
    pub stdin_once: bool,
    /// Input that came before the terminal did.
    pub early_input: VecDeque<(u64, Vec<u8>, usize)>,
    pub console: Option<Console>,
    /// The terminal's size that was asked for before there was a terminal.
    pub first_size: Option<(u16, u16)>,
    /// The client that asked for this exec session and waits to hear that it runs.
    pub requester: Option<u64>,
    pub detached: bool,
    /// Of a health check: the beginning of its output.
    pub capture: Option<Vec<u8>>,
    /// The start of what went to stderr, to recognise a failed execve.
    pub stderr_head: Vec<u8>,
}

pub(super) enum Phase {
    /// The runtime is at work.
    Starting {
        runtime: i32,
        call: Call,
    },
    Running {
        pid: i32,
    },
    /// Its output may still be held open by what it left behind.
    Ended,
}

pub(super) struct Output {
    pub stream: Stream,
    pub fd: OwnedFd,
}

/// The shim's end of a program's stdin and what waits for it.
pub(super) struct Stdin {
    pub fd: OwnedFd,
    /// From whom, and what of it is left.
    pub pending: VecDeque<(u64, Vec<u8>, usize)>,
    /// Close it once nothing waits.
    pub ending: bool,
}

/// Where the runtime hands over a terminal, and then the terminal.
pub(super) enum Console {
    Listening { socket: OwnedFd, name: String },
    Master { master: OwnedFd, _keep_open: OwnedFd },
}

/// What the program is given as stdin, stdout and stderr.
pub(super) struct ProgramEnds(pub [OwnedFd; 3]);

impl ProgramEnds {
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd).collect()
    }
}

impl Session {
    /// A session with pipes. `fifos` names a directory for FIFOs that another shim could open again.
    pub fn with_pipes(
        fifos: Option<&Path>,
        open_stdin: bool,
    ) -> Result<(Vec<Output>, Option<Stdin>, ProgramEnds), Error> {
        let (out, out_program) = output(fifos, "stdout")?;
        let (err, err_program) = output(fifos, "stderr")?;
        let (stdin, in_program) = if open_stdin {
            let (fd, program) = input(fifos)?;
            (Some(Stdin { fd, pending: VecDeque::new(), ending: false }), program)
        } else {
            (None, null()?)
        };
        let outputs = vec![Output { stream: Stream::Stdout, fd: out }, Output { stream: Stream::Stderr, fd: err }];
        Ok((outputs, stdin, ProgramEnds([in_program, out_program, err_program])))
    }

    /// The ends of FIFOs that another shim has made, for a program that has its own.
    pub fn with_fifos_of_another(dir: &Path, open_stdin: bool) -> Result<(Vec<Output>, Option<Stdin>), Error> {
        let output = |stream: Stream| {
            let fd = open_at(&dir.join(stream.name()), OFlags::RDONLY | OFlags::NONBLOCK)?;
            Ok::<_, Error>(Output { stream, fd })
        };
        let stdin = dir.join("stdin");
        // Once the program has closed its end nobody reads it any more (ENXIO).
        let stdin = open_stdin.then(|| open_at(&stdin, OFlags::WRONLY | OFlags::NONBLOCK).ok()).flatten();
        let stdin = stdin.map(|fd| Stdin { fd, pending: VecDeque::new(), ending: false });
        Ok((vec![output(Stream::Stdout)?, output(Stream::Stderr)?], stdin))
    }

    pub fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }

    pub fn pid(&self) -> Option<i32> {
        match self.phase {
            Phase::Running { pid } => Some(pid),
            _ => None,
        }
    }

    pub fn resize(&mut self, rows: u16, cols: u16) {
        match &self.console {
            Some(Console::Master { master, .. }) => set_size(master, rows, cols),
            _ => self.first_size = Some((rows, cols)),
        }
    }

    /// Takes the terminal from the runtime, if it has come.
    pub fn accept_console(&mut self, dir: &Path, open_stdin: bool) -> Result<(), Error> {
        let Some(Console::Listening { socket, name }) = &self.console else { return Ok(()) };
        let path = dir.join(name);
        let connection = match accept_with(socket, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(Error::io("accept on", &path)(error)),
        };
        let master = receive_fd(&connection).map_err(Error::io("receive the terminal from", &path))?;
        let _ = fs::remove_file(&path);
        let terminal = || Error::io::<Errno>("use the terminal from", &path);
        rustix::io::ioctl_fionbio(&master, true).map_err(terminal())?;
        // As long as one of its other ends is open here, reading never ends early when the program closes its own and
        // opens another later.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keep_open = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(terminal())?;
        if let Some((rows, cols)) = self.first_size {
            set_size(&master, rows, cols);
        }
        let duplicate = || rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(terminal());
        self.outputs = vec![Output { stream: Stream::Stdout, fd: duplicate()? }];
        if open_stdin {
            let pending = std::mem::take(&mut self.early_input);
            self.stdin = Some(Stdin { fd: duplicate()?, pending, ending: false });
        }
        self.console = Some(Console::Master { master, _keep_open: keep_open });
        Ok(())
    }

    /// Its process has ended: nothing is left to write to.
    pub fn close_input(&mut self) {
        self.stdin = None;
        if let Some(Console::Master { .. }) = self.console {
            self.console = None;
        }
    }
}

/// Listens for a terminal at `dir/name`, the path being short enough for a socket whatever `dir` is.
pub(super) fn listen_in(dir: &Path, name: &str, backlog: i32) -> Result<OwnedFd, Error> {
    let path = dir.join(name);
    let _ = fs::remove_file(&path);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(Error::io("bind", &path))?;
    let (_dir, address) = socket_address(dir, name)?;
    bind(&socket, &address).map_err(Error::io("bind", &path))?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(Error::io("set the mode of", &path))?;
    listen(&socket, backlog).map_err(Error::io("listen on", &path))?;
    Ok(socket)
}

/// The address of a socket in `dir`, by way of a descriptor, since an address holds 107 bytes only. Valid while the
/// descriptor lives.
pub(crate) fn socket_address(dir: &Path, name: &str) -> Result<(OwnedFd, SocketAddrUnix), Error> {
    let fd =
        open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::io("open", dir))?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", fd.as_raw_fd()))
        .map_err(Error::io("connect to", dir.join(name)))?;
    Ok((fd, address))
}

fn set_size(terminal: &OwnedFd, rows: u16, cols: u16) {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal that is going away has no use for a size.
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

fn receive_fd(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut name = [0u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(Errno::BADMSG)
}

/// The program's end is open for reading too, so that it waits instead of dying when no shim reads; ours is not, so
/// that we see when the last writer is gone.
fn output(fifos: Option<&Path>, name: &str) -> Result<(OwnedFd, OwnedFd), Error> {
    match fifos {
        Some(dir) => {
            let path = make_fifo(dir, name)?;
            let program = open_at(&path, OFlags::RDWR)?;
            let own = open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            Ok((own, program))
        }
        None => {
            let (own, write) = pipe()?;
            let program = open_at(&by_descriptor(&write), OFlags::RDWR)?;
            rustix::io::ioctl_fionbio(&own, true).map_err(Error::io("use", "a pipe"))?;
            Ok((own, program))
        }
    }
}

/// Only the shim holds an end for writing, so closing it is the end of the program's input.
fn input(fifos: Option<&Path>) -> Result<(OwnedFd, OwnedFd), Error> {
    match fifos {
        Some(dir) => {
            let path = make_fifo(dir, "stdin")?;
            let both = open_at(&path, OFlags::RDWR)?;
            let program = open_at(&path, OFlags::RDONLY)?;
            let own = open_at(&path, OFlags::WRONLY | OFlags::NONBLOCK)?;
            drop(both);
            Ok((own, program))
        }
        None => {
            let (program, own) = pipe()?;
            rustix::io::ioctl_fionbio(&own, true).map_err(Error::io("use", "a pipe"))?;
            Ok((own, program))
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::io("make", "a pipe"))
}

fn by_descriptor(fd: &OwnedFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn make_fifo(dir: &Path, name: &str) -> Result<std::path::PathBuf, Error> {
    let path = dir.join(name);
    // One that an earlier run left may still be open somewhere.
    let _ = fs::remove_file(&path);
    mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).map_err(Error::io("make the FIFO", &path))?;
    Ok(path)
}

fn open_at(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(Error::io("open", path))
}

pub(super) fn null() -> Result<OwnedFd, Error> {
    open_at(Path::new("/dev/null"), OFlags::RDWR)
}
