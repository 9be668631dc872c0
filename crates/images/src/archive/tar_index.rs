//! The table of contents of a tar archive that can be read at any position.
//!
//! Only the headers are read, with pread; the content stays where it is and several readers take it at once. The
//! headers come from a stranger: names, their number and the extension headers are limited, and nothing is written
//! anywhere by a name that is found here.

use crate::Error;
use crate::archive::blob::Blob;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Blocks of a tar archive.
const BLOCK: u64 = 512;
/// More entries than any image archive has: at most 500 layers an image, three entries a layer in Docker's old layout.
const MAX_ENTRIES: usize = 100_000;
/// Bytes of all names together, which are kept in memory.
const MAX_NAMES: usize = 16 * 1024 * 1024;
/// PATH_MAX: no path that a program could have written is longer.
const MAX_NAME: usize = 4096;
/// Content of one extension header (GNU long name, pax).
const MAX_EXTENSION: u64 = 1024 * 1024;
/// As many links are followed as the kernel follows.
const MAX_LINKS: usize = 40;

/// What one name stands for.
#[derive(Clone, Debug)]
enum Node {
    File {
        offset: u64,
        size: u64,
    },
    /// Path from the archive's root, already joined and cleaned.
    Link(String),
    Other,
}

/// Names and positions in one archive.
#[derive(Debug)]
pub(crate) struct TarIndex {
    file: Arc<File>,
    nodes: HashMap<String, Node>,
    name_bytes: usize,
    /// False when the archive stops without its two blocks of zeros, so that a missing file can be explained.
    pub(crate) ended: bool,
}

/// Values of a pax extension header that matter here.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl TarIndex {
    /// Reads every header. A name that is given twice stands for its last entry, as tar itself would leave it.
    pub(crate) fn read(file: Arc<File>, length: u64) -> Result<Self, Error> {
        let mut index = Self { file, nodes: HashMap::new(), name_bytes: 0, ended: false };
        let mut position = 0;
        let mut extension = Extension::default();
        let mut entries = 0;
        while position + BLOCK <= length {
            let mut block = [0; BLOCK as usize];
            index.file.read_exact_at(&mut block, position).map_err(|source| Error::ReadArchive { source })?;
            if block.iter().all(|byte| *byte == 0) {
                index.ended = true;
                break;
            }
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(Error::archive(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let header = tar::Header::from_byte_slice(&block);
            check_header(header, &block, position)?;
            let size = match extension.size.take_if(|_| !is_extension(header)) {
                Some(size) => size,
                None => header.entry_size().map_err(|_| broken_header(position))?,
            };
            let content = position + BLOCK;
            let end = content.checked_add(size).ok_or_else(|| broken_header(position))?;
            if end > length {
                return Err(Error::Truncated { at: length });
            }
            if is_extension(header) {
                index.read_extension(header, content, size, &mut extension)?;
            } else {
                index.add(header, content, size, std::mem::take(&mut extension))?;
            }
            position = end.next_multiple_of(BLOCK);
        }
        if !index.ended && position != length {
            return Err(Error::Truncated { at: length });
        }
        Ok(index)
    }

    /// The content that `name` stands for; links are followed within the archive only.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Blob>, Error> {
        let Some(mut name) = clean(name) else {
            return Err(Error::archive(format!("the path {name:?} leads out of it")));
        };
        for _ in 0..MAX_LINKS {
            match self.nodes.get(&name) {
                Some(Node::File { offset, size }) => {
                    return Ok(Some(Blob::new(name, Arc::clone(&self.file), *offset, *size)));
                }
                Some(Node::Link(target)) => name.clone_from(target),
                Some(Node::Other) => return Err(Error::archive(format!("{name:?} is not a regular file"))),
                None => return Ok(None),
            }
        }
        Err(Error::archive(format!("the link {name:?} leads in a circle")))
    }

    fn read_extension(
        &self,
        header: &tar::Header,
        offset: u64,
        size: u64,
        extension: &mut Extension,
    ) -> Result<(), Error> {
        if size > MAX_EXTENSION {
            return Err(Error::archive(format!("an extension header of {size} bytes at {offset}")));
        }
        let mut bytes = vec![0; usize::try_from(size).expect("limited above")];
        self.file.read_exact_at(&mut bytes, offset).map_err(|source| Error::ReadArchive { source })?;
        match header.entry_type() {
            tar::EntryType::GNULongName => extension.path = Some(until_nul(bytes)),
            tar::EntryType::GNULongLink => extension.link = Some(until_nul(bytes)),
            tar::EntryType::XHeader => read_pax(&bytes, extension, offset)?,
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, header: &tar::Header, offset: u64, size: u64, extension: Extension) -> Result<(), Error> {
        let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = text(path)?;
        // A name that leads out of the archive can't be asked for either.
        let Some(name) = clean(&path) else { return Ok(()) };
        let node = match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => Node::File { offset, size },
            kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                let target = extension.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                let target = text(target.unwrap_or_default())?;
                let from = match kind {
                    tar::EntryType::Symlink => name.rsplit_once('/').map_or("", |(parent, _)| parent),
                    _ => "",
                };
                match clean(&format!("{from}/{target}")) {
                    Some(target) => Node::Link(target),
                    None => Node::Other,
                }
            }
            _ => Node::Other,
        };
        self.name_bytes += name.len() + if let Node::Link(target) = &node { target.len() } else { 0 };
        if self.name_bytes > MAX_NAMES {
            return Err(Error::archive(format!("its names have more than {MAX_NAMES} bytes")));
        }
        self.nodes.insert(name, node);
        Ok(())
    }
}

fn is_extension(header: &tar::Header) -> bool {
    matches!(
        header.entry_type(),
        tar::EntryType::GNULongName
            | tar::EntryType::GNULongLink
            | tar::EntryType::XHeader
            | tar::EntryType::XGlobalHeader
    )
}

/// Whether an archive may begin with `block`; a whole block of zeros is an archive without entries.
pub(crate) fn is_header(block: &[u8]) -> bool {
    block.len() == tar::Header::new_gnu().as_bytes().len()
        && (block.iter().all(|byte| *byte == 0) || check_header(tar::Header::from_byte_slice(block), block, 0).is_ok())
}

fn check_header(header: &tar::Header, block: &[u8], position: u64) -> Result<(), Error> {
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    match header.cksum() {
        Ok(expected) if expected == sum => Ok(()),
        _ if position == 0 => Err(Error::NotAnArchive),
        _ => Err(broken_header(position)),
    }
}

fn broken_header(position: u64) -> Error {
    Error::archive(format!("its header at byte {position} is damaged"))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Records `LENGTH KEY=VALUE\n` (POSIX, pax).
fn read_pax(mut bytes: &[u8], extension: &mut Extension, offset: u64) -> Result<(), Error> {
    while !bytes.is_empty() && bytes[0] != 0 {
        let record = take_pax_record(&mut bytes).ok_or_else(|| broken_header(offset))?;
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else { return Err(broken_header(offset)) };
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.path = Some(value.to_vec()),
            b"linkpath" => extension.link = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                extension.size = Some(size.ok_or_else(|| broken_header(offset))?);
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::archive(format!("a sparse file at byte {offset}; write it as a plain tar archive")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn take_pax_record<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length.checked_sub(1)?)?;
    if bytes.get(length - 1) != Some(&b'\n') {
        return None;
    }
    *bytes = &bytes[length..];
    Some(record)
}

fn text(bytes: Vec<u8>) -> Result<String, Error> {
    if bytes.len() > MAX_NAME {
        return Err(Error::archive(format!("a name of {} bytes; {MAX_NAME} are allowed", bytes.len())));
    }
    // A name that isn't UTF-8 can't be referred to by JSON, so how it is spelt here is of no matter.
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// `path` without `.`, `..` and double slashes; None when it leads above the root.
pub(crate) fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_within_the_archive() {
        for (path, expected) in [
            ("./manifest.json", Some("manifest.json")),
            ("a//b/./c", Some("a/b/c")),
            ("a/../b", Some("b")),
            ("../layer.tar", None),
            ("a/../../b", None),
            ("/abs", Some("abs")),
        ] {
            assert_eq!(clean(path).as_deref(), expected, "{path}");
        }
    }

    fn check(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<TarIndex, Error> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        index(&builder.into_inner().unwrap())
    }

    fn index(bytes: &[u8]) -> Result<TarIndex, Error> {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        TarIndex::read(Arc::new(file), bytes.len() as u64)
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }

    fn content(index: &TarIndex, name: &str) -> Option<Vec<u8>> {
        index.get(name).unwrap().map(|blob| blob.read_all(1 << 20).unwrap())
    }

    #[test]
    fn links_are_followed_within_the_archive_only() {
        let long = "d/".repeat(120) + "file";
        let index = check(|builder| {
            file(builder, "abc.tar", b"layer");
            link(builder, "def/layer.tar", "../abc.tar");
            link(builder, "out", "../../etc/passwd");
            link(builder, "round", "robin");
            link(builder, "robin", "round");
            file(builder, "twice", b"one");
            file(builder, "twice", b"two");
            file(builder, &long, b"long");
        })
        .unwrap();
        assert_eq!(content(&index, "def/layer.tar").unwrap(), b"layer");
        assert_eq!(content(&index, "twice").unwrap(), b"two");
        assert_eq!(content(&index, &long).unwrap(), b"long");
        assert!(content(&index, "nothing").is_none());
        assert!(index.get("out").is_err());
        assert!(index.get("round").is_err());
        assert!(index.get("../abc.tar").is_err());
        assert!(index.ended);
    }

    #[test]
    fn a_cut_archive_is_told_from_one_that_is_none() {
        let mut builder = tar::Builder::new(Vec::new());
        file(&mut builder, "a", &[1; 5000]);
        let bytes = builder.into_inner().unwrap();
        assert!(matches!(index(&bytes[..3000]), Err(Error::Truncated { .. })));
        assert!(matches!(index(&bytes[..700]), Err(Error::Truncated { .. })));
        assert!(matches!(index(&[7; 2048]), Err(Error::NotAnArchive)));
        assert!(!index(&bytes[..512 + 5120]).unwrap().ended);
    }
}
