//! The question before something is removed.

use crate::failure::Failure;
use crate::output::print::out;
use std::io::{BufRead, Read};

/// Asks in Docker's words; without a terminal the answer is read from stdin all the same. Anything but `y` is no.
pub fn confirmed(warning: &str) -> Result<bool, Failure> {
    out(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    // An answer is short; whatever else comes in is not one.
    std::io::stdin().lock().take(4096).read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
