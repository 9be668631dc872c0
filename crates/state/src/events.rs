//! The event log: what happened, readable by every process on the host.
//!
//! One JSON object a line in `events.jsonl`, appended under a flock; past 16 MiB the file becomes `events.1.jsonl`,
//! whose predecessor goes. A reader follows the files by inotify. An event tells of what is already done, so a line
//! that can't be written (a full disk) is dropped: nothing depends on it.

use crate::{Error, State};
use orlop_model::Timestamp;
use orlop_sys::lock::FileLock;
use rustix::fs::inotify;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where a file is rotated.
const LIMIT: u64 = 16 << 20;

/// One event, in the words of Docker's `/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// `container`, `image`, `volume`, `layer` …
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, `destroy`, `mount` …
    pub action: String,
    /// What it happened to.
    pub actor: Actor,
    /// When.
    #[serde(rename = "timestamp")]
    pub time: Timestamp,
}

/// What an event happened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its id; for a volume its name.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name, image, labels, exit code …
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event of this moment.
    pub fn now(kind: &str, action: &str, id: impl ToString, attributes: &[(&str, &str)]) -> Self {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_string(), attributes },
            time: Timestamp::now(),
        }
    }
}

impl State {
    /// Appends an event to the log.
    pub fn emit(&self, event: &Event) {
        // Dropped when it can't be written: see the module's header.
        let _ = append(self.root(), event);
    }

    /// A reader of the log, from its oldest line on.
    pub fn events(&self) -> Result<Reader, Error> {
        Reader::open(self.root())
    }
}

fn current(root: &Path) -> PathBuf {
    root.join("events.jsonl")
}

fn append(root: &Path, event: &Event) -> Result<(), Error> {
    let mut line = serde_json::to_vec(event).expect("an event holds nothing that JSON can't");
    line.push(b'\n');
    let path = current(root);
    let _lock = FileLock::exclusive(&root.join("locks/events"))?;
    let open = || File::options().create(true).append(true).mode(0o600).open(&path);
    let mut file = open().map_err(|error| orlop_sys::Error::io("open", &path, error))?;
    let length = file.metadata().map_err(|error| orlop_sys::Error::io("stat", &path, error))?.len();
    if length + line.len() as u64 > LIMIT {
        let older = root.join("events.1.jsonl");
        std::fs::rename(&path, &older).map_err(|error| orlop_sys::Error::io("rename", &path, error))?;
        file = open().map_err(|error| orlop_sys::Error::io("create", &path, error))?;
        return file.write_all(&line).map_err(|error| orlop_sys::Error::io("write", &path, error).into());
    }
    if let Err(error) = file.write_all(&line) {
        // A full disk takes part of a line; cut it off, so that the next one doesn't continue it.
        let _ = file.set_len(length);
        return Err(orlop_sys::Error::io("write", &path, error).into());
    }
    Ok(())
}

/// Reads events in order, first those of the log, then new ones as they come.
pub struct Reader {
    root: PathBuf,
    file: Option<File>,
    /// Bytes behind the last whole line.
    rest: Vec<u8>,
    lines: std::collections::VecDeque<Event>,
    watch: std::os::fd::OwnedFd,
}

impl Reader {
    fn open(root: &Path) -> Result<Self, Error> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|error| orlop_sys::Error::call("inotify_init", error))?;
        // The directory is watched, not the file: a rotation puts another file under its name.
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_FROM;
        inotify::add_watch(&watch, root, flags).map_err(|error| orlop_sys::Error::io("inotify", root, error))?;
        let mut reader = Self {
            root: root.to_owned(),
            file: None,
            rest: Vec::new(),
            lines: std::collections::VecDeque::new(),
            watch,
        };
        // Against a rotation between the two files.
        let _lock = FileLock::shared(&root.join("locks/events"))?;
        if let Ok(mut older) = File::open(root.join("events.1.jsonl")) {
            reader.take_lines(&mut older)?;
        }
        reader.rest.clear();
        reader.reopen()?;
        Ok(reader)
    }

    /// The next event that is already there.
    pub fn next_ready(&mut self) -> Result<Option<Event>, Error> {
        if self.lines.is_empty() {
            self.poll_files()?;
        }
        Ok(self.lines.pop_front())
    }

    /// Becomes readable when there may be more; for poll(2).
    pub fn descriptor(&self) -> &std::os::fd::OwnedFd {
        &self.watch
    }

    /// Empties the descriptor, so that poll(2) waits for the next change.
    pub fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.watch, &mut buffer[..]).is_ok_and(|read| read > 0) {}
    }

    fn poll_files(&mut self) -> Result<(), Error> {
        if let Some(mut file) = self.file.take() {
            self.take_lines(&mut file)?;
            self.file = Some(file);
        }
        if self.rotated() {
            // The rest of the old file was read above; a line is never split over two files.
            self.rest.clear();
            self.reopen()?;
        }
        Ok(())
    }

    fn rotated(&self) -> bool {
        let Ok(named) = rustix::fs::stat(current(&self.root)) else { return false };
        match self.file.as_ref().map(rustix::fs::fstat) {
            Some(Ok(held)) => (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino),
            _ => true,
        }
    }

    fn reopen(&mut self) -> Result<(), Error> {
        let path = current(&self.root);
        match File::open(&path) {
            Ok(mut file) => {
                self.take_lines(&mut file)?;
                self.file = Some(file);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(orlop_sys::Error::io("open", path, error).into()),
        }
    }

    fn take_lines(&mut self, file: &mut File) -> Result<(), Error> {
        let path = current(&self.root);
        file.read_to_end(&mut self.rest).map_err(|error| orlop_sys::Error::io("read", &path, error))?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            // A writer that ran out of space cuts its line off again.
            let behind = i64::try_from(self.rest.len()).unwrap_or(0);
            self.rest.clear();
            return file
                .seek(SeekFrom::Current(-behind))
                .map(drop)
                .map_err(|error| orlop_sys::Error::io("seek", &path, error).into());
        };
        let rest = self.rest.split_off(end + 1);
        // A damaged line is skipped: the log is for people and tools, nothing depends on it.
        self.lines.extend(self.rest.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
        self.rest = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_every_event_once_across_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.emit(&Event::now("volume", "create", "one", &[("driver", "local")]));
        let mut reader = state.events().unwrap();
        assert_eq!(reader.next_ready().unwrap().unwrap().actor.id, "one");
        assert!(reader.next_ready().unwrap().is_none());
        let padding = "x".repeat(1 << 20);
        for number in 0..20 {
            state.emit(&Event::now("volume", "create", number, &[("padding", &padding)]));
            assert_eq!(reader.next_ready().unwrap().unwrap().actor.id, number.to_string());
        }
        assert!(dir.path().join("events.1.jsonl").exists());
        assert!(reader.next_ready().unwrap().is_none());
    }
}
