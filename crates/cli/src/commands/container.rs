//! The verbs on containers.

use super::foreground::{Streams, exit_code, session_options};
use super::request::{create_request, environment, pull_policy};
use super::{each_name, inspected, planned, reclaimed, tell_plan};
use crate::args::container as args;
use crate::commands::pull::with_image;
use crate::door::Door;
use crate::failure::{Failure, Outcome, container_exit_code, tell as tell_failure};
use crate::output::list::{Format, Listing, Row, ellipsis, labels_text};
use crate::output::print::{note, out, warn};
use crate::output::prompt::confirmed;
use orlop_engine::container::Phase;
use orlop_engine::{
    ContainerSummary, Created, Engine, ExecRequest, Foreground, HealthStatus, ListRequest, LogRequest, RemoveRequest,
};
use orlop_model::filter::{self, Filters, parse_moment};
use orlop_model::size::{human_duration, human_short};
use orlop_model::{ErrorKind, Timestamp};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

/// `run`
pub fn run(door: &Door, args: args::RunArgs) -> Outcome {
    container_codes(door, run_container(door, &args))
}

fn run_container(door: &Door, args: &args::RunArgs) -> Outcome {
    if args.detach && !args.create.attach.is_empty() {
        return Err(Failure::invalid("conflicting options: cannot specify both --attach and --detach"));
    }
    let attach = if args.detach { [false; 3] } else { attached(&args.create)? };
    let request = create_request(&args.create, attach)?;
    let session = match args.detach {
        true => None,
        false => Some(session_options(&Streams {
            attach,
            tty: args.create.tty,
            sig_proxy: args.sig_proxy,
            detach_keys: args.detach_keys.as_deref(),
        })?),
    };
    let policy = pull_policy(&args.create.pull)?;
    let engine = door.mounting_engine()?;
    let mut id_file = IdFile::new(args.create.cidfile.as_deref())?;
    let quiet = args.create.quiet;
    let started = match args.create.cidfile.is_some() && !request.auto_remove {
        // The container stays when its program can't be started, and so does the file that names it.
        true => {
            let created = with_image(&engine, &request, policy, quiet, || engine.create(&request))?;
            id_file.write(&created.id.hex())?;
            let started = engine.start(&created.id.hex(), session.as_ref())?;
            Foreground { created, ..started }
        }
        false => with_image(&engine, &request, policy, quiet, || engine.run(&request, session.as_ref()))?,
    };
    tell(&started.created);
    if !id_file.written {
        id_file.write(&started.created.id.hex())?;
    }
    match (started.connection, session) {
        (Some(connection), Some(options)) => {
            let code = exit_code(engine.session(connection, &options)?)?;
            // The caller may look at what the container left, so that has to be settled when `run` returns.
            engine.reap(started.created.id)?;
            Ok(code)
        }
        _ => {
            out(&format!("{}\n", started.created.id))?;
            Ok(0)
        }
    }
}

/// stdin, stdout and stderr of a client that stays.
fn attached(args: &args::CreateArgs) -> Result<[bool; 3], Failure> {
    if args.attach.is_empty() {
        return Ok([args.interactive, true, true]);
    }
    let mut attach = [false; 3];
    for name in &args.attach {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => attach[0] = true,
            "stdout" => attach[1] = true,
            "stderr" => attach[2] = true,
            _ => {
                return Err(Failure::invalid(format!(
                    "invalid argument {name:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                )));
            }
        }
    }
    Ok(attach)
}

/// `--cidfile`: the file that a script finds a container by. It is made before the container, so that two that are
/// given one file never both get it, and goes when there is no container.
struct IdFile<'a> {
    path: Option<&'a Path>,
    written: bool,
}

impl<'a> IdFile<'a> {
    fn new(path: Option<&'a Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self { path: None, written: true }) };
        match std::fs::File::create_new(path) {
            Ok(_) => Ok(Self { path: Some(path), written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::invalid(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ))),
            Err(error) => {
                Err(Failure::invalid(format!("failed to create the container ID file: {}: {error}", path.display())))
            }
        }
    }

    /// Aside and renamed, so that nobody reads half an id.
    fn write(&mut self, id: &str) -> Result<(), Failure> {
        let Some(path) = self.path else { return Ok(()) };
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        let aside = Path::new(&aside);
        let written = std::fs::write(aside, id).and_then(|()| std::fs::rename(aside, path));
        written.map_err(|error| Failure::invalid(format!("container ID file {}: {error}", path.display())))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if let (Some(path), false) = (self.path, self.written) {
            // Empty, and for no container: nobody misses it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What the engine has to say about a new container.
fn tell(created: &Created) {
    for warning in &created.warnings {
        warn(warning);
    }
}

/// What fails before the program of a container runs has exit codes of its own: 125, 126 and 127.
fn container_codes(door: &Door, outcome: Outcome) -> Outcome {
    outcome.map_err(|failure| match failure {
        Failure::Message { text, kind } => {
            tell_failure(&door.program, &text, kind);
            Failure::Said(container_exit_code(kind))
        }
        other => other,
    })
}

/// `create`
pub fn create(door: &Door, args: args::CreateArgs) -> Outcome {
    let make = || {
        let request = create_request(&args, attached(&args)?)?;
        let policy = pull_policy(&args.pull)?;
        let engine = door.engine()?;
        let mut id_file = IdFile::new(args.cidfile.as_deref())?;
        let created = with_image(&engine, &request, policy, args.quiet, || engine.create(&request))?;
        tell(&created);
        id_file.write(&created.id.hex())?;
        out(&format!("{}\n", created.id))?;
        Ok(0)
    };
    container_codes(door, make())
}

/// `start`
pub fn start(door: &Door, args: args::StartArgs) -> Outcome {
    let engine = door.mounting_engine()?;
    if !args.attach && !args.interactive {
        return each_name(&args.containers, |name| {
            engine.start(name, None)?;
            Ok(out(&format!("{name}\n"))?)
        });
    }
    let [name] = &args.containers[..] else {
        return Err(Failure::invalid("you cannot start and attach multiple containers at once"));
    };
    let container = engine.container(name)?;
    let config = &container.details.config;
    let options = session_options(&Streams {
        attach: [args.interactive && config.open_stdin, true, true],
        tty: config.tty,
        sig_proxy: true,
        detach_keys: args.detach_keys.as_deref(),
    })?;
    let started = match engine.start(name, Some(&options)) {
        Ok(started) => started,
        Err(error) => return container_codes(door, Err(error.into())),
    };
    let connection = match started.connection {
        Some(connection) => connection,
        None => engine.attach(name, &options)?,
    };
    let code = exit_code(engine.session(connection, &options)?)?;
    engine.reap(container.id)?;
    Ok(code)
}

/// `stop`
pub fn stop(door: &Door, args: args::StopArgs) -> Outcome {
    let engine = door.mounting_engine()?;
    each_name(&args.containers, |name| {
        engine.stop(name, args.timeout, args.signal.as_deref())?;
        Ok(out(&format!("{name}\n"))?)
    })
}

/// `restart`
pub fn restart(door: &Door, args: args::StopArgs) -> Outcome {
    let engine = door.mounting_engine()?;
    each_name(&args.containers, |name| {
        engine.restart(name, args.timeout, args.signal.as_deref())?;
        Ok(out(&format!("{name}\n"))?)
    })
}

/// `pause`
pub fn pause(door: &Door, args: args::NamesArgs) -> Outcome {
    let engine = door.engine()?;
    each_name(&args.names, |name| {
        engine.pause(name)?;
        Ok(out(&format!("{name}\n"))?)
    })
}

/// `unpause`
pub fn unpause(door: &Door, args: args::NamesArgs) -> Outcome {
    let engine = door.engine()?;
    each_name(&args.names, |name| {
        engine.unpause(name)?;
        Ok(out(&format!("{name}\n"))?)
    })
}

/// `attach`
pub fn attach(door: &Door, args: args::AttachArgs) -> Outcome {
    let engine = door.engine()?;
    let name = &args.container[0];
    let container = engine.container(name)?;
    let config = &container.details.config;
    let options = session_options(&Streams {
        attach: [config.open_stdin && !args.no_stdin, true, true],
        tty: config.tty,
        sig_proxy: args.sig_proxy,
        detach_keys: args.detach_keys.as_deref(),
    })?;
    let connection = engine.attach(name, &options)?;
    let code = exit_code(engine.session(connection, &options)?)?;
    engine.reap(container.id)?;
    Ok(code)
}

/// `kill`
pub fn kill(door: &Door, args: args::KillArgs) -> Outcome {
    let engine = door.engine()?;
    let signal = args.signal.as_deref().filter(|signal| !signal.is_empty()).unwrap_or("KILL");
    each_name(&args.containers, |name| {
        engine.kill(name, signal)?;
        Ok(out(&format!("{name}\n"))?)
    })
}

/// `wait`
pub fn wait(door: &Door, args: args::NamesArgs) -> Outcome {
    let engine = door.engine()?;
    each_name(&args.names, |name| Ok(out(&format!("{}\n", engine.wait(name)?))?))
}

/// `rm`
pub fn rm(door: &Door, args: args::RmArgs) -> Outcome {
    if args.link {
        return Err(Failure::unsupported("-l, --link: links between containers are not there"));
    }
    let engine = door.mounting_engine()?;
    let request = RemoveRequest { force: args.force, volumes: args.volumes };
    each_name(&args.containers, |name| match engine.remove(name, request) {
        Ok(()) => Ok(out(&format!("{name}\n"))?),
        // Forced, a container that isn't there is as good as removed; Docker tells and goes on.
        Err(error) if args.force && orlop_model::Kind::kind(&error) == ErrorKind::NotFound => {
            note(&format!("Error: {error}"));
            Ok(())
        }
        Err(error) => Err(error.into()),
    })
}

/// `exec`
pub fn exec(door: &Door, args: args::ExecArgs) -> Outcome {
    let (name, command) = args.command.split_first().expect("the number of arguments was checked");
    let session = match args.detach {
        true => None,
        false => Some(session_options(&Streams {
            attach: [args.interactive, true, true],
            tty: args.tty,
            // Docker's exec leaves signals to the client.
            sig_proxy: false,
            detach_keys: args.detach_keys.as_deref(),
        })?),
    };
    let request = ExecRequest {
        command: command.to_vec(),
        env: environment(&args.env_file, &args.env)?,
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        privileged: args.privileged,
        tty: args.tty,
        session: session.clone(),
    };
    let engine = door.engine()?;
    let connection = match engine.exec(name, &request) {
        Ok(connection) => connection,
        Err(error) => {
            let kind = orlop_model::Kind::kind(&error);
            note(&format!("Error: {error}"));
            return Ok(match kind {
                ErrorKind::CommandNotFound | ErrorKind::CommandNotExecutable => container_exit_code(kind),
                _ => 1,
            });
        }
    };
    match (connection, session) {
        (Some(connection), Some(options)) => exit_code(engine.session(connection, &options)?),
        _ => Ok(0),
    }
}

/// `logs`
pub fn logs(door: &Door, args: args::LogsArgs) -> Outcome {
    let now = Timestamp::now();
    let moment = |text: &Option<String>, flag: &str| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => match parse_moment(text, now) {
            Some(moment) => Ok(Some(moment)),
            None => Err(Failure::invalid(format!(
                "invalid value for {flag:?}: failed to parse value as time or duration: {text:?}"
            ))),
        },
    };
    let query = LogRequest {
        // Docker shows everything for anything that is no number.
        tail: args.tail.parse().ok(),
        since: moment(&args.since, "since")?,
        until: moment(&args.until, "until")?,
        follow: args.follow,
    };
    let engine = door.engine()?;
    let mut failure = None;
    let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
    engine.logs(&args.container[0], &query, &mut |entry| {
        let time = if args.timestamps { format!("{} ", entry.time) } else { String::new() };
        let details = if args.details { entry.details() + " " } else { String::new() };
        let line = [time.as_bytes(), details.as_bytes(), entry.text.as_bytes()].concat();
        let written = match entry.stream {
            orlop_engine::Stream::Stdout => {
                stdout.write_all(&line).and_then(|()| if args.follow { stdout.flush() } else { Ok(()) })
            }
            orlop_engine::Stream::Stderr => stderr.write_all(&line),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(stdout.flush().map(|()| 0)?),
    }
}

/// What `ps` knows of a container.
pub const CONTAINERS: Listing = Listing {
    columns: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
    ],
    kind: "*formatter.ContainerContext",
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
};

const CONTAINERS_WITH_SIZE: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    ..CONTAINERS
};

/// `ps`
pub fn ps(door: &Door, args: args::PsArgs) -> Outcome {
    let listing = if args.size { &CONTAINERS_WITH_SIZE } else { &CONTAINERS };
    let format =
        Format::new(listing, args.list.format.as_deref().unwrap_or_default(), args.list.quiet).whole(args.no_trunc);
    let engine = door.engine()?;
    let summaries = engine.list(&ListRequest {
        all: args.all,
        last: if args.latest { Some(1) } else { usize::try_from(args.last).ok().filter(|last| *last > 0) },
        size: args.size || (format.mentions(".Size") && !format.is_json()),
        filters: Filters::parse(&args.list.filter, filter::CONTAINERS)?,
    })?;
    let rows: Vec<Row> = summaries.iter().map(|summary| row(&engine, summary, !args.no_trunc)).collect();
    out(&format.render(listing, &rows)?)?;
    Ok(0)
}

/// The cells of one container, in the order of the columns.
pub fn row(engine: &Engine, summary: &ContainerSummary, truncate: bool) -> Row {
    let container = &summary.container;
    let details = &container.details;
    let labels = &details.config.labels;
    let command = details.arguments().join(" ");
    let mounts: Vec<String> =
        mount_names(summary).into_iter().map(|name| if truncate { ellipsis(&name, 15) } else { name }).collect();
    Row {
        cells: vec![
            if truncate { container.id.short() } else { container.id.hex() },
            summary.image.clone(),
            format!("{:?}", if truncate { ellipsis(&command, 20) } else { command }),
            details.created.to_local_string(),
            format!("{} ago", human_duration(details.created.elapsed())),
            String::new(),
            state(engine, summary).to_owned(),
            status(engine, summary),
            size(summary),
            container.name.to_string(),
            labels_text(labels),
            mounts.join(","),
            container.volumes.len().to_string(),
            details.host.network.name().to_owned(),
        ],
        labels: Some(labels.clone()),
    }
}

/// Volumes by name, anything else by its source.
fn mount_names(summary: &ContainerSummary) -> Vec<String> {
    let points = summary.container.details.mounts.iter().map(|mount| mount.point());
    points
        .map(|point| point.name.map_or(point.source, |name| name.to_string()))
        .filter(|name| !name.is_empty())
        .collect()
}

/// A row may say Running while its program has just ended.
fn state(engine: &Engine, summary: &ContainerSummary) -> &'static str {
    let container = &summary.container;
    match container.details.status.phase {
        Phase::Running if !engine.is_running(container) => "exited",
        _ => container.details.status.word(),
    }
}

fn status(engine: &Engine, summary: &ContainerSummary) -> String {
    let status = &summary.container.details.status;
    let since = |time: Option<Timestamp>| human_duration(time.map(Timestamp::elapsed).unwrap_or_default());
    match state(engine, summary) {
        "running" => {
            let health = engine.health(&summary.container).map(|health| match health.status {
                HealthStatus::Starting => " (health: starting)".to_owned(),
                status => format!(" ({})", status.word()),
            });
            format!("Up {}{}", since(status.started), health.unwrap_or_default())
        }
        "paused" => format!("Up {} (Paused)", since(status.started)),
        "restarting" => format!("Restarting ({}) {} ago", status.exit_code, since(status.finished)),
        "exited" => format!("Exited ({}) {} ago", status.exit_code, since(status.finished)),
        "removing" => "Removal In Progress".to_owned(),
        _ => "Created".to_owned(),
    }
}

fn size(summary: &ContainerSummary) -> String {
    match summary.size {
        None => "0B".to_owned(),
        Some(size) => {
            let (own, all) = (size.writable.size, size.writable.size + size.image);
            format!("{} (virtual {})", human_short(own), human_short(all))
        }
    }
}

/// `container inspect`
pub fn inspect(door: &Door, args: args::ContainerInspectArgs) -> Outcome {
    let engine = door.engine()?;
    let format = args.format.as_deref().unwrap_or_default();
    inspected(&args.names, format, |name| Ok(engine.inspect_container(name, args.size)?))
}

/// `inspect`: whatever has that name, containers first.
pub fn inspect_any(door: &Door, args: args::InspectArgs) -> Outcome {
    let kinds: &[&str] = match args.kind.as_deref() {
        None | Some("") => &["container", "image", "volume"],
        Some("container") => &["container"],
        Some("image") => &["image"],
        Some("volume") => &["volume"],
        Some(other @ ("config" | "network" | "node" | "plugin" | "secret" | "service" | "task")) => {
            return Err(Failure::unsupported(format!("--type {other}: comes with a later version")));
        }
        Some(other) => {
            return Err(Failure::invalid(format!(
                "unknown type: {other:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
            )));
        }
    };
    if args.size && !kinds.contains(&"container") {
        warn(&format!("--size ignored for {}s", kinds[0]));
    }
    let engine = door.engine()?;
    inspected(&args.names, args.format.as_deref().unwrap_or_default(), |name| {
        let mut hint = String::new();
        for kind in kinds {
            let found = match *kind {
                "container" => engine.inspect_container(name, args.size).map_err(Failure::from),
                "image" => super::image::inspect_one(&engine, name),
                _ => super::volume::inspect_one(&engine, name),
            };
            match found {
                Err(Failure::Message { kind: ErrorKind::NotFound, text }) if kinds.len() > 1 => {
                    hint += text.find('\n').map_or("", |end| &text[end..]);
                }
                found => return found,
            }
        }
        Err(Failure::Message { text: format!("No such object: {name}{hint}"), kind: ErrorKind::NotFound })
    })
}

/// `container prune`
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    let filters = Filters::parse(&args.prune.filter, filter::CONTAINER_PRUNE)?;
    let engine = door.mounting_engine()?;
    if args.prune.dry_run {
        return tell_plan(&planned_containers(&engine, &filters)?);
    }
    if !args.prune.force && !confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let (text, trashed) = prune_containers(&engine, &filters)?;
    out(&(text + &reclaimed(&engine, 0, trashed)))?;
    Ok(0)
}

/// What a prune would remove.
pub fn planned_containers(engine: &Engine, filters: &Filters) -> Result<String, Failure> {
    let containers = engine.prunable_containers(filters)?;
    Ok(planned("containers", containers.iter().map(|container| format!("{} {}", container.id.short(), container.name))))
}

/// Prunes; gives the section to print, and the bytes that wait in the trash when anything went there.
pub fn prune_containers(engine: &Engine, filters: &Filters) -> Result<(String, Option<u64>), Failure> {
    let pruned = engine.container_prune(&engine.prunable_containers(filters)?)?;
    if pruned.containers.is_empty() {
        return Ok((String::new(), None));
    }
    let ids: String = pruned.containers.iter().map(|id| format!("{id}\n")).collect();
    Ok((format!("Deleted Containers:\n{ids}\n"), Some(pruned.trashed_bytes)))
}
