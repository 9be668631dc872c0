//! `pull`, and the pull before a container is made.

use super::request::{PullPolicy, platform};
use crate::args::image::PullArgs;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::print::{note, out};
use crate::output::pull::{Display, Place};
use orlop_engine::{ClientConfig, CreateRequest, Engine, Error, PullRequest, Pulled};
use orlop_model::{ErrorKind, ImageRef, Kind};

/// `pull`
pub fn pull(door: &Door, args: PullArgs) -> Outcome {
    let [text] = &args.image[..] else { unreachable!("the number of arguments was checked") };
    let name = parse(text)?;
    let is_bare = name == ImageRef { tag: Some("latest".to_owned()), ..name.clone() } && !text.ends_with(":latest");
    if args.all_tags && !is_bare {
        return Err(Failure::invalid("tag can't be used with --all-tags/-a"));
    }
    let platform = args.platform.as_deref().filter(|text| !text.is_empty()).map(platform).transpose()?;
    let request = PullRequest { name, platform, all_tags: args.all_tags };
    let engine = door.engine()?;
    if is_bare && !args.all_tags && !args.quiet {
        out("Using default tag: latest\n")?;
    }
    let display = Display::new(Place::Stdout, args.quiet);
    let pulled = fetch(&engine, &request, &display)?;
    let full = match args.all_tags {
        true => request.name.name(),
        false => request.name.to_string(),
    };
    if !args.quiet {
        out(&status(&request, &pulled))?;
    }
    out(&format!("{full}\n"))?;
    Ok(0)
}

fn parse(text: &str) -> Result<ImageRef, Failure> {
    ImageRef::parse(text).map_err(|error| Failure::invalid(error.to_string()))
}

/// Pulls, and tells what was lost on the way.
pub fn fetch(engine: &Engine, request: &PullRequest, display: &Display) -> Result<Vec<Pulled>, Failure> {
    let result = engine.pull(request, &ClientConfig::of_user(), &|event| display.show(&event));
    display.end();
    let pulled = result?;
    for (name, files) in pulled.iter().flat_map(|image| &image.skipped_xattrs) {
        note(&format!(
            "WARNING: {files} files lost the extended attribute {name}, which this file system doesn't have"
        ));
    }
    Ok(pulled)
}

/// Docker's last words on a pull.
fn status(request: &PullRequest, pulled: &[Pulled]) -> String {
    let name = if request.all_tags { request.name.familiar_name() } else { request.name.familiar() };
    match pulled.iter().all(|image| image.up_to_date) {
        true => format!("Status: Image is up to date for {name}\n"),
        false => format!("Status: Downloaded newer image for {name}\n"),
    }
}

/// Makes a container, with a pull before it when the policy wants one or the image isn't there.
pub fn with_image<T>(
    engine: &Engine,
    request: &CreateRequest,
    policy: PullPolicy,
    quiet: bool,
    make: impl Fn() -> Result<T, Error>,
) -> Result<T, Failure> {
    let missing = match policy {
        PullPolicy::Always => None,
        PullPolicy::Missing | PullPolicy::Never => match make() {
            Err(error) if policy == PullPolicy::Missing && is_missing(&error) => Some(error),
            made => return Ok(made?),
        },
    };
    let name = match ImageRef::parse(&request.image) {
        Ok(name) => name,
        // An id that isn't there: nothing that a registry could be asked for.
        Err(error) => return Err(missing.map_or_else(|| Failure::invalid(error.to_string()), Failure::from)),
    };
    if let Some(missing) = missing
        && !quiet
    {
        note(&format!("Unable to find image '{}' locally", name.familiar()));
        if let [close, ..] = missing.close_matches() {
            note(&format!("Hint: did you mean {close}?"));
        }
    }
    let display = Display::new(Place::Stderr, quiet);
    let pull = PullRequest { name, platform: request.platform.clone(), all_tags: false };
    let pulled = fetch(engine, &pull, &display)?;
    if !quiet {
        note(status(&pull, &pulled).trim_end());
    }
    Ok(make()?)
}

/// Whether a container can't be made because its image isn't there, or only for another platform.
fn is_missing(error: &Error) -> bool {
    match error {
        Error::ImageMissing(..) => true,
        Error::Images(error) => error.is_other_platform() && error.kind() == ErrorKind::NotFound,
        _ => false,
    }
}
