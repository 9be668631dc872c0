//! The two ways out. A reader that went away ends a verb quietly, as it ends `cat`.

use std::io::{self, IsTerminal, Write};

/// Writes to stdout at once.
pub fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Columns of the terminal that stdout is; None where it is none, or doesn't know.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// A line on stderr: an error, a warning or a hint. If even that can't be written there is nobody left to tell.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A word before a line on stderr (`WARNING:`), in bold where a person reads it and NO_COLOR is not set.
pub fn emphasised(word: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match !plain && io::stderr().is_terminal() {
        true => format!("\u{1b}[1m{word}\u{1b}[0m"),
        false => word.to_owned(),
    }
}
