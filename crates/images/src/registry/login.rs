//! `login`: whether a registry takes a name and a password, before they are stored.

use super::auth::{self, Challenge, Credentials};
use super::http::{Ask, Client};
use super::session::check_realm;
use super::{Failure, Settings};

/// Asks the registry (`docker.io`, `registry.example:5000`). Returns what is to be stored: the identity token when the
/// token server gives one, else what was given.
pub fn login(settings: &Settings, registry: &str, given: &Credentials) -> Result<Credentials, Failure> {
    let client = Client::new(settings);
    let mut first = None;
    for base in settings.bases(registry) {
        match login_at(&client, settings, &base, given) {
            Err(failure @ (Failure::Connection { .. } | Failure::Status { status: 400, .. })) => {
                first.get_or_insert(failure);
            }
            answer => return answer,
        }
    }
    Err(first.unwrap_or_else(|| Failure::Settings("no endpoint".to_owned())))
}

fn login_at(client: &Client, settings: &Settings, base: &str, given: &Credentials) -> Result<Credentials, Failure> {
    let url = format!("{base}/v2/");
    let trust_of = |host: &str| settings.trust(host);
    let ask = |authorization: Option<&str>| client.send(&Ask::Get, &url, authorization, &[], &trust_of);
    let response = ask(None)?;
    if response.status == 401 {
        response.check_challenge(base)?;
    }
    let denied = || Failure::Denied(format!("Get {url:?}: unauthorized: incorrect username or password"));
    let (authorization, stored) = match (response.status, Challenge::of(&response.headers)) {
        (200..=299, _) => return Ok(given.clone()),
        (401, Some(Challenge::Basic)) => match given {
            Credentials::Password { user, password } => (auth::basic(user, password), given.clone()),
            _ => return Err(denied()),
        },
        (401, Some(Challenge::Bearer { realm, service })) => {
            check_realm(base, &realm, Some(given))?;
            let challenge = (realm.as_str(), service.as_deref());
            let token = auth::token(client, challenge, &[], Some(given), true, &trust_of);
            let token = token.map_err(|failure| match failure {
                Failure::Denied(words) => Failure::Denied(format!("Get {url:?}: {words}")),
                other => other,
            })?;
            let stored = token.refresh_token.clone().filter(|token| !token.is_empty()).map(Credentials::IdentityToken);
            (token.bearer().unwrap_or_default(), stored.unwrap_or_else(|| given.clone()))
        }
        _ => return Err(response.failure()),
    };
    match ask(Some(&authorization))? {
        response if (200..=299).contains(&response.status) => Ok(stored),
        response if matches!(response.status, 401 | 403) => Err(denied()),
        response => Err(response.failure()),
    }
}
