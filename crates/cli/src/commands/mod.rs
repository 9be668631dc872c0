//! The verbs of the command line, a module per noun.

pub mod container;
pub mod image;
pub mod internal;
pub mod system;
pub mod volume;
