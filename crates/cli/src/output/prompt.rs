//! Questions: before something is removed, and for a login.

use crate::failure::Failure;
use crate::output::print::out;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, Read};

/// Asks in Docker's words; without a terminal the answer is read from stdin all the same. Anything but `y` is no.
pub fn confirmed(warning: &str) -> Result<bool, Failure> {
    out(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    // An answer is short; whatever else comes in is not one.
    std::io::stdin().lock().take(4096).read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// Asks for a line on the terminal.
pub fn line(question: &str) -> Result<String, Failure> {
    out(question)?;
    let mut answer = String::new();
    std::io::stdin().lock().take(4096).read_line(&mut answer)?;
    Ok(answer.trim_end_matches(['\n', '\r']).to_owned())
}

/// The terminal as it was, when this goes.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // The terminal may be gone, and then there is nothing to restore.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Asks for a line that isn't shown. The terminal sends keys as they come, so that Ctrl-C ends us only after the echo is
/// on again.
pub fn hidden_line(question: &str) -> Result<String, Failure> {
    out(question)?;
    let before = tcgetattr(std::io::stdin()).map_err(std::io::Error::from)?;
    let mut raw = before.clone();
    raw.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw).map_err(std::io::Error::from)?;
    let restored = Restored(before);
    let mut bytes = Vec::new();
    let mut ended = false;
    for byte in std::io::stdin().lock().bytes() {
        match byte? {
            b'\n' | b'\r' => {
                ended = true;
                break;
            }
            // Ctrl-C, Ctrl-D on an empty line, backspace, Ctrl-U.
            3 => break,
            4 if bytes.is_empty() => break,
            8 | 127 => drop(bytes.pop()),
            21 => bytes.clear(),
            byte if bytes.len() < 4096 => bytes.push(byte),
            _ => {}
        }
    }
    drop(restored);
    out("\n")?;
    match ended {
        true => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        false => Err(Failure::Said(130)),
    }
}
