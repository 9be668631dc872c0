//! `image scrub` and `image why`.

use super::pull::fetch;
use crate::args::image as args;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::list::{Format, Listing, Row};
use crate::output::print::{foreign, note, out};
use crate::output::progress::Meter;
use crate::output::pull::{Display, Place};
use orlop_engine::{DamagedImage, Engine, PullRequest};
use orlop_model::size::{human, human_short};

const FINDINGS: Listing = Listing {
    columns: &[("Layer", "LAYER"), ("Path", "PATH"), ("Problem", "PROBLEM"), ("Image", "IMAGE")],
    kind: "*formatter.scrubContext",
    table: "{{.Layer}}\t{{.Path}}\t{{.Problem}}\t{{.Image}}",
    quiet: "{{.Image}}",
};

/// `image scrub`: exit code 0 when nothing differs, else 1.
pub fn scrub(door: &Door, args: args::ScrubArgs) -> Outcome {
    let format = Format::new(&FINDINGS, args.format.as_deref().unwrap_or_default(), false);
    let engine = door.engine()?;
    let meter = Meter::new(false);
    let scrubbed = engine.image_scrub(&args.images, args.dry_run, &|done, total| meter.checked(done, total));
    meter.clear();
    let scrubbed = scrubbed?;
    let rows: Vec<Row> = scrubbed
        .findings
        .into_iter()
        .map(|finding| {
            let cells = vec![
                finding.layer.map(|layer| layer.short()).unwrap_or_default(),
                format!("/{}", foreign(&finding.path.to_string_lossy())),
                foreign(&finding.what),
                finding.images.join(","),
            ];
            Row { cells, labels: None }
        })
        .collect();
    let counted = format!("{}, {} checked", count(scrubbed.images, "image"), count(scrubbed.layers, "layer"));
    if rows.is_empty() {
        note(&format!("{counted}: nothing differs"));
        return Ok(0);
    }
    out(&format.render(&FINDINGS, &rows)?)?;
    let (differences, images) = (count(rows.len(), "difference"), count(scrubbed.damaged.len(), "image"));
    note(&format!("{counted}: {differences} in {images}"));
    for container in &scrubbed.running {
        note(&format!("Container {container} runs on a damaged layer, and keeps it until it stops"));
    }
    if !args.dry_run {
        for image in &scrubbed.damaged {
            repair(&engine, image);
        }
    }
    Err(Failure::Said(1))
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Fetches a damaged image again from a registry that it came from. Only what is damaged is fetched.
fn repair(engine: &Engine, image: &DamagedImage) {
    for name in &image.pinned {
        let request = PullRequest { name: name.clone(), platform: image.platform.clone(), all_tags: false };
        match fetch(engine, &request, &Display::new(Place::Stderr, true)) {
            Ok(pulled) if pulled.iter().any(|pulled| pulled.id == image.id) => {
                return note(&format!("{}: fetched again from {}", image.name, name.registry));
            }
            Ok(_) => note(&format!("{}: {} is another image now", image.name, name.familiar())),
            Err(Failure::Message { text, .. }) => note(&format!("{}: {text}", image.name)),
            Err(_) => {}
        }
    }
    note(&format!("{}: load or pull it again, then its damaged layers are stored anew", image.name));
}

const LAYERS: Listing = Listing {
    columns: &[("Layer", "LAYER"), ("Size", "SIZE"), ("Disk", "DISK"), ("KeptBy", "KEPT BY")],
    kind: "*formatter.whyContext",
    table: "{{.Layer}}\t{{.Size}}\t{{.Disk}}\t{{.KeptBy}}",
    quiet: "{{.Layer}}",
};

/// `image why`
pub fn why(door: &Door, args: args::WhyArgs) -> Outcome {
    let given = args.format.as_deref().unwrap_or_default();
    let format = Format::new(&LAYERS, given, false).whole(args.no_trunc);
    let why = door.engine()?.image_why(&args.image[0])?;
    let rows: Vec<Row> = why
        .layers
        .iter()
        .map(|layer| {
            let mut keepers: Vec<String> = layer.keepers.iter().map(ToString::to_string).collect();
            if layer.damaged {
                keepers.push("(damaged)".to_owned());
            }
            let id = if args.no_trunc { layer.diff_id.to_string() } else { layer.diff_id.short() };
            Row { cells: vec![id, human_short(layer.size), human_short(layer.disk), keepers.join(", ")], labels: None }
        })
        .collect();
    let mut text = format.render(&LAYERS, &rows)?;
    if matches!(given.trim(), "" | "table") {
        let (freed, disk) = (human(why.freed), human(why.disk));
        text += &match why.image {
            Some(_) => format!("Removing the image would free {freed} of {disk}\n"),
            None => format!("Removing everything that keeps the layer would free {freed}\n"),
        };
    }
    out(&text)?;
    Ok(0)
}
