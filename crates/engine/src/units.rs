//! `system install-units`: what systemd has to know, so that containers start at boot, are stopped in order when the
//! machine goes down, and what was interrupted is finished each minute.

use crate::{Engine, Result};
use orlop_sys::durable;
use std::path::Path;

/// A unit's name and text.
type Unit = (&'static str, String);

impl Engine {
    /// Writes the units into `directory`, each whole or not at all; their names.
    pub fn install_units(&self, directory: &Path) -> Result<Vec<&'static str>> {
        let mut names = Vec::new();
        for (name, text) in units(&self.command) {
            durable::write_file(&directory.join(name), text.as_bytes(), 0o644)?;
            names.push(name);
        }
        Ok(names)
    }
}

fn units(command: &[String]) -> [Unit; 3] {
    let call = command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let service = format!(
        "[Unit]\nDescription=Orlop containers\nAfter=local-fs.target remote-fs.target network-online.target\n\
         Wants=network-online.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={call} system tend --boot\n\
         ExecStop={call} system stop-all\n\
         # Each container has its own time-out, and its processes are in cgroups of their own.\n\
         TimeoutStartSec=infinity\nTimeoutStopSec=infinity\nKillMode=process\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    let tend = format!(
        "[Unit]\nDescription=Orlop: finish what was interrupted, and keep limits\nAfter=orlop.service\n\n\
         [Service]\nType=oneshot\nExecStart={call} system tend\nKillMode=process\nNice=10\n"
    );
    let timer = "[Unit]\nDescription=Orlop: tend each minute\n\n\
         [Timer]\nOnBootSec=1min\nOnUnitInactiveSec=1min\nAccuracySec=10s\n\n\
         [Install]\nWantedBy=timers.target\n";
    [("orlop.service", service), ("orlop-tend.service", tend), ("orlop-tend.timer", timer.to_owned())]
}

/// A word of a command line (systemd.service(5), COMMAND LINES).
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-=:".contains(letter);
    if !escaped.is_empty() && escaped.chars().all(is_plain) { escaped } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_quoted() {
        let command = ["/usr/bin/orlop", "--data-root", "/srv/my data/50%$x"].map(str::to_owned);
        let [(_, service), (_, tend), _] = units(&command);
        let call = r#"/usr/bin/orlop --data-root "/srv/my data/50%%$$x" system"#;
        for line in [format!("ExecStart={call} tend --boot\n"), format!("ExecStop={call} stop-all\n")] {
            assert!(service.contains(&line), "{service}");
        }
        assert!(tend.contains(&format!("ExecStart={call} tend\n")), "{tend}");
    }
}
