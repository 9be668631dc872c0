//! Copies, sizes and removals of whole directory trees, by descriptor and in parallel.
//!
//! A tree may belong to a container that changes it meanwhile, so no path is ever resolved by name from the host's
//! root: each directory is opened from the tree's own root with openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS,
//! and everything in it is reached with O_NOFOLLOW or AT_SYMLINK_NOFOLLOW. A directory is opened when its turn comes
//! and closed after it, so the number of open files depends on the number of threads, not on the tree.

mod directory;
mod file;
mod metadata;
mod pool;
mod remove;
mod tree;
mod usage;

pub use directory::open_below;
pub use file::copy_file;
pub use metadata::{copy_metadata, xattrs};
pub use remove::{remove_at, remove_content, remove_tree};
pub use tree::{CopyOptions, CopyStats, UnsupportedXattrs, Vanished, copy_tree};
pub use usage::{TreeUsage, tree_usage};
