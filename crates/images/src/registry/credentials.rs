//! Docker's own config.json: where `login` puts credentials and every other verb finds them (docker/cli, cli/config).

use super::Credentials;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The key of Docker Hub in config.json.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// A helper's answer is not longer than this.
const MAX_ANSWER: usize = 1 << 20;

/// Who knows what to show to a registry.
pub trait CredentialsOf: Sync {
    /// For a registry by host and port, `docker.io` for Docker Hub. None for nothing, also where it can't be found out:
    /// the registry says then what is missing.
    fn of(&self, registry: &str) -> Option<Credentials>;
}

/// The directory that holds config.json: `--config` of Docker, DOCKER_CONFIG, or `~/.docker`.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    directory: PathBuf,
}

/// How a login was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In config.json, unencrypted.
    Plain(PathBuf),
    /// By this helper.
    Helper(String),
}

/// A registry's key in config.json.
pub fn server_of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

/// A key without what people write around the host.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

impl ClientConfig {
    /// Of the user: DOCKER_CONFIG, else `~/.docker`. None without a home.
    pub fn of_user() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")))?;
        Some(Self { directory })
    }

    /// In `directory`.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    fn read(&self) -> Result<Map<String, Value>, String> {
        let path = self.path();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(format!("{}: not a JSON object", path.display())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// The helper that keeps what is for `server`.
    fn helper(config: &Map<String, Value>, registry: &str) -> Option<String> {
        // Docker asks by its own key; Docker Hub's host is what people write.
        let of = |key: &str| config.get("credHelpers")?.get(key)?.as_str();
        let own = of(server_of(registry)).or_else(|| of(registry));
        let all = config.get("credsStore").and_then(Value::as_str);
        own.or(all).filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned)
    }

    /// What is stored for a registry (`docker.io`, `registry.example:5000`).
    pub fn get(&self, registry: &str) -> Result<Option<Credentials>, String> {
        let config = self.read()?;
        let server = server_of(registry);
        if let Some(helper) = Self::helper(&config, registry) {
            return from_helper(&helper, server);
        }
        let Some(auths) = config.get("auths").and_then(Value::as_object) else { return Ok(None) };
        // As Docker looks: the key itself, then any that names the host.
        let by_host = || auths.iter().find(|(key, _)| host_of(key) == host_of(server)).map(|(_, entry)| entry);
        let Some(entry) = auths.get(server).or_else(by_host) else { return Ok(None) };
        Ok(from_entry(entry))
    }

    /// Keeps credentials for a registry: durable, and readable by nobody else.
    pub fn store(&self, registry: &str, credentials: &Credentials) -> Result<Stored, String> {
        let mut config = self.read()?;
        let server = server_of(registry);
        if let Some(helper) = Self::helper(&config, registry) {
            let (user, secret) = match credentials {
                Credentials::Password { user, password } => (user.as_str(), password.as_str()),
                Credentials::IdentityToken(token) => ("<token>", token.as_str()),
                Credentials::RegistryToken(_) => return Err("a registry token can't be stored".to_owned()),
            };
            let request = json!({ "ServerURL": server, "Username": user, "Secret": secret });
            call_helper(&helper, "store", &request.to_string())?;
            return Ok(Stored::Helper(helper));
        }
        let entry = match credentials {
            Credentials::Password { user, password } => {
                json!({ "auth": BASE64_STANDARD.encode(format!("{user}:{password}")) })
            }
            Credentials::IdentityToken(token) => {
                json!({ "auth": BASE64_STANDARD.encode("<token>:"), "identitytoken": token })
            }
            Credentials::RegistryToken(token) => json!({ "registrytoken": token }),
        };
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        let Value::Object(auths) = auths else {
            return Err(format!("{}: \"auths\" is not an object", self.path().display()));
        };
        auths.insert(server.to_owned(), entry);
        self.write(&config)?;
        Ok(Stored::Plain(self.path()))
    }

    /// Forgets a registry. False when nothing was known of it.
    pub fn erase(&self, registry: &str) -> Result<bool, String> {
        let mut config = self.read()?;
        let server = server_of(registry);
        let mut known = false;
        if let Some(helper) = Self::helper(&config, registry) {
            known = from_helper(&helper, server)?.is_some();
            if known {
                call_helper(&helper, "erase", server)?;
            }
        }
        if let Some(Value::Object(auths)) = config.get_mut("auths") {
            let before = auths.len();
            auths.retain(|key, _| key != server && host_of(key) != host_of(server));
            if auths.len() < before {
                known = true;
                self.write(&config)?;
            }
        }
        Ok(known)
    }

    fn write(&self, config: &Map<String, Value>) -> Result<(), String> {
        // What the file is a link to is replaced, not the link.
        let path = std::fs::canonicalize(self.path()).unwrap_or_else(|_| self.path());
        if !self.directory.exists() {
            if let Some(parent) = self.directory.parent() {
                std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
            }
            orlop_sys::durable::make_directory(&self.directory, 0o700).map_err(|error| error.to_string())?;
        }
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(config, &mut serializer).map_err(|error| error.to_string())?;
        orlop_sys::durable::write_file(&path, &text, 0o600).map_err(|error| error.to_string())
    }
}

impl CredentialsOf for ClientConfig {
    fn of(&self, registry: &str) -> Option<Credentials> {
        self.get(registry).ok().flatten()
    }
}

impl CredentialsOf for Option<ClientConfig> {
    fn of(&self, registry: &str) -> Option<Credentials> {
        self.as_ref()?.of(registry)
    }
}

fn from_entry(entry: &Value) -> Option<Credentials> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(Credentials::IdentityToken(token.to_owned()));
    }
    if let Some(token) = text("registrytoken") {
        return Some(Credentials::RegistryToken(token.to_owned()));
    }
    let decoded = text("auth").and_then(|auth| String::from_utf8(BASE64_STANDARD.decode(auth.trim()).ok()?).ok());
    let (user, password) = match &decoded {
        Some(decoded) => decoded.split_once(':')?,
        None => (text("username")?, text("password")?),
    };
    // Older clients filled the password up with zeros.
    Some(Credentials::Password { user: user.to_owned(), password: password.trim_matches('\0').to_owned() })
}

fn from_helper(helper: &str, server: &str) -> Result<Option<Credentials>, String> {
    let answer = match call_helper(helper, "get", server) {
        Ok(answer) => answer,
        // The helpers' one word for that.
        Err(error) if error.contains("credentials not found") => return Ok(None),
        Err(error) => return Err(error),
    };
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| format!("docker-credential-{helper}: its answer can't be read: {error}"))?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (user, secret) = (text("Username"), text("Secret"));
    Ok(match user.as_str() {
        "<token>" => Some(Credentials::IdentityToken(secret)),
        _ if user.is_empty() && secret.is_empty() => None,
        _ => Some(Credentials::Password { user, password: secret }),
    })
}

/// Runs `docker-credential-NAME VERB` with `input` (docker-credential-helpers' protocol).
fn call_helper(helper: &str, verb: &str, input: &str) -> Result<Vec<u8>, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: std::io::Error| format!("error getting credentials - err: {program}: {error}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ends without reading has its reasons, which its exit code tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.stdout.len() > MAX_ANSWER {
        return Err(format!("{program}: its answer has more than {MAX_ANSWER} bytes"));
    }
    match output.status.success() {
        true => Ok(output.stdout),
        false => {
            let said = String::from_utf8_lossy(&output.stdout).trim().replace('\n', " ");
            Err(format!("error getting credentials - err: {}, out: `{said}`", output.status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn dockers_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let config = ClientConfig::at(directory.path());
        assert_eq!(config.get("docker.io"), Ok(None));
        std::fs::write(
            config.path(),
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6YTpi"}, "https://old.example/v2/": {"auth": "bWU6cAA="},
                "token.example": {"identitytoken": "t"}, "plain.example:5000": {"username": "u", "password": "p"}, "empty.example": {}}}"#,
        )
        .unwrap();
        for (registry, expected) in [
            ("docker.io", Some(password("me", "a:b"))),
            ("old.example", Some(password("me", "p"))),
            ("token.example", Some(Credentials::IdentityToken("t".to_owned()))),
            ("plain.example:5000", Some(password("u", "p"))),
            ("empty.example", None),
            ("other.example", None),
        ] {
            assert_eq!(config.get(registry), Ok(expected), "{registry}");
        }
        std::fs::write(config.path(), "{").unwrap();
        assert!(config.get("docker.io").unwrap_err().contains("config.json"));
    }

    #[test]
    fn helpers_are_found_by_dockers_keys() {
        let config = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let hub = r#"{"credsStore": "all", "credHelpers": {"https://index.docker.io/v1/": "hub", "docker.io": "name", "x:5000": "own"}}"#;
        let name = r#"{"credHelpers": {"docker.io": "name", "evil.example": "../x"}}"#;
        for (text, registry, expected) in [
            (hub, "docker.io", Some("hub")),
            (hub, "x:5000", Some("own")),
            (hub, "y:5000", Some("all")),
            (name, "docker.io", Some("name")),
            (name, "evil.example", None),
            ("{}", "docker.io", None),
        ] {
            assert_eq!(ClientConfig::helper(&config(text), registry).as_deref(), expected, "{registry} in {text}");
        }
    }

    #[test]
    fn what_else_stands_in_the_file_stays() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let config = ClientConfig::at(&directory.path().join("new"));
        config.store("docker.io", &password("me", "secret")).unwrap();
        assert_eq!(config.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(config.directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let mut text: Value = serde_json::from_slice(&std::fs::read(config.path()).unwrap()).unwrap();
        text["currentContext"] = json!("other");
        std::fs::write(config.path(), text.to_string()).unwrap();
        config.store("localhost:5000", &Credentials::IdentityToken("t".to_owned())).unwrap();
        assert_eq!(config.get("docker.io"), Ok(Some(password("me", "secret"))));
        assert_eq!(config.get("localhost:5000"), Ok(Some(Credentials::IdentityToken("t".to_owned()))));
        assert_eq!((config.erase("docker.io"), config.erase("docker.io")), (Ok(true), Ok(false)));
        let text = std::fs::read_to_string(config.path()).unwrap();
        assert!(text.contains("currentContext") && text.contains("localhost:5000") && !text.contains("index.docker"));
    }
}
