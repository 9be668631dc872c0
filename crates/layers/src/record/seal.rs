//! From what was recorded to a record that is proven.

use super::check::check_record;
use super::head::{self, KEPT, RECORD, TREE};
use super::moves::{Moves, Place};
use super::read::{Files, LayerArchive, open_steps};
use super::steps::{Recorder, Step, Unsealed};
use super::{Archived, REPLACED, tree};
use crate::{Error, Result};
use orlop_model::Digest;
use orlop_sys::copy::remove_tree;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What an unpacked archive left: the record as it was written along, and what was moved since.
pub(crate) struct Recorded {
    pub(crate) recorder: Recorder,
    pub(crate) moves: Moves,
}

/// Ends the record of the layer in `directory` and proves it; with `tree` it also writes down what the layer looks like,
/// which is to be done once nothing changes any more. After a failed proof there is no record.
pub(crate) fn seal(directory: &Path, recorded: Recorded, diff_id: Digest, tree: bool) -> Result<Archived> {
    recorded.recorder.finish()?.seal(diff_id)?;
    follow(directory, &recorded.moves)?;
    let archived = std::thread::scope(|scope| {
        let tree = tree.then(|| scope.spawn(|| tree::write(directory, diff_id)));
        let archived = match recorded.moves.are_too_many() {
            true => Ok(Archived::No(TOO_MANY.to_owned())),
            false => prove(directory),
        };
        match tree.map(|tree| tree.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))) {
            Some(Err(error)) => Err(error),
            _ => archived,
        }
    })?;
    drop_unproven(directory, archived)
}

/// The same after the layer was settled. A layer without a record stays without.
pub(crate) fn seal_settled(directory: &Path, moves: &Moves) -> Result<Archived> {
    let heads = [head::open(&directory.join(RECORD.file), &RECORD)?, head::open(&directory.join(KEPT.file), &KEPT)?];
    let (has_record, diff_id) = match heads {
        [Some((head, _)), _] => (true, head.diff_id),
        [None, Some((head, _))] => (false, head.diff_id),
        [None, None] => match head::open(&directory.join(TREE.file), &TREE)? {
            Some((head, _)) => (false, head.diff_id),
            None => return Ok(Archived::NotAsked),
        },
    };
    let archived = match (has_record, moves.is_empty()) {
        (false, _) => Ok(Archived::NotAsked),
        (true, true) => Ok(Archived::Yes),
        (true, false) if moves.are_too_many() => Ok(Archived::No(TOO_MANY.to_owned())),
        (true, false) => follow(directory, moves).and_then(|()| prove(directory)),
    };
    remove_tree(&directory.join(REPLACED))?;
    tree::write(directory, diff_id)?;
    drop_unproven(directory, archived?)
}

const TOO_MANY: &str = "it replaces too many of its own entries";

/// Puts the record right for what was moved. What lies aside goes.
fn follow(directory: &Path, moves: &Moves) -> Result<()> {
    if !moves.are_too_many() {
        rewrite(directory, moves)?;
    }
    Ok(remove_tree(&directory.join(REPLACED))?)
}

fn drop_unproven(directory: &Path, archived: Archived) -> Result<Archived> {
    if let Archived::No(_) = archived {
        let path = directory.join(RECORD.file);
        std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
    }
    Ok(archived)
}

/// Copies into the record what lies aside, and names files by where they are now.
fn rewrite(directory: &Path, moves: &Moves) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let (head, mut steps) = open_steps(directory)?;
    let path = directory.join(format!("{}.new", RECORD.file));
    let mut recorder = Recorder::create(path)?;
    let mut aside = None;
    let mut number = 0;
    // The file that ranges are of, and whether it lies aside.
    let mut file: Option<(File, bool)> = None;
    let mut files = Files::below(&directory.join("diff"))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match steps.next()? {
            Step::Literal(_) => loop {
                let count = steps.literal(&mut buffer)?;
                if count == 0 {
                    break;
                }
                recorder.literal(&buffer[..count])?;
            },
            Step::File => {
                file = Some(match moves.place_of(steps.file(), number) {
                    Place::Layer(path) => {
                        recorder.begin_file(&path)?;
                        (files.open_file(&path)?, false)
                    }
                    Place::Aside(path) => {
                        let aside = match &mut aside {
                            Some(aside) => aside,
                            None => aside.insert(Files::below(&directory.join(REPLACED))?),
                        };
                        (aside.open_file(&path)?, true)
                    }
                });
                number += 1;
            }
            Step::Range { mut offset, mut length } => {
                let Some((file, is_aside)) = &file else { continue };
                if !is_aside {
                    recorder.seek(offset)?;
                }
                while length > 0 {
                    let most = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                    let count = file.read_at(&mut buffer[..most], offset);
                    let count = count.map_err(|error| Error::io("read a file of", directory, error))?;
                    if count == 0 {
                        let path = directory.to_owned();
                        return Err(Error::Changed { path, reason: "has a file that became shorter" });
                    }
                    recorder.content(&buffer[..count])?;
                    offset += count as u64;
                    length -= count as u64;
                }
            }
            Step::Sum(_) => {
                file = None;
                recorder.end_file()?;
            }
            Step::End => break,
        }
    }
    let unsealed: Unsealed = recorder.finish()?;
    let written = unsealed.path.clone();
    unsealed.seal(head.diff_id)?;
    let path = directory.join(RECORD.file);
    std::fs::rename(&written, &path).map_err(|error| Error::io("rename", &written, error))
}

/// Makes the archive again and hashes it.
fn prove(directory: &Path) -> Result<Archived> {
    let mut archive = LayerArchive::open(directory)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => return Ok(Archived::Yes),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let error = Error::of_reader(error);
                return if error.is_damage() { unproven(directory, &error) } else { Err(error) };
            }
        }
    }
}

/// A file that doesn't read back as it was written must not become part of an image; for anything else the archive is
/// kept.
fn unproven(directory: &Path, reason: &Error) -> Result<Archived> {
    let diff_id = LayerArchive::open(directory)?.diff_id();
    let mut damaged = None;
    check_record(directory, diff_id, &mut |found| {
        if damaged.is_none() && !found.path.as_os_str().is_empty() {
            damaged = Some(directory.join("diff").join(found.path));
        }
    })?;
    match damaged {
        Some(path) => Err(Error::Changed { path, reason: "doesn't read back as it was written" }),
        None => Ok(Archived::No(reason.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn a_file_that_does_not_read_back_fails_the_layer() {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::create_dir(base.path().join("diff")).unwrap();
        for (written, fails) in [("content", false), ("contenT", true), ("cont", true)] {
            std::fs::write(base.path().join("diff/file"), written).unwrap();
            let mut recorder = super::super::begin(base.path()).unwrap();
            recorder.literal(b"header").unwrap();
            recorder.begin_file(b"file").unwrap();
            recorder.content(b"content").unwrap();
            let diff_id = Digest::from_sha256(Sha256::digest(b"headercontent").into());
            let recorded = Recorded { recorder, moves: Moves::new(base.path()) };
            match seal(base.path(), recorded, diff_id, true) {
                Ok(archived) => assert!(!fails && archived == Archived::Yes, "{written}"),
                Err(error) => assert!(
                    fails && error.to_string().ends_with("diff/file doesn't read back as it was written"),
                    "{error}"
                ),
            }
        }
    }
}
