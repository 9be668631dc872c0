//! Why a registry didn't give what was asked for.

use serde::Deserialize;
use std::error::Error as _;
use std::io;
use std::time::Duration;

/// How a request ended. Who asked knows what for, and makes the user's words of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer, or one that broke off.
    #[error("{host}: {reason}")]
    Connection {
        /// Who was asked.
        host: String,
        /// What happened.
        reason: String,
        /// Whether there was a connection: then another attempt may succeed.
        connected: bool,
    },
    /// An answer of another kind than what was asked for.
    #[error("{host}: {errors}", errors = describe(*.status, .errors))]
    Status {
        /// Who answered.
        host: String,
        /// HTTP's number.
        status: u16,
        /// What it says.
        errors: RegistryErrors,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// The registry, or its token server, doesn't know the user or doesn't let them.
    #[error("{0}")]
    Denied(String),
    /// Something that can't be.
    #[error("{host}: {reason}")]
    Protocol {
        /// Who said it.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// What the config says can't be used.
    #[error("{0}")]
    Settings(String),
}

fn describe(status: u16, errors: &RegistryErrors) -> String {
    let reason = ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let status = format!("status {status} {}", reason.unwrap_or_default());
    if errors.is_empty() { status.trim_end().to_owned() } else { format!("{}: {errors}", status.trim_end()) }
}

/// One line of what a server wrote, without control characters.
fn clean(text: &str) -> String {
    let line: String = text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_owned()
}

impl Failure {
    pub(super) fn of_connection(host: &str, error: &ureq::Error) -> Self {
        let reason = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => "no connection within the time-out".to_owned(),
            ureq::Error::Timeout(ureq::Timeout::Resolve) => "its name could not be resolved in time".to_owned(),
            ureq::Error::Timeout(_) => "no answer within the time-out".to_owned(),
            ureq::Error::HostNotFound => "no such host".to_owned(),
            other => reason_of(other),
        };
        let connected = match error {
            ureq::Error::HostNotFound
            | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_)
            | ureq::Error::LargeResponseHeader(..) => false,
            ureq::Error::Io(error) => !is_refusal(error),
            _ => true,
        };
        Self::Connection { host: host.to_owned(), reason: clean(&reason), connected }
    }

    /// A body that broke off.
    pub(super) fn broken(host: &str, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the connection broke off".to_owned(),
            _ => error.to_string(),
        };
        Self::Connection { host: host.to_owned(), reason: clean(&reason), connected: true }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connection { connected, .. } => *connected,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    is_tls || matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable)
}

fn reason_of(error: &ureq::Error) -> String {
    match (error, error.source()) {
        (ureq::Error::Io(error), _) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::UnexpectedEof => "the connection broke off".to_owned(),
            _ => error.to_string(),
        },
        (other, _) => other.to_string(),
    }
}

/// The errors of an answer's body (OCI distribution-spec, "Error Codes"), in the words of Docker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryErrors(Vec<(String, String)>);

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Option<Vec<Entry>>,
    /// Of a token server.
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl RegistryErrors {
    pub(super) fn parse(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Body>(body) else { return Self::default() };
        let entries = body.errors.unwrap_or_default().into_iter().take(3).map(|entry| {
            let code = entry.code.unwrap_or_default().to_lowercase().replace('_', " ");
            (clean(&code), clean(&entry.message.unwrap_or_default()))
        });
        let details = body.details.map(|text| ("unauthorized".to_owned(), clean(&text)));
        Self(entries.chain(details).filter(|(code, message)| !code.is_empty() || !message.is_empty()).collect())
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for RegistryErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<String> = self
            .0
            .iter()
            .map(|(code, message)| match (code.is_empty(), message.is_empty()) {
                (false, false) => format!("{code}: {message}"),
                (_, true) => code.clone(),
                (true, _) => message.clone(),
            })
            .collect();
        f.write_str(&texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_dockers_words_in_one_line() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                "manifest unknown: manifest unknown",
            ),
            (r#"{"errors":[{"code":"DENIED"},{"message":"a\nb"}]}"#, "denied; a b"),
            (r#"{"details":"incorrect username or password"}"#, "unauthorized: incorrect username or password"),
            ("<html>", ""),
            ("{}", ""),
        ] {
            assert_eq!(RegistryErrors::parse(body.as_bytes()).to_string(), expected, "{body}");
        }
    }
}
