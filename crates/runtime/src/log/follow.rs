//! Following a log: inotify on its directory, so that a rotation and the exit record are noticed too.

use super::{Reader, identity, writer};
use crate::Error;
use orlop_model::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A watch on the directory that a log lies in.
pub(super) struct Watch {
    fd: OwnedFd,
}

impl Watch {
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(Error::io("watch", dir))?;
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::MOVE_SELF;
        inotify::add_watch(&fd, dir, events).map_err(Error::io("watch", dir))?;
        Ok(Self { fd })
    }

    /// Waits for a change, at most a second, and forgets what it was.
    fn wait(&self) {
        let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
        // An interrupted or failed wait only means looking once more.
        let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout));
        let mut events = [0u8; 4096];
        while rustix::io::read(&self.fd, &mut events).is_ok_and(|length| length > 0) {}
    }
}

/// Goes on after everything that was there: `newest` is the file read last and how far.
pub(super) fn follow(
    reader: &mut Reader<'_>,
    watch: &Watch,
    mut newest: Option<(File, u64)>,
    running: &mut dyn FnMut() -> bool,
) -> Result<(), Error> {
    loop {
        // Asked before reading: what was written before the end is then read after it.
        let over = !running() || reader.query.until.is_some_and(|until| Timestamp::now() > until);
        loop {
            if let Some((file, offset)) = &mut newest {
                if file.metadata().is_ok_and(|metadata| metadata.len() < *offset) {
                    *offset = 0;
                }
                match reader.lines(file, *offset)? {
                    std::ops::ControlFlow::Break(()) => return Ok(()),
                    std::ops::ControlFlow::Continue(after) => *offset = after,
                }
            }
            match next_file(reader.path, newest.as_ref().map(|(file, _)| file))? {
                Next::Same => break,
                Next::File(next) => {
                    // It was rotated after we had read it; its last lines may have come in between.
                    if let Some((file, offset)) = &newest
                        && reader.lines(file, *offset)?.is_break()
                    {
                        return Ok(());
                    }
                    newest = Some((next, 0));
                }
            }
        }
        if over {
            return Ok(());
        }
        watch.wait();
    }
}

enum Next {
    /// There is no file after this one.
    Same,
    File(File),
}

/// The file that was begun after `current`, or the oldest when `current` is no longer among them.
fn next_file(path: &Path, current: Option<&File>) -> Result<Next, Error> {
    let current = match current {
        Some(file) => Some(identity(file).map_err(Error::io("stat", path))?),
        None => None,
    };
    let mut newer = None;
    let mut missing = false;
    for number in 0.. {
        let name = writer::rotated(path, number);
        let file = match File::open(&name) {
            Ok(file) => file,
            // In the middle of a rotation one number is missing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !missing => {
                missing = true;
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) => return Err(Error::io("open", &name)(error)),
        };
        if Some(identity(&file).map_err(Error::io("stat", &name))?) == current {
            return Ok(newer.map_or(Next::Same, Next::File));
        }
        newer = Some(file);
    }
    Ok(newer.map_or(Next::Same, Next::File))
}
