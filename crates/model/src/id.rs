//! Random 64-digit ids for containers, layers, anonymous volumes and what lies in the trash.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A random id of 32 bytes, written as 64 hexadecimal digits. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 32]);

/// A text that is not a full id.
#[derive(Debug, thiserror::Error)]
#[error("invalid id {0:?}: expected 64 hexadecimal digits")]
pub struct InvalidId(pub String);

impl Id {
    /// An id from the kernel's random source.
    ///
    /// Docker never hands out an id whose first 12 digits are all decimal, because a host name made of it could be
    /// taken for a number; neither do we.
    pub fn random() -> Self {
        loop {
            let mut bytes = [0; 32];
            let mut filled = 0;
            while filled < bytes.len() {
                filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                    .expect("getrandom(2) works on every kernel that Orlop runs on");
            }
            let id = Self(bytes);
            if id.short().bytes().any(|digit| digit.is_ascii_alphabetic()) {
                return id;
            }
        }
    }

    /// All 64 digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The first 12 digits, as tables show it.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        unhex(text).map(Self).ok_or_else(|| InvalidId(text.to_owned()))
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// The bytes behind exactly `2 * N` lower-case hexadecimal digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_round_trip_and_have_a_letter_up_front() {
        let (one, two) = (Id::random(), Id::random());
        assert_ne!(one, two);
        assert_eq!(one.hex().parse::<Id>().unwrap(), one);
        assert!(one.hex().starts_with(&one.short()));
        assert!(one.short().bytes().any(|byte| byte.is_ascii_alphabetic()));
    }
}
