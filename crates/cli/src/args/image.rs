//! Flags of the verbs on images.

use super::shared::{ListFlags, PruneFlags};
use clap::Args;

/// `images`.
#[derive(Args, Debug)]
pub struct LsArgs {
    #[command(flatten)]
    pub list: ListFlags,
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    pub all: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// A repository, perhaps with a tag
    #[arg(hide = true)]
    pub reference: Vec<String>,
}

/// `image inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Format output: json or TEMPLATE
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
    /// References or ids
    pub images: Vec<String>,
}

/// `history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Format output: table, table TEMPLATE, json or TEMPLATE
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value = "true", action = clap::ArgAction::Set, value_name = "bool")]
    pub human: bool,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub quiet: bool,
    /// Reference or id
    pub image: Vec<String>,
}

/// `rmi`.
#[derive(Args, Debug)]
pub struct RmArgs {
    /// Force removal of the image
    #[arg(short, long)]
    pub force: bool,
    /// References or ids
    pub images: Vec<String>,
}

/// `tag`.
#[derive(Args, Debug)]
pub struct TagArgs {
    /// Source and target
    pub references: Vec<String>,
}

/// `pull`.
#[derive(Args, Debug)]
pub struct PullArgs {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    pub quiet: bool,
    /// A reference
    pub image: Vec<String>,
}

/// `load`.
#[derive(Args, Debug)]
pub struct LoadArgs {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    pub input: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    pub quiet: bool,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `save`.
#[derive(Args, Debug)]
pub struct SaveArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    pub output: Option<String>,
    /// References or ids
    pub images: Vec<String>,
}

/// `image scrub`.
#[derive(Args, Debug)]
pub struct ScrubArgs {
    /// Format output: table, table TEMPLATE, json or TEMPLATE
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Only tell what differs: mark nothing as damaged, and fetch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// References or ids
    pub images: Vec<String>,
}

/// `image why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// Format output: table, table TEMPLATE, json or TEMPLATE
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Reference or id, or the digest of a layer
    pub image: Vec<String>,
}

/// `image prune`.
#[derive(Args, Debug)]
pub struct PruneArgs {
    #[command(flatten)]
    pub prune: PruneFlags,
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    pub all: bool,
}

/// `image from-host`.
#[derive(Args, Debug)]
pub struct FromHostArgs {
    /// The image's name, then programs of this machine
    pub names: Vec<String>,
}
