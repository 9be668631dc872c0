//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a container: files in `containers/ID`, mounted over the image's.
//! They are never part of the writable layer.

use crate::{Container, Engine, Error, Network, Result};
use orlop_model::Id;
use orlop_model::options::HostOptions;
use orlop_runtime::spec::SpecMount;
use orlop_sys::durable;
use std::path::Path;

/// Writes the files for this start and returns their mounts.
pub(crate) fn write(engine: &Engine, container: &Container) -> Result<Vec<SpecMount>> {
    let hostname = &container.details.config.hostname;
    // Who is in another container's network has that one's names.
    let (directory, is_own) = match &container.details.host.network {
        Network::Container(id) => match id.parse::<Id>() {
            Ok(id) => (engine.container_dir(id), false),
            Err(_) => return Err(Error::NoSuchContainer(id.clone())),
        },
        Network::None | Network::Host => (engine.container_dir(container.id), true),
    };
    let files = [
        ("hostname", "/etc/hostname", format!("{hostname}\n")),
        ("hosts", "/etc/hosts", hosts(container)?),
        (
            "resolv.conf",
            "/etc/resolv.conf",
            resolv_conf(&container.details.host.options, &host_file("/etc/resolv.conf")),
        ),
    ];
    let mounted = |target: &str| container.details.mounts.iter().any(|mount| mount.target == target);
    let mut mounts = Vec::new();
    for (name, target, text) in files {
        // A mount of the user's at the same path wins, as in Docker.
        if !mounted(target) {
            let source = directory.join(name);
            if is_own {
                durable::write_file_volatile(&source, text.as_bytes(), 0o644)?;
            }
            mounts.push(SpecMount::Bind {
                source,
                target: target.to_owned(),
                options: vec!["rbind".to_owned(), "rprivate".to_owned()],
            });
        }
    }
    Ok(mounts)
}

fn hosts(container: &Container) -> Result<String> {
    let network = &container.details.host.network;
    let mut text = match network {
        Network::Host => host_file("/etc/hosts"),
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
              ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
            .to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in &container.details.host.options.extra_hosts {
        let (name, address) = entry.split_once(':').unwrap_or((entry, ""));
        let address = match (address, network) {
            // In its own network namespace the host is at this address.
            ("host-gateway", Network::Host) => "127.0.0.1",
            ("host-gateway", _) => {
                return Err(Error::Invalid(format!(
                    "unable to derive the IP value for host-gateway of --add-host {name}: the container has no network \
                     that leads to the host"
                )));
            }
            (address, _) => address,
        };
        text += &format!("{address}\t{name}\n");
    }
    Ok(text)
}

/// The host's resolv.conf with what the flags replace: servers, search list and options each as a whole.
fn resolv_conf(options: &HostOptions, host: &str) -> String {
    if options.dns.is_empty() && options.dns_search.is_empty() && options.dns_options.is_empty() {
        return host.to_owned();
    }
    let kept = |keyword: &[&str], replaced: bool| -> String {
        let is_one = |line: &&str| line.split_whitespace().next().is_some_and(|word| keyword.contains(&word));
        host.lines().filter(|line| !replaced && is_one(line)).map(|line| format!("{line}\n")).collect()
    };
    let mut text = kept(&["nameserver"], !options.dns.is_empty());
    text.extend(options.dns.iter().map(|server| format!("nameserver {server}\n")));
    text += &kept(&["search", "domain"], !options.dns_search.is_empty());
    // A dot alone is Docker's word for an empty search list.
    let domains: Vec<&str> = options.dns_search.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    if !domains.is_empty() {
        text += &format!("search {}\n", domains.join(" "));
    }
    text += &kept(&["options"], !options.dns_options.is_empty());
    if !options.dns_options.is_empty() {
        text += &format!("options {}\n", options.dns_options.join(" "));
    }
    text
}

/// The host's own file; one that can't be read is empty, as it is for Docker.
fn host_file(path: &str) -> String {
    std::fs::read_to_string(Path::new(path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_replace_parts_of_resolv_conf() {
        const HOST: &str = "# made by hand\nnameserver 1.1.1.1\nsearch a.example\noptions ndots:1\n";
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (dns, search, options, expected) in [
            (&[][..], &[][..], &[][..], HOST),
            (&["9.9.9.9"], &[], &[], "nameserver 9.9.9.9\nsearch a.example\noptions ndots:1\n"),
            (
                &[],
                &["b.example", "c.example"],
                &[],
                "nameserver 1.1.1.1\nsearch b.example c.example\noptions ndots:1\n",
            ),
            (&[], &["."], &["edns0"], "nameserver 1.1.1.1\noptions edns0\n"),
        ] {
            let options = HostOptions {
                dns: list(dns),
                dns_search: list(search),
                dns_options: list(options),
                ..HostOptions::default()
            };
            assert_eq!(resolv_conf(&options, HOST), expected);
        }
    }
}
