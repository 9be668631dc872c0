//! `kill`, and the names of signals.

use crate::container::Phase;
use crate::{Container, Engine, Error, Result};

/// Signal names without SIG, by number from 1 on (signal(7), x86-64 and arm64).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The number of a signal given by number or by name, with or without SIG, in any case; also RTMIN+n and RTMAX-n.
pub fn signal_number(text: &str) -> Result<i32> {
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let invalid = || Error::Invalid(format!("Invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text[1..].parse::<i32>().ok() };
    let number = if let Some(rest) = name.strip_prefix("RTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+'))
    {
        offset(rest).map(|offset| RTMIN + offset)
    } else if let Some(rest) = name.strip_prefix("RTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        offset(rest).map(|offset| RTMAX - offset)
    } else {
        match name {
            "CLD" => Some(17),
            "POLL" => Some(29),
            "IOT" => Some(6),
            _ => NAMES.iter().position(|known| *known == name).and_then(|place| i32::try_from(place + 1).ok()),
        }
    };
    number.filter(|number| (1..=RTMAX).contains(number)).ok_or_else(invalid)
}

const SIGKILL: i32 = 9;

impl Engine {
    /// Sends a signal to a container's first process.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let number = signal_number(signal)?;
        let container = self.container(name)?;
        if container.details.status.phase != Phase::Running {
            return Err(Error::Conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                container.id
            )));
        }
        let own = crate::start::stop_signal(&container)?;
        // Docker's rule: a signal that is meant to end it tells its restart policy to leave it alone.
        let ends = number == SIGKILL || number == own || container.details.config.stop_signal.is_empty();
        if ends {
            self.note(container.id, |status| status.stopping = true)?;
        }
        self.ensure_shim(&container)?;
        self.signal(&container, number)?;
        if ends && container.details.status.paused {
            self.thaw(&container)?;
        }
        self.emit_container(&container, "kill", &[("signal", &number.to_string())]);
        Ok(())
    }

    /// Through the shim, which is the parent and so never meets a later process of the same number; when the shim is
    /// gone, through the OCI runtime.
    pub(crate) fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        match orlop_runtime::attach::signal(&self.bundle(container.id), None, signal) {
            Ok(()) => Ok(()),
            Err(orlop_runtime::Error::NotRunning(_)) if !self.is_alive(container) => Ok(()),
            Err(_) => self.signal_by_runtime(container, signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigint", 2), ("RTMIN+1", 35), ("SIGRTMAX-2", 62), ("RTMIN", 34)]
        {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "NOPE", "-1", "RTMIN+99", "RTMAX+1"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
