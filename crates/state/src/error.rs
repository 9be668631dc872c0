//! What can go wrong with the state.

use orlop_model::{ErrorKind, Kind};
use std::path::PathBuf;

/// A failure of the database, a lock or the event log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite failed.
    #[error("database {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A row or a table doesn't match its hash.
    #[error(
        "{table} {key}: what state.db holds does not match its hash; nothing was changed: restore state.db from a backup \
         of the data root"
    )]
    Corrupt {
        /// The kind of row.
        table: &'static str,
        /// Which one, or what is wrong with the table as a whole.
        key: String,
    },
    /// The data root was in use, and its database is gone.
    #[error(
        "{}: the database is missing or empty, although this data root was in use; nothing was changed: restore state.db \
         from a backup of the data root, or use another data root", root.join("state.db").display()
    )]
    DatabaseLost {
        /// The data root.
        root: PathBuf,
    },
    /// A row with this key or name is there already.
    #[error("{table} {key} already exists")]
    Exists {
        /// The kind of row.
        table: &'static str,
        /// Its key.
        key: String,
    },
    /// The data root was written by a later version.
    #[error("{} was written by a newer Orlop (format {found}, this one reads up to {known}); use version {found} or later", path.display())]
    TooNew {
        /// The data root or the database.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// The data root needs a feature that this program doesn't have.
    #[error("{} needs the feature {feature:?}, which this Orlop does not have; use the version that wrote it", path.display())]
    UnknownFeature {
        /// format.json
        path: PathBuf,
        /// The feature.
        feature: String,
    },
    /// format.json can't be read.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A kernel call failed.
    #[error(transparent)]
    Sys(#[from] orlop_sys::Error),
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::NoSpace,
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => ErrorKind::Corrupt,
                _ => ErrorKind::Internal,
            },
            Self::Corrupt { .. } | Self::DatabaseLost { .. } => ErrorKind::Corrupt,
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::TooNew { .. } | Self::UnknownFeature { .. } | Self::Format { .. } => ErrorKind::Internal,
            Self::Sys(error) => error.kind(),
        }
    }
}
