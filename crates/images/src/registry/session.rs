//! One repository at one endpoint: requests with whatever authorization it wants, repeated when that may help.

use super::auth::{self, Challenge, Credentials};
use super::credentials::CredentialsOf;
use super::http::{Ask, Client, Response, Trust};
use super::{Failure, Settings};
use orlop_model::ImageRef;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A server that wants to be left alone for longer is told of instead of waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Before the first repetition; each one after waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Everything that a pull asks registries with.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(super) client: Client,
    pub(super) settings: Settings,
}

impl Registry {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { client: Client::new(&settings), settings }
    }

    /// Breaks everything off.
    pub(crate) fn shut_down(&self) {
        self.client.shut_down();
    }

    pub(super) fn trust(&self, host: &str) -> Trust {
        self.settings.trust(host)
    }

    /// The places that have the repository, in the order in which they are asked: mirrors, then the registry itself.
    pub(crate) fn sessions(self: &Arc<Self>, name: &ImageRef, credentials: &dyn CredentialsOf) -> Vec<Arc<Session>> {
        let own = self.settings.hosts.get(&name.registry);
        let mirrors = own.into_iter().flat_map(|own| &own.mirrors).map(|url| {
            let url = url.trim_end_matches('/').to_owned();
            let host = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
            (vec![url], host)
        });
        let itself = (self.settings.bases(&name.registry), name.registry.clone());
        let session = |(bases, host): (Vec<String>, String)| {
            Arc::new(Session {
                registry: Arc::clone(self),
                repository: name.repository.clone(),
                bases,
                base: OnceLock::new(),
                // By its own name: what the user told one registry is not for another.
                credentials: credentials.of(&host),
                authorization: Mutex::new(None),
            })
        };
        mirrors.chain([itself]).map(session).collect()
    }
}

/// A repository at an endpoint.
#[derive(Debug)]
pub(crate) struct Session {
    registry: Arc<Registry>,
    repository: String,
    bases: Vec<String>,
    /// The one of them that answered.
    base: OnceLock<String>,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<String>>,
}

impl Session {
    /// For messages.
    pub(crate) fn place(&self) -> &str {
        self.base.get().or(self.bases.first()).map_or("", String::as_str)
    }

    pub(super) fn attempts(&self) -> u32 {
        self.registry.settings.attempts
    }

    /// GET of what lies below the repository (`manifests/latest`), repeated when that may help.
    pub(super) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, Failure> {
        for attempt in 1.. {
            let failure = match self.get_once(path, headers) {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let pause = pause(&failure, back_off(attempt)).filter(|_| attempt <= self.attempts());
            let Some(pause) = pause else { return Err(failure) };
            std::thread::sleep(pause);
        }
        unreachable!("the loop returns")
    }

    /// The same, once.
    pub(super) fn get_once(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, Failure> {
        if let Some(base) = self.base.get() {
            return self.get_from(base, path, headers);
        }
        let mut first = None;
        for base in &self.bases {
            match self.get_from(base, path, headers) {
                // Another scheme may be what it speaks.
                Err(failure @ (Failure::Connection { .. } | Failure::Status { status: 400, .. })) => {
                    first.get_or_insert(failure);
                }
                answer => {
                    let _ = self.base.set(base.clone());
                    return answer;
                }
            }
        }
        Err(first.unwrap_or_else(|| Failure::Settings("no endpoint".to_owned())))
    }

    fn get_from(&self, base: &str, path: &str, headers: &[(&str, &str)]) -> Result<Response, Failure> {
        let url = match path.strip_prefix('/') {
            // The next page of a list, as the registry itself writes it.
            Some(absolute) => format!("{}/{absolute}", origin(base)),
            None => format!("{base}/v2/{}/{path}", self.repository),
        };
        let trust_of = |host: &str| self.registry.trust(host);
        let send =
            |authorization: Option<&str>| self.registry.client.send(&Ask::Get, &url, authorization, headers, &trust_of);
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut response = send(known.as_deref())?;
        if response.status == 401 {
            response.check_challenge(base)?;
            let authorization = self.authorize(base, &response)?;
            response = send(Some(&authorization))?;
            *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        }
        match response.status {
            200..=299 => Ok(response),
            // Once is enough: whoever is still not let in never will be.
            401 | 403 => Err(match response.failure() {
                Failure::Status { errors, .. } if !errors.is_empty() => Failure::Denied(errors.to_string()),
                _ => Failure::Denied("denied: requested access to the resource is denied".to_owned()),
            }),
            _ => Err(response.failure()),
        }
    }

    fn authorize(&self, base: &str, response: &Response) -> Result<String, Failure> {
        let pull = format!("repository:{}:pull", self.repository);
        authorize(&self.registry, base, response, &[pull], self.credentials.as_ref())
    }
}

/// Answers a 401 of `base`.
fn authorize(
    registry: &Registry,
    base: &str,
    response: &Response,
    scopes: &[String],
    credentials: Option<&Credentials>,
) -> Result<String, Failure> {
    if let Some(Credentials::RegistryToken(token)) = credentials {
        return Ok(format!("Bearer {token}"));
    }
    match Challenge::of(&response.headers) {
        Some(Challenge::Bearer { realm, service }) => {
            check_realm(base, &realm, credentials)?;
            let trust_of = |host: &str| registry.trust(host);
            let challenge = (realm.as_str(), service.as_deref());
            let token = auth::token(&registry.client, challenge, scopes, credentials, false, &trust_of)?;
            Ok(token.bearer().unwrap_or_default())
        }
        Some(Challenge::Basic) => match credentials {
            Some(Credentials::Password { user, password }) => Ok(auth::basic(user, password)),
            _ => Err(Failure::Denied("no basic auth credentials".to_owned())),
        },
        None => Err(Failure::Denied("unauthorized: authentication required".to_owned())),
    }
}

/// A password goes over an encrypted connection, unless the registry itself has none.
pub(super) fn check_realm(base: &str, realm: &str, credentials: Option<&Credentials>) -> Result<(), Failure> {
    let is_plain = realm.starts_with("http://");
    if is_plain && base.starts_with("https://") && credentials.is_some() {
        let reason = format!("it wants the password to be sent to {realm:?}, which is not encrypted");
        return Err(Failure::Protocol { host: base.to_owned(), reason });
    }
    Ok(())
}

fn origin(base: &str) -> String {
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    format!("{scheme}://{}", rest.split('/').next().unwrap_or_default())
}

/// How long to wait before the next attempt; None when none can help.
pub(super) fn pause(failure: &Failure, wait: Duration) -> Option<Duration> {
    let asked = match failure {
        Failure::Status { retry_after, .. } => *retry_after,
        _ => None,
    };
    failure.is_passing().then(|| asked.unwrap_or(wait)).filter(|pause| *pause <= LONGEST_WAIT)
}

/// The wait before attempt `number` (from 1) of something that broke off.
pub(super) fn back_off(number: u32) -> Duration {
    FIRST_WAIT * 2_u32.saturating_pow(number.saturating_sub(1)).min(64)
}

/// Sleeps, and says whether it wasn't cancelled meanwhile.
pub(super) fn sleep(pause: Duration, cancelled: &AtomicBool) -> bool {
    let end = Instant::now() + pause;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if cancelled.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    !cancelled.load(Ordering::Relaxed)
}
