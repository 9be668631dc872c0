//! The kernel kills something in the container for lack of memory, and the container may go on.

use super::{ShimConfig, end, note};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// When the container itself ends of it, its reaper tells of both in their order; so the end is waited for a moment.
const ENDS_WITHIN: Duration = Duration::from_millis(100);

/// What the kernel wakes when memory runs out.
pub(super) struct Oom {
    source: Source,
    /// When to tell of what has been noticed.
    tell_at: Option<Instant>,
}

enum Source {
    /// v1: an eventfd that is told in `cgroup.event_control` (cgroup-v1/memory.rst), and the group.
    Event(OwnedFd, PathBuf),
    /// v2: `memory.events`, which polls as exceptional when it changes, and its `oom_kill` so far.
    Counter(File, u64),
}

impl Oom {
    /// None where the container has no memory controller, or the runtime doesn't say where its cgroup is.
    pub fn watch(config: &ShimConfig) -> Option<Self> {
        let paths = end::cgroup_paths(config)?;
        let source = match paths.get("memory") {
            Some(group) => event_of(group),
            None => counter_of(&paths.get("")?.join("memory.events")),
        };
        match source {
            Ok(source) => Some(Self { source, tell_at: None }),
            Err(error) => {
                // A v2 group without the controller has no such file.
                if error.kind() != io::ErrorKind::NotFound {
                    note(&format!("a lack of memory is noticed only at the end: {error}"));
                }
                None
            }
        }
    }

    /// What to wait for.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match &self.source {
            Source::Event(event, _) => PollFd::new(event, PollFlags::IN),
            Source::Counter(file, _) => PollFd::new(file, PollFlags::PRI),
        }
    }

    /// Something happened.
    pub fn look(&mut self) {
        let noticed = match &mut self.source {
            Source::Event(event, group) => {
                // The end of the group is told the same way.
                rustix::io::read(event, &mut [0; 8]).is_ok() && group.exists()
            }
            Source::Counter(file, so_far) => {
                let now = count(file).unwrap_or(*so_far);
                now > std::mem::replace(so_far, now)
            }
        };
        if noticed && self.tell_at.is_none() {
            self.tell_at = Some(Instant::now() + ENDS_WITHIN);
        }
    }

    /// How long until it is to be told.
    pub fn wait(&self) -> Option<Duration> {
        self.tell_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it is to be told now; true once.
    pub fn is_due(&mut self) -> bool {
        self.tell_at.take_if(|at| *at <= Instant::now()).is_some()
    }
}

fn event_of(group: &Path) -> io::Result<Source> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(group.join("memory.oom_control"))?;
    fs::write(group.join("cgroup.event_control"), format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))?;
    Ok(Source::Event(event, group.to_owned()))
}

fn counter_of(path: &Path) -> io::Result<Source> {
    let file = File::open(path)?;
    let so_far = count(&file)?;
    Ok(Source::Counter(file, so_far))
}

/// `oom_kill`. Reading it is also what makes the next change wake the one that polls.
fn count(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 1024];
    let length = file.read_at(&mut bytes, 0)?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    Ok(text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0))
}
