//! The binary as a person or a script calls it, as far as no engine is needed.

use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A call of the binary, with a home and an engine's roots of its own in a directory that must stay empty.
struct Call {
    command: Command,
    home: TempDir,
}

impl Deref for Call {
    type Target = Command;

    fn deref(&self) -> &Command {
        &self.command
    }
}

impl DerefMut for Call {
    fn deref_mut(&mut self) -> &mut Command {
        &mut self.command
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left: Vec<_> = std::fs::read_dir(self.home.path()).unwrap().collect();
            assert!(left.is_empty(), "{:?} made {left:?}", self.command);
        }
    }
}

fn orlop(arguments: &[&str]) -> Call {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("ORLOP_DATA_ROOT", home.path().join("data"))
        .env("ORLOP_RUN_ROOT", home.path().join("run"))
        .stdin(Stdio::null());
    Call { command, home }
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn usage_errors_are_dockers() {
    for (arguments, code, first_line) in [
        (&["run", "--foo", "x"][..], 125, "unknown flag: --foo"),
        (&["run", "-zz", "x"], 125, "unknown shorthand flag: 'z' in -zz"),
        (&["ps", "--foo"], 125, "unknown flag: --foo"),
        (&["--foo", "ps"], 125, "unknown flag: --foo"),
        (&["volume", "--foo"], 125, "unknown flag: --foo"),
        (&["run", "--ip", "10.0.0.1", "x"], 125, "Error: --ip comes with a later version"),
        (&["container", "create", "--mac-address=x", "x"], 125, "Error: --mac-address comes with a later version"),
        (&["image", "rm", "--platform", "linux/arm64", "x"], 125, "Error: --platform comes with a later version"),
        (&["--tls", "ps"], 125, "Error: --tls comes with a later version"),
        (&["container", "port"], 1, "orlop: 'orlop port' requires at least 1 and at most 2 arguments"),
        (
            &["ps", "-n", "x"],
            125,
            "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (&["ps", "-f"], 125, "flag needs an argument: 'f' in -f"),
        (&["run"], 1, "orlop: 'orlop run' requires at least 1 argument"),
        (&["exec", "a"], 1, "orlop: 'orlop exec' requires at least 2 arguments"),
        (&["volume", "rm"], 1, "orlop: 'orlop volume rm' requires at least 1 argument"),
        (&["ps", "a"], 1, "orlop: 'orlop ps' accepts no arguments"),
        (&["tag", "a"], 1, "orlop: 'orlop tag' requires 2 arguments"),
        (&["foo"], 1, "orlop: unknown command: orlop foo"),
        (&["volume", "foo"], 1, "orlop: unknown command: orlop volume foo"),
        (&["push", "alpine"], 1, "Error: 'orlop push' comes with a later version"),
        (&["rm", "-l", "a"], 1, "Error: -l, --link: links between containers are not there"),
        (&["-D", "ps"], 1, "Error: --debug has no effect here: there is no daemon that keeps a log"),
        (&["run", "-v", "a:b:c:d", "x"], 125, "Error: invalid volume specification: 'a:b:c:d'"),
    ] {
        let (found, out, err) = texts(&orlop(arguments).output().unwrap());
        assert_eq!((found, err.lines().next()), (code, Some(first_line)), "{arguments:?}: {err}");
        assert_eq!(out, "", "{arguments:?}");
    }
}

#[test]
fn another_engine_is_refused_in_one_line() {
    for (arguments, variable, part) in [
        (&["-H", "tcp://x:1", "ps"][..], None, "--host tcp://x:1 names another engine"),
        (&["--host=unix:///x", "ps"], None, "--host unix:///x names another engine"),
        (&["-c", "far", "ps"], None, "--context far names another engine"),
        (&["ps"], Some(("DOCKER_HOST", "ssh://x")), "DOCKER_HOST=ssh://x names another engine"),
        (&["ps"], Some(("DOCKER_CONTEXT", "far")), "DOCKER_CONTEXT=far names another engine"),
    ] {
        let (code, _, err) = texts(&orlop(arguments).envs(variable).output().unwrap());
        assert_eq!(code, 1);
        assert!(err.contains(part) && err.lines().count() == 1, "{err}");
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    std::fs::write(home.path().join(".docker/config.json"), r#"{"auths":{},"currentContext":"far"}"#).unwrap();
    let (code, _, err) = texts(&orlop(&["ps"]).env("HOME", home.path()).output().unwrap());
    assert_eq!(code, 1);
    assert!(err.contains("the context \"far\" in ") && err.lines().count() == 1, "{err}");
    // `run` has an exit code of its own for everything that fails before the program.
    let (code, ..) = texts(&orlop(&["run", "x"]).env("DOCKER_HOST", "tcp://x").output().unwrap());
    assert_eq!(code, 125);
}

#[test]
fn without_root_it_says_what_it_needs() {
    if !rustix::process::geteuid().is_root() {
        let (code, _, err) = texts(&orlop(&["ps"]).output().unwrap());
        assert!(code == 1 && err.contains("sudo"), "{err}");
        return;
    }
    let binary = env!("CARGO_BIN_EXE_orlop");
    let nobody = |arguments: &[&str]| {
        // A copy where anybody may execute it: the build directory may be closed to others.
        let place = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in("/tmp");
        let place = place.unwrap();
        let copy = place.path().join("orlop");
        // By another process: a descriptor of ours that is open for writing could live on in a child of another test.
        assert!(Command::new("cp").arg(binary).arg(&copy).status().unwrap().success());
        texts(&Command::new(&copy).args(arguments).env_clear().uid(65534).gid(65534).output().unwrap())
    };
    let (code, _, err) = nobody(&["volume", "ls"]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("Error: permission denied: ") && err.contains("sudo orlop") && err.lines().count() == 1,
        "{err}"
    );
    let (code, out, err) = nobody(&["version", "--format", "{{.Client.Version}}"]);
    assert_eq!((code, out.trim(), err.as_str()), (0, env!("CARGO_PKG_VERSION"), ""));
    assert_eq!(nobody(&["--help"]).0, 0);
    assert_eq!(nobody(&["run", "--help"]).0, 0);
}

#[test]
fn through_a_link_named_docker_it_speaks_of_docker() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("docker");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_orlop"), &link).unwrap();
    for (arguments, part) in [
        (&["--help"][..], "Usage:  docker [OPTIONS] COMMAND"),
        (&["run", "--help"], "Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]"),
        (&["container", "ls", "--help"], "docker container ls, docker container list, docker container ps, docker ps"),
        (&["help", "volume", "rm"], "Usage:  docker volume rm [OPTIONS] VOLUME [VOLUME...]"),
        (&["volume"], "Usage:  docker volume COMMAND"),
    ] {
        let (code, out, _) = texts(&Command::new(&link).args(arguments).env_clear().output().unwrap());
        assert!(code == 0 && out.contains(part), "{arguments:?}: {out}");
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{arguments:?}: {out}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn df_in_detail_takes_a_template() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: an engine needs root");
        return;
    }
    let roots = tempfile::tempdir_in("/var/tmp").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = orlop(arguments);
        command.env("ORLOP_DATA_ROOT", roots.path().join("data")).env("ORLOP_RUN_ROOT", roots.path().join("run"));
        texts(&command.output().unwrap())
    };
    assert_eq!(run(&["volume", "create", "data"]).0, 0);
    for (format, expected) in [
        ("{{range .Volumes}}{{.Name}} {{.Links}} {{.Driver}}{{end}}", "data 0 local"),
        ("{{len .Images}}{{len .Containers}}{{len .BuildCache}}", "000"),
    ] {
        let (code, out, err) = run(&["system", "df", "-v", "--format", format]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""), "{format}");
    }
    for format in ["json", "{{json .}}"] {
        let (code, out, _) = run(&["system", "df", "-v", "--format", format]);
        let parsed: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, parsed["Volumes"][0]["Name"].as_str()), (0, Some("data")), "{out}");
        assert!(
            out.starts_with(r#"{"Images":[],"Containers":[],"Volumes":[{"#) && out.ends_with(r#""BuildCache":[]}"#)
        );
    }
    let (code, out, _) = run(&["system", "df", "-v"]);
    assert!(code == 0 && out.starts_with("Images space usage:\n"), "{out}");
    let (code, _, err) = run(&["run", "--pull", "never", "nothing"]);
    assert_eq!((code, err.as_str()), (125, "Error: No such image: nothing:latest\n"));
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let output = orlop(&["version"]).stdout(write).stderr(Stdio::piped()).output().unwrap();
    let (code, _, err) = texts(&output);
    assert_eq!((code, err.as_str()), (0, ""));
}
