//! Flags of the verbs on volumes.

use super::shared::{ListFlags, PruneFlags};
use clap::Args;

/// `volume create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    pub driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list")]
    pub label: Vec<String>,
    /// Specify volume name
    #[arg(long, value_name = "string", hide = true)]
    pub name: Option<String>,
    /// Set driver specific options
    #[arg(short = 'o', long, value_name = "map")]
    pub opt: Vec<String>,
    /// The name
    pub volume: Vec<String>,
}

/// `volume ls`.
#[derive(Args, Debug)]
pub struct LsArgs {
    #[command(flatten)]
    pub list: ListFlags,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `volume inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Format output: json or TEMPLATE
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
    /// Names
    pub volumes: Vec<String>,
}

/// `volume rm`.
#[derive(Args, Debug)]
pub struct RmArgs {
    /// Force the removal of one or more volumes: one that isn't there is no error
    #[arg(short, long)]
    pub force: bool,
    /// Names
    pub volumes: Vec<String>,
}

/// `volume prune`.
#[derive(Args, Debug)]
pub struct PruneArgs {
    #[command(flatten)]
    pub prune: PruneFlags,
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    pub all: bool,
}

/// `volume restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// Names
    pub volumes: Vec<String>,
}

/// `volume trash ls`.
#[derive(Args, Debug)]
pub struct TrashLsArgs {
    /// Format output: table, table TEMPLATE, json or TEMPLATE
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Only display ids
    #[arg(short, long)]
    pub quiet: bool,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `volume trash empty`.
#[derive(Args, Debug)]
pub struct TrashEmptyArgs {
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}
