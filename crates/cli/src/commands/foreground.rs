//! Staying with a program: `run`, `start -a` and `exec` in the foreground.

use crate::failure::{Failure, Outcome};
use orlop_engine::{AttachRequest, Session};
use std::io::IsTerminal;
use std::path::PathBuf;

/// What the client is tied to.
#[derive(Debug)]
pub struct Streams<'a> {
    /// stdin, stdout, stderr.
    pub attach: [bool; 3],
    /// The program has a terminal.
    pub tty: bool,
    /// Signals that the client gets go to the program.
    pub sig_proxy: bool,
    /// `--detach-keys`.
    pub detach_keys: Option<&'a str>,
}

/// Docker refuses a terminal that nobody can type into.
pub fn session_options(streams: &Streams<'_>) -> Result<AttachRequest, Failure> {
    if streams.tty && streams.attach[0] && !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("cannot attach stdin to a TTY-enabled container because stdin is not a terminal (the input device is not a TTY)".to_owned()));
    }
    Ok(AttachRequest {
        stdin: streams.attach[0],
        stdout: streams.attach[1],
        stderr: streams.attach[2],
        terminal: streams.tty,
        sig_proxy: streams.sig_proxy && !streams.tty,
        detach_keys: match (streams.detach_keys, configured_keys()) {
            (Some(keys), _) => detach_keys(keys)?,
            (None, Some(keys)) => detach_keys(&keys)?,
            (None, None) => orlop_engine::DETACH_KEYS.to_vec(),
        },
    })
}

/// `detachKeys` of Docker's config file. One that can't be read has none, as for Docker.
fn configured_keys() -> Option<String> {
    let directory = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let directory = directory.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")))?;
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(directory.join("config.json")).ok()?).ok()?;
    config.get("detachKeys")?.as_str().map(str::to_owned)
}

/// The exit code that a session's end means for this process.
pub fn exit_code(end: Session) -> Outcome {
    match end {
        Session::Exited(code) => Ok(code.to_le_bytes()[0]),
        Session::Detached => Ok(0),
        Session::Interrupted(signal) => Ok(128_u8.saturating_add(signal.to_le_bytes()[0])),
        Session::OutputClosed => Err(Failure::BrokenPipe),
    }
}

/// `ctrl-p,ctrl-q`: single characters or `ctrl-` with a letter or one of `@ ^ [ , _`, between commas.
fn detach_keys(text: &str) -> Result<Vec<u8>, Failure> {
    let invalid = || Failure::invalid(format!("invalid detach keys ({text}): unknown character"));
    // A comma itself is a key only after `ctrl-`.
    let keys = text.replace("ctrl-,", "ctrl-\u{1}");
    let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
        (Some("\u{1}"), _) => Ok(b',' & 0x1f),
        (Some(letter), _) => match letter.as_bytes() {
            [letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Ok(letter & 0x1f),
            _ => Err(invalid()),
        },
        (None, [one]) => Ok(*one),
        (None, _) => Err(invalid()),
    };
    match text {
        "" => Ok(orlop_engine::DETACH_KEYS.to_vec()),
        _ => keys.split(',').map(key).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::detach_keys;

    #[test]
    fn detach_keys_are_read() {
        for (text, keys) in
            [("ctrl-p,ctrl-q", Some(vec![16, 17])), ("a,ctrl-[", Some(vec![b'a', 27])), ("", Some(vec![16, 17]))]
        {
            assert_eq!(detach_keys(text).ok(), keys, "{text}");
        }
        for text in ["ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-A"] {
            assert!(detach_keys(text).is_err(), "{text}");
        }
    }
}
