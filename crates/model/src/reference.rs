//! Image references (`postgres`, `n8nio/n8n:2.0`, `registry.example:5000/team/app@sha256:…`).

use crate::Digest;

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
