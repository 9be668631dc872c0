//! `top`: the host's ps(1), of a container's processes.

use crate::{Engine, Error, Result};
use orlop_runtime::oci::OciRuntime;
use std::process::{Command, Stdio};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessTable {
    /// The columns' names.
    pub titles: Vec<String>,
    /// A line each.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// The processes of a running container, as `ps` with these options shows them; none is `-ef`.
    pub fn top(&self, name: &str, options: &[String]) -> Result<ProcessTable> {
        let container = self.container(name)?;
        self.require_running(&container)?;
        let pids = self.runtime_of(&container)?.processes(&container.id.hex())?;
        let default = ["-ef".to_owned()];
        let options = if options.is_empty() { &default } else { options };
        let output = Command::new("ps").args(options).stdin(Stdio::null()).output();
        let output = output.map_err(Error::io("start", "ps"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
            return Err(Error::Invalid(format!("error running ps: {said}")));
        }
        select(&String::from_utf8_lossy(&output.stdout), &pids)
    }
}

/// The lines of ps's answer that are about `pids`.
fn select(text: &str, pids: &[u32]) -> Result<ProcessTable> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let place = titles.iter().position(|title| title == "PID");
    let place = place.ok_or_else(|| Error::Invalid("Couldn't find PID field in ps output".to_owned()))?;
    let processes = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let pid = fields.get(place)?.parse().ok()?;
        pids.contains(&pid).then(|| {
            // The last column is a command line, which has blanks of its own.
            let last = titles.len().saturating_sub(1).min(fields.len());
            let (front, rest) = fields.split_at(last);
            front.iter().map(|field| (*field).to_owned()).chain([rest.join(" ")]).collect()
        })
    });
    Ok(ProcessTable { processes: processes.collect(), titles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_pid() {
        let text = "UID   PID  CMD\nroot  1  init\nroot  12  sh -c  ls\n";
        let table = select(text, &[12, 13]).unwrap();
        assert_eq!(table.titles, ["UID", "PID", "CMD"]);
        assert_eq!(table.processes, [["root", "12", "sh -c ls"]]);
        assert!(select("UID CMD\n", &[]).is_err());
    }
}
