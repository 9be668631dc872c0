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

/// A line on stderr: an error or a hint. If even that can't be written there is nobody left to tell.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escaped(line));
}

/// A warning on stderr, its first word bold where a person reads it and NO_COLOR is not set.
pub fn warn(line: &str) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (on, off) = if !plain && io::stderr().is_terminal() { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    let _ = writeln!(io::stderr().lock(), "{on}WARNING:{off} {}", escaped(line));
}

/// Text with its control characters spelled out, but for the ends of lines: what an image or a registry says must not
/// move a cursor or pass for something else.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() && letter != '\n' && letter != '\t' {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

/// A name or a line from an image for stdout: on a terminal with all of its control characters spelled out, elsewhere as it
/// is.
pub fn foreign(text: &str) -> String {
    match io::stdout().is_terminal() {
        true => escaped(text).replace('\n', "\\n").replace('\t', "\\t"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        for (text, expected) in [
            ("plain, n\u{e4}me\tand\nlines", "plain, n\u{e4}me\tand\nlines"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("one\rtwo\u{9b}", "one\\rtwo\\u{9b}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }
}
