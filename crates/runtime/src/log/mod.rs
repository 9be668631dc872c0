//! A container's log: Docker's json-file format (`{"log":"text\n","stream":"stdout","time":"…"}` a line), the newest in
//! `path`, older ones in `path.1`, `path.2` …
//!
//! One process writes, the container's shim; any number read and may follow. A line without its newline is being
//! written, or was torn when the machine stopped, and isn't shown.

mod follow;
mod writer;

pub use writer::LogWriter;

use crate::Error;
use orlop_model::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output; also a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As the log writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line of a log (a line longer than 16 KiB has several).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// When it was read from the program.
    pub time: Timestamp,
    /// From which stream.
    pub stream: Stream,
    /// The text, with its newline where it had one.
    pub text: String,
    /// What `--log-opt labels`, `env` and `tag` added.
    pub attrs: BTreeMap<String, String>,
}

impl LogEntry {
    /// What `logs --details` shows before the text: `NAME=value,NAME=value`.
    pub fn details(&self) -> String {
        let encoded = |text: &str| text.replace('%', "%25").replace(',', "%2C").replace('=', "%3D");
        let each = self.attrs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        each.collect::<Vec<_>>().join(",")
    }

    /// The line as `docker logs` shows it, with its time in front when asked for (`-t`).
    pub fn to_text(&self, timestamps: bool) -> String {
        if timestamps { format!("{} {}", self.time, self.text) } else { self.text.clone() }
    }
}

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Only this many of the last lines; none: all.
    pub tail: Option<u64>,
    /// Only lines at or after this.
    pub since: Option<Timestamp>,
    /// Only lines before or at this; following ends there.
    pub until: Option<Timestamp>,
    /// Go on with what is added.
    pub follow: bool,
}

/// Hands the log's lines to `sink`, oldest first; a log that is not there is empty.
///
/// With `follow` it returns when `running` says that the container has ended and everything was handed over; `running`
/// is asked whenever something changes beside the log (where the exit record appears), and each second. `sink` ends it
/// with `Break`.
pub fn read(
    path: &Path,
    query: &LogQuery,
    running: &mut dyn FnMut() -> bool,
    sink: &mut dyn FnMut(&LogEntry) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut reader = Reader { path, query, sink };
    // The watch comes before the first read, so that nothing falls between them.
    let watch = if query.follow { Some(follow::Watch::new(path)?) } else { None };
    let mut files = open_all(path)?;
    let skip = match query.tail {
        Some(lines) => last_lines(path, &files, lines)?,
        None => Position { file: 0, offset: 0 },
    };
    let mut ended = ControlFlow::Continue(0);
    for (number, file) in files.iter().enumerate().skip(skip.file) {
        let from = if number == skip.file { skip.offset } else { 0 };
        ended = reader.lines(file, from)?;
        if ended.is_break() {
            return Ok(());
        }
    }
    let (Some(watch), ControlFlow::Continue(offset)) = (watch, ended) else { return Ok(()) };
    follow::follow(&mut reader, &watch, files.pop().map(|file| (file, offset)), running)
}

/// Every file of the log, oldest first.
fn open_all(path: &Path) -> Result<Vec<File>, Error> {
    // A rotation in between moves each file to a higher number, so going upwards a file may be met twice but never
    // missed.
    let mut files: Vec<File> = Vec::new();
    let mut seen = Vec::new();
    let mut missing = false;
    for number in 0.. {
        let name = writer::rotated(path, number);
        match File::open(&name) {
            Ok(file) => {
                let inode = identity(&file).map_err(Error::io("stat", &name))?;
                if !seen.contains(&inode) {
                    seen.push(inode);
                    files.push(file);
                }
            }
            // In the middle of a rotation one number is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !missing => missing = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(Error::io("open", &name)(error)),
        }
    }
    files.reverse();
    Ok(files)
}

/// Device and inode.
pub(crate) fn identity(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Where to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    file: usize,
    offset: u64,
}

/// Where the last `wanted` lines begin, read backwards in blocks.
fn last_lines(path: &Path, files: &[File], wanted: u64) -> Result<Position, Error> {
    const BLOCK: u64 = 64 * 1024;
    let mut found = 0;
    let mut block = vec![0; BLOCK as usize];
    for (number, file) in files.iter().enumerate().rev() {
        let mut end = file.metadata().map_err(Error::io("stat", path))?.len();
        // An end without a newline is a torn line: it doesn't count.
        while end > 0 {
            let start = end.saturating_sub(BLOCK);
            let bytes = &mut block[..(end - start) as usize];
            if file.read_exact_at(bytes, start).is_err() {
                // Cut short by its writer meanwhile (a single file that is emptied).
                break;
            }
            for (at, byte) in bytes.iter().enumerate().rev() {
                if *byte == b'\n' {
                    if found == wanted {
                        return Ok(Position { file: number, offset: start + at as u64 + 1 });
                    }
                    found += 1;
                }
            }
            end = start;
        }
    }
    Ok(Position { file: 0, offset: 0 })
}

/// A query on its way through the files.
struct Reader<'a> {
    path: &'a Path,
    query: &'a LogQuery,
    sink: &'a mut dyn FnMut(&LogEntry) -> ControlFlow<()>,
}

impl Reader<'_> {
    /// Hands on the whole lines of a file from `offset`; continues with the offset after the last one.
    fn lines(&mut self, file: &File, mut offset: u64) -> Result<ControlFlow<(), u64>, Error> {
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        reader.seek(SeekFrom::Start(offset)).map_err(Error::io("read", self.path))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(Error::io("read", self.path))?;
            if line.last() != Some(&b'\n') {
                return Ok(ControlFlow::Continue(offset));
            }
            offset += length as u64;
            let Some(entry) = parse(&line) else { continue };
            if self.query.since.is_some_and(|since| entry.time < since) {
                continue;
            }
            if self.query.until.is_some_and(|until| entry.time > until) {
                return Ok(ControlFlow::Break(()));
            }
            if (self.sink)(&entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

/// A line of the log; none when it is damaged.
fn parse(line: &[u8]) -> Option<LogEntry> {
    #[derive(Deserialize)]
    struct Line {
        log: String,
        stream: String,
        time: Timestamp,
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    Some(LogEntry { time: line.time, stream, text: line.log, attrs: line.attrs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::LogConfig;
    use std::io::Write;

    fn texts(path: &Path, query: &LogQuery) -> Vec<String> {
        let mut all = Vec::new();
        read(path, query, &mut || false, &mut |entry| {
            all.push(entry.text.trim_end().to_owned());
            ControlFlow::Continue(())
        })
        .unwrap();
        all
    }

    #[test]
    fn tail_and_times_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            LogConfig { path: dir.path().join("c.log"), max_size: 700, max_files: 5, attrs: Default::default() };
        let mut log = LogWriter::open(config.clone());
        (0..30).for_each(|number| log.write(Stream::Stdout, format!("{number}\n").as_bytes()));
        write!(File::options().append(true).open(&config.path).unwrap(), "{{\"log\":\"torn").unwrap();
        let wanted: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        assert_eq!(texts(&config.path, &LogQuery::default()), wanted);
        for tail in [0, 1, 7, 12, 30, 99] {
            let query = LogQuery { tail: Some(tail), ..LogQuery::default() };
            let wanted = &wanted[30usize.saturating_sub(tail as usize)..];
            assert_eq!(texts(&config.path, &query), wanted, "tail {tail}");
        }
        let mut times = Vec::new();
        read(&config.path, &LogQuery::default(), &mut || false, &mut |entry| {
            times.push(entry.time);
            ControlFlow::Continue(())
        })
        .unwrap();
        let query = LogQuery { since: Some(times[10]), until: Some(times[19]), ..LogQuery::default() };
        assert_eq!(texts(&config.path, &query), &wanted[10..20]);
        assert_eq!(texts(&dir.path().join("nothing"), &LogQuery::default()), Vec::<String>::new());
    }

    #[test]
    fn following_crosses_a_rotation_and_ends() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let config =
            LogConfig { path: dir.path().join("c.log"), max_size: 2000, max_files: 5, attrs: Default::default() };
        let done = AtomicBool::new(false);
        let mut log = LogWriter::open(config.clone());
        log.write(Stream::Stdout, b"0\n");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..60 {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    log.write(Stream::Stdout, format!("{number}\n").as_bytes());
                }
                done.store(true, Ordering::SeqCst);
                std::fs::write(dir.path().join("exit.json"), "{}").unwrap();
            });
            let mut all = Vec::new();
            let query = LogQuery { follow: true, ..LogQuery::default() };
            let started = std::time::Instant::now();
            read(&config.path, &query, &mut || !done.load(Ordering::SeqCst), &mut |entry| {
                all.push(entry.text.trim_end().to_owned());
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(all, (0..60).map(|number| number.to_string()).collect::<Vec<_>>());
            assert!(started.elapsed() < std::time::Duration::from_secs(1));
        });
    }
}
