//! How a verb ends when it doesn't end well: a text for stderr and an exit code.

use crate::args::Refusal;
use crate::output::print::note;
use crate::output::template;
use orlop_model::ErrorKind;

/// What a verb gives: the process's exit code.
pub type Outcome = Result<u8, Failure>;

/// Why a verb stopped.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong, or asked for help.
    Refusal(Refusal),
    /// Said on stderr after `Error: `.
    Message {
        /// The words.
        text: String,
        /// What kind of failure, where the exit code depends on it.
        kind: ErrorKind,
    },
    /// Said as `Message`, but before anything was asked of the engine: always exit code 1.
    Usage(String),
    /// Said as `Message`: the template of `inspect` can't be read, exit code 64 as Docker has it.
    Template(String),
    /// Everything has been said; only the exit code is left.
    Said(u8),
    /// The reader of stdout went away.
    BrokenPipe,
}

impl Failure {
    /// A failure of the request itself.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Message { text: text.into(), kind: ErrorKind::Invalid }
    }

    /// What Docker has and we don't.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::Message { text: text.into(), kind: ErrorKind::Unsupported }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<template::Error> for Failure {
    fn from(error: template::Error) -> Self {
        match error {
            template::Error::Parse(message) => Self::Template(message),
            template::Error::Execute(message) => Self::Usage(message),
        }
    }
}

impl From<orlop_engine::Error> for Failure {
    fn from(error: orlop_engine::Error) -> Self {
        let mut text = in_the_users_words(&error.to_string(), &crate::program_name(std::env::args_os().next()));
        if let [close, ..] = error.close_matches() {
            text += &format!("\nHint: did you mean {close}?");
        }
        Self::Message { kind: orlop_model::Kind::kind(&error), text }
    }
}

impl From<orlop_model::filter::InvalidFilter> for Failure {
    fn from(error: orlop_model::filter::InvalidFilter) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Of our own stdin and stdout.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            // A full disk behind stdout is not the engine's, so its hints would mislead.
            _ => Self::Message { text: error.to_string(), kind: ErrorKind::Internal },
        }
    }
}

/// An error on stderr, with what helps where that is known.
pub fn tell(program: &str, text: &str, kind: ErrorKind) {
    note(&format!("Error: {text}"));
    if kind == ErrorKind::NoSpace {
        note(&format!(
            "Hint: '{program} system df' shows what takes the space, '{program} volume trash empty' frees the trash"
        ));
    }
}

/// The crates below name commands as `orlop …`; here they get the name that was called and the quotes of all hints.
fn in_the_users_words(text: &str, program: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some((before, command)) = rest.split_once("`orlop ") {
        let Some((command, after)) = command.split_once('`') else { break };
        words += &format!("{before}'{program} {command}'");
        rest = after;
    }
    words + rest
}

/// The exit code of a container's verb that failed before the program ran, as Docker has it.
pub fn container_exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotExecutable => 126,
        _ => 125,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_program_that_was_called() {
        for (text, expected) in [
            ("nothing to see", "nothing to see"),
            ("bring it with `orlop load`", "bring it with 'docker load'"),
            ("`orlop ps` or `orlop rm x`; `ls`", "'docker ps' or 'docker rm x'; `ls`"),
            ("cut `orlop load", "cut `orlop load"),
        ] {
            assert_eq!(in_the_users_words(text, "docker"), expected);
        }
    }
}
