//! Flags that several verbs have.

use clap::Args;

/// What every prune takes.
#[derive(Args, Debug)]
pub struct PruneFlags {
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    pub filter: Vec<String>,
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// What every list of objects takes.
#[derive(Args, Debug)]
pub struct ListFlags {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    pub filter: Vec<String>,
    /// Format output: table, table TEMPLATE, json or TEMPLATE
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Only display IDs or names
    #[arg(short, long)]
    pub quiet: bool,
}
