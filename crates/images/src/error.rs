//! What can go wrong with images.

use orlop_model::reference::InvalidReference;
use orlop_model::{Digest, ErrorKind, Kind};
use std::io;
use std::path::PathBuf;

/// Errors of this crate. Where Docker has a text for it, it is Docker's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive can't be opened.
    #[error("open {path}: {source}", path = .path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Standard input is a terminal.
    #[error("requested load from stdin, but stdin is a terminal: give a file with -i or redirect one")]
    Terminal,
    /// Nothing to read.
    #[error("the image archive is empty")]
    Empty,
    /// No tar header at its beginning.
    #[error("not a tar archive, plain or compressed by gzip or zstd")]
    NotAnArchive,
    /// A tar archive of something else.
    #[error("no manifest.json and no index.json in it: not an image archive")]
    NotAnImage,
    /// The archive ends within an entry.
    #[error("the image archive is truncated: it ends at byte {at}, within an entry")]
    Truncated {
        /// Its length.
        at: u64,
    },
    /// A compression that isn't read.
    #[error("the image archive is compressed by {name}, which is not supported: pipe it through `{tool}`")]
    Compression {
        /// Its name.
        name: &'static str,
        /// What expands it.
        tool: &'static str,
    },
    /// The compressed stream is damaged.
    #[error("the image archive can't be decompressed: {source}")]
    Decompress {
        /// The decoder's word.
        source: io::Error,
    },
    /// Reading failed.
    #[error("reading the image archive: {source}")]
    ReadArchive {
        /// Why.
        source: io::Error,
    },
    /// The archive's copy can't be written.
    #[error("spooling the image archive to {path}: {source}", path = .path.display())]
    Spool {
        /// Our directory for it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive names a file that it doesn't hold.
    #[error("the image archive has no {name:?}{hint}")]
    Missing {
        /// The file.
        name: String,
        /// More about it.
        hint: &'static str,
    },
    /// Bad JSON.
    #[error("{name} can't be read: {source}")]
    Json {
        /// Which.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Anything else that is wrong with an archive.
    #[error("bad image archive: {0}")]
    Archive(String),
    /// A blob is not as long as its descriptor says.
    #[error("{} has {size} bytes, but its descriptor says {expected}", one_line(.name))]
    WrongSize {
        /// Which.
        name: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes there.
        size: u64,
    },
    /// A blob's content isn't what its name says.
    #[error("{name} has the digest {digest}, but {expected} was announced")]
    WrongDigest {
        /// Which.
        name: String,
        /// Announced.
        expected: Digest,
        /// Computed.
        digest: Digest,
    },
    /// The config and the manifest disagree.
    #[error("image {id} has {diff_ids} diff_ids in its config but {layers} layers in its manifest")]
    LayerCount {
        /// The image.
        id: Digest,
        /// In the config.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
    /// A media type that isn't known.
    #[error("unknown media type of a {what}: {media_type:?}")]
    MediaType {
        /// What was expected there.
        what: &'static str,
        /// What stands there.
        media_type: String,
    },
    /// A layer that isn't in any archive.
    #[error("foreign layer ({media_type:?}): its content lies elsewhere, which is not supported")]
    ForeignLayer {
        /// What stands there.
        media_type: String,
    },
    /// A multi-platform image without one for this machine.
    #[error("no image for {wanted} in the archive, which has {found}", found = one_line(&.found.join(", ")))]
    Platform {
        /// This machine.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// The registry doesn't let us, or has no such repository; it doesn't tell which.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login': {words}")]
    PullDenied {
        /// The repository.
        name: String,
        /// What the registry says.
        words: String,
    },
    /// The registry has no such tag or digest.
    #[error("manifest for {name} not found: {words}")]
    ManifestUnknown {
        /// The image.
        name: String,
        /// What the registry says.
        words: String,
    },
    /// Anything else that kept a pull from its image.
    #[error("can't pull {name}: {reason}")]
    Pull {
        /// The image.
        name: String,
        /// Who was asked, and what each said.
        reason: String,
    },
    /// What the last place brought that was asked, and what those before it had.
    #[error("{error} (tried {others})")]
    Tried {
        /// Of the last one.
        error: Box<Error>,
        /// Of the others.
        others: String,
    },
    /// A layer didn't come whole; what came of it stays for the next pull.
    #[error("layer {digest} can't be fetched: {reason}; pull again to go on where it broke off")]
    Layers {
        /// Its blob's digest.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// A pull of more than there is room for.
    #[error("the image's layers that are not here have {needed} bytes, and the disk has {free} free")]
    TooLarge {
        /// Bytes of its layers.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// An index without the platform; Docker's words.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoMatchingManifest {
        /// The platform.
        platform: String,
    },
    /// An image of another platform than the one asked for; Docker's words.
    #[error(
        "image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {actual}",
        actual = one_line(.actual)
    )]
    OtherPlatform {
        /// The image.
        name: String,
        /// Asked for.
        wanted: String,
        /// What it is for.
        actual: String,
    },
    /// An image as it was stored until 2016.
    #[error(
        "{name} is stored as image manifest version 2, schema 1, which Docker doesn't pull any more either: push it again"
    )]
    Schema1 {
        /// The image.
        name: String,
    },
    /// A login that failed.
    #[error(transparent)]
    Registry(#[from] crate::registry::Failure),
    /// `-c` of commit and import.
    #[error("{text:?}: {reason}")]
    Instruction {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tool of this machine can't become part of an image.
    #[error("{0}")]
    FromHost(String),
    /// A layer can't be unpacked.
    #[error("layer {}: {source}", one_line(.name))]
    Layer {
        /// As the archive calls it.
        name: String,
        /// Why.
        source: orlop_layers::Error,
    },
    /// The archive gives an image a bad name.
    #[error("the archive names an image {name:?}: {source}")]
    NameInArchive {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidReference,
    },
    /// Not a reference and not an id.
    #[error("{source}")]
    Reference {
        /// What was given.
        name: String,
        /// What is wrong with it.
        source: InvalidReference,
    },
    /// No such image. The text is Docker's; `close_matches` is for the CLI's hint.
    #[error("No such image: {name}")]
    NotFound {
        /// In its short form with a tag.
        name: String,
        /// Names that may have been meant, best first.
        close_matches: Vec<String>,
    },
    /// A prefix of several ids.
    #[error("image id prefix {prefix} is ambiguous: {count} images begin with it")]
    Ambiguous {
        /// The prefix.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// A prefix of several layers.
    #[error("layer prefix {prefix} is ambiguous: {count} layers begin with it")]
    AmbiguousLayer {
        /// The prefix.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// `sha256:…` as a name would be taken for an id.
    #[error("refusing to create an ambiguous tag using digest algorithm as name: {0}")]
    DigestAsName(String),
    /// `tag` to a digest.
    #[error("refusing to create a tag with a digest reference")]
    TagDigest,
    /// The last name of an image that a container uses.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using its \
         referenced image {image}"
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Short id.
        container: String,
        /// Short id.
        image: String,
    },
    /// An image that can't be removed by its id.
    #[error("conflict: unable to delete {image} ({force}) - {reason}",
            force = if *.hard { "cannot be forced" } else { "must be forced" })]
    InUse {
        /// Short id.
        image: String,
        /// Whether force doesn't help.
        hard: bool,
        /// Docker's text.
        reason: String,
    },
    /// The name was given to another image at the same moment.
    #[error("{name} has just become another image: try again")]
    Changed {
        /// The name.
        name: String,
    },
    /// A blob of ours is damaged.
    #[error("{path} does not match its digest; nothing was changed: load the image again", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// A file of ours.
    #[error("can't {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An archive can't be written.
    #[error("writing the image archive: {source}")]
    WriteArchive {
        /// Why.
        source: io::Error,
    },
    /// `save -o` to something that can't be a file. Docker's text.
    #[error("invalid output path: {reason}")]
    Output {
        /// What is wrong with it.
        reason: String,
    },
    /// The archive of a layer can't be made again.
    #[error(
        "layer {diff_id} does not come back: {source}; `image scrub` says more, loading or pulling the image again repairs it"
    )]
    LayerDamaged {
        /// The layer.
        diff_id: Digest,
        /// What was found.
        source: io::Error,
    },
    /// A layer that an image is to be made on has gone.
    #[error("layer {diff_id} of the container's image is not stored any more: load or pull that image again")]
    LayerGone {
        /// The layer.
        diff_id: Digest,
    },
    /// An image names a layer that isn't stored with it.
    #[error("image {image} lacks its layer {diff_id}: load or pull it again", image = .image.short())]
    LayerMissing {
        /// The image.
        image: Digest,
        /// The layer.
        diff_id: Digest,
    },
    /// A bad filter.
    #[error(transparent)]
    Filter(#[from] orlop_model::filter::InvalidFilter),
    /// The state.
    #[error(transparent)]
    State(#[from] orlop_state::Error),
    /// The driver.
    #[error(transparent)]
    Driver(#[from] orlop_layers::Error),
    /// The kernel.
    #[error(transparent)]
    Sys(#[from] orlop_sys::Error),
}

/// What an image says of itself, without what a terminal takes for a command.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

impl Error {
    /// Whether the reader of what was written went away.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::WriteArchive { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the image is there, but for another platform than the one asked for.
    pub fn is_other_platform(&self) -> bool {
        match self {
            Self::Tried { error, .. } => error.is_other_platform(),
            other => matches!(other, Self::OtherPlatform { .. }),
        }
    }

    /// The same, with what others had to say before; as it is when there were none.
    pub(crate) fn after(self, others: &[String]) -> Self {
        match others {
            [] => self,
            others => Self::Tried { error: Box::new(self), others: others.join("; ") },
        }
    }

    /// What a failure to make the archive of a stored layer again means.
    pub(crate) fn of_layer(diff_id: Digest, error: orlop_layers::Error) -> Self {
        match error.is_damage() {
            true => Self::LayerDamaged { diff_id, source: io::Error::other(error) },
            false => Self::Driver(error),
        }
    }

    pub(crate) fn archive(what: String) -> Self {
        Self::Archive(what)
    }
}

impl Kind for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Open { source, .. } | Self::ReadArchive { source } | Self::Spool { source, .. } => Kind::kind(source),
            Self::Compression { .. } | Self::ForeignLayer { .. } | Self::Schema1 { .. } => ErrorKind::Unsupported,
            Self::TooLarge { .. } => ErrorKind::NoSpace,
            Self::PullDenied { .. } | Self::ManifestUnknown { .. } | Self::NoMatchingManifest { .. } => {
                ErrorKind::NotFound
            }
            Self::Tried { error, .. } => error.kind(),
            Self::Pull { .. } | Self::Layers { .. } => ErrorKind::Internal,
            Self::Registry(crate::registry::Failure::Denied(_)) => ErrorKind::Denied,
            Self::Registry(_) => ErrorKind::Internal,
            Self::OtherPlatform { .. } => ErrorKind::NotFound,
            Self::Terminal
            | Self::Empty
            | Self::NotAnArchive
            | Self::NotAnImage
            | Self::Truncated { .. }
            | Self::Decompress { .. }
            | Self::Missing { .. }
            | Self::Json { .. }
            | Self::Archive(_)
            | Self::WrongSize { .. }
            | Self::WrongDigest { .. }
            | Self::LayerCount { .. }
            | Self::MediaType { .. }
            | Self::FromHost(_)
            | Self::Instruction { .. }
            | Self::NameInArchive { .. }
            | Self::Reference { .. }
            | Self::Ambiguous { .. }
            | Self::AmbiguousLayer { .. }
            | Self::TagDigest
            | Self::DigestAsName(_)
            | Self::Platform { .. } => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NameInUse { .. } | Self::InUse { .. } | Self::Changed { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } | Self::LayerDamaged { .. } | Self::LayerMissing { .. } | Self::LayerGone { .. } => {
                ErrorKind::Corrupt
            }
            Self::Output { .. } => ErrorKind::Invalid,
            // A full disk behind the output is not ours, so hints about ours would mislead.
            Self::WriteArchive { .. } => ErrorKind::Internal,
            Self::Io { source, .. } => Kind::kind(source),
            Self::Layer { source, .. } | Self::Driver(source) => source.kind(),
            Self::Filter(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Sys(error) => error.kind(),
        }
    }
}
