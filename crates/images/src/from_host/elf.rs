//! What an ELF file needs to start: its interpreter and libraries (gabi, "Dynamic Linking"; ld.so(8)).

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};
use std::fs::File;
use std::path::Path;

/// What the dynamic linker is told by a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Class and machine: a library of another kind is passed over.
    pub(crate) machine: (u8, u16),
    pub(crate) interpreter: Option<String>,
    pub(crate) needed: Vec<String>,
    pub(crate) rpath: Vec<String>,
    pub(crate) runpath: Vec<String>,
}

/// None when the file is not ELF.
pub(crate) fn needs(path: &Path) -> Result<Option<Needs>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let data = ReadCache::new(file);
    let Ok(ident) = data.read_bytes_at(0, 16) else { return Ok(None) };
    match ident {
        [0x7f, b'E', b'L', b'F', 2, ..] => read::<elf::FileHeader64<Endianness>, _>(&data).map(Some),
        [0x7f, b'E', b'L', b'F', 1, ..] => read::<elf::FileHeader32<Endianness>, _>(&data).map(Some),
        _ => Ok(None),
    }
}

fn read<'data, Elf: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(data: R) -> Result<Needs, String> {
    let text = |error: object::read::Error| error.to_string();
    let header = Elf::parse(data).map_err(text)?;
    let endian = header.endian().map_err(text)?;
    let segments = header.program_headers(endian, data).map_err(text)?;
    let mut needs = Needs { machine: (header.e_ident().class.0, header.e_machine(endian).0), ..Needs::default() };
    let mut dynamic = None;
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, data).map_err(text)? {
            needs.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
        if let Some(entries) = segment.dynamic(endian, data).map_err(text)? {
            dynamic = Some(entries);
        }
    }
    let Some(dynamic) = dynamic else { return Ok(needs) };
    let value = |tag: elf::DynamicTag| {
        let entry = dynamic.iter().find(|entry| entry.tag(endian) == tag)?;
        Some(entry.d_val(endian).into())
    };
    let Some(strings): Option<u64> = value(elf::DT_STRTAB) else { return Ok(needs) };
    let strings = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .find_map(|segment| {
            let start: u64 = segment.p_vaddr(endian).into();
            let size: u64 = segment.p_filesz(endian).into();
            let offset: u64 = segment.p_offset(endian).into();
            (start..start.saturating_add(size)).contains(&strings).then(|| offset + (strings - start))
        })
        .ok_or("its string table lies in no segment")?;
    for entry in dynamic {
        let tag = entry.tag(endian);
        if ![elf::DT_NEEDED, elf::DT_RPATH, elf::DT_RUNPATH].contains(&tag) {
            continue;
        }
        let offset: u64 = entry.d_val(endian).into();
        let start = strings.checked_add(offset).ok_or("a name lies outside its string table")?;
        let name = data
            .read_bytes_at_until(start..start.saturating_add(4096), 0)
            .map_err(|()| "a name lies outside its string table")?;
        let name = String::from_utf8_lossy(name).into_owned();
        match tag {
            elf::DT_NEEDED => needs.needed.push(name),
            elf::DT_RPATH => needs.rpath = name.split(':').map(str::to_owned).collect(),
            _ => needs.runpath = name.split(':').map(str::to_owned).collect(),
        }
    }
    Ok(needs)
}

/// Names and paths in `/etc/ld.so.cache` (glibc, sysdeps/generic/dl-cache.h); entries for special processors are left
/// out. Empty when it can't be read: the default directories are searched anyway.
pub(crate) fn read_cache(bytes: &[u8]) -> Vec<(String, String)> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let Some(start) = bytes.windows(MAGIC.len()).position(|window| window == MAGIC) else { return Vec::new() };
    let bytes = &bytes[start..];
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        usize::try_from(u32::from_ne_bytes(bytes.try_into().expect("four bytes"))).ok()
    };
    let string = |at: usize| {
        let rest = bytes.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        String::from_utf8(rest[..end].to_vec()).ok()
    };
    let count = number(MAGIC.len()).unwrap_or(0).min(bytes.len() / ENTRY);
    (0..count)
        .map(|index| HEADER + index * ENTRY)
        .filter(|at| bytes.get(at + 16..at + 24).is_some_and(|hwcap| hwcap.iter().all(|byte| *byte == 0)))
        .filter_map(|at| Some((string(number(at + 4)?)?, string(number(at + 8)?)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_libc_and_a_linker() {
        let needs = needs(&std::env::current_exe().unwrap()).unwrap().unwrap();
        assert!(needs.needed.iter().any(|name| name.starts_with("libc.")), "{needs:?}");
        assert!(needs.interpreter.unwrap().contains("ld"), "no interpreter");
    }

    #[test]
    fn the_linkers_cache_knows_libc() {
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else {
            #[expect(clippy::print_stderr, reason = "a test that can't run says so")]
            {
                eprintln!("skipped: no /etc/ld.so.cache");
            }
            return;
        };
        let cache = read_cache(&bytes);
        assert!(cache.iter().any(|(name, path)| name == "libc.so.6" && path.starts_with('/')));
        assert!(read_cache(&bytes[..bytes.len() / 2]).len() <= cache.len());
        assert!(read_cache(b"rubbish").is_empty());
    }
}
