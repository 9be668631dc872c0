//! Whether a stored layer still is what it was.

use super::head::{self, KEPT};
use super::read::{Files, LayerArchive, open_steps};
use super::steps::Step;
use super::tree::{self, Difference};
use crate::{Error, Result};
use flate2::Crc;
use orlop_model::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Makes the archive of the layer in `directory` again and compares its digest with `diff_id`, and every path with what
/// it looked like when the layer was stored. Everything that differs is told, a file whose content has changed by its
/// name; bounded memory, whatever the layer.
///
/// # Errors
/// Only when something outside of the layer fails: what is wrong with the layer, or with what lies beside it, is told.
pub fn check(directory: &Path, diff_id: Digest, tell: &mut dyn FnMut(Difference)) -> Result<()> {
    if !directory.join("diff").symlink_metadata().is_ok_and(|diff| diff.is_dir()) {
        tell(Difference::new(b"", "the layer is missing"));
        return Ok(());
    }
    let archive = match head::open(&directory.join(KEPT.file), &KEPT) {
        Ok(Some(_)) => check_kept(directory, diff_id, tell),
        Ok(None) => check_record(directory, diff_id, tell),
        Err(error) => Err(error),
    };
    for checked in [archive, tree::compare(directory, tell)] {
        match checked {
            Ok(()) => {}
            Err(Error::NoRecord { .. }) => {
                tell(Difference::new(b"", "was stored without a record, so not all of it can be checked"));
                return Ok(());
            }
            Err(error @ Error::Record { .. }) => tell(Difference::new(b"", error.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn check_kept(directory: &Path, diff_id: Digest, tell: &mut dyn FnMut(Difference)) -> Result<()> {
    let mut archive = LayerArchive::open(directory)?;
    if archive.diff_id() != diff_id {
        tell(Difference::new(b"", format!("its kept archive is {}, not {diff_id}", archive.diff_id())));
    }
    let mut buffer = vec![0; 256 << 10];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let error = Error::of_reader(error);
                if !error.is_damage() {
                    return Err(error);
                }
                tell(Difference::new(b"", format!("its kept archive is damaged: {error}")));
                return Ok(());
            }
        }
    }
}

/// A file while its ranges are read.
struct Reading {
    path: Vec<u8>,
    /// None once something was wrong with it.
    file: Option<File>,
    crc: Crc,
}

/// The same for the content alone, and only where there is a record.
pub(super) fn check_record(directory: &Path, diff_id: Digest, tell: &mut dyn FnMut(Difference)) -> Result<()> {
    let (head, mut steps) = open_steps(directory)?;
    let mut files = Files::below(&directory.join("diff"))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut reading: Option<Reading> = None;
    let (mut faults, mut size) = (0, 0_u64);
    loop {
        let mut fault = |reading: &Reading, what: String| {
            faults += 1;
            tell(Difference::new(&reading.path, what));
        };
        match steps.next()? {
            Step::Literal(_) => loop {
                let count = steps.literal(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hash.update(&buffer[..count]);
                size = size.saturating_add(count as u64);
            },
            Step::File => {
                let file = files.open_file(steps.file());
                let now = Reading { path: steps.file().to_vec(), file: None, crc: Crc::new() };
                reading = Some(match file {
                    Ok(file) => Reading { file: Some(file), ..now },
                    Err(error) if error.is_damage() => {
                        fault(&now, format!("can't be read: {error}"));
                        now
                    }
                    Err(error) => return Err(error),
                });
            }
            Step::Range { offset, length } => {
                size = size.saturating_add(length);
                let Some(reading) = &mut reading else { continue };
                let Some(file) = &reading.file else { continue };
                match read_range(file, offset, length, &mut buffer, |bytes| {
                    reading.crc.update(bytes);
                    hash.update(bytes);
                }) {
                    Ok(()) => {}
                    Err(error) => {
                        let error = Error::of_reader(error);
                        if !error.is_damage() {
                            return Err(error);
                        }
                        reading.file = None;
                        fault(reading, format!("can't be read: {error}"));
                    }
                }
            }
            Step::Sum(sum) => {
                if let Some(reading) = reading.take()
                    && reading.file.is_some()
                    && reading.crc.sum() != sum
                {
                    fault(&reading, "content has changed".to_owned());
                }
            }
            Step::End => break,
        }
    }
    let found = Digest::from_sha256(hash.finalize().into());
    if (head.size, head.diff_id) != (size, diff_id) {
        let what = format!("its record is of {} with {} bytes, not {diff_id} with {size}", head.diff_id, head.size);
        tell(Difference::new(b"", what));
    } else if faults == 0 && found != diff_id {
        tell(Difference::new(b"", format!("its archive made again is {found}, not {diff_id}")));
    }
    Ok(())
}

fn read_range(
    file: &File,
    mut offset: u64,
    mut length: u64,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    while length > 0 {
        let most = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        match file.read_at(&mut buffer[..most], offset) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was")),
            Ok(count) => {
                each(&buffer[..count]);
                offset += count as u64;
                length -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
