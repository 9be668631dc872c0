//! Who may pull: passwords, tokens, helpers, certificates.

use orlop_tests::Outcome;
use orlop_tests::registry::{self, Content, Registry, Reply, mirror};
use orlop_tests::world::World;

use crate::pull::QUICK;
use crate::{Case, contains, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, missing: None, run };
    vec![
        case("login::credentials_stay_where_they_belong", credentials),
        case("login::login_and_logout", login_and_logout),
        Case { name: "login::https", missing: missing_tools(&["docker-registry", "skopeo", "openssl"]), run: https },
    ]
}

fn credentials(world: &mut World) -> Outcome {
    // Blobs lie on another host, which must not get to see the password.
    let mut content = Content::new();
    let made = registry::image(&mut content, "team/x", "1", &[100_000], 3);
    let store = Registry::start(content.clone(), |_| Reply::Usual)?;
    let elsewhere = store.address.clone();
    let layer = made.layers[0].clone();
    let registry = Registry::start(content, move |asked| {
        let host = &asked.headers["host"];
        if asked.path.starts_with("/token") {
            // base64 of `me:secret`.
            return match asked.headers.get("authorization").map(String::as_str) {
                Some("Basic bWU6c2VjcmV0") => Reply::Says(200, vec![], b"{\"token\":\"abc\"}".to_vec()),
                _ => Reply::Says(401, vec![], vec![]),
            };
        }
        match asked.headers.get("authorization").map(String::as_str) {
            Some("Bearer abc") if asked.path.ends_with(&layer) => {
                Reply::Says(307, vec![("Location", format!("http://{elsewhere}{}", asked.path))], vec![])
            }
            Some("Bearer abc") => Reply::Usual,
            _ => Reply::Says(
                401,
                vec![("WWW-Authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"x\""))],
                vec![],
            ),
        }
    })?;
    let name = format!("{}/team/x:1", registry.address);
    let said = world.sh(&format!("docker pull {name}"))?.fails(1)?;
    contains("without a login", &said, "pull access denied for")?;
    let said = world.sh(&format!("echo wrong | docker login -u me --password-stdin {}", registry.address))?.fails(1)?;
    contains("a wrong password", &said, "unauthorized: incorrect username or password")?;
    same("stored", &world.sh("cat $W/home/.docker/config.json 2>/dev/null; true")?.ok()?, "")?;
    let said = world.sh(&format!("echo secret | docker login -u me --password-stdin {}", registry.address))?.ok()?;
    contains("login", &said, "Login Succeeded")?;
    same("mode", &world.sh("stat -c %a $W/home/.docker/config.json")?.ok()?, "600")?;
    world.sh(&format!("docker pull {name}"))?.ok()?;
    for asked in store.asked() {
        if asked.headers.contains_key("authorization") {
            return Err(format!("the other host got to see {asked:?}"));
        }
    }
    same("blobs from the other host", &store.count("/blobs/").to_string(), "1")?;
    let token =
        registry.asked().into_iter().rfind(|asked| asked.path.starts_with("/token")).ok_or("no token was asked for")?;
    contains("scope", &token.path, "scope=repository%3Ateam%2Fx%3Apull")?;
    // A mirror gets nothing that is for the registry behind it.
    let mut content = Content::new();
    registry::image(&mut content, "library/y", "1", &[1000], 4);
    let mirrored = Registry::start(content, |asked| match asked.headers.contains_key("authorization") {
        true => Reply::Says(400, vec![], vec![]),
        false => Reply::Usual,
    })?;
    mirror(world, &mirrored.address, QUICK)?;
    world.sh(r#"printf '{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"}}}' > $W/home/.docker/config.json"#)?.ok()?;
    world.sh("docker pull -q y:1")?.ok()?;
    redirected(world)
}

/// Another host that a registry redirects to asks for a login itself.
fn redirected(world: &World) -> Outcome {
    let thief = Registry::start(Content::new(), |asked| {
        let challenge = match asked.path.contains("basic") {
            true => "Basic realm=\"x\"".to_owned(),
            false => format!("Bearer realm=\"http://{}/token\",service=\"x\"", asked.headers["host"]),
        };
        match asked.path.starts_with("/token") {
            true => Reply::Says(200, vec![], b"{\"token\":\"abc\"}".to_vec()),
            false => Reply::Says(401, vec![("WWW-Authenticate", challenge)], vec![]),
        }
    })?;
    let elsewhere = thief.address.clone();
    let registry = Registry::start(Content::new(), move |asked| {
        Reply::Says(307, vec![("Location", format!("http://{elsewhere}{}", asked.path))], vec![])
    })?;
    let address = &registry.address;
    let said = world.sh(&format!("echo secret | docker login -u me --password-stdin {address}"))?.fails(1)?;
    contains("login", &said, &format!("redirects to {:?}, which asks for a login", thief.address))?;
    let stored =
        format!(r#"printf '{{"auths":{{"{address}":{{"auth":"bWU6c2VjcmV0"}}}}}}' > $W/home/.docker/config.json"#);
    world.sh(&stored)?.ok()?;
    for name in ["team/x:1", "basic/x:1"] {
        let said = world.sh(&format!("docker pull -q {address}/{name}"))?.fails(1)?;
        contains(name, &said, "which asks for a login; credentials stay with")?;
    }
    match thief.asked().iter().find(|asked| asked.headers.contains_key("authorization")) {
        Some(asked) => Err(format!("the other host got to see {asked:?}")),
        None => Ok(()),
    }
}

fn login_and_logout(world: &mut World) -> Outcome {
    let registry =
        Registry::start(Content::new(), |asked| match asked.headers.get("authorization").map(String::as_str) {
            Some("Basic bWU6c2VjcmV0") => Reply::Usual,
            _ => Reply::Says(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], vec![]),
        })?;
    let address = &registry.address;
    let said = world.sh(&format!("docker login -u me -p secret {address}"))?;
    contains(
        "the warning",
        &said.stderr,
        "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n",
    )?;
    same("login", &said.ok()?, "Login Succeeded")?;
    let said = world.sh(&format!("docker login {address}"))?.ok()?;
    same("again", &said, "Authenticating with existing credentials...\nLogin Succeeded")?;
    contains("config.json", &world.sh("cat $W/home/.docker/config.json")?.ok()?, "\"auth\": \"bWU6c2VjcmV0\"")?;
    let said = world.sh(&format!("docker logout {address}"))?.ok()?;
    same("logout", &said, &format!("Removing login credentials for {address}"))?;
    let said = world.sh(&format!("docker logout {address}"))?.ok()?;
    same("logout again", &said, &format!("Not logged in to {address}"))?;
    let said = world.sh(&format!("docker login {address} < /dev/null"))?.fails(1)?;
    contains("no terminal", &said, "Cannot perform an interactive login from a non TTY device")?;
    // A helper keeps the password instead of the file.
    let helper = "#!/bin/sh\ncase $1 in store) cat > $W/kept;; get) [ -s $W/kept ] && cat $W/kept || { echo credentials not found in native keychain; exit 1; };; \
        erase) rm $W/kept;; esac\n";
    let path = world.dir().join("bin/docker-credential-test");
    std::fs::write(&path, helper).map_err(|error| error.to_string())?;
    world
        .sh("chmod +x $W/bin/docker-credential-test; echo '{\"credsStore\":\"test\"}' > $W/home/.docker/config.json")?
        .ok()?;
    world.sh(&format!("echo secret | docker login -u me --password-stdin {address}"))?.ok()?;
    contains("kept", &world.sh("cat $W/kept; cat $W/home/.docker/config.json")?.ok()?, "\"Secret\":\"secret\"")?;
    world.sh(&format!("docker login {address} && docker logout {address} && test ! -e $W/kept"))?.ok().map(drop)
}

/// A certificate counts when its authority is named, or when the registry is called insecure.
fn https(world: &mut World) -> Outcome {
    let address = registry::debian_with_tls(world)?;
    let archive = world.archive("n8n")?;
    world
        .sh(&format!(
            "skopeo copy -q --insecure-policy --dest-tls-verify=false docker-archive:{}:n8nio/n8n:2.0 docker://{address}/n8n:2.0",
            archive.display()
        ))?
        .ok()?;
    let pull = format!("docker pull -q {address}/n8n:2.0");
    let set = |settings: &str| {
        let text = format!("[registry.\"{address}\"]\n{settings}\n");
        std::fs::write(world.dir().join("files/config.toml"), text).map_err(|error| error.to_string())
    };
    // As Docker has it, this machine itself needs no certificate that anybody signed.
    world.sh(&pull)?.ok()?;
    set(&format!("ca = \"{}/cert.pem\"", world.dir().display()))?;
    world.sh(&pull)?.ok()?;
    world.sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=other -keyout $W/k -out $W/other.pem 2>&1")?.ok()?;
    set(&format!("ca = \"{}/other.pem\"", world.dir().display()))?;
    let said = world.sh(&pull)?.fails(1)?;
    contains("another authority", &said, "certificate")?;
    same("lines", &said.lines().count().to_string(), "1")?;
    set(&format!("ca = \"{}/none.pem\"", world.dir().display()))?;
    contains("no such file", &world.sh(&pull)?.fails(1)?, "none.pem: No such file")?;
    set("insecure = true")?;
    world.sh(&pull)?.ok().map(drop)
}
