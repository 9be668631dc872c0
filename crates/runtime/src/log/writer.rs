//! Writing a container's log: Docker's json-file lines, rotated. It never blocks the container: what can't be written
//! is dropped and counted.

use super::Stream;
use crate::shim::LogConfig;
use orlop_model::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Docker's limit: a longer line is written in pieces of this many bytes.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// The end of a log, being written.
#[derive(Debug)]
pub struct LogWriter {
    config: LogConfig,
    file: Option<File>,
    size: u64,
    /// What has come of a line that hasn't ended, for stdout and stderr.
    partial: [Vec<u8>; 2],
    /// Lines ready to be written in one go.
    batch: Vec<u8>,
    batch_lines: u64,
    /// What comes after each line's stream: `,"attrs":{…}` or nothing.
    attrs: String,
    dropped: u64,
}

impl LogWriter {
    /// Opens the log at its end. If it can't be opened now, it is tried again with each write.
    pub fn open(config: LogConfig) -> Self {
        let attrs = match config.attrs.is_empty() {
            true => String::new(),
            false => format!(",\"attrs\":{}", serde_json::json!(config.attrs)),
        };
        let mut writer = Self {
            attrs,
            config,
            file: None,
            size: 0,
            partial: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            batch_lines: 0,
            dropped: 0,
        };
        // A failure counts once there is something to write.
        let _ = writer.reopen();
        writer
    }

    /// Lines that could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes what a stream has written.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let time = Timestamp::now().to_string();
        while !bytes.is_empty() {
            let room = MAX_LINE - self.partial[stream as usize].len();
            let window = &bytes[..bytes.len().min(room)];
            let newline = window.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(window.len(), |at| at + 1);
            self.partial[stream as usize].extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if newline.is_some() {
                self.end_line(stream, &time, usize::MAX);
            } else if self.partial[stream as usize].len() == MAX_LINE {
                let whole = whole_characters(&self.partial[stream as usize]);
                self.end_line(stream, &time, whole);
            }
        }
        self.flush();
    }

    /// Writes lines that have no end: the container has ended.
    pub fn finish(&mut self) {
        let time = Timestamp::now().to_string();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.partial[stream as usize].is_empty() {
                self.end_line(stream, &time, usize::MAX);
            }
        }
        self.flush();
    }

    /// Puts the first `length` bytes of the unfinished line into the batch.
    fn end_line(&mut self, stream: Stream, time: &str, length: usize) {
        let partial = &mut self.partial[stream as usize];
        let length = length.min(partial.len());
        let before = self.batch.len();
        self.batch.extend_from_slice(b"{\"log\":\"");
        escape(&partial[..length], &mut self.batch);
        let (name, attrs) = (stream.name(), &self.attrs);
        // Writing to a Vec can't fail.
        let _ = writeln!(self.batch, "\",\"stream\":\"{name}\"{attrs},\"time\":\"{time}\"}}");
        partial.drain(..length);
        self.batch_lines += 1;
        let line = (self.batch.len() - before) as u64;
        if self.size + before as u64 > 0 && self.size + before as u64 + line > self.config.max_size {
            self.rotate_before(before);
        }
    }

    /// Writes what lies before the last line, then begins a new file for that line.
    fn rotate_before(&mut self, last_line: usize) {
        let line = self.batch.split_off(last_line);
        self.batch_lines -= 1;
        self.flush();
        if let Err(error) = self.rotate() {
            // The old file goes on growing; that is better than losing lines, and it is tried again next time.
            crate::shim::note(&format!("rotating the log {}: {error}", self.config.path.display()));
        }
        self.batch = line;
        self.batch_lines = 1;
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| rotated(&self.config.path, number);
        if self.config.max_files <= 1 {
            if let Some(file) = &self.file {
                file.set_len(0)?;
            }
            self.size = 0;
            return Ok(());
        }
        for number in (0..self.config.max_files - 1).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = None;
        self.reopen()
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = File::options().append(true).create(true).mode(0o640).open(&self.config.path)?;
        self.size = file.metadata()?.len();
        // A line torn by a power cut must not swallow the next one.
        if self.size > 0 && !ends_with_newline(&self.config.path, self.size) {
            (&file).write_all(b"\n")?;
            self.size += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.append().is_err() {
            self.dropped += self.batch_lines;
            // No torn line may stay: on a full disk a part may have been written. Shrinking needs no block.
            if let Some(file) = &self.file {
                let _ = file.set_len(self.size);
            }
        }
        self.batch.clear();
        self.batch_lines = 0;
    }

    fn append(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        file.write_all(&self.batch)?;
        self.size += self.batch.len() as u64;
        Ok(())
    }
}

fn ends_with_newline(path: &std::path::Path, size: u64) -> bool {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    File::open(path).and_then(|file| file.read_exact_at(&mut last, size - 1)).is_ok() && last == *b"\n"
}

/// The log's file with that age: 0 is the newest.
pub(crate) fn rotated(path: &std::path::Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// How many of `bytes` can be cut off without cutting through a character.
fn whole_characters(bytes: &[u8]) -> usize {
    let start = (1..=3.min(bytes.len())).find(|back| bytes[bytes.len() - back] & 0xC0 != 0x80);
    let Some(back) = start else { return bytes.len() };
    let needed = match bytes[bytes.len() - back] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if needed > back { bytes.len() - back } else { bytes.len() }
}

/// As Docker's jsonlog writes a string: `<`, `>`, `&` and the line separators escaped for HTML, each byte that isn't
/// UTF-8 replaced.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid().as_bytes();
        let mut plain = 0;
        for (at, byte) in text.iter().enumerate() {
            let line_separator = *byte == 0xE2 && matches!(text.get(at + 1..at + 3), Some([0x80, 0xA8 | 0xA9]));
            if !line_separator && *byte >= 0x20 && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') {
                continue;
            }
            if at < plain {
                continue;
            }
            out.extend_from_slice(&text[plain..at]);
            plain = at + 1;
            match byte {
                b'"' | b'\\' => out.extend([b'\\', *byte]),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                0xE2 => {
                    out.extend(if text[at + 2] == 0xA8 { b"\\u2028" } else { b"\\u2029" });
                    plain = at + 3;
                }
                _ => {
                    let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                    out.extend([b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                }
            }
        }
        out.extend_from_slice(&text[plain..]);
        for _ in chunk.invalid() {
            out.extend(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(config: &LogConfig, number: u32) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(rotated(&config.path, number)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn writer(dir: &tempfile::TempDir, max_size: u64, max_files: u32) -> (LogConfig, LogWriter) {
        let config = LogConfig { path: dir.path().join("c-json.log"), max_size, max_files, attrs: Default::default() };
        (config.clone(), LogWriter::open(config))
    }

    #[test]
    fn strings_are_escaped_as_docker_does() {
        for (bytes, wanted) in [
            (&b"plain\n"[..], r"plain\n"),
            (b"q\"b\\<&>\t\r\x1b", r#"q\"b\\\u003c\u0026\u003e\u0009\r\u001b"#),
            (b"bad \xff\xc3 end", r"bad \ufffd\ufffd end"),
            ("\u{2028}a\u{2029}é€".as_bytes(), r"\u2028a\u2029é€"),
        ] {
            let mut out = Vec::new();
            escape(bytes, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }

    #[test]
    fn lines_are_joined_and_split() {
        let dir = tempfile::tempdir().unwrap();
        let (config, mut log) = writer(&dir, 1 << 20, 5);
        log.write(Stream::Stdout, b"half ");
        log.write(Stream::Stderr, b"err\n");
        log.write(Stream::Stdout, b"line\n\nlast");
        log.write(Stream::Stdout, &[b'x'; 2 * MAX_LINE]);
        log.finish();
        let lines = lines(&config, 0);
        let texts: Vec<&str> = lines.iter().map(|line| line["log"].as_str().unwrap()).collect();
        assert_eq!(&texts[..3], ["err\n", "half line\n", "\n"]);
        assert_eq!(texts[3..].iter().map(|text| text.len()).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE, 4]);
        assert_eq!(lines[0]["stream"], "stderr");
        assert!(Timestamp::parse(lines[0]["time"].as_str().unwrap()).is_some());
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let dir = tempfile::tempdir().unwrap();
        let (config, mut log) = writer(&dir, 1 << 20, 5);
        let text = format!("{}{}\n", "x".repeat(MAX_LINE - 1), "€");
        log.write(Stream::Stdout, text.as_bytes());
        let joined: String = lines(&config, 0).iter().map(|line| line["log"].as_str().unwrap().to_owned()).collect();
        assert_eq!(joined, text);
    }

    #[test]
    fn files_are_rotated_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (config, mut log) = writer(&dir, 1000, 3);
        for number in 0..100 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        for number in 0..3 {
            assert!(fs::metadata(rotated(&config.path, number)).unwrap().len() <= 1000);
        }
        assert!(!rotated(&config.path, 3).exists());
        assert_eq!(lines(&config, 0).last().unwrap()["log"], "line 99\n");
        let (config, mut log) = writer(&dir, 1000, 1);
        (0..100).for_each(|_| log.write(Stream::Stdout, b"text\n"));
        assert!(fs::metadata(&config.path).unwrap().len() <= 1000);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            path: dir.path().join("missing/c.log"),
            max_size: 1000,
            max_files: 2,
            attrs: Default::default(),
        };
        let mut log = LogWriter::open(config);
        log.write(Stream::Stdout, b"a\nb\n");
        assert_eq!(log.dropped(), 2);
    }
}
