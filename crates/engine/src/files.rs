//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a container: files in `containers/ID`, mounted over the image's.
//! They are never part of the writable layer.

use crate::{Container, Engine, Network, Result};
use orlop_runtime::spec::SpecMount;
use orlop_sys::durable;
use std::path::Path;

/// Writes the files for this start and returns their mounts.
pub(crate) fn write(engine: &Engine, container: &Container) -> Result<Vec<SpecMount>> {
    let directory = engine.container_dir(container.id);
    let hostname = &container.details.config.hostname;
    let files = [
        ("hostname", "/etc/hostname", format!("{hostname}\n")),
        ("hosts", "/etc/hosts", hosts(container)),
        ("resolv.conf", "/etc/resolv.conf", host_file("/etc/resolv.conf")),
    ];
    let mounted = |target: &str| container.details.mounts.iter().any(|mount| mount.target == target);
    let mut mounts = Vec::new();
    for (name, target, text) in files {
        // A mount of the user's at the same path wins, as in Docker.
        if !mounted(target) {
            let source = directory.join(name);
            durable::write_file_volatile(&source, text.as_bytes(), 0o644)?;
            mounts.push(SpecMount::Bind {
                source,
                target: target.to_owned(),
                options: vec!["rbind".to_owned(), "rprivate".to_owned()],
            });
        }
    }
    Ok(mounts)
}

fn hosts(container: &Container) -> String {
    if container.details.host.network == Network::Host {
        return host_file("/etc/hosts");
    }
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
     ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned()
}

/// The host's own file; one that can't be read is empty, as it is for Docker.
fn host_file(path: &str) -> String {
    std::fs::read_to_string(Path::new(path)).unwrap_or_default()
}
