//! Image references (`postgres`, `n8nio/n8n:2.0`, `registry.example:5000/team/app@sha256:…`), by the grammar and the
//! short forms of distribution's package `reference`, with its messages.

use crate::{Digest, ErrorKind, Kind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A reference in its full form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    /// `docker.io` when none was given.
    pub registry: String,
    /// With `library/` where Docker Hub needs it.
    pub repository: String,
    /// `latest` when neither tag nor digest was given; None beside a digest alone.
    pub tag: Option<String>,
    /// Set when the reference pins content.
    pub digest: Option<Digest>,
}

/// A text that is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has capital letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// It is an image's id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The repository is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// A digest of another algorithm than sha256.
    #[error("unsupported digest algorithm in {0:?}: only sha256 is in use for images")]
    Algorithm(String),
}

impl Kind for InvalidReference {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_REGISTRY: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

impl ImageRef {
    /// Reads a reference as a person types it. A full id of 64 hexadecimal digits is refused; shorter ones read as
    /// names, so whoever also accepts ids looks for those first.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        if crate::id::unhex::<32>(text).is_some() {
            return Err(InvalidReference::Identifier(text.to_owned()));
        }
        let (registry, remainder) = split_registry(text);
        let named = remainder.split(':').next().unwrap_or_default();
        if named.chars().any(char::is_uppercase) {
            return Err(InvalidReference::Uppercase(named.to_owned()));
        }
        let (rest, digest) = match remainder.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (remainder.as_str(), None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let well_formed =
            is_registry(&registry) && repository.split('/').all(is_path_component) && tag.is_none_or(is_tag);
        if !well_formed {
            return Err(InvalidReference::Format);
        }
        if repository.len() > 255 {
            return Err(InvalidReference::TooLong);
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry, repository: repository.to_owned(), tag, digest })
    }

    /// Short form without a tag or digest: `postgres`, `n8nio/n8n`, `registry.example/app`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The short form that tables and messages show: `postgres:latest`.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    /// Registry and repository, without tag and digest: `docker.io/library/postgres`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

/// The full form: `docker.io/library/postgres:latest`.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for ImageRef {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The registry and what follows its slash. The first part is a registry only when it can't be a Docker Hub
/// namespace: `localhost`, or with a dot, a colon or a capital letter.
fn split_registry(text: &str) -> (String, String) {
    let (registry, rest) = match text.split_once('/') {
        Some((LEGACY_REGISTRY, rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    };
    match registry == DEFAULT_REGISTRY && !rest.contains('/') {
        true => (registry.to_owned(), format!("{OFFICIAL}{rest}")),
        false => (registry.to_owned(), rest.to_owned()),
    }
}

fn parse_digest(text: &str) -> Result<Digest, InvalidReference> {
    match text.split_once(':') {
        Some(("sha256", _)) => text.parse().map_err(|_| InvalidReference::Format),
        Some((_, hex)) if hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Err(InvalidReference::Algorithm(text.to_owned()))
        }
        _ => Err(InvalidReference::Format),
    }
}

/// A host name, an IPv4 address or `[IPv6]`, each with an optional port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let is_address = address.contains(':') && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lower-case letters and digits, in groups that one `.`, one or two `_`, or any number of `-` separate.
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_word(*first)
        && is_word(*last)
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

/// Up to 128 letters, digits, `_`, `.` and `-`, beginning with none of the last two.
fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn short_forms_become_full_ones_and_back() {
        let pinned = format!("postgres@sha256:{HEX}");
        let pinned_full = format!("docker.io/library/{pinned}");
        let both = format!("localhost:5000/a/b:1@sha256:{HEX}");
        for (typed, full, familiar) in [
            ("postgres", "docker.io/library/postgres:latest", "postgres:latest"),
            ("postgres:18", "docker.io/library/postgres:18", "postgres:18"),
            ("n8nio/n8n:2.0", "docker.io/n8nio/n8n:2.0", "n8nio/n8n:2.0"),
            ("docker.io/postgres", "docker.io/library/postgres:latest", "postgres:latest"),
            ("docker.io/library/postgres", "docker.io/library/postgres:latest", "postgres:latest"),
            ("index.docker.io/postgres", "docker.io/library/postgres:latest", "postgres:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            (
                "registry.example:5000/team/app",
                "registry.example:5000/team/app:latest",
                "registry.example:5000/team/app:latest",
            ),
            ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest", "[2001:db8::1]:5000/app:latest"),
            ("Host/app", "Host/app:latest", "Host/app:latest"),
            ("x/a.b__c---d", "docker.io/x/a.b__c---d:latest", "x/a.b__c---d:latest"),
            ("app:v1.0_Rc-1", "docker.io/library/app:v1.0_Rc-1", "app:v1.0_Rc-1"),
            (&HEX[..63], &format!("docker.io/library/{}:latest", &HEX[..63]), &format!("{}:latest", &HEX[..63])),
            (&pinned, &pinned_full, &pinned),
            (&both, &both, &both),
        ] {
            let reference = ImageRef::parse(typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
            assert_eq!(reference.to_string(), full, "{typed}");
            assert_eq!(reference.familiar(), familiar, "{typed}");
            assert_eq!(ImageRef::parse(full).as_ref(), Ok(&reference), "{full}");
            assert_eq!(ImageRef::parse(familiar), Ok(reference), "{familiar}");
        }
    }

    #[test]
    fn refuses_in_dockers_words() {
        let long_tag = format!("app:{}", "a".repeat(129));
        let long_name = format!("a/{}", "b".repeat(255));
        let sha512 = format!("app@sha512:{HEX}{HEX}");
        let format = "invalid reference format";
        for (typed, message) in [
            ("", format),
            (":tag", format),
            ("app:", format),
            ("app:.tag", format),
            ("app tag", format),
            ("-app", format),
            ("app-", format),
            ("a..b/c", format),
            ("x/a..b", format),
            ("x/a___b", format),
            ("x/a._b", format),
            // The dot makes it a registry, and a host's name has no underscore.
            ("a.b__c/e", format),
            ("a//b", format),
            ("a/", format),
            ("/a", format),
            ("-bad.example/a", format),
            ("host:port/a", format),
            ("../etc/passwd", format),
            ("app@sha256:123", format),
            ("app@", format),
            ("app:1:2", format),
            ("https://x/y", format),
            (&long_tag, format),
            ("Alpine", "invalid reference format: repository name (library/Alpine) must be lowercase"),
            ("a.example/Team/App:1", "invalid reference format: repository name (Team/App) must be lowercase"),
            (&long_name, "repository name must not be more than 255 characters"),
            (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            (&sha512, &format!("unsupported digest algorithm in {:?}: only sha256 is in use for images", &sha512[4..])),
        ] {
            assert_eq!(ImageRef::parse(typed).unwrap_err().to_string(), message, "{typed:?}");
        }
    }
}
