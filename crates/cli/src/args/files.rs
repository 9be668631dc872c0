//! Flags of the verbs that take files out of a container or make an image of them.

use clap::Args;

/// `diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The container
    #[arg(hide = true)]
    pub container: Vec<String>,
}

/// `export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    pub output: Option<String>,
    /// The container
    #[arg(hide = true)]
    pub container: Vec<String>,
}

/// `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    pub change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    pub message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub platform: Option<String>,
    /// The archive and the image's name
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}

/// `commit`.
#[derive(Args, Debug)]
pub struct CommitArgs {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string")]
    pub author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    pub change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    pub message: Option<String>,
    /// Pause container during commit
    #[arg(short, long, default_value = "true", action = clap::ArgAction::Set, value_name = "bool")]
    pub pause: bool,
    /// The container and the image's name
    #[arg(hide = true)]
    pub arguments: Vec<String>,
}
