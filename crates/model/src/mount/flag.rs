//! `-v` and `--volumes-from`.

use super::{
    BindMount, BindRecursive, InvalidMount, MountKind, MountSpec, Propagation, Relabel, VolumeMount, VolumesFrom,
    absolute, parse_source, parse_target, parse_volume_name,
};
use std::path::Path;

/// Reads the value of `-v`: `/target`, `name:/target[:options]` or `/host:/target[:options]`. A source that begins
/// with a dot is a path below `cwd`. `driver` is that of `--volume-driver`; it counts for volumes only.
pub fn parse_volume(text: &str, cwd: &Path, driver: Option<&str>) -> Result<MountSpec, InvalidMount> {
    let malformed = || InvalidMount::Specification(text.to_owned());
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return Err(malformed()),
        [target] => ("", target, ""),
        // `/target:ro` names no source; Docker takes it for a mistake, not for a volume with a mode.
        [_, mode] if parse_mode(mode).is_ok() => return Err(malformed()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(malformed()),
    };
    let options = parse_mode(mode).map_err(|error| error.in_specification(text))?;
    let path = source.starts_with('.').then(|| absolute(source, cwd));
    let source = path.as_deref().unwrap_or(source);
    let (kind, built) = match source.starts_with('/') {
        true => ("bind", bind(source, &options)),
        false => ("volume", volume(source, &options, driver)),
    };
    let target = parse_target(target);
    target
        .and_then(|target| Ok(MountSpec { kind: built?, target, read_only: options.read_only, mode: mode.to_owned() }))
        .map_err(|error| match error {
            InvalidMount::VolumeName(_) | InvalidMount::ShortName(_) | InvalidMount::LongName(_) => error,
            error => error.in_config(kind).in_specification(text),
        })
}

/// Reads the value of `--volumes-from`: `container[:ro|rw|z|Z]`.
pub fn parse_volumes_from(text: &str) -> Result<VolumesFrom, InvalidMount> {
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    if container.is_empty() {
        return Err(InvalidMount::NoContainer);
    }
    let options = parse_mode(mode)?;
    // Neither propagation nor nocopy can be changed for the other container's mounts.
    if let Some(option) = options.propagation.map(Propagation::name).or(options.no_copy.then_some("nocopy")) {
        return Err(InvalidMount::Mode(option.to_owned()));
    }
    Ok(VolumesFrom { container: container.to_owned(), read_only: options.read_only, relabel: options.relabel })
}

/// What the third part of `-v` says.
#[derive(Default)]
struct Options {
    read_only: bool,
    relabel: Option<Relabel>,
    propagation: Option<Propagation>,
    no_copy: bool,
}

/// At most one option of each group, in any order.
fn parse_mode(mode: &str) -> Result<Options, InvalidMount> {
    let mut options = Options::default();
    let mut groups = Vec::new();
    if mode.is_empty() {
        return Ok(options);
    }
    for option in mode.split(',') {
        let group = match option {
            "ro" | "rw" => {
                options.read_only = option == "ro";
                "access"
            }
            "z" | "Z" => {
                options.relabel = Some(if option == "z" { Relabel::Shared } else { Relabel::Private });
                "label"
            }
            "nocopy" => {
                options.no_copy = true;
                "copy"
            }
            // For Docker Desktop's shared folders; without effect on Linux, there as here.
            "consistent" | "cached" | "delegated" => "consistency",
            option => {
                let propagation = Propagation::from_name(option);
                options.propagation = Some(propagation.ok_or_else(|| InvalidMount::Mode(option.to_owned()))?);
                "propagation"
            }
        };
        if groups.contains(&group) {
            return Err(InvalidMount::Mode(mode.to_owned()));
        }
        groups.push(group);
    }
    Ok(options)
}

fn bind(source: &str, options: &Options) -> Result<MountKind, InvalidMount> {
    if options.no_copy {
        return Err(InvalidMount::ExtraField { field: "VolumeOptions", option: "nocopy".to_owned() });
    }
    Ok(MountKind::Bind(BindMount {
        source: parse_source(source)?,
        propagation: options.propagation.unwrap_or_default(),
        recursive: BindRecursive::Enabled,
        create_source: true,
        relabel: options.relabel,
    }))
}

fn volume(name: &str, options: &Options, driver: Option<&str>) -> Result<MountKind, InvalidMount> {
    if let Some(propagation) = options.propagation {
        return Err(InvalidMount::ExtraField { field: "BindOptions", option: propagation.name().to_owned() });
    }
    let name = match name {
        "" => None,
        name => Some(parse_volume_name(name)?),
    };
    Ok(MountKind::Volume(VolumeMount {
        name,
        driver: driver.filter(|driver| !driver.is_empty()).map(str::to_owned),
        no_copy: options.no_copy,
        relabel: options.relabel,
        ..VolumeMount::default()
    }))
}
