//! What can be wrong with a mount flag.

use crate::{ErrorKind, Kind};

/// A mount that Docker would refuse, or one that it knows and Orlop doesn't.
///
/// The messages of `--mount` and `--tmpfs` do not repeat the flag: the CLI puts `invalid argument "…" for "--mount"
/// flag: ` before them, as Docker's does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMount {
    /// `-v` with too many, too few or empty parts.
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    /// Something is wrong in a `-v`.
    #[error("invalid volume specification: '{specification}': {reason}")]
    InSpecification {
        /// All of the flag's value.
        specification: String,
        /// What is wrong.
        reason: Box<Self>,
    },
    /// The parts fit the flag, but not the type of mount.
    #[error("invalid mount config for type \"{kind}\": {reason}")]
    Config {
        /// `volume`, `bind` or `tmpfs`.
        kind: String,
        /// What is wrong.
        reason: Box<Self>,
    },
    /// An option in the third part of `-v` that isn't one, or that excludes another.
    #[error("invalid mode: {0}")]
    Mode(String),
    /// A path that must begin with a slash.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Relative(String),
    /// Mounted over the container's root.
    #[error("invalid specification: destination can't be '/'")]
    Root,
    /// A name that is none.
    #[error(
        "create {0}: {0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
         are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
    /// A name of one letter.
    #[error("create {0}: volume name is too short, names should be at least two alphanumeric characters")]
    ShortName(String),
    /// A name that no directory can have.
    #[error("create {0}: volume name is too long, names should be at most 255 characters")]
    LongName(String),
    /// Needed for this type.
    #[error("field {0} must not be empty")]
    EmptyField(&'static str),
    /// Belongs to another type.
    #[error("field {field} must not be specified ({option})")]
    ExtraField {
        /// Docker's name of the group.
        field: &'static str,
        /// As typed.
        option: String,
    },
    /// Not known to Docker either.
    #[error("mount type unknown")]
    UnknownType,
    /// Known to Docker, not available here.
    #[error("mount type \"{0}\" is not supported: use volume, bind or tmpfs")]
    UnsupportedType(String),
    /// A path out of the volume.
    #[error("subpath must be a relative path within the volume: {0:?}")]
    Subpath(String),
    /// There is nothing in a new volume to choose from.
    #[error("must not set Subpath when using anonymous volumes")]
    AnonymousSubpath,
    /// Two mounts at one path.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// An empty `--mount`.
    #[error("value is empty")]
    Empty,
    /// Quotes that don't match.
    #[error("parse error on line 1, column {column}: {what}")]
    Csv {
        /// From 1, in bytes.
        column: usize,
        /// What the reader stopped at.
        what: &'static str,
    },
    /// Space around a key of `--mount`.
    #[error("invalid option '{key}' in '{field}': option should not have whitespace")]
    Whitespace {
        /// As typed.
        key: String,
        /// As typed.
        field: String,
    },
    /// A key of `--mount` that needs a value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A key of `--mount` that isn't one.
    #[error("unexpected key '{key}' in '{field}'")]
    Key {
        /// In lower case.
        key: String,
        /// As typed.
        field: String,
    },
    /// A value of `--mount` that its key doesn't take.
    #[error("invalid value for {key}: {value}{hint}")]
    Value {
        /// As typed.
        key: String,
        /// As typed.
        value: String,
        /// What it takes, in brackets; may be empty.
        hint: &'static str,
    },
    /// `--mount` without target.
    #[error("target is required")]
    NoTarget,
    /// Options of another type.
    #[error("cannot mix '{group}-*' options with mount type '{kind}' ({option})")]
    Mixed {
        /// `volume`, `bind` or `tmpfs`.
        group: &'static str,
        /// The mount's type.
        kind: String,
        /// The first such key, as typed.
        option: String,
    },
    /// `bind-recursive` says something that the rest doesn't.
    #[error("option 'bind-recursive={value}' requires '{needs}' to be specified in conjunction")]
    Requires {
        /// `writable` or `readonly`.
        value: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// An unknown propagation.
    #[error("invalid propagation mode: {0}")]
    Propagation(String),
    /// Not an option of tmpfs, or not such a value.
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// `--volumes-from` without a container.
    #[error("volumes-from specification cannot be an empty string")]
    NoContainer,
}

impl InvalidMount {
    /// Wraps the reason in the flag's whole value.
    pub(super) fn in_specification(self, specification: &str) -> Self {
        Self::InSpecification { specification: specification.to_owned(), reason: Box::new(self) }
    }

    /// Wraps the reason in the mount's type.
    pub(super) fn in_config(self, kind: &str) -> Self {
        Self::Config { kind: kind.to_owned(), reason: Box::new(self) }
    }
}

impl Kind for InvalidMount {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnsupportedType(_) => ErrorKind::Unsupported,
            Self::InSpecification { reason, .. } | Self::Config { reason, .. } => reason.kind(),
            _ => ErrorKind::Invalid,
        }
    }
}
