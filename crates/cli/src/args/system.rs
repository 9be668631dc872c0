//! Flags of the verbs on the whole engine.

use clap::Args;

/// `system df`.
#[derive(Args, Debug)]
pub struct DfArgs {
    /// Format output: table, table TEMPLATE, json or TEMPLATE
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    pub verbose: bool,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `system prune`.
#[derive(Args, Debug)]
pub struct PruneArgs {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    pub filter: Vec<String>,
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    pub volumes: bool,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    pub filter: Vec<String>,
    /// Format output: json or TEMPLATE
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    pub since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    pub until: Option<String>,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `info` and `version`.
#[derive(Args, Debug)]
pub struct FormatArgs {
    /// Format output: json or TEMPLATE
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `system tend`.
#[derive(Args, Debug)]
pub struct TendArgs {
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}
