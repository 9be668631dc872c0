//! Docker's default seccomp profile (moby `profiles/seccomp`) as the OCI spec writes it, for a given set of
//! capabilities. Names that the runtime's libseccomp doesn't know are left out by the runtime.

use crate::Error;
use serde::Deserialize;
use serde_json::{Value, json};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const AF_VSOCK: u64 = 40;
/// CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET: a new namespace of any kind.
const CLONE_NEW_ANY: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;
/// PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 with UNAME26, and the question what is set.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed to everyone, by any arguments. io_uring isn't: it goes around the filter.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
    ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat
    lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
    renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
    select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
    sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64
    statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
    unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// What each capability allows beside that.
const WITH_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// The architectures whose calls are filtered on this machine, and what only they have. Programs of any other are killed.
///
/// Docker also lists x32, which kernels don't offer unless they are told to at boot, and for which hardly a program was
/// ever built. Its rules would take a fifth of a container's whole start.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (&[&str], &str) = (&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "arch_prctl modify_ldt");
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (&[&str], &str) = (
    &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
);
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: (&[&str], &str) = (&["SCMP_ARCH_RISCV64"], "riscv_flush_icache riscv_hwprobe");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("the seccomp profile doesn't know this architecture yet; add it beside the others");

/// The profile for a container that has `capabilities` (`CAP_…`).
pub fn profile<S: AsRef<str>>(capabilities: &[S]) -> Value {
    let has = |name: &str| capabilities.iter().any(|capability| capability.as_ref() == name);
    let mut allowed: Vec<&str> = ALLOWED.split_whitespace().chain(ARCHITECTURE.1.split_whitespace()).collect();
    for (capability, names) in WITH_CAPABILITY {
        if has(capability) {
            allowed.extend(names.split_whitespace().filter(|name| !allowed.contains(name)).collect::<Vec<_>>());
        }
    }
    let mut rules = vec![
        json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" }),
        allow_when("socket", json!({ "index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE" })),
    ];
    for personality in PERSONALITIES {
        rules.push(allow_when("personality", json!({ "index": 0, "value": personality, "op": "SCMP_CMP_EQ" })));
    }
    if !has("CAP_SYS_ADMIN") {
        let no_namespace = json!({ "index": 0, "value": CLONE_NEW_ANY, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" });
        rules.push(allow_when("clone", no_namespace));
        // clone3's flags lie in memory where a filter can't look; with ENOSYS a C library falls back to clone.
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": ARCHITECTURE.0,
        "syscalls": rules,
    })
}

/// A profile in Docker's JSON (moby `profiles/seccomp`), as the OCI spec writes it: rules for other capabilities,
/// architectures and kernels are left out.
pub fn from_docker<S: AsRef<str>>(text: &str, capabilities: &[S]) -> Result<Value, Error> {
    let invalid = |reason: String| Error::Invalid(format!("the seccomp profile can't be used: {reason}"));
    let mut profile: DockerProfile = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(invalid("both 'architectures' and 'archMap' are specified".to_owned()));
    }
    for map in profile.arch_map.drain(..).filter(|map| map.architecture == ARCHITECTURE.0[0]) {
        profile.architectures.push(map.architecture);
        profile.architectures.extend(map.sub_architectures);
    }
    let mut rules = Vec::new();
    for rule in profile.syscalls {
        if !rule.includes.holds(capabilities) || rule.excludes.hits(capabilities) {
            continue;
        }
        let names: Vec<String> = match (rule.name, rule.names) {
            (Some(_), names) if !names.is_empty() => {
                return Err(invalid("both 'name' and 'names' are specified for one rule".to_owned()));
            }
            (Some(name), _) => vec![name],
            (None, names) if names.is_empty() => return Err(invalid("a rule has no names".to_owned())),
            (None, names) => names,
        };
        let mut written = json!({ "names": names, "action": rule.action });
        if let Some(number) = rule.errno_ret {
            written["errnoRet"] = json!(number);
        }
        if !rule.args.is_empty() {
            written["args"] = json!(rule.args);
        }
        rules.push(written);
    }
    let mut written = json!({ "defaultAction": profile.default_action, "syscalls": rules });
    if let Some(number) = profile.default_errno_ret {
        written["defaultErrnoRet"] = json!(number);
    }
    if !profile.architectures.is_empty() {
        written["architectures"] = json!(profile.architectures);
    }
    if !profile.flags.is_empty() {
        written["flags"] = json!(profile.flags);
    }
    Ok(written)
}

/// Docker's profile. Go takes null for an empty list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerProfile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    arch_map: Vec<ArchitectureMap>,
    #[serde(default, deserialize_with = "null_is_empty")]
    flags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    syscalls: Vec<DockerRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureMap {
    architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerRule {
    name: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    args: Vec<Value>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

/// When a rule counts: all that is named must hold.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default, deserialize_with = "null_is_empty")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

impl Condition {
    fn holds<S: AsRef<str>>(&self, capabilities: &[S]) -> bool {
        self.caps.iter().all(|name| capabilities.iter().any(|own| own.as_ref() == name))
            && (self.arches.is_empty() || self.names_this_architecture())
            && self.min_kernel.as_deref().is_none_or(kernel_is_at_least)
    }

    /// As a reason to leave a rule out any of it is enough.
    fn hits<S: AsRef<str>>(&self, capabilities: &[S]) -> bool {
        self.caps.iter().any(|name| capabilities.iter().any(|own| own.as_ref() == name))
            || self.names_this_architecture()
            || self.min_kernel.as_deref().is_some_and(kernel_is_at_least)
    }

    fn names_this_architecture(&self) -> bool {
        let own = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.arches.iter().any(|name| name == own)
    }
}

fn kernel_is_at_least(wanted: &str) -> bool {
    let version = |text: &str| -> (u32, u32) {
        let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    };
    version(&rustix::system::uname().release().to_string_lossy()) >= version(wanted)
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

fn allow_when(name: &str, argument: Value) -> Value {
    json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_for(profile: &Value, name: &str) -> usize {
        let rules = profile["syscalls"].as_array().unwrap();
        rules.iter().filter(|rule| rule["names"].as_array().unwrap().iter().any(|n| n == name)).count()
    }

    #[test]
    fn capabilities_decide() {
        let default = profile(&crate::spec::CAPABILITIES);
        let admin = profile(&["CAP_SYS_ADMIN", "CAP_BPF"]);
        for (name, in_default, in_admin) in [
            ("read", 1, 1),
            ("chroot", 1, 0),
            ("mount", 0, 1),
            ("bpf", 0, 1),
            ("clone", 1, 1),
            ("clone3", 1, 1),
            ("unshare", 0, 1),
            ("personality", 5, 5),
            ("socket", 1, 1),
            ("io_uring_setup", 0, 0),
            ("keyctl", 0, 0),
        ] {
            assert_eq!((rules_for(&default, name), rules_for(&admin, name)), (in_default, in_admin), "{name}");
        }
        assert_eq!(CLONE_NEW_ANY, 0x7e02_0000);
    }

    #[test]
    fn dockers_profiles_are_read() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] },
                        { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null }],
            "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null },
                { "name": "mount", "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
                { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
                { "names": ["old"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
                { "names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "99.0" } },
                { "names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["s390x"] } }
            ]}"#;
        let default = from_docker(text, &crate::spec::CAPABILITIES).unwrap();
        let admin = from_docker(text, &["CAP_SYS_ADMIN"]).unwrap();
        for (name, in_default, in_admin) in
            [("read", 1, 1), ("mount", 0, 1), ("clone", 1, 0), ("old", 1, 1), ("new", 0, 0), ("s390", 0, 0)]
        {
            assert_eq!((rules_for(&default, name), rules_for(&admin, name)), (in_default, in_admin), "{name}");
        }
        assert_eq!(default["architectures"][0], ARCHITECTURE.0[0]);
        for bad in ["", "{}", r#"{"defaultAction":"x","syscalls":[{"action":"y"}]}"#] {
            assert!(from_docker(bad, &["CAP_CHOWN"]).is_err(), "{bad}");
        }
    }
}
