//! `login` and `logout`: what they store is Docker's own config.json, for Docker's client as well.

use crate::args::system::{LoginArgs, LogoutArgs};
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::print::{note, out};
use crate::output::prompt::{hidden_line, line};
use orlop_engine::{ClientConfig, Credentials, Stored, server_of};
use std::io::{IsTerminal, Read};

/// A password has no more bytes.
const MAX_PASSWORD: u64 = 64 << 10;

/// `login`
pub fn login(door: &Door, args: LoginArgs) -> Outcome {
    let registry = registry(args.server.first().map_or("", String::as_str));
    let client = client()?;
    if args.password.is_some() && args.password_stdin {
        return Err(Failure::invalid("--password and --password-stdin are mutually exclusive"));
    }
    if args.password_stdin && args.username.is_none() {
        return Err(Failure::invalid("Must provide --username with --password-stdin"));
    }
    if args.password.is_some() {
        note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let config = door.config()?;
    if args.username.is_none()
        && args.password.is_none()
        && let Some(known) = client.get(&registry).map_err(Failure::invalid)?
    {
        out("Authenticating with existing credentials...\n")?;
        match orlop_engine::login(&config, &registry, &known) {
            Ok(checked) => return keep(&client, &registry, &checked),
            Err(error) => note(&format!("Login did not succeed, error: {error}")),
        }
    }
    let given = ask(&args, &registry)?;
    keep(&client, &registry, &orlop_engine::login(&config, &registry, &given)?)
}

/// The user's name and password, from flags, stdin or the terminal.
fn ask(args: &LoginArgs, registry: &str) -> Result<Credentials, Failure> {
    let terminal = || match std::io::stdin().is_terminal() {
        true => Ok(()),
        false => Err(Failure::invalid("Cannot perform an interactive login from a non TTY device")),
    };
    let user = match args.username.as_deref().map(str::trim).filter(|user| !user.is_empty()) {
        Some(user) => user.to_owned(),
        None => {
            terminal()?;
            if registry == "docker.io" {
                out("Login with your Docker ID to push and pull images from Docker Hub.\n")?;
            }
            line("Username: ")?.trim().to_owned()
        }
    };
    if user.is_empty() {
        return Err(Failure::invalid("username is required"));
    }
    let password = match (&args.password, args.password_stdin) {
        (Some(password), _) => password.clone(),
        (None, true) => {
            let mut text = String::new();
            std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut text)?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            text.strip_suffix('\r').unwrap_or(text).to_owned()
        }
        (None, false) => {
            terminal()?;
            hidden_line("Password: ")?
        }
    };
    if password.is_empty() {
        return Err(Failure::invalid("password is required"));
    }
    Ok(Credentials::Password { user, password })
}

fn keep(client: &ClientConfig, registry: &str, credentials: &Credentials) -> Outcome {
    if let Stored::Plain(path) = client.store(registry, credentials).map_err(Failure::invalid)? {
        note(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    out("Login Succeeded\n")?;
    Ok(0)
}

/// `logout`
pub fn logout(_: &Door, args: LogoutArgs) -> Outcome {
    let registry = registry(args.server.first().map_or("", String::as_str));
    let client = client()?;
    match client.erase(&registry).map_err(Failure::invalid)? {
        true => out(&format!("Removing login credentials for {}\n", server_of(&registry)))?,
        false => out(&format!("Not logged in to {}\n", server_of(&registry)))?,
    }
    Ok(0)
}

fn client() -> Result<ClientConfig, Failure> {
    ClientConfig::of_user().ok_or_else(|| Failure::invalid("no HOME and no DOCKER_CONFIG: nowhere to keep a login"))
}

/// A registry by host and port, out of what people write.
fn registry(server: &str) -> String {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match rest.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_have_several_names() {
        for (server, expected) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://registry.example/v2/", "registry.example"),
        ] {
            assert_eq!(registry(server), expected, "{server}");
        }
    }
}
