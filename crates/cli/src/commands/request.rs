//! From the flags of `run` and `create` to what the engine is asked for. A mistake in a flag is found here, before
//! anything is looked at or made.

use super::options::{health, host_options};
use crate::args::container::CreateArgs;
use crate::failure::Failure;
use orlop_engine::{CreateRequest, Network};
use orlop_model::mount::{parse_mount, parse_tmpfs, parse_volume, parse_volumes_from};
use orlop_model::options::names::parse_expose;
use orlop_model::{ContainerName, Platform};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The request of `create`, and of `run` when the client stays (`detach` is false).
pub fn create_request(args: &CreateArgs, attach: [bool; 3]) -> Result<CreateRequest, Failure> {
    refuse_what_needs_a_network(args)?;
    let directory = std::env::current_dir().map_err(|error| Failure::invalid(format!("working directory: {error}")))?;
    let (image, command) = args.command.split_first().expect("the number of arguments was checked");
    let driver = args.volume_driver.as_deref();
    Ok(CreateRequest {
        name: args.name.as_deref().filter(|name| !name.is_empty()).map(container_name).transpose()?,
        image: image.clone(),
        platform: args.platform.as_deref().filter(|text| !text.is_empty()).map(platform).transpose()?,
        command: command.to_vec(),
        entrypoint: args.entrypoint.clone().map(|program| if program.is_empty() { Vec::new() } else { vec![program] }),
        env: environment(&args.env_file, &args.env)?,
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        hostname: args.hostname.clone(),
        labels: labels(&args.label_file, &args.label)?,
        tty: args.tty,
        open_stdin: args.interactive,
        stdin_once: args.interactive && attach[0],
        attach,
        network: network(args.network.as_deref())?,
        auto_remove: args.rm,
        read_only: args.read_only,
        binds: each(&args.volume, |text| {
            Ok((text.to_owned(), parse_volume(text, &directory, driver).map_err(invalid)?))
        })?,
        mounts: each(&args.mount, |text| parse_mount(text, &directory).map_err(invalid_argument(text, "--mount")))?,
        tmpfs: each(&args.tmpfs, |text| {
            Ok((text.to_owned(), parse_tmpfs(text).map_err(invalid_argument(text, "--tmpfs"))?))
        })?,
        volumes_from: each(&args.volumes_from, |text| {
            parse_volumes_from(text).map_err(invalid_argument(text, "--volumes-from"))
        })?,
        volume_driver: args.volume_driver.clone(),
        stop_signal: args.stop_signal.clone(),
        stop_timeout: args.stop_timeout,
        domainname: args.names.domainname.clone().unwrap_or_default(),
        exposed_ports: each(&args.names.expose, |text| parse_expose(text).map_err(invalid))?.concat(),
        health: health(&args.policies)?,
        options: host_options(args)?,
    })
}

fn invalid(error: impl Display) -> Failure {
    Failure::invalid(error.to_string())
}

pub fn container_name(name: &str) -> Result<ContainerName, Failure> {
    name.parse().map_err(|_| {
        Failure::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
    })
}

/// pflag's words for a value that a flag can't take.
fn invalid_argument<E: Display>(text: &str, flag: &str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::invalid(format!("invalid argument {text:?} for {flag:?} flag: {error}"))
}

fn each<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    texts.iter().map(|text| parse(text)).collect()
}

fn refuse_what_needs_a_network(args: &CreateArgs) -> Result<(), Failure> {
    let flag = match (args.publish.is_empty(), args.publish_all) {
        (false, _) => "-p, --publish",
        (true, true) => "-P, --publish-all",
        (true, false) => return Ok(()),
    };
    Err(Failure::unsupported(format!(
        "{flag}: networks come with a later version; with --network host every port of the container is the host's"
    )))
}

/// `--platform`.
pub fn platform(text: &str) -> Result<Platform, Failure> {
    text.parse().map_err(invalid)
}

/// `--pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before the container is made.
    Always,
    /// When the image isn't there.
    Missing,
    /// Not at all.
    Never,
}

/// The value of `--pull`.
pub fn pull_policy(policy: &str) -> Result<PullPolicy, Failure> {
    match policy {
        "always" => Ok(PullPolicy::Always),
        "" | "missing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(Failure::invalid(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

fn network(name: Option<&str>) -> Result<Network, Failure> {
    match name {
        None | Some("" | "default" | "none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        Some(name) if name.starts_with("container:") => match &name["container:".len()..] {
            "" => Err(Failure::invalid("invalid container format container:<name|id>")),
            container => Ok(Network::Container(container.to_owned())),
        },
        Some(other) => Err(Failure::unsupported(format!(
            "--network {other}: networks come with a later version; none (the default), host and container:NAME are there"
        ))),
    }
}

/// Files first, so that `-e` wins. A name alone takes the caller's value; one that the caller hasn't stays a name
/// alone, which removes the image's.
pub fn environment(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file, "env file")? {
            let name = line.split('=').next().unwrap_or_default();
            if name.contains(char::is_whitespace) {
                return Err(Failure::invalid(format!(
                    "invalid env file ({}): variable '{name}' contains whitespaces",
                    file.display()
                )));
            }
            if name.is_empty() {
                return Err(Failure::invalid(format!(
                    "invalid env file ({}): no variable name on line '{line}'",
                    file.display()
                )));
            }
            // In a file a name that the caller doesn't have is left out (Docker's rule).
            match line.contains('=') {
                true => all.push(line),
                false => all.extend(std::env::var(name).ok().map(|value| format!("{name}={value}"))),
            }
        }
    }
    for entry in flags {
        let name = entry.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(Failure::invalid(format!(
                "invalid argument {entry:?} for \"-e, --env\" flag: invalid environment variable: {entry}"
            )));
        }
        match (entry.contains('='), std::env::var(name)) {
            (false, Ok(value)) => all.push(format!("{name}={value}")),
            _ => all.push(entry.clone()),
        }
    }
    Ok(all)
}

/// `NAME=value` or `NAME`, from files and then from flags.
fn labels(files: &[PathBuf], flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut texts = Vec::new();
    for file in files {
        texts.extend(lines(file, "label file")?);
    }
    texts.extend_from_slice(flags);
    label_map(&texts, "-l, --label")
}

/// `NAME=value` or `NAME`; `flag` is named when one has no name.
pub fn label_map(texts: &[String], flag: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(Failure::invalid(format!(
                "invalid argument {text:?} for {flag:?} flag: invalid label '{text}': empty name"
            )));
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}

/// How much of an env file or a label file is read, in bytes.
const LIST_LIMIT: u64 = 16 << 20;

/// The text of a file of the user's, `/dev/stdin` included, but never more than `limit` bytes.
pub fn bounded_text(file: &Path, limit: u64) -> Result<String, String> {
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    opened.take(limit + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > limit {
        return Err(format!("the file has more than {limit} bytes"));
    }
    Ok(text)
}

/// The lines of a file that are neither empty nor a comment.
fn lines(file: &Path, what: &str) -> Result<Vec<String>, Failure> {
    let text = bounded_text(file, LIST_LIMIT)
        .map_err(|error| Failure::invalid(format!("{what} {}: {error}", file.display())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let trimmed = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(trimmed.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn args(line: &[&str]) -> CreateArgs {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let syntax =
            crate::args::Syntax { path: "create", usage: "", about: "", count: crate::args::Count::AtLeast(1) };
        crate::args::parse("orlop", &syntax, &words).unwrap()
    }

    fn refusal(line: &[&str]) -> String {
        match create_request(&args(line), [false; 3]) {
            Err(Failure::Message { text, .. }) => text,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn flags_become_a_request() {
        let line = ["--name", "db", "-l", "a=1", "-l", "b", "-e", "X=1", "-e", "Y=", "--entrypoint", "", "-u", "1:2"];
        let line =
            [&line[..], &["--network", "host", "-v", "data:/data", "-it", "--rm", "img", "sh", "-c", "ls"]].concat();
        let request = create_request(&args(&line), [true; 3]).unwrap();
        assert_eq!(request.name.unwrap().as_str(), "db");
        assert_eq!(request.labels, BTreeMap::from([("a".into(), "1".into()), ("b".into(), String::new())]));
        assert_eq!(request.env, ["X=1", "Y="]);
        assert_eq!(request.entrypoint, Some(vec![]));
        assert_eq!(
            (request.image.as_str(), &request.command[..]),
            ("img", &["sh".into(), "-c".into(), "ls".into()][..])
        );
        assert_eq!(request.network, Network::Host);
        assert!(request.tty && request.open_stdin && request.stdin_once && request.auto_remove);
        assert_eq!(request.binds.len(), 1);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (line, part) in [
            (&["-p", "80:80", "x"][..], "-p, --publish: networks come with a later version"),
            (&["-P", "x"], "-P, --publish-all: networks"),
            (&["--network", "bridge", "x"], "--network bridge: networks"),
            (&["--platform", "linux/pdp11", "x"], "unknown operating system or architecture"),
            (&["-e", "=1", "x"], "invalid environment variable: =1"),
            (&["-l", "=1", "x"], "for \"-l, --label\" flag"),
            (&["--name", "a/b", "x"], "a/b"),
            (&["--env-file", "/nonexistent/env", "x"], "env file /nonexistent/env: No such file"),
        ] {
            let text = refusal(line);
            assert!(text.contains(part) && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn env_files_are_read_as_docker_reads_them() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "\u{feff}# comment\n\n  A=1\nB= x y \nORLOP_TEST_NOT_SET\nHOME\nC=a=b").unwrap();
        let found = environment(&[file.path().to_owned()], &["A=2".into(), "ORLOP_TEST_NOT_SET".into()]).unwrap();
        let home = format!("HOME={}", std::env::var("HOME").unwrap());
        assert_eq!(found, ["A=1", "B= x y ", &home, "C=a=b", "A=2", "ORLOP_TEST_NOT_SET"]);
        writeln!(file, "A B=1").unwrap();
        assert!(environment(&[file.path().to_owned()], &[]).is_err());
    }
}
