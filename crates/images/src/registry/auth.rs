//! Who asks: Basic, or a token of the kind that Docker's registries give (distribution's spec/auth: token.md, oauth2.md).

use super::http::{Ask, Client, Trust};
use super::{Failure, RegistryErrors};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// A token's answer is not longer than this.
const MAX_TOKEN: u64 = 1 << 20;
/// Who asks for a token, to servers that want to know.
const CLIENT_ID: &str = "orlop";

/// What a user can show to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// What a token server gave at the login, to be shown instead of a password.
    IdentityToken(String),
    /// A token that goes to the registry as it is.
    RegistryToken(String),
}

/// Without the secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        })
    }
}

/// What a 401 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// The scope that it names is not looked at: whoever asks knows what for, and a registry gets a token for no other.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The first of the answer's `WWW-Authenticate` headers that is understood; a token before a password.
    pub(super) fn of(headers: &ureq::http::HeaderMap) -> Option<Self> {
        let texts = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        let mut challenges: Vec<Self> = texts.filter_map(Self::parse).collect();
        challenges.sort_by_key(|challenge| *challenge == Self::Basic);
        challenges.into_iter().next()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let get =
            |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        Some(Self::Bearer { realm: get("realm")?, service: get("service") })
    }
}

/// `key="value", key=value` (RFC 9110, 11.2).
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_owned();
        let mut value = String::new();
        if let Some(quoted) = rest.trim_start().strip_prefix('"') {
            let mut letters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((index, letter)) = letters.next() {
                match letter {
                    '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
                    '"' => {
                        end = index + 1;
                        break;
                    }
                    letter => value.push(letter),
                }
            }
            text = &quoted[end..];
        } else {
            let (bare, after) = rest.split_once(',').unwrap_or((rest, ""));
            value.push_str(bare.trim());
            text = after;
        }
        found.push((key, value));
    }
    found
}

/// What an `Authorization` header says for a name and a password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// A token, and what came with it.
#[derive(Debug, Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    pub(super) refresh_token: Option<String>,
}

impl Token {
    /// What an `Authorization` header says with it.
    pub(super) fn bearer(&self) -> Option<String> {
        let token = self.token.as_ref().or(self.access_token.as_ref()).filter(|token| !token.is_empty())?;
        // A header's value: nothing else may come in by it.
        token.bytes().all(|byte| byte.is_ascii_graphic()).then(|| format!("Bearer {token}"))
    }
}

/// Asks `realm` for a token. `scopes` are what it is for; `offline` asks for an identity token too, as a login does.
pub(super) fn token(
    client: &Client,
    challenge: (&str, Option<&str>),
    scopes: &[String],
    credentials: Option<&Credentials>,
    offline: bool,
    trust_of: &dyn Fn(&str) -> Trust,
) -> Result<Token, Failure> {
    let (realm, service) = challenge;
    let joined = scopes.join(" ");
    let response = match credentials {
        Some(Credentials::IdentityToken(identity)) => {
            let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", identity), ("client_id", CLIENT_ID)];
            form.extend(service.map(|service| ("service", service)));
            form.extend((!joined.is_empty()).then_some(("scope", joined.as_str())));
            client.send(&Ask::Post(&form), realm, None, &[], trust_of)?
        }
        other => {
            let mut query: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
            query.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            let mut authorization = None;
            if let Some(Credentials::Password { user, password }) = other {
                query.push(("account", user));
                authorization = Some(basic(user, password));
            }
            if offline {
                query.extend([("client_id", CLIENT_ID), ("offline_token", "true")]);
            }
            client.send(&Ask::Get, &with_query(realm, &query), authorization.as_deref(), &[], trust_of)?
        }
    };
    match response.status {
        200 => {}
        401 | 403 => {
            let body = response.read_all("the answer", MAX_TOKEN).unwrap_or_default();
            let words = RegistryErrors::parse(&body);
            let words = if words.is_empty() {
                "unauthorized: incorrect username or password".to_owned()
            } else {
                words.to_string()
            };
            return Err(Failure::Denied(words));
        }
        _ => return Err(response.failure()),
    }
    let body = response.read_all("the token", MAX_TOKEN)?;
    let token: Token = serde_json::from_slice(&body).map_err(|error| Failure::Protocol {
        host: realm.to_owned(),
        reason: format!("its token can't be read: {error}"),
    })?;
    match token.bearer() {
        Some(_) => Ok(token),
        None => Err(Failure::Protocol { host: realm.to_owned(), reason: "its answer has no token".to_owned() }),
    }
}

fn with_query(url: &str, query: &[(&str, &str)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    let separator = if url.contains('?') { '&' } else { '?' };
    if query.is_empty() { url.to_owned() } else { format!("{url}{separator}{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (text, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:a/b:pull,push\"",
                bearer("https://auth.example/token", Some("registry.example")),
            ),
            ("bearer Realm=http://x/t, service=a", bearer("http://x/t", Some("a"))),
            ("Bearer realm=\"a\\\"b\"", bearer("a\"b", None)),
            ("Bearer service=\"x\"", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            with_query("http://x/t", &[("scope", "repository:a/b:pull")]),
            "http://x/t?scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(with_query("http://x/t?a=1", &[("b", "&")]), "http://x/t?a=1&b=%26");
        assert_eq!(with_query("http://x/t", &[]), "http://x/t");
    }

    #[test]
    fn a_token_can_smuggle_no_header() {
        let token: Token = serde_json::from_str(r#"{"token": "a\r\nHost: x"}"#).unwrap();
        assert_eq!(token.bearer(), None);
    }
}
