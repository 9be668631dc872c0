//! A layer's blob out of a registry: one stream, kept in `content/ingest` on its way, so that nothing comes twice.

use super::http::Response;
use super::session::{back_off, pause, sleep};
use super::{Failure, Registry, Session};
use crate::archive::{LayerBlob, Listener};
use crate::load::Progress;
use crate::{Error, Store};
use orlop_model::Digest;
use orlop_sys::lock::FileLock;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What came in one go at least for the number of attempts to begin anew.
const PROGRESS: u64 = 1 << 20;
/// Partial blobs that nobody has gone on with for so long are removed.
const EXPIRE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A layer's blob.
#[derive(Debug)]
pub(crate) struct RemoteLayer {
    registry: Arc<Registry>,
    /// Who may have it, in order.
    sessions: Vec<Arc<Session>>,
    digest: Digest,
    size: u64,
    path: PathBuf,
    /// Where it stays once it has come whole, and where an earlier pull may have left it; None when none are kept.
    kept: Option<PathBuf>,
    /// Whether what an earlier pull kept there is used.
    reuse: bool,
    /// Held from the first byte until the blob isn't needed any more.
    lock: Mutex<Option<FileLock>>,
    /// Some of what was read had been there before.
    replayed: AtomicBool,
    /// Who sent some of it, by [`Session::place`].
    senders: Mutex<BTreeSet<String>>,
}

impl RemoteLayer {
    pub(crate) fn new(
        registry: &Arc<Registry>,
        sessions: &[Arc<Session>],
        digest: Digest,
        size: u64,
        (store, reuse): (Store<'_>, bool),
    ) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::clone(registry),
            sessions: sessions.to_vec(),
            digest,
            size,
            path: store.ingest().join(digest.hex()),
            kept: registry.settings.keep_blobs.then(|| store.layer_blob_path(digest)),
            reuse,
            lock: Mutex::default(),
            replayed: AtomicBool::new(false),
            senders: Mutex::default(),
        })
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether some of what was read came from an earlier pull; it may have been damaged meanwhile.
    pub(crate) fn was_replayed(&self) -> bool {
        self.replayed.load(Ordering::Relaxed)
    }

    /// Who sent some of what was read: each may be to blame for it.
    pub(crate) fn senders(&self) -> BTreeSet<String> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Removes what has come so far. What was kept stays: another image may have it, and this one may only claim to.
    pub(crate) fn discard(&self) {
        if let Some(lock) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            lock.remove();
        }
    }

    fn open_stored(&self) -> Result<(File, u64), Error> {
        let kept = self.kept.as_ref().filter(|_| self.reuse).and_then(|path| File::open(path).ok());
        match kept {
            Some(file) if file.metadata().is_ok_and(|metadata| metadata.len() == self.size) => Ok((file, self.size)),
            _ => self.open_partial(),
        }
    }

    fn open_partial(&self) -> Result<(File, u64), Error> {
        let io = |action| move |source| Error::Io { action, path: self.path.clone(), source };
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            if let Some(parent) = self.path.parent() {
                std::fs::create_dir_all(parent).map_err(io("create the directory of"))?;
            }
            *held = FileLock::try_exclusive(&self.path)?;
        }
        if held.is_none() {
            // Only an image that claims another content for the same blob comes here: nobody waits for that.
            return Ok((crate::archive::unnamed_file(self.path.parent().unwrap_or(Path::new("/")))?, 0));
        }
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file =
            File::options().read(true).append(true).custom_flags(nofollow).open(&self.path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("stat"))?.len();
        if length > self.size {
            file.set_len(0).map_err(io("truncate"))?;
            return Ok((file, 0));
        }
        Ok((file, length))
    }
}

impl LayerBlob for RemoteLayer {
    fn name(&self) -> String {
        self.digest.to_string()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn open<'a>(&'a self, listener: Listener<'a>) -> Result<Box<dyn Read + Send + 'a>, Error> {
        let (file, stored) = self.open_stored()?;
        self.replayed.fetch_or(stored > 0, Ordering::Relaxed);
        Ok(Box::new(Stream {
            layer: self,
            listener,
            file,
            stored,
            position: 0,
            body: None,
            session: 0,
            failed: 0,
            since_failure: 0,
            given_up: Vec::new(),
            unfit: None,
        }))
    }

    fn unpacked(&self) -> Result<(), Error> {
        // Taken, because an image may have the same layer twice.
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (held, &self.kept) {
            (Some(_held), Some(kept)) => {
                let io = |source| Error::Io { action: "move the blob to", path: kept.clone(), source };
                if let Some(parent) = kept.parent() {
                    std::fs::create_dir_all(parent).map_err(io)?;
                }
                // Its age tells `recover` that no image has it, and there is none yet.
                File::open(&self.path).and_then(|file| file.set_modified(SystemTime::now())).map_err(io)?;
                // The sync that comes next covers the blob and its name.
                std::fs::rename(&self.path, kept).map_err(io)
            }
            (Some(held), None) => {
                held.remove();
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn to_fetch(&self) -> u64 {
        let kept = self.kept.as_ref().filter(|_| self.reuse);
        let there = kept.into_iter().chain([&self.path]).filter_map(|path| path.symlink_metadata().ok());
        let there = there.map(|metadata| metadata.len()).filter(|length| *length <= self.size).max();
        self.size - there.unwrap_or(0)
    }

    fn cancel(&self) {
        self.registry.shut_down();
    }
}

/// The blob from its beginning: what is there, then what the registry sends, which goes into the file as well.
struct Stream<'a> {
    layer: &'a RemoteLayer,
    listener: Listener<'a>,
    file: File,
    /// Bytes in the file.
    stored: u64,
    /// Bytes given to the reader.
    position: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Which of the layer's sessions is asked.
    session: usize,
    /// Attempts that brought nothing worth telling.
    failed: u32,
    since_failure: u64,
    /// Why each of the sessions before this one didn't bring it.
    given_up: Vec<String>,
    /// Of those, what the first said that had something else.
    unfit: Option<Error>,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position < self.stored {
            let wanted = buffer.len().min(usize::try_from(self.stored - self.position).unwrap_or(usize::MAX));
            let read =
                self.file.read_at(&mut buffer[..wanted], self.position).map_err(|error| self.ours("read", error))?;
            self.position += read as u64;
            return if read > 0 { Ok(read) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if self.position == self.layer.size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.fetch(buffer) {
                Ok(read) => {
                    self.file.write_all(&buffer[..read]).map_err(|error| self.ours("write", error))?;
                    self.position += read as u64;
                    self.stored = self.position;
                    self.since_failure += read as u64;
                    return Ok(read);
                }
                Err(Broken::For(failure)) => self.recover(failure)?,
                Err(Broken::Good(error)) if self.is_last() => {
                    return Err(io::Error::other(error.after(&self.given_up)));
                }
                Err(Broken::Good(error)) => {
                    self.go_on(format!("{}: {error}", self.session().place()));
                    self.unfit.get_or_insert(error);
                }
            }
        }
    }
}

/// Why the next bytes didn't come.
enum Broken {
    /// The connection or the registry; another attempt or another registry may bring them.
    For(Failure),
    /// What comes is not the blob.
    Good(Error),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::For(failure)
    }
}

impl Stream<'_> {
    /// An error of our own file, for the user to see as such.
    fn ours(&self, action: &'static str, source: io::Error) -> io::Error {
        io::Error::other(Error::Io { action, path: self.layer.path.clone(), source })
    }

    fn session(&self) -> &Session {
        &self.layer.sessions[self.session]
    }

    fn is_last(&self) -> bool {
        self.session + 1 == self.layer.sessions.len()
    }

    /// To the next registry.
    fn go_on(&mut self, reason: String) {
        self.given_up.push(reason);
        self.body = None;
        self.session += 1;
        self.failed = 0;
    }

    /// Some of the next bytes, at least one.
    fn fetch(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let host = self.session().place().to_owned();
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let body = self.connect()?;
                self.layer.senders.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone());
                self.body.insert(body)
            }
        };
        let left = usize::try_from(self.layer.size - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        match body.read(&mut buffer[..wanted]) {
            Ok(0) => {
                let reason = format!("the connection broke off at byte {} of {}", self.position, self.layer.size);
                Err(Failure::Connection { host, reason, connected: true }.into())
            }
            Ok(read) => Ok(read),
            Err(error) => Err(Failure::broken(&host, &error).into()),
        }
    }

    /// Asks for the blob from where we are.
    fn connect(&self) -> Result<Box<dyn Read + Send>, Broken> {
        let path = format!("blobs/{}", self.layer.digest);
        let range = format!("bytes={}-", self.position);
        let headers = [("Range", range.as_str())];
        let headers = if self.position > 0 { &headers[..] } else { &[] };
        let response = self.session().get_once(&path, headers)?;
        let begins = match response.status {
            206 => range_start(&response),
            _ => Some(0),
        };
        let size = self.layer.size;
        let whole = response.length().zip(begins).map(|(length, begins)| begins.saturating_add(length));
        if let Some(length) = whole.filter(|length| *length != size) {
            return Err(Broken::Good(Error::WrongSize { name: self.layer.name(), expected: size, size: length }));
        }
        match begins {
            Some(begins) if begins == self.position => Ok(Box::new(response.reader())),
            // A registry that knows no ranges sends all of it again.
            Some(0) => {
                let mut reader = response.reader();
                let skipped = io::copy(&mut (&mut reader).take(self.position), &mut io::sink());
                match skipped {
                    Ok(skipped) if skipped == self.position => Ok(Box::new(reader)),
                    Ok(_) => Err(Failure::broken(self.session().place(), &io::ErrorKind::UnexpectedEof.into()).into()),
                    Err(error) => Err(Failure::broken(self.session().place(), &error).into()),
                }
            }
            _ => Err(Failure::Protocol {
                host: self.session().place().to_owned(),
                reason: format!("it was asked for bytes from {} on and sent others", self.position),
            }
            .into()),
        }
    }

    /// Waits before another attempt, or goes on to another registry; else that was it.
    fn recover(&mut self, failure: Failure) -> io::Result<()> {
        self.body = None;
        if self.listener.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        if self.since_failure >= PROGRESS {
            self.failed = 0;
        }
        self.since_failure = 0;
        self.failed += 1;
        let pause = pause(&failure, back_off(self.failed)).filter(|_| self.failed <= self.session().attempts());
        let Some(pause) = pause else {
            if !self.is_last() {
                self.go_on(failure.to_string());
                return Ok(());
            }
            self.given_up.push(failure.to_string());
            if let Some(unfit) = self.unfit.take() {
                return Err(io::Error::other(unfit.after(&self.given_up)));
            }
            let reason = self.given_up.join("; ");
            return Err(io::Error::other(Error::Layers { digest: self.layer.digest, reason }));
        };
        let seconds = pause.as_secs_f64().ceil() as u64;
        (self.listener.progress)(Progress::Retrying { diff_id: self.listener.diff_id, seconds });
        match sleep(pause, self.listener.cancelled) {
            true => Ok(()),
            false => Err(io::Error::other("another layer failed")),
        }
    }
}

/// Where a partial answer begins (`Content-Range: bytes 5-9/10`).
fn range_start(response: &Response) -> Option<u64> {
    let range = response.header("content-range")?.trim().strip_prefix("bytes")?.trim_start();
    range.split('-').next()?.trim().parse().ok()
}

/// Removes partial blobs that nobody went on with for a day. Returns how many.
pub(crate) fn remove_old(ingest: &Path) -> Result<usize, Error> {
    let entries = match std::fs::read_dir(ingest) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(Error::Io { action: "read", path: ingest.to_owned(), source }),
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
        if age.is_none_or(|age| age < EXPIRE_AFTER) {
            continue;
        }
        if let Some(lock) = FileLock::try_exclusive(&entry.path())? {
            lock.remove();
            removed += 1;
        }
    }
    Ok(removed)
}
