//! What stands before the verb: which engine is meant.

use clap::Args;
use std::path::PathBuf;

/// Flags before the verb.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalArgs {
    /// Location of the config file [env: ORLOP_CONFIG] (default "/etc/orlop/config.toml")
    #[arg(long, value_name = "string")]
    pub config: Option<PathBuf>,
    /// Name of the context to use
    #[arg(short, long, value_name = "string", hide = true)]
    pub context: Option<String>,
    /// Where data lies [env: ORLOP_DATA_ROOT] (default "/var/lib/orlop")
    #[arg(long, value_name = "string")]
    pub data_root: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long, hide = true)]
    pub debug: bool,
    /// Daemon socket to connect to
    #[arg(short = 'H', long, value_name = "list", hide = true)]
    pub host: Vec<String>,
    /// Set the logging level
    #[arg(short, long, value_name = "string", hide = true)]
    pub log_level: Option<String>,
    /// Where sockets and mounts lie until reboot [env: ORLOP_RUN_ROOT] (default "/run/orlop")
    #[arg(long, value_name = "string")]
    pub run_root: Option<PathBuf>,
    /// Print version information and quit
    #[arg(short, long)]
    pub version: bool,
    /// The verb with all that follows
    #[arg(trailing_var_arg = true)]
    pub command: Vec<String>,
}
