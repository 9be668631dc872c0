//! docs/run-flags.md: every flag of Docker's `run` and `create` against ours.

use super::container::RunArgs;
use super::{behave, help, later};
use clap::{Args, Command};
use std::fmt::Write;

/// `docker run --help` of Docker 28, and its flags that are hidden there.
const DOCKER: &str = "--add-host; --annotation; -a, --attach; --blkio-weight; --blkio-weight-device; --cap-add; \
    --cap-drop; --cgroup-parent; --cgroupns; --cidfile; --cpu-count; --cpu-percent; --cpu-period; --cpu-quota; \
    --cpu-rt-period; --cpu-rt-runtime; -c, --cpu-shares; --cpus; --cpuset-cpus; --cpuset-mems; -d, --detach; \
    --detach-keys; --device; --device-cgroup-rule; --device-read-bps; --device-read-iops; --device-write-bps; \
    --device-write-iops; --disable-content-trust; --dns; --dns-option; --dns-search; --domainname; --entrypoint; \
    -e, --env; --env-file; --expose; --gpus; --group-add; --health-cmd; --health-interval; --health-retries; \
    --health-start-interval; --health-start-period; --health-timeout; --help; -h, --hostname; --init; \
    -i, --interactive; --io-maxbandwidth; --io-maxiops; --ip; --ip6; --ipc; --isolation; --kernel-memory; \
    -l, --label; --label-file; --link; --link-local-ip; --log-driver; --log-opt; --mac-address; -m, --memory; \
    --memory-reservation; --memory-swap; --memory-swappiness; --mount; --name; --network; --network-alias; \
    --no-healthcheck; --oom-kill-disable; --oom-score-adj; --pid; --pids-limit; --platform; --privileged; \
    -p, --publish; -P, --publish-all; --pull; -q, --quiet; --read-only; --restart; --rm; --runtime; --security-opt; \
    --shm-size; --sig-proxy; --stop-signal; --stop-timeout; --storage-opt; --sysctl; --tmpfs; -t, --tty; --ulimit; \
    --use-api-socket; -u, --user; --userns; --uts; -v, --volume; --volume-driver; --volumes-from; -w, --workdir";

/// What differs from Docker where the flag is there.
const NOTES: &[(&str, &str)] = &[
    ("--add-host", "`host-gateway` is there with `--network host` only, until networks come"),
    ("--cidfile", "made before the container, and gone when there is none"),
    ("--cap-add", "what the caller hasn't itself can't be given, and is refused"),
    ("--device", "no CDI devices (`vendor.com/class=name`)"),
    ("--env-file", "at most 16 MiB"),
    ("--init", "needs tini-static (Debian: `tini`), or Docker's own docker-init"),
    ("--ipc", "`private` is the default"),
    ("--network", "`none` is the default; `host` and `container:NAME` are there, networks come later"),
    ("--oom-score-adj", "without CAP_SYS_RESOURCE it can't be lowered: a warning"),
    ("--publish", "refused until networks come"),
    ("--publish-all", "refused until networks come"),
    ("--runtime", "names of `[runtimes]` in config.toml; the default is `[runtime] binary`"),
    ("--security-opt", "`no-new-privileges`, `seccomp=`, `apparmor=`, `label=`, `systempaths=unconfined`"),
    ("--ulimit", "without CAP_SYS_RESOURCE no limit can be raised: a warning, and what is possible"),
    ("--userns", "`host` only, which is what every container has"),
];

const INTRODUCTION: &str = "# Flags of run and create

Docker's flags (version 28) against Orlop's. A flag that is there has its effect, or its value is refused; one that
isn't there is refused by name with exit code 125. `run` alone has `--detach`, `--detach-keys` and `--sig-proxy`. What
each does inside a container is tested in `tests/src/bin/e2e/flags.rs`.

Made from `crates/cli/src/args`; a test keeps it so (`ORLOP_WRITE_DOCS=1 cargo test -p orlop-cli page`).

| flag | Orlop | |
|---|---|---|
";

fn page() -> String {
    let command = behave(RunArgs::augment_args(Command::new("orlop")));
    let ours: Vec<String> = command.get_arguments().filter(|arg| !arg.is_positional()).map(help::names).collect();
    let mut page = INTRODUCTION.to_owned();
    for names in DOCKER.split("; ") {
        let long = names.split(", ").last().unwrap_or(names);
        let note = NOTES.iter().find(|(flag, _)| *flag == long).map_or("", |(_, note)| *note);
        let (state, note) = match later::refusal("run", long) {
            Some(refusal) => ("no", refusal.strip_prefix(names).unwrap_or(&refusal).trim().to_owned()),
            None if note.starts_with("refused") => ("no", note.to_owned()),
            None => {
                assert!(ours.iter().any(|own| own == names), "{names} is neither there nor refused");
                ("yes", note.to_owned())
            }
        };
        let note = note.strip_prefix("is not there: ").unwrap_or(&note).to_owned();
        let _ = writeln!(page, "| `{names}` | {state} | {note} |");
    }
    for own in ours.iter().filter(|own| !DOCKER.split("; ").any(|names| names == *own)) {
        let _ = writeln!(page, "| `{own}` | added | |");
    }
    page
}

#[test]
fn the_page_is_what_the_code_takes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/run-flags.md");
    if std::env::var_os("ORLOP_WRITE_DOCS").is_some() {
        return std::fs::write(path, page()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, page(), "docs/run-flags.md differs from the flags; ORLOP_WRITE_DOCS=1 writes it anew");
}

#[test]
fn every_note_is_about_a_flag() {
    for (flag, _) in NOTES {
        assert!(DOCKER.split("; ").any(|names| names.split(", ").any(|name| name == *flag)), "{flag}");
    }
}
