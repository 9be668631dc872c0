//! HTTP with limits: bodies of a known length at most, no silence and no trickle for longer than a time, redirects
//! followed here so that credentials never follow them.

use super::{Failure, Settings};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Response as HttpResponse, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body, Proxy};

/// Redirects of one request.
const MAX_REDIRECTS: usize = 5;
/// A connection that brings less than this within the time-out is given up.
const MIN_PROGRESS: u64 = 16 << 10;
/// How long a name may take to resolve, and a connection to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Of what an error's body says, more is not read.
const MAX_ERROR: u64 = 64 << 10;

/// Where certificates of authorities lie: SSL_CERT_FILE, then Debian's place, Fedora's, SUSE's, Alpine's.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom a host's certificate must come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// Anybody.
    pub insecure: bool,
    /// One more authority.
    pub ca: Option<PathBuf>,
}

/// Makes connections, and keeps them for the next request.
#[derive(Debug)]
pub(super) struct Client {
    timeout: Duration,
    agents: Mutex<HashMap<(Trust, bool), Agent>>,
}

/// What is asked.
pub(super) enum Ask<'a> {
    Get,
    /// A form.
    Post(&'a [(&'a str, &'a str)]),
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub(super) struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    /// The host that answered, after redirects.
    host: String,
    /// Whether that is the origin that was asked: another one's challenge is not for the registry's credentials.
    pub is_of_origin: bool,
    body: Body,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { timeout: settings.timeout, agents: Mutex::default() }
    }

    /// Breaks every connection off; the client is of no use afterwards.
    pub(super) fn shut_down(&self) {
        for agent in self.agents.lock().unwrap_or_else(PoisonError::into_inner).values() {
            agent.clone().shutdown();
        }
    }

    /// Asks `url` and whatever that redirects to. `authorization` goes to the origin of `url` alone; `trust_of` says
    /// whose certificate a host may show.
    pub(super) fn send(
        &self,
        ask: &Ask<'_>,
        url: &str,
        authorization: Option<&str>,
        headers: &[(&str, &str)],
        trust_of: &dyn Fn(&str) -> Trust,
    ) -> Result<Response, Failure> {
        let first = parse(url)?;
        let mut uri = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let host = host_of(&uri);
            let agent = self.agent(&trust_of(&host), is_loopback(&host))?;
            let authorization = authorization.filter(|_| is_same_origin(&uri, &first));
            let response = ask_once(&agent, ask, &uri, authorization, headers)
                .map_err(|error| Failure::of_connection(&host, &error))?;
            let status = response.status().as_u16();
            let is_redirect = matches!(status, 301 | 302 | 303 | 307 | 308) && matches!(ask, Ask::Get);
            if !is_redirect {
                let (parts, body) = response.into_parts();
                let is_of_origin = is_same_origin(&uri, &first);
                let timeout = self.timeout;
                return Ok(Response { status, headers: parts.headers, host, is_of_origin, body, timeout });
            }
            uri = target(&response, &uri, &host)?;
        }
        Err(Failure::Protocol { host: host_of(&first), reason: format!("more than {MAX_REDIRECTS} redirects") })
    }

    fn agent(&self, trust: &Trust, direct: bool) -> Result<Agent, Failure> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (trust.clone(), direct);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("orlop/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_send_request(Some(self.timeout))
            .timeout_send_body(Some(self.timeout))
            .timeout_recv_response(Some(self.timeout))
            .timeout_per_read(Some(self.timeout))
            .input_buffer_size(256 << 10)
            // Go's rule, which Docker has by it: a proxy never stands before this machine itself.
            .proxy(if direct { None } else { Proxy::try_from_env() })
            .tls_config(tls(trust)?);
        let agent = Agent::from(config.build());
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

impl Response {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Bytes that the body is going to have, when the server says so.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// The body, given up when it comes too slowly.
    pub(super) fn reader(self) -> Steady<impl Read + Send + use<>> {
        Steady {
            inner: self.body.into_with_config().limit(u64::MAX).reader(),
            timeout: self.timeout,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// The whole body, refused when it has more than `limit` bytes; whatever its length is said to be.
    pub(super) fn read_all(self, what: &str, limit: u64) -> Result<Vec<u8>, Failure> {
        let host = self.host.clone();
        let too_long = || Failure::Protocol {
            host: host.clone(),
            reason: format!("{what} has more than {limit} bytes, which is the most that is read"),
        };
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        let read = self.reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::broken(&host, &error))?;
        if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
    }

    /// Refuses a challenge of anybody but the registry itself.
    pub(super) fn check_challenge(&self, base: &str) -> Result<(), Failure> {
        match self.is_of_origin {
            true => Ok(()),
            false => {
                let host = &self.host;
                Err(Failure::Denied(format!(
                    "unauthorized: {base} redirects to {host:?}, which asks for a login; credentials stay with {base}"
                )))
            }
        }
    }

    /// What went wrong, in the registry's words.
    pub(super) fn failure(self) -> Failure {
        let (status, host) = (self.status, self.host.clone());
        let retry_after = self.header(header::RETRY_AFTER.as_str()).and_then(retry_after);
        // The status says enough when the body can't be read.
        let body = self.read_all("the answer", MAX_ERROR).unwrap_or_default();
        Failure::Status { host, status, errors: super::RegistryErrors::parse(&body), retry_after }
    }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(moment.duration_since(jiff::Timestamp::now())).ok()
}

/// Fails when less than [`MIN_PROGRESS`] came while the time-out passed in waiting for it; the reader's own time
/// doesn't count.
pub(super) struct Steady<R> {
    inner: R,
    timeout: Duration,
    waited: Duration,
    bytes: u64,
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let read = self.inner.read(buffer)?;
        self.waited += began.elapsed();
        self.bytes += read as u64;
        if self.bytes >= MIN_PROGRESS {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        } else if self.waited > self.timeout && read > 0 {
            let text = format!("less than {MIN_PROGRESS} bytes came in {} s", self.timeout.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(read)
    }
}

fn ask_once(
    agent: &Agent,
    ask: &Ask<'_>,
    uri: &Uri,
    authorization: Option<&str>,
    headers: &[(&str, &str)],
) -> Result<HttpResponse<Body>, ureq::Error> {
    let all = headers.iter().copied().chain(authorization.map(|value| ("Authorization", value)));
    match ask {
        Ask::Get => all.fold(agent.get(uri), |request, (name, value)| request.header(name, value)).call(),
        Ask::Post(form) => {
            let request = all.fold(agent.post(uri), |request, (name, value)| request.header(name, value));
            request.send_form(form.iter().copied())
        }
    }
}

fn parse(url: &str) -> Result<Uri, Failure> {
    let bad = || Failure::Protocol { host: "the registry".to_owned(), reason: format!("{url:?} is not a URL") };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err(bad()),
    }
}

fn target(response: &HttpResponse<Body>, from: &Uri, host: &str) -> Result<Uri, Failure> {
    let protocol = |reason: String| Failure::Protocol { host: host.to_owned(), reason };
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| protocol("it redirects to nowhere".to_owned()))?;
    let absolute = match location {
        path if path.starts_with("//") => format!("{}:{path}", from.scheme_str().unwrap_or("https")),
        path if path.starts_with('/') => format!("{}://{host}{path}", from.scheme_str().unwrap_or("https")),
        other => other.to_owned(),
    };
    let to = parse(&absolute).map_err(|_| protocol(format!("it redirects to {location:?}")))?;
    if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
        return Err(protocol(format!("it redirects to {location:?}, which is not encrypted")));
    }
    Ok(to)
}

/// Host and port, as the settings and Docker's config.json name a registry.
pub(super) fn host_of(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, |authority| {
        let text = authority.as_str();
        text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
    })
}

/// Scheme, host and port (RFC 6454).
fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// Whether a host, perhaps with a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls(trust: &Trust) -> Result<TlsConfig, Failure> {
    let builder = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    if trust.insecure {
        return Ok(builder.disable_verification(true).root_certs(RootCerts::new_with_certs(&[])).build());
    }
    let mut certificates = system_certificates();
    if let Some(path) = &trust.ca {
        let own = certificates_of(path);
        let own = own.map_err(|error| Failure::Settings(format!("ca {}: {error}", path.display())))?;
        certificates.extend(own);
    }
    Ok(builder.root_certs(RootCerts::new_with_certs(&certificates)).build())
}

/// None on a machine without any: then no certificate is good, and the error of the connection says so.
fn system_certificates() -> Vec<Certificate<'static>> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let candidates = named.into_iter().chain(BUNDLES.map(PathBuf::from));
    candidates.filter_map(|path| certificates_of(&path).ok()).next().unwrap_or_default()
}

fn certificates_of(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let found: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (host, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn origins() {
        for (one, other, expected) in [
            ("https://a.example/v2/", "https://A.example:443/x", true),
            ("http://a.example", "http://a.example:80", true),
            ("http://a.example", "https://a.example", false),
            ("http://a.example:5000", "http://a.example:5001", false),
            ("https://a.example", "https://b.example", false),
            ("https://a.example", "https://a.example@b.example", false),
        ] {
            assert_eq!(is_same_origin(&one.parse().unwrap(), &other.parse().unwrap()), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_server_may_say_when_to_come_back() {
        assert_eq!(retry_after(" 7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), None);
        assert!(retry_after("Thu, 01 Jan 2150 00:00:00 GMT").unwrap() > Duration::from_secs(1 << 20));
        assert_eq!(retry_after("soon"), None);
    }
}
