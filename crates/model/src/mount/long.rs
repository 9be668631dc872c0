//! `--mount`.

use super::tmpfs::parse_permissions;
use super::{
    BindMount, BindRecursive, InvalidMount, MountKind, MountSpec, Propagation, TmpfsMount, VolumeMount, absolute, csv,
    is_local, parse_source, parse_target, parse_volume_name,
};
use std::path::Path;

/// Reads the value of `--mount`: `key=value` pairs between commas, with quotes where a value holds a comma. A source
/// `.`, `./…` or `../…` is a path below `cwd`.
pub fn parse_mount(text: &str, cwd: &Path) -> Result<MountSpec, InvalidMount> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidMount::Empty);
    }
    let mut pairs = Pairs::default();
    for field in csv::fields(text)? {
        pairs.add(&field)?;
    }
    pairs.finish(cwd)
}

/// What has been read so far; which of it belongs together is known only at the end.
#[derive(Default)]
struct Pairs {
    kind: Option<String>,
    source: String,
    target: String,
    read_only: bool,
    volume: VolumeMount,
    tmpfs: TmpfsMount,
    propagation: Option<String>,
    recursive: BindRecursive,
    create_source: bool,
    /// The first key of each group, as typed.
    groups: Vec<(&'static str, String)>,
}

impl Pairs {
    fn add(&mut self, field: &str) -> Result<(), InvalidMount> {
        let (typed, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        if typed.trim() != typed {
            return Err(InvalidMount::Whitespace { key: typed.to_owned(), field: field.to_owned() });
        }
        let key = typed.to_ascii_lowercase();
        if let Some(group) = ["volume", "bind", "tmpfs"].into_iter().find(|group| is_of(&key, group)) {
            self.groups.push((group, key.clone()));
        }
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => self.read_only = boolean(&key, value)?,
            ("volume-nocopy", value) => self.volume.no_copy = boolean(&key, value)?,
            ("bind-create-src", value) => self.create_source = boolean(&key, value)?,
            ("bind-nonrecursive", value) => {
                let disabled = boolean(&key, value)?;
                self.recursive = if disabled { BindRecursive::Disabled } else { BindRecursive::Enabled };
            }
            (_, None) => return Err(InvalidMount::NoValue(field.to_owned())),
            (_, Some(value)) => self.add_pair(&key, value, field)?,
        }
        Ok(())
    }

    fn add_pair(&mut self, key: &str, value: &str, field: &str) -> Result<(), InvalidMount> {
        let invalid = |hint| InvalidMount::Value { key: key.to_owned(), value: value.to_owned(), hint };
        match key {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => self.source = value.to_owned(),
            "target" | "dst" | "destination" => self.target = value.to_owned(),
            // For Docker Desktop's shared folders; without effect on Linux, there as here.
            "consistency" => match value.to_ascii_lowercase().as_str() {
                "default" | "consistent" | "cached" | "delegated" => {}
                _ => return Err(invalid(" (must be \"default\", \"consistent\", \"cached\", or \"delegated\")")),
            },
            "bind-propagation" => self.propagation = Some(value.to_ascii_lowercase()),
            "bind-recursive" => {
                self.recursive = match value {
                    "enabled" => BindRecursive::Enabled,
                    "disabled" => BindRecursive::Disabled,
                    "writable" => BindRecursive::Writable,
                    "readonly" => BindRecursive::Readonly,
                    _ => {
                        let hint = " (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")";
                        return Err(invalid(hint));
                    }
                }
            }
            "volume-subpath" => self.volume.subpath = Some(value.to_owned()),
            "volume-driver" => self.volume.driver = Some(value.to_owned()).filter(|driver| !driver.is_empty()),
            "volume-opt" => insert(&mut self.volume.options, value).ok_or_else(|| invalid(""))?,
            "volume-label" => insert(&mut self.volume.labels, value).ok_or_else(|| invalid(""))?,
            // Zero is Docker's way to say: not given.
            "tmpfs-size" => {
                let bytes = crate::size::parse_bytes(value).map_err(|_| invalid(""))?;
                self.tmpfs.size = Some(bytes).filter(|bytes| *bytes > 0);
            }
            "tmpfs-mode" => self.tmpfs.mode = Some(parse_permissions(value).ok_or_else(|| invalid(""))?),
            _ => return Err(InvalidMount::Key { key: key.to_owned(), field: field.to_owned() }),
        }
        Ok(())
    }

    fn finish(self, cwd: &Path) -> Result<MountSpec, InvalidMount> {
        let kind = self.kind.clone().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "volume".to_owned());
        match kind.as_str() {
            "volume" | "bind" | "tmpfs" => {}
            "image" | "cluster" | "npipe" => return Err(InvalidMount::UnsupportedType(kind)),
            kind => return Err(InvalidMount::UnknownType.in_config(kind)),
        }
        if let Some((group, option)) = self.groups.iter().find(|(group, _)| *group != kind) {
            return Err(InvalidMount::Mixed { group, kind, option: option.clone() });
        }
        if self.target.is_empty() {
            return Err(InvalidMount::NoTarget);
        }
        let (target, read_only) = (parse_target(&self.target), self.read_only);
        let built = match kind.as_str() {
            "volume" => self.into_volume(),
            "bind" => self.into_bind(cwd),
            _ => self.into_tmpfs(),
        };
        target.and_then(|target| Ok(MountSpec { kind: built?, target, read_only, mode: String::new() })).map_err(
            |error| match error {
                InvalidMount::EmptyField(_)
                | InvalidMount::ExtraField { .. }
                | InvalidMount::Relative(_)
                | InvalidMount::Root
                | InvalidMount::Propagation(_)
                | InvalidMount::Subpath(_)
                | InvalidMount::AnonymousSubpath => error.in_config(&kind),
                error => error,
            },
        )
    }

    fn into_volume(mut self) -> Result<MountKind, InvalidMount> {
        self.volume.name = match self.source.as_str() {
            "" => None,
            name => Some(parse_volume_name(name)?),
        };
        if let Some(subpath) = self.volume.subpath.take_if(|subpath| subpath.is_empty() || !is_local(subpath)) {
            return Err(InvalidMount::Subpath(subpath));
        }
        if self.volume.subpath.is_some() && self.volume.name.is_none() {
            return Err(InvalidMount::AnonymousSubpath);
        }
        Ok(MountKind::Volume(self.volume))
    }

    fn into_bind(self, cwd: &Path) -> Result<MountKind, InvalidMount> {
        let source = match self.source.as_str() {
            relative @ ("." | "..") => absolute(relative, cwd),
            relative if relative.starts_with("./") || relative.starts_with("../") => absolute(relative, cwd),
            source => parse_source(source)?,
        };
        let (value, needs) = match self.recursive {
            BindRecursive::Writable if !self.read_only => ("writable", "readonly"),
            BindRecursive::Readonly if !self.read_only => ("readonly", "readonly"),
            BindRecursive::Readonly if self.propagation.as_deref() != Some("rprivate") => {
                ("readonly", "bind-propagation=rprivate")
            }
            _ => ("", ""),
        };
        if !needs.is_empty() {
            return Err(InvalidMount::Requires { value, needs });
        }
        let propagation = match self.propagation.as_deref() {
            None | Some("") => Propagation::default(),
            Some(name) => Propagation::from_name(name).ok_or_else(|| InvalidMount::Propagation(name.to_owned()))?,
        };
        Ok(MountKind::Bind(BindMount {
            source,
            propagation,
            recursive: self.recursive,
            create_source: self.create_source,
            relabel: None,
        }))
    }

    fn into_tmpfs(self) -> Result<MountKind, InvalidMount> {
        match self.source.as_str() {
            "" => Ok(MountKind::Tmpfs(self.tmpfs)),
            source => Err(InvalidMount::ExtraField { field: "Source", option: format!("source={source}") }),
        }
    }
}

fn is_of(key: &str, group: &str) -> bool {
    key.strip_prefix(group).is_some_and(|rest| rest.starts_with('-'))
}

/// What Go's `strconv.ParseBool` takes; a key alone means true.
fn boolean(key: &str, value: Option<&str>) -> Result<bool, InvalidMount> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(InvalidMount::Value { key: key.to_owned(), value: value.to_owned(), hint: "" }),
    }
}

/// `key=value` or `key` into a map; None when there is no key.
fn insert(map: &mut std::collections::BTreeMap<String, String>, pair: &str) -> Option<()> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if key.is_empty() {
        return None;
    }
    map.insert(key.to_owned(), value.to_owned());
    Some(())
}
