//! Extended headers: `LENGTH KEY=VALUE\n` (POSIX.1-2001 pax), with the keys of star, GNU tar and libarchive.

use super::header::Piece;
use std::collections::BTreeMap;

/// A point in time: whole seconds since 1970, rounded down, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

/// What the extended headers of one entry say. None: they don't say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) atime: Option<Time>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Sparse,
}

/// GNU's keys for a sparse file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// 1.0: the map stands before the content.
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    /// The file's name; `path` is a made-up one.
    pub(super) name: Option<Vec<u8>>,
    /// The file's size, `GNU.sparse.size` or `GNU.sparse.realsize`.
    pub(super) size: Option<u64>,
    /// 0.0 and 0.1: the map itself.
    pub(super) map: Option<Vec<Piece>>,
    /// 0.0: a piece whose length has not been read yet.
    offset: Option<u64>,
}

impl Extended {
    /// Reads the records of one header over what an earlier one said.
    pub(super) fn read(&mut self, mut records: &[u8], max_pieces: usize) -> Result<(), String> {
        // pax pads with nothing, some writers with NUL.
        while records.first().is_some_and(|&byte| byte != 0) {
            let (record, rest) = split(records)?;
            records = rest;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or("a pax record has no '='")?;
            self.set(&record[..equals], &record[equals + 1..], max_pieces)?;
        }
        if self.sparse.offset.is_some() {
            return Err("its sparse map ends within a piece".to_owned());
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], max_pieces: usize) -> Result<(), String> {
        // An empty value takes back what a global header said.
        let some = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = some.map(without_nul).transpose()?,
            b"linkpath" => self.link = some.map(without_nul).transpose()?,
            b"size" => self.size = some.map(whole).transpose()?,
            b"uid" => self.uid = some.map(whole).transpose()?,
            b"gid" => self.gid = some.map(whole).transpose()?,
            b"mtime" => self.mtime = some.map(time).transpose()?,
            b"atime" => self.atime = some.map(time).transpose()?,
            b"SCHILY.devmajor" => self.major = some.map(whole).transpose()?,
            b"SCHILY.devminor" => self.minor = some.map(whole).transpose()?,
            b"SCHILY.acl.access" => self.acl(b"system.posix_acl_access", value)?,
            b"SCHILY.acl.default" => self.acl(b"system.posix_acl_default", value)?,
            b"GNU.sparse.major" => self.sparse.major = some.map(whole).transpose()?,
            b"GNU.sparse.minor" => self.sparse.minor = some.map(whole).transpose()?,
            b"GNU.sparse.name" => self.sparse.name = some.map(without_nul).transpose()?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = some.map(whole).transpose()?,
            b"GNU.sparse.numblocks" => self.sparse.map = Some(Vec::new()),
            b"GNU.sparse.offset" => {
                if self.sparse.offset.replace(whole(value)?).is_some() {
                    return Err("its sparse map has an offset without a length".to_owned());
                }
            }
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or("its sparse map has a length without an offset")?;
                let map = self.sparse.map.get_or_insert_default();
                map.push(Piece { offset, length: whole(value)? });
                limit(map.len(), max_pieces)?;
            }
            b"GNU.sparse.map" => self.sparse.map = Some(map(value, max_pieces)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(keyword(name), value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    // bsdtar writes both; the other form needs no decoding.
                    let name = percent(name);
                    let value = base64(value).ok_or("an extended attribute is not base64")?;
                    self.xattrs.entry(name).or_insert(value);
                }
            }
        }
        Ok(())
    }

    /// Kept only when the attribute itself isn't given, which says the same in the kernel's own form.
    fn acl(&mut self, name: &[u8], text: &[u8]) -> Result<(), String> {
        if !text.trim_ascii().is_empty() && !self.xattrs.contains_key(name) {
            // Empty stands for a list that can't be kept; no list of the kernel's is.
            self.xattrs.insert(name.to_vec(), super::acl::binary(text)?.unwrap_or_default());
        }
        Ok(())
    }
}

/// Cuts `LENGTH KEY=VALUE\n` off the front; LENGTH counts itself and the newline.
fn split(records: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let damaged = || "a pax record has a wrong length".to_owned();
    let space = records.iter().take(20).position(|&byte| byte == b' ').ok_or_else(damaged)?;
    let length = usize::try_from(whole(&records[..space])?).map_err(|_| damaged())?;
    if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
        return Err(damaged());
    }
    Ok((&records[space + 1..length - 1], &records[length..]))
}

fn without_nul(value: &[u8]) -> Result<Vec<u8>, String> {
    if value.contains(&0) { Err("a name contains NUL".to_owned()) } else { Ok(value.to_vec()) }
}

/// A decimal number without a sign.
pub(super) fn whole(value: &[u8]) -> Result<u64, String> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("{:?} is not a number", String::from_utf8_lossy(value)))
}

/// Seconds with a fraction, negative before 1970.
fn time(value: &[u8]) -> Result<Time, String> {
    let invalid = || format!("{:?} is not a time", String::from_utf8_lossy(value));
    let (negative, digits) = match value {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (seconds, fraction) = match digits.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) || (seconds.is_empty() && fraction.is_empty()) {
        return Err(invalid());
    }
    let seconds = if seconds.is_empty() { 0 } else { whole(seconds).map_err(|_| invalid())? };
    let seconds = i64::try_from(seconds).map_err(|_| invalid())?;
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + fraction.get(at).map_or(0, |byte| u32::from(byte - b'0')));
    Ok(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos: 0 },
        (true, nanos) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// GNU sparse 0.1: `OFFSET,LENGTH,OFFSET,LENGTH…`.
fn map(value: &[u8], max_pieces: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    if value.is_empty() {
        return Ok(pieces);
    }
    let mut numbers = value.split(|&byte| byte == b',');
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or("its sparse map ends within a piece")?;
        pieces.push(Piece { offset: whole(offset)?, length: whole(length)? });
        limit(pieces.len(), max_pieces)?;
    }
    Ok(pieces)
}

/// Refuses a sparse file of too many pieces.
pub(super) fn limit(pieces: usize, max_pieces: usize) -> Result<(), String> {
    if pieces > max_pieces { Err(format!("its sparse map has more than {max_pieces} pieces")) } else { Ok(()) }
}

/// GNU tar writes '=' and '%' of an attribute's name as %3D and %25.
fn keyword(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, behind)) = rest.split_first() {
        let (byte, behind) = match rest {
            [b'%', b'3', b'D', behind @ ..] => (b'=', behind),
            [b'%', b'2', b'5', behind @ ..] => (b'%', behind),
            _ => (byte, behind),
        };
        plain.push(byte);
        rest = behind;
    }
    plain
}

/// libarchive writes an attribute's name as in a URL.
fn percent(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    let hex = |byte: u8| char::from(byte).to_digit(16);
    while let Some((&byte, behind)) = rest.split_first() {
        if let [b'%', high, low, behind @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            plain.push((high << 4 | low) as u8);
            rest = behind;
        } else {
            plain.push(byte);
            rest = behind;
        }
    }
    plain
}

/// libarchive leaves the padding out.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for &byte in text.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'=') {
        bits = bits << 6 | u32::from(digit(byte)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len() + 1;
        while length.to_string().len() + body.len() != length {
            length += 1;
        }
        [length.to_string().as_bytes(), &body].concat()
    }

    fn read(records: &[(&str, &[u8])]) -> Result<Extended, String> {
        let mut extended = Extended::default();
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        extended.read(&bytes, 4).map(|()| extended)
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("12.5", 12, 500_000_000),
            ("12.1234567899", 12, 123_456_789),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            (".5", 0, 500_000_000),
        ] {
            assert_eq!(time(text.as_bytes()), Ok(Time { seconds, nanos }), "{text}");
        }
        for text in ["", "-", ".", "1e3", "--1", "1.-5", "9223372036854775808"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn values_may_hold_newlines_and_nul_and_be_taken_back() {
        let extended = read(&[("SCHILY.xattr.user.a", b"x\n=\0y"), ("path", b"long"), ("path", b"")]).unwrap();
        assert_eq!(extended.xattrs[&b"user.a"[..]], b"x\n=\0y");
        assert_eq!(extended.path, None);
        assert_eq!(read(&[("LIBARCHIVE.xattr.user.a%20b", b"aGVsbG8")]).unwrap().xattrs[&b"user.a b"[..]], b"hello");
        assert_eq!(read(&[("SCHILY.xattr.user.a%3Db", b"1")]).unwrap().xattrs[&b"user.a=b"[..]], b"1");
    }

    #[test]
    fn sparse_maps_of_both_kinds() {
        let pieces = Some(vec![Piece { offset: 0, length: 5 }, Piece { offset: 9, length: 1 }]);
        let zero = [
            ("GNU.sparse.numblocks", &b"2"[..]),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"5"),
            ("GNU.sparse.offset", b"9"),
            ("GNU.sparse.numbytes", b"1"),
        ];
        assert_eq!(read(&zero).unwrap().sparse.map, pieces);
        assert_eq!(read(&[("GNU.sparse.map", b"0,5,9,1")]).unwrap().sparse.map, pieces);
        for bad in ["1", "1,2,3", "a,b", "1,,2", "0,1,2,1,4,1,6,1,8,1"] {
            assert!(read(&[("GNU.sparse.map", bad.as_bytes())]).is_err(), "{bad}");
        }
        assert!(read(&zero[..4]).is_err());
    }

    #[test]
    fn damaged_records_are_refused() {
        for bad in ["x", "5 a=", "99 a=b\n", "0 a=b\n", "6 a=bc\n", "4 ab\n", "99999999999999999999 a=b\n", "- a=b\n"] {
            assert!(Extended::default().read(bad.as_bytes(), 4).is_err(), "{bad:?}");
        }
        assert!(read(&[("path", b"a\0b")]).is_err());
        assert!(read(&[("size", b"-1")]).is_err());
    }
}
