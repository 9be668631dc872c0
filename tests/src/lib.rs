//! What the end-to-end tests and the benchmarks share: a generator of image archives, and worlds (a data root, a run
//! root and a home of their own) in which the built binary runs under the name `docker`.
//!
//! Nothing here imports a crate of the engine: the tests see what a user sees.
#![forbid(unsafe_code)]

pub mod archive;
pub mod images;
pub mod leaks;
pub mod registry;
pub mod terminal;
pub mod world;

use std::io::Write;

/// What a test hands back: the message says what was run, what was expected and what was seen.
pub type Outcome<T = ()> = Result<T, String>;

/// Says something to the person who watches; the tests' own way around the lint on printing.
pub fn say(line: &str) {
    // A closed stderr is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}
