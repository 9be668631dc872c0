//! Flags of the verbs on the whole engine.

use super::shared::PruneFlags;
use clap::Args;

/// `login`.
#[derive(Args, Debug)]
pub struct LoginArgs {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    pub password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    pub password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    pub username: Option<String>,
    /// A registry
    pub server: Vec<String>,
}

/// `logout`.
#[derive(Args, Debug)]
pub struct LogoutArgs {
    /// A registry
    pub server: Vec<String>,
}

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
    #[command(flatten)]
    pub prune: PruneFlags,
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    pub volumes: bool,
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

/// `completion`.
#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// bash, zsh or fish
    pub shell: Vec<String>,
}

/// `system install-units`.
#[derive(Args, Debug)]
pub struct InstallUnitsArgs {
    /// Where systemd looks for units
    #[arg(long, value_name = "dir", default_value = "/etc/systemd/system")]
    pub directory: std::path::PathBuf,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `system stop-all`.
#[derive(Args, Debug)]
pub struct StopAllArgs {
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `system tend`.
#[derive(Args, Debug)]
pub struct TendArgs {
    /// After a boot: start the containers that their restart policies want
    #[arg(long)]
    pub boot: bool,
    /// None
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}
