//! The freezer of a container's cgroup, written by this very process.
//!
//! `runc pause` is another process, which goes on when the one that called it is killed, and may freeze the container
//! after the next command has let it go. A write of our own is done, or not, before the locks of a killed process are
//! free. See cgroups(7), and the kernel's `cgroup-v1/freezer-subsystem.rst` and `cgroup-v2.rst`.

use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What freezes a container; its processes are asked for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freezer {
    directory: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// How long processes may take to stand still: one that waits for a disk or a network file system may need a while.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_micros(200);

impl Freezer {
    /// The freezer of the cgroup `path`, which is told from every controller's root; none where the machine has none.
    pub fn of(path: &str) -> Option<Self> {
        Self::below(Path::new("/sys/fs/cgroup"), path)
    }

    fn below(root: &Path, path: &str) -> Option<Self> {
        let path = path.trim_start_matches('/');
        let places = [("freezer", Version::One), ("", Version::Two), ("unified", Version::Two)];
        let freezers = places.map(|(mount, version)| Self { directory: root.join(mount).join(path), version });
        freezers.into_iter().find(|freezer| freezer.file().exists())
    }

    /// Returns when every process stands still. On an error all of them go on.
    pub fn freeze(&self) -> Result<(), Error> {
        let frozen = self.write(true).and_then(|()| self.wait());
        if frozen.is_err() {
            // The error that is returned says more.
            let _ = self.write(false);
        }
        frozen
    }

    /// Lets them go on; nothing is wrong when they do already.
    pub fn thaw(&self) -> Result<(), Error> {
        self.write(false)
    }

    fn file(&self) -> PathBuf {
        self.directory.join(match self.version {
            Version::One => "freezer.state",
            Version::Two => "cgroup.freeze",
        })
    }

    fn write(&self, frozen: bool) -> Result<(), Error> {
        let word = match (self.version, frozen) {
            (Version::One, true) => "FROZEN",
            (Version::One, false) => "THAWED",
            (Version::Two, true) => "1",
            (Version::Two, false) => "0",
        };
        let file = self.file();
        fs::write(&file, word).map_err(Error::io("write", &file))
    }

    fn wait(&self) -> Result<(), Error> {
        let begun = Instant::now();
        for round in 1_u32.. {
            if self.is_frozen()? {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            // A process that was forked at the wrong moment stays behind with v1 until it is asked again.
            if self.version == Version::One {
                if round.is_multiple_of(50) {
                    self.write(false)?;
                }
                self.write(true)?;
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::Runtime(format!(
            "its processes don't stand still after {} s ({}); one of them waits for a disk or a network that doesn't answer",
            PATIENCE.as_secs(),
            self.directory.display()
        )))
    }

    fn is_frozen(&self) -> Result<bool, Error> {
        let (name, line) = match self.version {
            Version::One => ("freezer.state", "FROZEN"),
            Version::Two => ("cgroup.events", "frozen 1"),
        };
        let file = self.directory.join(name);
        let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        Ok(text.lines().any(|seen| seen == line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_where() {
        for (mount, file, events, frozen, thawed) in [
            ("freezer", "freezer.state", None, "FROZEN", "THAWED"),
            ("", "cgroup.freeze", Some("frozen 1\n"), "1", "0"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let group = root.path().join(mount).join("orlop/id");
            fs::create_dir_all(&group).unwrap();
            assert_eq!(Freezer::below(root.path(), "/orlop/id"), None);
            fs::write(group.join(file), thawed).unwrap();
            if let Some(events) = events {
                fs::write(group.join("cgroup.events"), events).unwrap();
            }
            let freezer = Freezer::below(root.path(), "/orlop/id").unwrap();
            freezer.freeze().unwrap();
            assert_eq!(fs::read_to_string(group.join(file)).unwrap(), frozen);
            freezer.thaw().unwrap();
            assert_eq!(fs::read_to_string(group.join(file)).unwrap(), thawed);
        }
    }
}
