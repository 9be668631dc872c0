//! `--log-driver` and `--log-opt`: what they ask for, checked, and what the shim is told of it.
//!
//! `json-file` and `local` are one format, json-file's, and one place; both are rotated unless `max-size=-1` says
//! otherwise, so that a container that talks can't fill the disk.

use crate::{Config, Container, Engine, Error, Result};
use orlop_model::options::LogConfig;
use orlop_model::size::parse_bytes;
use orlop_runtime::shim;
use std::collections::BTreeMap;

/// The drivers that there are.
pub(crate) const DRIVERS: [&str; 3] = ["json-file", "local", "none"];

/// The smallest size at which a log may be rotated, in bytes.
const SMALLEST: u64 = 1024;

/// The driver in effect.
pub(crate) fn driver(log: &LogConfig) -> &str {
    if log.driver.is_empty() { "json-file" } else { &log.driver }
}

/// Refuses what isn't there, in Docker's words where Docker has any.
pub(crate) fn check(log: &LogConfig) -> Result<()> {
    let driver = driver(log);
    let invalid = |text: String| Err(Error::Invalid(text));
    match driver {
        _ if DRIVERS.contains(&driver) => {}
        "awslogs" | "etwlogs" | "fluentd" | "gcplogs" | "gelf" | "journald" | "splunk" | "syslog" => {
            return Err(Error::Unsupported(format!(
                "the log driver {driver} is not there; there are {}",
                DRIVERS.join(", ")
            )));
        }
        _ => return invalid(format!("logger: no log driver named '{driver}' is registered")),
    }
    for (name, value) in &log.options {
        match name.as_str() {
            _ if driver == "none" => return invalid(format!("unknown log opt '{name}' for none log driver")),
            "max-size" => drop(max_size(value)?),
            "max-file" => drop(max_files(value)?),
            "labels" | "env" | "tag" if driver == "json-file" => {}
            "mode" if value == "blocking" => {}
            "compress" if value == "false" => {}
            "mode" | "max-buffer-size" | "compress" | "labels-regex" | "env-regex" => {
                return Err(Error::Unsupported(format!("the log option {name}={value} is not there")));
            }
            _ => return invalid(format!("unknown log opt '{name}' for {driver} log driver")),
        }
    }
    if let Some(tag) = log.options.get("tag") {
        expand(tag, &|_| Some(String::new()))?;
    }
    Ok(())
}

/// Bytes; -1 is without end.
fn max_size(text: &str) -> Result<u64> {
    match text {
        "-1" => Ok(u64::MAX),
        _ => match parse_bytes(text) {
            Ok(size) if size >= SMALLEST => Ok(size),
            Ok(size) => Err(Error::Invalid(format!("max-size={size} must be at least {SMALLEST} bytes, or -1"))),
            Err(error) => Err(Error::Invalid(format!("max-size={text}: {error}"))),
        },
    }
}

fn max_files(text: &str) -> Result<u32> {
    let count = text.parse().ok().filter(|count| *count >= 1);
    count.ok_or_else(|| Error::Invalid(format!("max-file={text} must be a number of at least 1")))
}

/// What a container's shim writes, and where; None for the driver `none`.
pub(crate) fn config(engine: &Engine, container: &Container) -> Result<Option<shim::LogConfig>> {
    let log = &container.details.host.options.log;
    if driver(log) == "none" {
        return Ok(None);
    }
    let (size, files) = limits(log, &engine.config)?;
    Ok(Some(shim::LogConfig {
        path: engine.log_path(container.id),
        max_size: size,
        max_files: files,
        attrs: attributes(log, container)?,
    }))
}

/// Bytes of a file, and how many files.
pub(crate) fn limits(log: &LogConfig, config: &Config) -> Result<(u64, u32)> {
    let option = |name: &str| log.options.get(name).map(String::as_str);
    let size = option("max-size").map_or(Ok(config.log.max_size), max_size)?;
    let files = option("max-file").map_or(Ok(config.log.max_files), max_files)?;
    Ok((size, files))
}

/// What `labels`, `env` and `tag` add to each line.
fn attributes(log: &LogConfig, container: &Container) -> Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    let names = |option: &str| log.options.get(option).map(String::as_str).unwrap_or_default().split(',');
    let config = &container.details.config;
    for name in names("labels") {
        attributes.extend(config.labels.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    for name in names("env").filter(|name| !name.is_empty()) {
        let values = config.env.iter().filter_map(|entry| entry.split_once('='));
        attributes
            .extend(values.filter(|(key, _)| *key == name).map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    if let Some(tag) = log.options.get("tag").filter(|tag| !tag.is_empty()) {
        attributes.insert("tag".to_owned(), expand(tag, &|field| field_of(container, field))?);
    }
    Ok(attributes)
}

fn field_of(container: &Container, field: &str) -> Option<String> {
    Some(match field {
        ".ID" => container.id.short(),
        ".FullID" => container.id.hex(),
        ".Name" => container.name.to_string(),
        ".ImageID" => container.image.short(),
        ".ImageFullID" => container.image.to_string(),
        ".ImageName" => container.details.image_name.clone(),
        ".DaemonName" => "orlop".to_owned(),
        _ => return None,
    })
}

const FIELDS: [&str; 7] = [".ID", ".FullID", ".Name", ".ImageID", ".ImageFullID", ".ImageName", ".DaemonName"];

/// Docker's tags: text with `{{.Name}}` and the like.
fn expand(tag: &str, field: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let (mut text, mut rest) = (String::new(), tag);
    while let Some((before, after)) = rest.split_once("{{") {
        let unknown = || Error::Invalid(format!("the log option tag={tag}: only {} are there", FIELDS.join(", ")));
        let (name, after) = after.split_once("}}").ok_or_else(unknown)?;
        let name = name.trim();
        text += before;
        text += &field(name).filter(|_| FIELDS.contains(&name)).ok_or_else(unknown)?;
        rest = after;
    }
    Ok(text + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options() {
        for (driver, option, part) in [
            ("", "", ""),
            ("json-file", "max-size=10m", ""),
            ("json-file", "max-size=-1", ""),
            ("local", "max-file=2", ""),
            ("json-file", "tag={{.Name}}/{{ .ID }}", ""),
            ("json-file", "tag={{.Foo}}", "only .ID"),
            ("json-file", "tag={{.Name", "only .ID"),
            ("none", "max-size=1m", "unknown log opt 'max-size' for none log driver"),
            ("local", "tag=x", "unknown log opt 'tag' for local log driver"),
            ("json-file", "max-size=x", "max-size=x: invalid size"),
            ("json-file", "max-file=0", "max-file=0 must be"),
            ("json-file", "foo=1", "unknown log opt 'foo' for json-file log driver"),
            ("json-file", "mode=non-blocking", "is not there"),
            ("syslog", "", "the log driver syslog is not there"),
            ("foo", "", "logger: no log driver named 'foo' is registered"),
        ] {
            let options = option.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            let log = LogConfig { driver: driver.to_owned(), options: options.into_iter().collect() };
            let found = check(&log).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(found.contains(part) && part.is_empty() == found.is_empty(), "{driver} {option}: {found}");
        }
    }
}
