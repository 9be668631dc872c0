//! Processes that aren't our children: told apart by number and start time, waited for by pidfd.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::time::{Duration, Instant};

/// When the process was started, in clock ticks since boot (proc(5), /proc/PID/stat, field 22); None when there is no
/// such process.
pub fn start_time(pid: u32) -> Option<u64> {
    if pid == 0 {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything, brackets and blanks included; the state is the next field.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether the process with this number and start time still runs. A zombie doesn't, unless other threads of it do.
pub fn is_alive(pid: u32, started: u64) -> bool {
    // Where the kernel can't tell, nothing is taken for dead that may run.
    !wait_for_exit(pid, started, Some(Duration::ZERO)).unwrap_or(false)
}

/// Waits until the process with this number and start time is gone; false when it is still there after `timeout`.
pub fn wait_for_exit(pid: u32, started: u64, timeout: Option<Duration>) -> Result<bool, Error> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(true) };
    let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(true),
        Err(error) => return Err(Error::call("pidfd_open", error)),
    };
    // Checked after the open: the descriptor can't change its process any more.
    if start_time(pid) != Some(started) {
        return Ok(true);
    }
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timespec = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timespec.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::call("poll", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_waited_for_and_another_start_time_is_another_process() {
        let mut child = std::process::Command::new("sleep").arg("0.2").spawn().unwrap();
        let started = start_time(child.id()).unwrap();
        assert!(wait_for_exit(child.id(), started + 1, None).unwrap());
        assert!(!wait_for_exit(child.id(), started, Some(Duration::from_millis(10))).unwrap());
        assert!(is_alive(child.id(), started));
        assert!(wait_for_exit(child.id(), started, None).unwrap());
        assert!(!is_alive(child.id(), started), "a zombie");
        child.wait().unwrap();
        assert_eq!(start_time(child.id()), None);
    }
}
