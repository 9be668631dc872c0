//! The verbs on volumes, and on the trash that removed ones wait in.

use super::request::label_map;
use super::{each_name, inspected, planned, reclaimed, tell_plan, value_of};
use crate::args::volume as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::list::{Format, Listing, Row, labels_text};
use crate::output::print::{note, out};
use crate::output::prompt::confirmed;
use orlop_engine::{CreateVolume, Engine, TrashContent};
use orlop_model::VolumeName;
use orlop_model::filter::{self, Filters};
use orlop_model::mount::InvalidMount;
use orlop_model::size::{human, human_duration};

/// `volume create`
pub fn create(door: &Door, args: args::CreateArgs) -> Outcome {
    let name = match (&args.name, args.volume.first()) {
        (Some(_), Some(_)) => {
            return Err(Failure::invalid(
                "conflicting options: cannot specify a volume name through both --name and as a positional arg",
            ));
        }
        (name, positional) => name.as_ref().or(positional).filter(|name| !name.is_empty()),
    };
    let request = CreateVolume {
        name: name.map(|name| volume_name(name)).transpose()?,
        driver: Some(args.driver),
        options: options(&args.opt),
        labels: label_map(&args.label, "--label")?,
        origin: None,
    };
    let volume = door.engine()?.volume_create(request)?;
    out(&format!("{}\n", volume.name))?;
    Ok(0)
}

/// The words of `volume create` for a name that is none are those of `-v`.
fn volume_name(name: &str) -> Result<VolumeName, Failure> {
    name.parse().map_err(|_| {
        let error = match name.len() {
            0..2 => InvalidMount::ShortName(name.to_owned()),
            256.. => InvalidMount::LongName(name.to_owned()),
            _ => InvalidMount::VolumeName(name.to_owned()),
        };
        Failure::invalid(error.to_string())
    })
}

fn options(texts: &[String]) -> std::collections::BTreeMap<String, String> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}

/// What `volume ls` can show of a volume.
pub const VOLUMES: Listing = Listing {
    columns: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
        ("Origin", "ORIGIN"),
    ],
    kind: "*formatter.volumeContext",
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
};

/// `volume ls`
pub fn ls(door: &Door, args: args::LsArgs) -> Outcome {
    let format = Format::new(&VOLUMES, args.list.format.as_deref().unwrap_or_default(), args.list.quiet);
    let volumes = door.engine()?.volume_list(&Filters::parse(&args.list.filter, filter::VOLUMES)?)?;
    let unknown = || "N/A".to_owned();
    let rows = volumes.into_iter().map(|volume| row(volume, unknown(), unknown()));
    out(&format.render(&VOLUMES, &rows.collect::<Vec<_>>())?)?;
    Ok(0)
}

/// A row of `VOLUMES`.
pub fn row(volume: orlop_engine::Volume, links: String, size: String) -> Row {
    let labels = volume.labels.unwrap_or_default();
    let unknown = || "N/A".to_owned();
    let origin = volume.origin.map(|origin| format!("{} ({})", origin.container_name, origin.image));
    Row {
        cells: vec![
            volume.driver,
            volume.name.to_string(),
            volume.scope.to_owned(),
            volume.mountpoint.display().to_string(),
            labels_text(&labels),
            links,
            size,
            unknown(),
            unknown(),
            unknown(),
            origin.unwrap_or_default(),
        ],
        labels: Some(labels),
    }
}

/// One volume as `inspect` shows it.
pub fn inspect_one(engine: &Engine, name: &str) -> Result<serde_json::Value, Failure> {
    value_of(&engine.volume_inspect(name)?)
}

/// `volume inspect`
pub fn inspect(door: &Door, args: args::InspectArgs) -> Outcome {
    let engine = door.engine()?;
    inspected(&args.volumes, args.format.as_deref().unwrap_or_default(), |name| inspect_one(&engine, name))
}

/// `volume rm`
pub fn rm(door: &Door, args: args::RmArgs) -> Outcome {
    let engine = door.engine()?;
    each_name(&args.volumes, |name| {
        engine.volume_remove(name, args.force)?;
        Ok(out(&format!("{name}\n"))?)
    })
}

/// `volume prune`
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    let filters = Filters::parse(&args.prune.filter, filter::VOLUME_PRUNE)?;
    let all = args.all || filters.boolean("all")?.unwrap_or(false);
    let engine = door.engine()?;
    let which = if all { "all" } else { "anonymous" };
    let warning = format!("WARNING! This will remove {which} local volumes not used by at least one container.");
    if args.prune.dry_run {
        return tell_plan(&planned_volumes(&engine, all, &filters)?);
    }
    if !args.prune.force && !confirmed(&warning)? {
        return Ok(0);
    }
    let plan = engine.volume_prune_plan(all, &filters)?;
    let kept = plan.kept_named;
    let pruned = engine.volume_prune(plan)?;
    let mut text = String::new();
    if !pruned.deleted.is_empty() {
        let names: Vec<String> = pruned.deleted.iter().map(|(name, _)| name.to_string()).collect();
        text = format!("Deleted Volumes:\n{}\n\n", names.join("\n"));
    }
    let trashed = (!pruned.deleted.is_empty()).then_some(pruned.trashed_bytes);
    out(&(text + &reclaimed(&engine, 0, trashed)))?;
    tell_kept_volumes(door, kept);
    Ok(0)
}

/// What a prune would remove.
pub fn planned_volumes(engine: &Engine, all: bool, filters: &Filters) -> Result<String, Failure> {
    let plan = engine.volume_prune_plan(all, filters)?;
    Ok(planned("volumes", plan.volumes.iter().map(|volume| volume.name.to_string())))
}

/// Docker's prune leaves named volumes alone; who expects otherwise is told.
pub fn tell_kept_volumes(door: &Door, kept: usize) {
    if kept > 0 {
        let (volumes, them) = if kept == 1 { ("volume was", "it") } else { ("volumes were", "them") };
        note(&format!("{kept} unused named {volumes} kept; '{} volume prune -a' removes {them} too", door.program));
    }
}

/// `volume restore`
pub fn restore(door: &Door, args: args::RestoreArgs) -> Outcome {
    let engine = door.engine()?;
    each_name(&args.volumes, |name| Ok(out(&format!("{}\n", engine.volume_restore(name)?.name))?))
}

/// What `volume trash ls` knows of what lies in the trash.
const TRASH: Listing = Listing {
    columns: &[
        ("ID", "TRASH ID"),
        ("Type", "TYPE"),
        ("Name", "NAME"),
        ("Size", "SIZE"),
        ("RemovedAt", "REMOVED AT"),
        ("RemovedSince", "REMOVED"),
        ("ExpiresAt", "EXPIRES"),
    ],
    kind: "*formatter.trashContext",
    table: "{{.ID}}\t{{.Type}}\t{{.Name}}\t{{.Size}}\t{{.RemovedSince}}\t{{.ExpiresAt}}",
    quiet: "{{.ID}}",
};

/// `volume trash ls`
pub fn trash_ls(door: &Door, args: args::TrashLsArgs) -> Outcome {
    let format = Format::new(&TRASH, args.format.as_deref().unwrap_or_default(), args.quiet);
    let engine = door.engine()?;
    let rows = engine.trash_list()?.into_iter().map(|(item, bytes)| {
        let (kind, name) = match &item.content {
            TrashContent::Volume(volume) => ("volume", volume.name.to_string()),
            TrashContent::WritableLayer { name, .. } => ("container", name.to_string()),
        };
        Row {
            cells: vec![
                item.id.short(),
                kind.to_owned(),
                name,
                human(bytes),
                item.removed.to_local_string(),
                format!("{} ago", human_duration(item.removed.elapsed())),
                engine.trash_expiry(item.removed).to_local_string().chars().take(10).collect(),
            ],
            labels: None,
        }
    });
    out(&format.render(&TRASH, &rows.collect::<Vec<_>>())?)?;
    Ok(0)
}

/// `volume trash empty`
pub fn trash_empty(door: &Door, args: args::TrashEmptyArgs) -> Outcome {
    let engine = door.engine()?;
    let warning = "WARNING! This will delete all removed volumes and containers in the trash for good.";
    if !args.force && !confirmed(warning)? {
        return Ok(0);
    }
    let (ids, bytes) = engine.trash_empty(|_| true)?;
    let mut text = String::new();
    if !ids.is_empty() {
        let names: Vec<String> = ids.iter().map(orlop_model::Id::hex).collect();
        text = format!("Deleted from the trash:\n{}\n\n", names.join("\n"));
    }
    out(&format!("{text}Total reclaimed space: {}\n", human(bytes)))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_model::ErrorKind;

    #[test]
    fn bad_names_have_dockers_words() {
        for (name, part) in [
            ("a", "create a: volume name is too short, names should be at least two alphanumeric characters"),
            ("a/b", "create a/b: \"a/b\" includes invalid characters for a local volume name"),
            ("../x", "includes invalid characters"),
            (&"x".repeat(256), "too long"),
        ] {
            match volume_name(name) {
                Err(Failure::Message { text, kind: ErrorKind::Invalid }) => assert!(text.contains(part), "{text}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(volume_name("my-data").is_ok());
    }
}
