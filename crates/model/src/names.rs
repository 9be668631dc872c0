//! Names that users give to containers and volumes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A name that Docker would refuse.
#[derive(Debug, thiserror::Error)]
#[error("invalid {what} name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at least two of them")]
pub struct InvalidName {
    what: &'static str,
    name: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                if is_restricted_name(name) {
                    Ok(Self(name.to_owned()))
                } else {
                    Err(InvalidName { what: $what, name: name.to_owned() })
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A volume's name; also the name of its directory, so never `.`, `..` or one with a slash.
    VolumeName,
    "volume"
);
name!(
    /// A container's name, without the slash that `inspect` puts before it.
    ContainerName,
    "container"
);

impl VolumeName {
    /// A name for an anonymous volume: 64 random hexadecimal digits.
    pub fn anonymous() -> Self {
        Self(crate::Id::random().hex())
    }
}

/// Docker's RestrictedNamePattern: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`; at most 255 bytes, the length of a file name.
fn is_restricted_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (2..=255).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

const ADJECTIVES: [&str; 48] = [
    "able", "amber", "autumn", "bold", "brave", "breezy", "bright", "calm", "candid", "clear", "clever", "cosy",
    "crisp", "daring", "deft", "eager", "early", "easy", "fair", "fond", "fresh", "gentle", "glad", "golden", "handy",
    "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucky", "merry", "mild", "neat", "noble",
    "patient", "plucky", "proud", "quick", "quiet", "ready", "sound", "steady", "sunny", "trim", "warm",
];
const SHIPMATES: [&str; 48] = [
    "anchor", "ballast", "beacon", "bilge", "binnacle", "boom", "bosun", "bow", "bowsprit", "buoy", "cable", "capstan",
    "chart", "cleat", "compass", "cutter", "davit", "deck", "fathom", "foremast", "galley", "gunwale", "halyard",
    "hawser", "helm", "hull", "jib", "keel", "ketch", "lantern", "mainsail", "mast", "mizzen", "oar", "pennant",
    "rigging", "rudder", "schooner", "sextant", "sheet", "shroud", "sloop", "spar", "tiller", "topsail", "wharf",
    "windlass", "yawl",
];

impl ContainerName {
    /// A name for a container that was given none: an adjective and a part of a ship. `attempt` is how many of them
    /// were already taken; a number is added once that is more than a few.
    pub fn random(attempt: u32) -> Self {
        let id = crate::Id::random().hex();
        let pick = |from: usize| usize::from_str_radix(&id[from..from + 6], 16).unwrap_or(0);
        let (adjective, noun) = (ADJECTIVES[pick(0) % ADJECTIVES.len()], SHIPMATES[pick(6) % SHIPMATES.len()]);
        match attempt {
            0..3 => Self(format!("{adjective}_{noun}")),
            _ => Self(format!("{adjective}_{noun}{}", pick(12) % 10_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_pattern() {
        for good in ["my-data", "a1", "pg_data.1", "0x"] {
            assert!(good.parse::<VolumeName>().is_ok(), "{good}");
        }
        for bad in ["", "a", ".hidden", "-x", "a/b", "..", "a b", "ä1", &"x".repeat(256)] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad}");
        }
        assert!(ContainerName::random(5).as_str().parse::<ContainerName>().is_ok());
    }
}
