//! Processes: starting one that inherits nothing by accident, and signals as something to poll.
//!
//! `std::process::Command` hands down the signal mask, ignored signals, rlimits and every descriptor that somebody
//! forgot to mark; what outlives its caller must not have them. See fork(2), signal-safety(7), credentials(7).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A process to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program, by path; PATH isn't searched.
    pub program: PathBuf,
    /// Its arguments, the first being its name.
    pub args: Vec<String>,
    /// All of its environment.
    pub env: Vec<String>,
    /// Its working directory; none: the caller's.
    pub cwd: Option<PathBuf>,
    /// Becomes stdin, stdout, stderr and, from 3 on, whatever else it needs. Every other descriptor is closed.
    pub fds: Vec<BorrowedFd<'a>>,
    /// What ties it to its caller.
    pub ties: Ties,
}

/// What a new process shares with its caller's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// A child that the caller reaps; same session and umask.
    Child,
    /// Not the caller's child (it is forked twice), a session of its own, umask 022, the rlimits of process 1.
    None,
}

/// Starts a process with default signal dispositions and an empty signal mask, and returns its process id as this
/// process sees it.
///
/// The error is the kernel's answer to the first step that failed, `execve` included.
pub fn spawn(request: &Spawn<'_>) -> io::Result<i32> {
    let plan = Plan::new(request)?;
    let (report_read, low) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // The child closes what it doesn't need by number, so the report must lie above what it is given.
    let report_write = rustix::io::fcntl_dupfd_cloexec(&low, plan.first_free)?;
    drop(low);
    // SAFETY: the child only makes calls that are safe after a fork in a process with threads (signal-safety(7)), on
    // memory prepared before the fork, and leaves by execve or _exit.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        plan.become_program(report_write.as_raw_fd());
    }
    drop(report_write);
    let report = read_report(report_read);
    if request.ties == Ties::None {
        reap(pid);
    }
    match report? {
        Report::Started(grandchild) => Ok(if request.ties == Ties::None { grandchild } else { pid }),
        Report::Failed(errno) => {
            if request.ties == Ties::Child {
                reap(pid);
            }
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// What came through the pipe before `execve` closed it.
enum Report {
    Started(i32),
    Failed(i32),
}

/// Records are a tag and a number; the last one counts.
const REPORT_PID: i32 = 1;
const REPORT_ERRNO: i32 = 2;

fn read_report(pipe: OwnedFd) -> io::Result<Report> {
    let mut bytes = Vec::new();
    File::from(pipe).read_to_end(&mut bytes)?;
    let mut report = Report::Started(0);
    for record in bytes.chunks_exact(8) {
        let tag = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        let value = i32::from_ne_bytes([record[4], record[5], record[6], record[7]]);
        report = if tag == REPORT_ERRNO { Report::Failed(value) } else { Report::Started(value) };
    }
    Ok(report)
}

fn reap(pid: i32) {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
    {
    }
}

/// How many descriptors a program can be given.
const MAX_FDS: usize = 16;

/// A [`Spawn`] turned into what `execve` takes, so that nothing is allocated after the fork.
struct Plan {
    program: CString,
    /// Own what the pointers below point to.
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    cwd: Option<CString>,
    sources: Vec<i32>,
    /// The number after the last one that the program is given.
    first_free: i32,
    detach: bool,
    rlimits: Vec<(Resource, libc::rlimit)>,
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

impl Plan {
    fn new(request: &Spawn<'_>) -> io::Result<Self> {
        let program = CString::new(request.program.as_os_str().as_bytes())?;
        let args = strings(&request.args)?;
        let env = strings(&request.env)?;
        let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
            list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&args), pointers(&env));
        let cwd = match &request.cwd {
            Some(path) => Some(CString::new(path.as_os_str().as_bytes())?),
            None => None,
        };
        let detach = request.ties == Ties::None;
        if request.fds.len() > MAX_FDS {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(Self {
            program,
            argv,
            envp,
            _strings: args.into_iter().chain(env).collect(),
            cwd,
            first_free: i32::try_from(request.fds.len()).unwrap_or(i32::MAX),
            sources: request.fds.iter().map(AsRawFd::as_raw_fd).collect(),
            detach,
            rlimits: if detach { rlimits_of_init() } else { Vec::new() },
        })
    }

    /// Runs in the child: never returns.
    fn become_program(&self, report: i32) -> ! {
        let errno = match self.prepare(report) {
            Ok(()) => {
                // SAFETY: both arrays end with a null pointer and point to strings that `self` owns.
                unsafe { libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
                last_errno()
            }
            Err(errno) => errno,
        };
        send(report, REPORT_ERRNO, errno);
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }

    fn prepare(&self, report: i32) -> Result<(), i32> {
        if self.detach {
            // SAFETY: no memory is involved.
            check(unsafe { libc::setsid() })?;
            // SAFETY: as the first fork; the middle process leaves at once, so that init or a subreaper inherits.
            let pid = check(unsafe { libc::fork() })?;
            if pid > 0 {
                send(report, REPORT_PID, pid);
                // SAFETY: ends the middle process without running anything of the parent's.
                unsafe { libc::_exit(0) };
            }
            // SAFETY: no memory is involved, and it can't fail.
            unsafe { libc::umask(0o022) };
            for (resource, limit) in &self.rlimits {
                // SAFETY: points to a limit that `self` owns. A failure leaves the inherited limit, which only a
                // hard limit lower than process 1's causes: then nobody could do better.
                unsafe { libc::setrlimit(*resource, limit) };
            }
        }
        self.place_descriptors(report)?;
        if let Some(cwd) = &self.cwd {
            // SAFETY: a string that ends with a null byte.
            check(unsafe { libc::chdir(cwd.as_ptr()) })?;
        }
        default_signals()
    }

    /// Puts `sources` at 0, 1, 2 … and marks everything else to be closed by `execve`.
    fn place_descriptors(&self, report: i32) -> Result<(), i32> {
        let mut copies = [-1; MAX_FDS];
        for (copy, source) in copies.iter_mut().zip(&self.sources) {
            // A source may be in the way of a target that comes before it, so all are copied above the targets first.
            // SAFETY: plain numbers; the copies are closed by `execve`.
            *copy = check(unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, report) })?;
        }
        for (target, copy) in (0..self.first_free).zip(copies) {
            // SAFETY: plain numbers; dup2 clears close-on-exec, which is what makes it a descriptor of the program.
            check(unsafe { libc::dup2(copy, target) })?;
        }
        close_on_exec_from(self.first_free)
    }
}

fn strings(list: &[String]) -> io::Result<Vec<CString>> {
    list.iter().map(|text| CString::new(text.as_bytes()).map_err(io::Error::from)).collect()
}

/// The soft and hard limits that process 1 runs with. Where they can't be read the caller's stay.
fn rlimits_of_init() -> Vec<(Resource, libc::rlimit)> {
    let all = [
        libc::RLIMIT_CPU,
        libc::RLIMIT_FSIZE,
        libc::RLIMIT_DATA,
        libc::RLIMIT_STACK,
        libc::RLIMIT_CORE,
        libc::RLIMIT_RSS,
        libc::RLIMIT_NPROC,
        libc::RLIMIT_NOFILE,
        libc::RLIMIT_MEMLOCK,
        libc::RLIMIT_AS,
        libc::RLIMIT_LOCKS,
        libc::RLIMIT_SIGPENDING,
        libc::RLIMIT_MSGQUEUE,
        libc::RLIMIT_NICE,
        libc::RLIMIT_RTPRIO,
        libc::RLIMIT_RTTIME,
    ];
    let read = |pid: libc::pid_t, resource: Resource| {
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        // SAFETY: only reads the limit, into memory of the right type.
        let done = unsafe { libc::prlimit(pid, resource, std::ptr::null(), limit.as_mut_ptr()) };
        // SAFETY: prlimit filled it, as it said that it succeeded.
        (done == 0).then(|| unsafe { limit.assume_init() })
    };
    let mut limits = Vec::new();
    for resource in all {
        let (Some(mut wanted), Some(own)) = (read(1, resource), read(0, resource)) else { continue };
        wanted.rlim_max = wanted.rlim_max.min(own.rlim_max);
        wanted.rlim_cur = wanted.rlim_cur.min(wanted.rlim_max);
        limits.push((resource, wanted));
    }
    limits
}

/// In the child after a fork.
fn default_signals() -> Result<(), i32> {
    // All members zero is SIG_DFL without flags. The C library's call refuses the two signals that it keeps for itself,
    // which a caller may have ignored all the same.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads no more than its structure, which is at most as large, and a mask of 8 bytes. KILL
        // and STOP can't be set and needn't be.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                size_of::<u64>(),
            )
        };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set before sigprocmask reads it.
    check(unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    })?;
    Ok(())
}

/// In the child after a fork. close_range(2) with its flag is of Linux 5.11.
fn close_on_exec_from(first: i32) -> Result<(), i32> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only sets a flag on descriptors of this process.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return Ok(());
    }
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: fills the limit given.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    for fd in first..limit.rlim_cur.min(1 << 20) as i32 {
        // SAFETY: only sets a flag; a number that isn't open gives EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn send(report: i32, tag: i32, value: i32) {
    let mut record = [0; 8];
    record[..4].copy_from_slice(&tag.to_ne_bytes());
    record[4..].copy_from_slice(&value.to_ne_bytes());
    // SAFETY: writes from memory on this stack. If the parent is gone nobody needs it.
    unsafe { libc::write(report, record.as_ptr().cast(), record.len()) };
}

fn check(result: libc::c_int) -> Result<libc::c_int, i32> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Sends a signal by number, also a realtime one, to a process that the caller knows to be alive or its own unreaped
/// child (kill(2)).
pub fn signal(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 || !(1..=64).contains(&signal) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: no memory is involved, and the number is of one process, never of a group or of all.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocked signals that are read instead of handled (signalfd(2)); dropping it restores the thread's mask.
///
/// Other threads keep their masks, so it is to be made before there are any.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
    before: SignalMask,
}

struct SignalMask(libc::sigset_t);

impl std::fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalMask")
    }
}

impl SignalFd {
    /// Blocks `signals` for this thread and collects them. The descriptor is non-blocking and closed by `execve`.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: fills the set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in signals {
            // SAFETY: the set was filled above.
            if unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the set was filled above.
        let raw = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: reads the set filled above and fills `before`.
        let errno = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // SAFETY: pthread_sigmask filled it.
        Ok(Self { fd, before: SignalMask(unsafe { before.assume_init() }) })
    }

    /// To be polled for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// The number of the next signal that came, or none.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut info) {
            // The signal's number is the structure's first member, 32 bits.
            Ok(_) => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        // SAFETY: restores the mask that `new` saved.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before.0, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn output_of(script: &str, ties: Ties) -> String {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let args = ["sh", "-c", script].map(String::from).to_vec();
        let pid = spawn(&Spawn {
            program: "/bin/sh".into(),
            args,
            env: vec!["PATH=/bin:/usr/bin".into()],
            cwd: Some("/".into()),
            fds: vec![null.as_fd(), write.as_fd(), write.as_fd()],
            ties,
        })
        .unwrap();
        assert!(pid > 0);
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        if ties == Ties::Child {
            reap(pid);
        }
        text
    }

    #[test]
    fn a_child_inherits_nothing_by_accident() {
        let leak = rustix::io::dup(std::io::stdin()).unwrap();
        let blocked = SignalFd::new(&[libc::SIGUSR1]).unwrap();
        for ties in [Ties::Child, Ties::None] {
            // ls itself opens one more, the directory.
            assert_eq!(output_of("pwd; ls /proc/self/fd | wc -l", ties), "/\n4\n");
            let status = output_of("grep -E 'SigBlk|SigIgn' /proc/self/status", ties);
            assert_eq!(status.matches("0000000000000000").count(), 2, "{status}");
        }
        drop((leak, blocked));
    }

    #[test]
    fn without_ties_it_has_its_own_session_and_another_parent() {
        let text = output_of("cat /proc/self/stat; umask", Ties::None);
        let fields: Vec<&str> = text.split_whitespace().collect();
        assert_ne!(fields[3], std::process::id().to_string());
        // Not getsid(2): the leader of our own session may be in another pid namespace, which reads as 0.
        let ours = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert_ne!(Some(fields[5]), ours.split_whitespace().nth(5));
        assert!(text.ends_with("0022\n"), "{text}");
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let null = File::open("/dev/null").unwrap();
        for ties in [Ties::Child, Ties::None] {
            let request = Spawn {
                program: "/nonexistent".into(),
                args: vec!["x".into()],
                env: vec![],
                cwd: None,
                fds: vec![null.as_fd(); 3],
                ties,
            };
            assert_eq!(spawn(&request).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        }
    }

    #[test]
    fn signals_are_read() {
        let signals = SignalFd::new(&[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: raises a signal that this thread has blocked.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR2));
        assert_eq!(signals.next().unwrap(), None);
    }
}
