//! Processes that aren't our children: told apart by number and start time, waited for by pidfd.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsRawFd, OwnedFd};
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

/// A descriptor of the process with this number and start time; None when it is gone.
pub fn open(pid: u32, started: u64) -> Result<Option<OwnedFd>, Error> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(number, PidfdFlags::empty()) {
        // Checked after the open: the descriptor can't change its process any more.
        Ok(pidfd) => Ok((start_time(pid) == Some(started)).then_some(pidfd)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(Error::call("pidfd_open", error)),
    }
}

/// Sends a signal by number, also a realtime one, to the very process of a descriptor (pidfd_send_signal(2)).
pub fn signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Error> {
    // SAFETY: no memory is involved: the pointer to a siginfo may be null, and flags are 0.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0 as libc::c_uint,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(Error::call("pidfd_send_signal", last_error())),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The kernel's `struct pidfd_info` in its first published size (include/uapi/linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid and the user and group ids.
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

fn info(pidfd: &OwnedFd) -> Result<PidfdInfo, Errno> {
    // _IOWR(PIDFS_IOCTL_MAGIC, 11, 64 bytes)
    const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes no more than the 64 bytes that the request's number says, which is the size of `info`.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    if done == 0 { Ok(info) } else { Err(last_error()) }
}

/// How a process that isn't our child has ended, as waitpid(2) would tell it: once its parent has reaped it, by Linux
/// 6.15 and later. None before that, and where the kernel doesn't tell.
pub fn exit_status(pidfd: &OwnedFd) -> Option<i32> {
    let info = info(pidfd).ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Whether this kernel will tell how a process has ended that isn't our child: it knows the question at all, and
/// [`exit_status`] has an answer once there is one.
pub fn is_reaping_told() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

/// How a process has ended that nobody has reaped yet (proc(5), /proc/PID/stat, field 52); None for any other.
pub fn status_of_zombie(pid: u32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    (*fields.first()? == "Z").then(|| fields.get(49)?.parse().ok()).flatten()
}

/// The state letter of a process (proc(5)): `T` when a signal has stopped it.
pub fn state_letter(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_told_to_others() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read x; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pidfd = open(child.id(), start_time(child.id()).unwrap()).unwrap().unwrap();
        assert_eq!((exit_status(&pidfd), status_of_zombie(child.id())), (None, None));
        drop(child.stdin.take());
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        assert_eq!(status_of_zombie(child.id()), Some(7 << 8));
        child.wait().unwrap();
        assert_eq!(exit_status(&pidfd), is_reaping_told().then_some(7 << 8));
        assert!(signal(&pidfd, 15).is_err());
    }

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
