//! The verbs on the whole engine.

use super::container::{self, CONTAINERS};
use super::image::{self, IMAGES_USAGE};
use super::volume::{self, VOLUMES};
use super::{reclaimed, tell_plan};
use crate::args::system as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::list::{Format, Listing, Row, row_value};
use crate::output::print::{note, out};
use crate::output::prompt::confirmed;
use crate::output::template::{Mode, Object, Shape, Template, Value};
use orlop_engine::{ContainerSummary, DiskUsage, Engine, Event, EventQuery, Info};
use orlop_model::Timestamp;
use orlop_model::filter::{self, Filters, parse_moment};
use orlop_model::size::{human, human_binary, human_short};
use serde_json::json;
use std::ops::ControlFlow;
use std::rc::Rc;

const USAGE: Listing = Listing {
    columns: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    kind: "*formatter.diskUsageImagesContext",
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
};

const CONTAINERS_USAGE: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    ..CONTAINERS
};

const VOLUMES_USAGE: Listing = Listing { table: "{{.Name}}\t{{.Links}}\t{{.Size}}", ..VOLUMES };

const BUILD_CACHE_HEADER: &str = "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n";

/// `system df`
pub fn df(door: &Door, args: args::DfArgs) -> Outcome {
    let given = args.format.as_deref().unwrap_or_default();
    let engine = door.engine()?;
    let usage = engine.disk_usage()?;
    if args.verbose {
        let format = Format::new(&USAGE, given, false);
        let details = Details::of(&engine, &usage, format.is_table())?;
        out(&match given {
            "" | "table" => details.text(&usage)?,
            // Docker ends it with no line break either.
            _ => format.run(&details.value())?,
        })?;
        return Ok(0);
    }
    let mut rows = usage_rows(&engine, &usage);
    // Only people read the table without a template; a script that asks for fields gets Docker's four rows.
    if matches!(given, "" | "table") && usage.trash.0 > 0 {
        let (count, bytes) = usage.trash;
        rows.push(usage_row("Trash", count, 0, bytes, bytes));
    }
    out(&Format::new(&USAGE, given, false).render(&USAGE, &rows)?)?;
    Ok(0)
}

fn usage_rows(engine: &Engine, usage: &DiskUsage) -> Vec<Row> {
    let running = |(container, _): &&(orlop_engine::Container, _)| engine.is_running(container);
    let stopped_bytes =
        usage.containers.iter().filter(|entry| !running(entry)).map(|(_, size)| size.writable.size).sum();
    let volume_bytes = |used: Option<bool>| -> u64 {
        let counted = usage.volumes.iter().filter(|volume| used.is_none_or(|used| (volume.links > 0) == used));
        counted.filter_map(|volume| volume.size).sum()
    };
    vec![
        usage_row("Images", usage.images.total, usage.images.active, usage.images.size, usage.images.reclaimable),
        usage_row(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(running).count(),
            usage.containers.iter().map(|(_, size)| size.writable.size).sum(),
            stopped_bytes,
        ),
        usage_row(
            "Local Volumes",
            usage.volumes.len(),
            usage.volumes.iter().filter(|volume| volume.links > 0).count(),
            volume_bytes(None),
            volume_bytes(Some(false)),
        ),
        usage_row("Build Cache", 0, 0, 0, 0),
    ]
}

fn usage_row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Row {
    let percent = match size {
        0 => String::new(),
        size => format!(" ({}%)", u128::from(reclaimable) * 100 / u128::from(size)),
    };
    // There is no build cache yet, and Docker shows no share of it.
    let percent = if kind == "Build Cache" { String::new() } else { percent };
    Row {
        cells: vec![
            kind.to_owned(),
            total.to_string(),
            active.to_string(),
            human(size),
            format!("{}{percent}", human(reclaimable)),
        ],
        labels: None,
    }
}

/// The rows of `system df -v`.
struct Details {
    images: Vec<Row>,
    containers: Vec<Row>,
    volumes: Vec<Row>,
}

impl Details {
    fn of(engine: &Engine, usage: &DiskUsage, truncate: bool) -> Result<Self, Failure> {
        let containers = usage.containers.iter().map(|(found, size)| {
            let image = found.details.image_name.clone();
            let summary = ContainerSummary { container: found.clone(), image, size: Some(*size) };
            let mut row = container::row(engine, &summary, truncate);
            let place =
                CONTAINERS.columns.iter().position(|(name, _)| *name == "Size").expect("containers have a size");
            row.cells[place] = human_short(size.writable.size);
            row
        });
        // A volume that came or went between the two looks is left out.
        let volumes = engine.volume_list(&Filters::default())?.into_iter().filter_map(|volume| {
            let used = usage.volumes.iter().find(|used| used.name == volume.name)?;
            let size = used.size.map_or_else(|| "N/A".to_owned(), human);
            Some(volume::row(volume, used.links.to_string(), size))
        });
        Ok(Self { containers: containers.collect(), volumes: volumes.collect(), images: image_rows(usage, truncate) })
    }

    /// What a template sees.
    fn value(&self) -> Value {
        let list =
            |listing: &Listing, rows: &[Row]| Value::list(rows.iter().map(|row| row_value(listing, row)).collect());
        let entries = [
            ("Images", list(&IMAGES_USAGE, &self.images)),
            ("Containers", list(&CONTAINERS_USAGE, &self.containers)),
            ("Volumes", list(&VOLUMES_USAGE, &self.volumes)),
            ("BuildCache", Value::list(Vec::new())),
        ];
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let shape = Shape::Struct("*formatter.diskUsageContext");
        Value::Object(Rc::new(Object { shape, entries, labels: None }))
    }

    /// What people see.
    fn text(&self, usage: &DiskUsage) -> Result<String, Failure> {
        let table = |listing: &Listing, rows: &[Row]| Format::new(listing, "", false).render(listing, rows);
        let mut text = format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
             Build cache usage: 0B\n\n{BUILD_CACHE_HEADER}",
            table(&IMAGES_USAGE, &self.images)?,
            table(&CONTAINERS_USAGE, &self.containers)?,
            table(&VOLUMES_USAGE, &self.volumes)?,
        );
        if usage.trash.0 > 0 {
            text += &format!("\nTrash usage: {} in {} items\n", human(usage.trash.1), usage.trash.0);
        }
        Ok(text)
    }
}

/// One row for each image, with the first of its names.
fn image_rows(usage: &DiskUsage, truncate: bool) -> Vec<Row> {
    const NONE: &str = "<none>";
    let rows = usage.images.images.iter().map(|image| {
        let (since, at) = image::created(image.created);
        let name = image.names.first();
        Row {
            cells: vec![
                if truncate { image.id.short() } else { image.id.to_string() },
                name.map_or_else(|| NONE.to_owned(), |name| name.familiar_name()),
                name.and_then(|name| name.tag.as_deref()).unwrap_or(NONE).to_owned(),
                NONE.to_owned(),
                since,
                at,
                human(image.size),
                image.containers.to_string(),
                human(image.shared),
                human(image.unique),
                human(image.size),
            ],
            labels: None,
        }
    });
    rows.collect()
}

/// `system prune`
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    let filters = Filters::parse(&args.prune.filter, filter::SYSTEM_PRUNE)?;
    if args.volumes && filters.contains("until") {
        return Err(Failure::invalid("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let engine = door.engine()?;
    if args.prune.dry_run {
        let volumes = if args.volumes { volume::planned_volumes(&engine, false, &filters)? } else { String::new() };
        let containers = container::planned_containers(&engine, &filters)?;
        return tell_plan(&(containers + &volumes + &image::planned_images(&engine, args.all, &filters)?));
    }
    if !args.prune.force && !confirmed(&prune_warning(&args))? {
        return Ok(0);
    }
    let (mut text, mut trashed) = container::prune_containers(&engine, &filters)?;
    let mut kept_volumes = 0;
    if args.volumes {
        let plan = engine.volume_prune_plan(false, &filters)?;
        kept_volumes = plan.kept_named;
        let pruned = engine.volume_prune(plan)?;
        if !pruned.deleted.is_empty() {
            let names: String = pruned.deleted.iter().map(|(name, _)| format!("{name}\n")).collect();
            text += &format!("Deleted Volumes:\n{names}\n");
            trashed = Some(trashed.unwrap_or(0) + pruned.trashed_bytes);
        }
    }
    let (images, freed, kept_images) = image::prune_images(&engine, args.all, &filters)?;
    out(&(text + &images + &reclaimed(&engine, freed, trashed)))?;
    volume::tell_kept_volumes(door, kept_volumes);
    image::tell_kept_images(door, kept_images);
    Ok(0)
}

fn prune_warning(args: &args::PruneArgs) -> String {
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if args.volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(image::prune_warning(args.all));
    lines.push(if args.all { "all build cache" } else { "unused build cache" });
    let mut text = format!("WARNING! This will remove:\n  - {}\n", lines.join("\n  - "));
    if !args.prune.filter.is_empty() {
        text += &format!("\n  Items to be pruned will be filtered with:\n  - {}\n", args.prune.filter.join("\n  - "));
    }
    text
}

/// `system tend`
pub fn tend(door: &Door, args: args::TendArgs) -> Outcome {
    orlop_engine::Engine::enter_host_mounts();
    let engine = door.local_engine()?;
    let tended = engine.tend();
    // One object that can't be settled keeps no container from starting.
    let failed = if args.boot { engine.start_at_boot()? } else { Vec::new() };
    tended?;
    Ok(told(&failed))
}

/// `system install-units`
pub fn install_units(door: &Door, args: args::InstallUnitsArgs) -> Outcome {
    let names = door.local_engine()?.install_units(&args.directory)?;
    for name in names {
        out(&format!("{}\n", args.directory.join(name).display()))?;
    }
    note("Enable them with: systemctl daemon-reload && systemctl enable --now orlop.service orlop-tend.timer");
    Ok(0)
}

/// `system stop-all`
pub fn stop_all(door: &Door, _: args::StopAllArgs) -> Outcome {
    orlop_engine::Engine::enter_host_mounts();
    Ok(told(&door.local_engine()?.stop_all()?))
}

/// Names what failed; gives the exit code.
fn told(failed: &[(String, orlop_engine::Error)]) -> u8 {
    for (name, error) in failed {
        note(&format!("Error: {name}: {error}"));
    }
    u8::from(!failed.is_empty())
}

/// `events`
pub fn events(door: &Door, args: args::EventsArgs) -> Outcome {
    let now = Timestamp::now();
    let moment = |text: &Option<String>, flag: &str| match text.as_deref().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match parse_moment(text, now) {
            Some(moment) => Ok(Some(moment)),
            None => {
                Err(Failure::invalid(format!("invalid value for --{flag}: {text:?} is neither a time nor a duration")))
            }
        },
    };
    let query = EventQuery {
        since: moment(&args.since, "since")?,
        until: moment(&args.until, "until")?,
        filters: Filters::parse(&args.filter, filter::EVENTS)?,
    };
    let template = match args.format.as_deref().unwrap_or_default() {
        "" | "json" | "{{json .}}" => None,
        format => Some(
            Template::parse(format).map_err(|error| Failure::invalid(format!("template parsing error: {error}")))?,
        ),
    };
    let json = template.is_none() && args.format.as_deref().is_some_and(|format| !format.is_empty());
    let engine = door.engine()?;
    let mut failure = None;
    engine.events(&query, &mut |event| {
        let line = match &template {
            Some(template) => template.run(&event_value(event), Mode::Row).map_err(Failure::from),
            None if json => Ok(event_json(event).to_string()),
            None => Ok(event_text(event)),
        };
        match line.and_then(|line| Ok(out(&(line + "\n"))?)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failure.map_or(Ok(0), Err)
}

/// `TIME TYPE ACTION ID (name=value, …)`
fn event_text(event: &Event) -> String {
    let pairs: Vec<String> = event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let attributes = if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) };
    format!("{} {} {} {}{attributes}", event.time, event.kind, event.action, event.actor.id)
}

fn event_nanos(event: &Event) -> i64 {
    i64::try_from(event.time.nanos()).unwrap_or(i64::MAX)
}

/// The names that Docker's JSON has.
fn event_json(event: &Event) -> serde_json::Value {
    let mut object = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.actor.id, "Attributes": event.actor.attributes },
        "scope": "local",
        "time": event.time.seconds(),
        "timeNano": event_nanos(event),
    });
    // The old names, which Docker still writes for containers and images.
    if matches!(event.kind.as_str(), "container" | "image") {
        object["status"] = json!(event.action);
        object["id"] = json!(event.actor.id);
    }
    if let (true, Some(image)) = (event.kind == "container", event.actor.attributes.get("image")) {
        object["from"] = json!(image);
    }
    object
}

/// The names that Docker's templates have.
fn event_value(event: &Event) -> Value {
    Value::from_json(&json!({
        "Status": event.action,
        "ID": event.actor.id,
        "From": event.actor.attributes.get("image").cloned().unwrap_or_default(),
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.actor.id, "Attributes": event.actor.attributes },
        "Scope": "local",
        "Time": event.time.seconds(),
        "TimeNano": event_nanos(event),
    }))
}

/// A template or JSON on one object, or the text that people read.
fn formatted(format: Option<&str>, object: &serde_json::Value, text: impl FnOnce() -> String) -> Outcome {
    match format.unwrap_or_default() {
        "" => out(&text())?,
        "json" => out(&format!("{object}\n"))?,
        format => {
            let template = Template::parse(format);
            let template = template.map_err(|error| Failure::Usage(format!("template parsing error: {error}")))?;
            out(&(template.run(&Value::from_json(object), Mode::Row)? + "\n"))?;
        }
    }
    Ok(0)
}

/// `version`; needs neither root nor an engine.
pub fn version(_: &Door, args: args::FormatArgs) -> Outcome {
    let version = Engine::version();
    let object = json!({
        "Client": {
            "Platform": { "Name": "Orlop" },
            "Version": version.version,
            "Os": version.os,
            "Arch": version.arch,
            "Context": "default",
        },
        "Server": {
            "Platform": { "Name": "Orlop" },
            "Version": version.version,
            "Os": version.os,
            "Arch": version.arch,
            "KernelVersion": version.kernel,
        },
    });
    formatted(args.format.as_deref(), &object, || {
        let line = |name: &str, value: &str| format!("{:18} {value}\n", format!("{name}:"));
        let platform = format!("{}/{}", version.os, version.arch);
        format!(
            "Client: Orlop\n {} {} {}\nServer: Orlop, in the same program\n {} {} {}",
            line("Version", version.version),
            line("OS/Arch", &platform),
            line("Context", "default"),
            line("Version", version.version),
            line("OS/Arch", &platform),
            line("Kernel", &version.kernel),
        )
    })
}

/// `info`
pub fn info(door: &Door, args: args::FormatArgs) -> Outcome {
    let info = door.engine()?.info()?;
    formatted(args.format.as_deref(), &info_json(&info), || info_text(&info))
}

/// Docker's names, for what there is.
fn info_json(info: &Info) -> serde_json::Value {
    let runtimes: serde_json::Map<_, _> =
        info.runtimes.iter().map(|(name, path)| (name.clone(), json!({ "path": path }))).collect();
    json!({
        "Containers": info.running + info.paused + info.stopped,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "Driver": info.driver,
        "DriverStatus": [["Backing Filesystem", info.backing_filesystem]],
        "Plugins": { "Volume": ["local"], "Network": ["host", "none"], "Log": info.log_drivers },
        "LoggingDriver": "json-file",
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null },
        "Runtimes": runtimes,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": info.cgroup_version,
        "SecurityOptions": info.security_options,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSType": "linux",
        "Architecture": info.architecture,
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "DockerRootDir": info.data_root,
        "RunRoot": info.run_root,
        "Name": info.name,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DefaultRuntime": info.runtime,
        "Warnings": null,
    })
}

/// Each on a line, what is after its name (`profile=builtin`) on further ones.
fn security_lines(info: &Info) -> String {
    let mut lines = String::new();
    for option in &info.security_options {
        for pair in option.split(',') {
            match pair.split_once('=').unwrap_or_default() {
                ("name", name) => lines += &format!("\n  {name}"),
                (key, value) => lines += &format!("\n   {}{}: {value}", key[..1].to_uppercase(), &key[1..]),
            }
        }
    }
    lines
}

fn info_text(info: &Info) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let lines = [
        "Client:".to_owned(),
        format!(" Version:    {version}"),
        " Context:    default".to_owned(),
        " Debug Mode: false".to_owned(),
        String::new(),
        "Server:".to_owned(),
        format!(" Containers: {}", info.running + info.paused + info.stopped),
        format!("  Running: {}", info.running),
        format!("  Paused: {}", info.paused),
        format!("  Stopped: {}", info.stopped),
        format!(" Images: {}", info.images),
        format!(" Server Version: {version}"),
        format!(" Storage Driver: {}", info.driver),
        format!("  Backing Filesystem: {}", info.backing_filesystem),
        " Logging Driver: json-file".to_owned(),
        " Cgroup Driver: cgroupfs".to_owned(),
        format!(" Cgroup Version: {}", info.cgroup_version),
        " Plugins:".to_owned(),
        "  Volume: local".to_owned(),
        "  Network: host none".to_owned(),
        format!("  Log: {}", info.log_drivers.join(" ")),
        " Swarm: inactive".to_owned(),
        format!(" Runtimes: {}", info.runtimes.keys().map(String::as_str).collect::<Vec<_>>().join(" ")),
        format!(" Default Runtime: {}", info.runtime),
        format!(" Security Options:{}", security_lines(info)),
        format!(" Kernel Version: {}", info.kernel),
        format!(" Operating System: {}", info.operating_system),
        " OSType: linux".to_owned(),
        format!(" Architecture: {}", info.architecture),
        format!(" CPUs: {}", info.cpus),
        format!(" Total Memory: {}", human_binary(info.memory)),
        format!(" Name: {}", info.name),
        format!(" Docker Root Dir: {}", info.data_root.display()),
        format!(" Run Root: {}", info.run_root.display()),
        String::new(),
    ];
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_rows_have_dockers_columns() {
        let rows = [usage_row("Images", 3, 1, 1_234_567, 617_283), usage_row("Build Cache", 0, 0, 0, 0)];
        assert_eq!(
            Format::new(&USAGE, "", false).render(&USAGE, &rows).unwrap(),
            "TYPE          TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images        3         1         1.235MB   617.3kB (49%)\n\
             Build Cache   0         0         0B        0B\n"
        );
    }

    #[test]
    fn the_question_of_prune_is_dockers() {
        let prune = crate::args::shared::PruneFlags {
            filter: vec!["label=a".into()],
            dry_run: false,
            force: false,
            arguments: vec![],
        };
        let args = args::PruneArgs { all: true, volumes: true, prune };
        assert_eq!(
            prune_warning(&args),
            "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  \
             - all anonymous volumes not used by at least one container\n  \
             - all images without at least one container associated to them\n  - all build cache\n\n  \
             Items to be pruned will be filtered with:\n  - label=a\n"
        );
    }
}
