//! What running containers cost, and what is done with them.

use std::fs;

use super::groups::row;
use super::lab::{Lab, Peer};
use super::table::{milliseconds, section};
use crate::Outcome;
use crate::shell::capture;

const CONTAINERS: usize = 30;

/// `exec` and `ps` with 30 containers running, and the memory of the process that stays beside each.
pub fn running(lab: &Lab) -> Outcome<String> {
    lab.load("busybox")?;
    for peer in lab.peers() {
        for number in 0..CONTAINERS {
            peer.starts(&format!("running{number}"), &["busybox", "sleep", "100000"])?;
        }
    }
    let rows = [
        row(lab, 25, "exec true", |peer, _| milliseconds(|| peer.does(&["exec", "running7", "true"])))?,
        row(lab, 25, "ps, 30 running", |peer, _| milliseconds(|| peer.does(&["ps"])))?,
        row(lab, 1, "memory of each while idle, MB", |peer, _| idle_megabytes(peer))?,
    ];
    for peer in lab.peers() {
        let ids = capture(&mut peer.command(&["ps", "-aq"]))?;
        peer.does(&[&["rm", "-f"], ids.split_whitespace().collect::<Vec<_>>().as_slice()].concat())?;
    }
    let words = "Milliseconds, and megabytes of memory (PSS) of the process that stays beside each container: Orlop's shim,\n\
                 containerd's, podman's conmon. Docker's two daemons come on top of its.";
    Ok(section("running", words, &rows))
}

/// Of the parents of the containers' first processes, in proportion to how many share them.
fn idle_megabytes(peer: &Peer) -> Outcome<f64> {
    let mut bytes = 0.0;
    for number in 0..CONTAINERS {
        let name = format!("running{number}");
        let pid = capture(&mut peer.command(&["inspect", "--format", "{{.State.Pid}}", &name]))?;
        let status = read(&format!("/proc/{}/status", pid.trim()))?;
        let parent = field(&status, "PPid:").ok_or("no parent in the status of a container")?;
        let rollup = read(&format!("/proc/{parent}/smaps_rollup"))?;
        let pss = field(&rollup, "Pss:").and_then(|kilobytes| kilobytes.parse::<f64>().ok());
        bytes += pss.ok_or("no Pss in smaps_rollup")? * 1024.0;
    }
    Ok(bytes / CONTAINERS as f64 / 1e6)
}

fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// The first word after `name` in lines as /proc has them.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
}
