//! A line of bash on a pseudo-terminal of its own, typed into and read as a person would.

use crate::Outcome;
use crate::world::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::Winsize;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::Instant;

/// The terminal and what runs on it; both end with it.
pub struct Terminal {
    master: File,
    child: Child,
    /// What was shown and not expected yet.
    seen: Vec<u8>,
}

impl Terminal {
    /// `command` becomes the leader of a session whose terminal this is.
    pub(crate) fn start(mut command: Command, rows: u16, columns: u16) -> Outcome<Self> {
        let (master, slave) = pair().map_err(|error| format!("openpt: {error}"))?;
        let copy = || slave.try_clone().map_err(|error| error.to_string());
        let terminal = |child| Self { master: File::from(master), child, seen: Vec::new() };
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        set_size(&slave, rows, columns)?;
        command.spawn().map(terminal).map_err(|error| format!("setsid: {error}"))
    }

    /// Another size of the window.
    pub fn resize(&self, rows: u16, columns: u16) -> Outcome {
        set_size(&self.master, rows, columns)
    }

    /// Types `keys`.
    pub fn keys(&mut self, keys: &str) -> Outcome {
        self.master.write_all(keys.as_bytes()).map_err(|error| format!("the terminal: {error}"))
    }

    /// Types a line, again and again until `wanted` is shown: a new size takes a moment until it has come in.
    pub fn ask(&mut self, line: &str, wanted: &str) -> Outcome {
        let begun = Instant::now();
        loop {
            self.keys(&format!("{line}\r"))?;
            if self.shows(wanted, 1)? {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.missing(wanted));
            }
        }
    }

    /// Reads until `wanted` is shown; what comes before it is forgotten.
    pub fn expect(&mut self, wanted: &str) -> Outcome {
        let seconds = i64::try_from(PATIENCE.as_secs()).unwrap_or(60);
        if self.shows(wanted, seconds)? { Ok(()) } else { Err(self.missing(wanted)) }
    }

    fn missing(&self, wanted: &str) -> String {
        format!("{wanted:?} isn't shown, but {:?}", String::from_utf8_lossy(&self.seen))
    }

    /// Whether `wanted` comes before nothing more does for so long.
    fn shows(&mut self, wanted: &str, seconds: i64) -> Outcome<bool> {
        loop {
            if let Some(at) = self.seen.windows(wanted.len()).position(|window| window == wanted.as_bytes()) {
                self.seen.drain(..at + wanted.len());
                return Ok(true);
            }
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
            if poll(&mut fds, Some(&timeout)).map_err(|error| error.to_string())? == 0 {
                return Ok(false);
            }
            let mut bytes = [0; 4096];
            match self.master.read(&mut bytes) {
                Ok(length) if length > 0 => self.seen.extend_from_slice(&bytes[..length]),
                // Everybody on the other side is gone.
                _ => return Ok(false),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever is still on it gets SIGHUP with the master's end; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pair() -> rustix::io::Result<(OwnedFd, File)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())?;
    Ok((master, File::from(slave)))
}

fn set_size(terminal: &File, rows: u16, columns: u16) -> Outcome {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).map_err(|error| format!("the terminal's size: {error}"))
}
