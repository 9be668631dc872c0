//! The 512-byte header block: v7, ustar (POSIX.1-1988), GNU and star, as far as unpacking needs them.
//!
//! Own code instead of a library's, because a layer's numbers may be blank, negative or too large, and each of these
//! must be either right or an error.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// One header block whose checksum holds.
#[derive(Clone, Copy)]
pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

/// A piece of a sparse file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl<'a> Header<'a> {
    /// Whether the block is a header at all: old tars summed signed bytes.
    pub(super) fn checksum_holds(self) -> bool {
        let Ok(Some(expected)) = number(&self.0[148..156]) else { return false };
        let sum = |byte: fn(u8) -> i64| {
            let bytes = self.0.iter().enumerate();
            bytes.map(|(at, &value)| if (148..156).contains(&at) { 32 } else { byte(value) }).sum::<i64>()
        };
        expected == sum(i64::from) || expected == sum(|value| i64::from(value.cast_signed()))
    }

    /// The entry's type.
    pub(super) fn kind(self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix where the format has one.
    pub(super) fn name(self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let star = self.is_ustar() && self.0[508..512] == *b"tar\0";
        let prefix = match (self.is_ustar(), star) {
            (true, true) => text(&self.0[345..476]),
            (true, false) => text(&self.0[345..500]),
            (false, _) => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The target of a link.
    pub(super) fn link(self) -> &'a [u8] {
        text(&self.0[157..257])
    }

    /// A number; None when the field is blank.
    pub(super) fn number(self, field: Field) -> Result<Option<i64>, String> {
        let (start, end) = field.place();
        number(&self.0[start..end]).map_err(|()| format!("the header's {} is not a number", field.name()))
    }

    /// `ustar` without GNU's spaces behind it, whose headers use the prefix for other things.
    fn is_ustar(self) -> bool {
        self.0[257..262] == *b"ustar" && self.0[262] != b' '
    }

    /// The first four pieces of an old GNU sparse file, and whether more blocks of them follow.
    pub(super) fn sparse(self) -> Result<(Vec<Piece>, bool), String> {
        Ok((pieces(&self.0[386..482])?, self.0[482] != 0))
    }
}

/// The pieces in a further block of an old GNU sparse file, and whether another one follows.
pub(super) fn sparse_extension(block: &[u8; BLOCK]) -> Result<(Vec<Piece>, bool), String> {
    Ok((pieces(&block[..504])?, block[504] != 0))
}

fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, String> {
    let number = |bytes| match number(bytes) {
        Ok(Some(number)) if number >= 0 => Ok(number.cast_unsigned()),
        _ => Err("its sparse map is not made of numbers".to_owned()),
    };
    // A piece that starts with NUL is unused, and so are all behind it.
    let used = bytes.chunks_exact(24).take_while(|piece| piece[0] != 0);
    used.map(|piece| Ok(Piece { offset: number(&piece[..12])?, length: number(&piece[12..])? })).collect()
}

/// The numeric fields of a header.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Mode,
    Uid,
    Gid,
    Size,
    Mtime,
    Major,
    Minor,
    /// Of an old GNU sparse file.
    RealSize,
}

impl Field {
    const fn place(self) -> (usize, usize) {
        match self {
            Self::Mode => (100, 108),
            Self::Uid => (108, 116),
            Self::Gid => (116, 124),
            Self::Size => (124, 136),
            Self::Mtime => (136, 148),
            Self::Major => (329, 337),
            Self::Minor => (337, 345),
            Self::RealSize => (483, 495),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Uid => "user id",
            Self::Gid => "group id",
            Self::Size => "size",
            Self::Mtime => "time",
            Self::Major | Self::Minor => "device number",
            Self::RealSize => "real size",
        }
    }
}

/// Octal digits between blanks, or with the first bit set a big-endian two's complement number (GNU, star).
fn number(field: &[u8]) -> Result<Option<i64>, ()> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] | 0x80 } else { field[0] & 0x7f };
        let start = if negative { i128::from((first).cast_signed()) } else { i128::from(first) };
        let mut value = start;
        for &byte in &field[1..] {
            value = value.checked_mul(256).ok_or(())? + i128::from(byte);
            if i64::try_from(value).is_err() {
                return Err(());
            }
        }
        return i64::try_from(value).map(Some).map_err(|_| ());
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Ok(None);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| ())?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    i64::from_str_radix(digits, 8).map(Some).map_err(|_| ())
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_formats_write_them() {
        for (field, expected) in [
            (&b"0000644\0"[..], Ok(Some(0o644))),
            (b"   644 \0", Ok(Some(0o644))),
            (b"00000644", Ok(Some(0o644))),
            (b"\0\0\0\0\0\0\0\0", Ok(None)),
            (b"        ", Ok(None)),
            (b"\x80\0\0\0\0\x20\0\0", Ok(Some(0x20_0000))),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(Some(-2))),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(Some(-2))),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Ok(Some(i64::MAX))),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", Err(())),
            (b"0000008\0", Err(())),
            (b"-000001\0", Err(())),
            (b"+000001\0", Err(())),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
