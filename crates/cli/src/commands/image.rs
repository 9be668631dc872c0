//! The verbs on images.

use super::{each_name, inspected, planned, reclaimed, tell_plan, value_of};
use crate::args::image as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::list::{Format, Listing, Row, ellipsis};
use crate::output::print::{foreign, note, out};
use crate::output::progress::Meter;
use crate::output::prompt::confirmed;
use orlop_engine::{Engine, Loaded, Source};
use orlop_model::filter::{self, Filters};
use orlop_model::size::{human, human_duration, human_short};
use orlop_model::{ImageRef, Timestamp};
use std::io::IsTerminal;
use std::os::fd::AsFd;

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

/// What `images` knows of an image.
const IMAGES: Listing = Listing {
    columns: COLUMNS,
    kind: "*formatter.imageContext",
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    quiet: "{{.ID}}",
};

const IMAGES_WITH_DIGESTS: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    ..IMAGES
};

/// What `system df -v` shows of an image.
pub const IMAGES_USAGE: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    ..IMAGES
};

/// `images`
pub fn ls(door: &Door, args: args::LsArgs) -> Outcome {
    let listing = if args.digests { &IMAGES_WITH_DIGESTS } else { &IMAGES };
    let format =
        Format::new(listing, args.list.format.as_deref().unwrap_or_default(), args.list.quiet).whole(args.no_trunc);
    let mut filters = Filters::parse(&args.list.filter, filter::IMAGES)?;
    if let Some(reference) = args.reference.first() {
        filters.add("reference", reference);
    }
    let lines = door.engine()?.image_lines(args.all, &filters)?;
    let unknown = || "N/A".to_owned();
    let rows = lines.into_iter().map(|line| {
        let (since, at) = created(line.created);
        Row {
            cells: vec![
                if args.no_trunc { line.id.to_string() } else { line.id.short() },
                line.repository,
                line.tag,
                line.digest,
                since,
                at,
                human_short(line.size),
                unknown(),
                unknown(),
                unknown(),
                human(line.size),
            ],
            labels: None,
        }
    });
    out(&format.render(listing, &rows.collect::<Vec<_>>())?)?;
    Ok(0)
}

/// How long ago, and when; both empty for an image that doesn't say.
pub fn created(time: Option<Timestamp>) -> (String, String) {
    time.map_or_else(Default::default, |time| {
        (format!("{} ago", human_duration(time.elapsed())), time.to_local_string())
    })
}

/// `load`
pub fn load(door: &Door, args: args::LoadArgs) -> Outcome {
    let source = match args.input.filter(|input| !input.is_empty()) {
        Some(path) => {
            // A missing file is told before an engine is opened.
            std::fs::metadata(&path).map_err(|error| Failure::invalid(format!("open {path}: {error}")))?;
            Source::Path(path.into())
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::invalid("requested load from stdin, but stdin is empty"));
        }
        None => Source::Stream(std::io::stdin().as_fd().try_clone_to_owned()?),
    };
    let engine = door.engine()?;
    let meter = Meter::new(args.quiet);
    let loaded = engine.load(source, &|progress| meter.show(progress));
    meter.clear();
    loaded?.iter().try_for_each(tell_loaded)?;
    Ok(0)
}

fn tell_loaded(image: &Loaded) -> Result<(), Failure> {
    let mut text = String::new();
    for (name, old) in &image.moved {
        text += &format!(
            "The image {} already exists, renaming the old one with ID {old} to empty string\n",
            name.familiar()
        );
    }
    for name in &image.names {
        text += &format!("Loaded image: {}\n", name.familiar());
    }
    if image.names.is_empty() {
        text += &format!("Loaded image ID: {}\n", image.id);
    }
    Ok(out(&text)?)
}

/// `image from-host`
pub fn from_host(door: &Door, args: args::FromHostArgs) -> Outcome {
    let (name, binaries) = args.names.split_first().expect("the number of arguments was checked");
    let name = reference(name)?;
    let engine = door.engine()?;
    let meter = Meter::new(false);
    let loaded = engine.image_from_host(&name, binaries, &|progress| meter.show(progress));
    meter.clear();
    tell_loaded(&loaded?)?;
    Ok(0)
}

/// The name of an image, as a user gives it to one that is made.
pub fn reference(text: &str) -> Result<ImageRef, Failure> {
    ImageRef::parse(text).map_err(|error| {
        Failure::invalid(format!("Error parsing reference: {text:?} is not a valid repository/tag: {error}"))
    })
}

/// One image as `inspect` shows it.
pub fn inspect_one(engine: &Engine, name: &str) -> Result<serde_json::Value, Failure> {
    value_of(&engine.image_inspect(name)?)
}

/// `image inspect`
pub fn inspect(door: &Door, args: args::InspectArgs) -> Outcome {
    let engine = door.engine()?;
    inspected(&args.images, args.format.as_deref().unwrap_or_default(), |name| inspect_one(&engine, name))
}

/// What `history` knows of a step.
const HISTORY: Listing = Listing {
    columns: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    kind: "*formatter.historyContext",
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
};

const HISTORY_EXACT: Listing =
    Listing { table: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", ..HISTORY };

/// `history`
pub fn history(door: &Door, args: args::HistoryArgs) -> Outcome {
    let listing = if args.human { &HISTORY } else { &HISTORY_EXACT };
    let format = Format::new(listing, args.format.as_deref().unwrap_or_default(), args.quiet).whole(args.no_trunc);
    let lines = door.engine()?.image_history(&args.image[0])?;
    let rows = lines.into_iter().map(|line| {
        let id = line.id.map(|id| if args.no_trunc { id.to_string() } else { id.short() });
        let (since, _) = created(line.created);
        let by = foreign(&line.created_by.replace('\t', " "));
        Row {
            cells: vec![
                id.unwrap_or_else(|| "<missing>".to_owned()),
                since,
                line.created.map(Timestamp::to_seconds_string).unwrap_or_default(),
                if args.no_trunc { by } else { ellipsis(&by, 45) },
                if args.human { human_short(line.size) } else { line.size.to_string() },
                foreign(&line.comment),
            ],
            labels: None,
        }
    });
    out(&format.render(listing, &rows.collect::<Vec<_>>())?)?;
    Ok(0)
}

/// `save`
pub fn save(door: &Door, args: args::SaveArgs) -> Outcome {
    match args.output.filter(|output| !output.is_empty()) {
        Some(path) => door.engine()?.save_file(&args.images, path.as_ref())?,
        None if std::io::stdout().is_terminal() => {
            return Err(Failure::invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        None => {
            // Past the line buffer of the usual way out.
            let mut stdout = std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
            match door.engine()?.save(&args.images, &mut stdout) {
                Err(orlop_engine::Error::Images(error)) if error.is_broken_pipe() => return Err(Failure::BrokenPipe),
                saved => saved?,
            }
        }
    }
    Ok(0)
}

/// `rmi`
pub fn rm(door: &Door, args: args::RmArgs) -> Outcome {
    let engine = door.engine()?;
    each_name(&args.images, |name| match engine.image_remove(name, args.force) {
        Ok(removed) => Ok(out(&removed.lines.iter().map(|line| format!("{line}\n")).collect::<String>())?),
        // Forced, an image that isn't there is as good as removed; Docker tells and goes on.
        Err(error) if args.force && orlop_model::Kind::kind(&error) == orlop_model::ErrorKind::NotFound => {
            note(&format!("Error: {error}"));
            Ok(())
        }
        Err(error) => Err(error.into()),
    })
}

/// `tag`
pub fn tag(door: &Door, args: args::TagArgs) -> Outcome {
    let [source, target] = &args.references[..] else { unreachable!("the number of arguments was checked") };
    let target = reference(target)?;
    door.engine()?.tag(source, &target)?;
    Ok(0)
}

/// The question of `image prune`, as Docker asks it.
pub fn prune_warning(all: bool) -> &'static str {
    match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    }
}

/// `image prune`
pub fn prune(door: &Door, args: args::PruneArgs) -> Outcome {
    let filters = Filters::parse(&args.prune.filter, filter::IMAGE_PRUNE)?;
    let engine = door.engine()?;
    let warning = format!("WARNING! This will remove {}.", prune_warning(args.all));
    if args.prune.dry_run {
        return tell_plan(&planned_images(&engine, args.all, &filters)?);
    }
    if !args.prune.force && !confirmed(&warning)? {
        return Ok(0);
    }
    let (text, freed, kept) = prune_images(&engine, args.all, &filters)?;
    out(&(text + &reclaimed(&engine, freed, None)))?;
    tell_kept_images(door, kept);
    Ok(0)
}

/// What a prune would remove.
pub fn planned_images(engine: &Engine, all: bool, filters: &Filters) -> Result<String, Failure> {
    let plan = engine.image_prune_plan(all, filters)?;
    Ok(planned(
        "images",
        plan.images.iter().map(|image| {
            let names: Vec<String> = image.names.iter().map(ImageRef::familiar).collect();
            format!("{} {}", image.id.short(), names.join(" ")).trim_end().to_owned()
        }),
    ))
}

/// Prunes; gives the section to print, the bytes that are free now, and how many unused images stay.
pub fn prune_images(engine: &Engine, all: bool, filters: &Filters) -> Result<(String, u64, usize), Failure> {
    let plan = engine.image_prune_plan(all, filters)?;
    let removed = engine.image_prune(&plan)?;
    let mut text = String::new();
    if !removed.lines.is_empty() {
        // `rmi` writes these words large, prune writes them small.
        let lines: String = removed.lines.iter().map(|line| lower_first(&line.to_string()) + "\n").collect();
        text = format!("Deleted Images:\n{lines}\n");
    }
    Ok((text, removed.freed, plan.kept))
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Docker's prune leaves images with a name alone; who expects otherwise is told.
pub fn tell_kept_images(door: &Door, kept: usize) {
    if kept > 0 {
        let (images, them) = if kept == 1 { ("image was", "it") } else { ("images were", "them") };
        note(&format!("{kept} unused tagged {images} kept; '{} image prune -a' removes {them} too", door.program));
    }
}
