//! The closed list of what can go wrong, as a caller sees it.
//!
//! Every crate has its own error enum with its own words; `Kind` says which of these it is. The CLI turns a kind into
//! an exit code and the Engine API turns it into a status, each in one match.

/// What a failure means to the caller, whatever its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The named object does not exist (404).
    NotFound,
    /// The request itself is wrong: a bad flag, name or archive (400).
    Invalid,
    /// The object's state forbids it: in use, name taken, running (409).
    Conflict,
    /// The caller may not do this (403).
    Denied,
    /// Known to Docker but not available here (501).
    Unsupported,
    /// The disk, a quota or the inodes are used up (507).
    NoSpace,
    /// Stored data does not match its hash (500).
    Corrupt,
    /// The program to run was not found in the container (exit code 127).
    CommandNotFound,
    /// The program to run is there but can't be executed (exit code 126).
    CommandNotExecutable,
    /// Anything else (500).
    Internal,
}

/// Implemented by every crate's error.
pub trait Kind: std::error::Error {
    /// Which of the closed list this error is.
    fn kind(&self) -> ErrorKind;
}

/// The kind of an IO error that has no better meaning where it happened.
///
/// Only a full disk is told apart; a missing file of our own is an internal error, not a missing object.
impl Kind for std::io::Error {
    fn kind(&self) -> ErrorKind {
        match std::io::Error::kind(self) {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Internal,
        }
    }
}
