//! The shim with a real runc and a root file system of busybox. Needs root, runc and /bin/busybox (busybox-static).

use orlop_runtime::attach;
use orlop_runtime::log::{self, LogQuery, Stream};
use orlop_runtime::oci::{OciRuntime, Runc};
use orlop_runtime::shim::{ExecRecord, ExitRecord, HealthState, HealthStatus};
use orlop_runtime::spec::ProcessInput;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_orlop-shim-test");
const PATIENCE: Duration = Duration::from_secs(20);

/// One container with directories of its own; nothing of it is left when it is dropped.
struct Container {
    _temp: tempfile::TempDir,
    id: String,
    dir: PathBuf,
    data: PathBuf,
    runtime: Runc,
    request: Value,
}

fn can_run() -> bool {
    let missing = [
        (!rustix::process::geteuid().is_root()).then_some("root"),
        (!Path::new("/bin/busybox").exists()).then_some("/bin/busybox (busybox-static)"),
        Runc { binary: "runc".into(), root: "/x".into() }.resolved().is_err().then_some("runc"),
    ];
    for what in missing.iter().flatten() {
        let _ = writeln!(std::io::stderr(), "skipped: this test needs {what}");
    }
    missing.iter().all(Option::is_none)
}

fn rootfs(at: &Path) -> PathBuf {
    let root = at.join("rootfs");
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in "sh true cat echo sleep kill stty seq head dd wc yes id ip printf md5sum tail".split(' ') {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("bin/garbage"), "no program").unwrap();
    fs::write(root.join("bin/plain"), "no program").unwrap();
    fs::set_permissions(root.join("bin/garbage"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("bin/plain"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    root
}

impl Container {
    /// `letters`: `i` stdin, `t` terminal, `d` detached.
    fn new(letters: &str, args: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let temp = tempfile::tempdir_in("/var/tmp").unwrap();
        let id = format!("t{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let (dir, data) = (temp.path().join("run"), temp.path().join("data"));
        fs::create_dir(&data).unwrap();
        let runtime = Runc { binary: "runc".into(), root: temp.path().join("runc") };
        let request = json!({
            "id": id, "dir": dir, "data": data, "rootfs": rootfs(temp.path()), "runtime_root": runtime.root,
            "process": process(letters.contains('t'), args),
            "stdin": letters.contains('i'), "detach": letters.contains('d'), "network_host": false,
            "reap": ["/bin/busybox", "touch", temp.path().join("reaped")],
        });
        Self { _temp: temp, id, dir, data, runtime, request }
    }

    fn command(&self) -> Command {
        let file = self.data.join("request.json");
        fs::write(&file, self.request.to_string()).unwrap();
        let mut command = Command::new(BINARY);
        command.arg("run").arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    fn start(&self) {
        let output = self.run();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg(words[0]).arg(&self.dir).args(&words[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn exit(&self) -> ExitRecord {
        wait_for(|| ExitRecord::read(&self.data.join("exit.json")).unwrap())
    }

    fn log(&self) -> Vec<(Stream, String)> {
        let mut lines = Vec::new();
        log::read(&self.data.join("log"), &LogQuery::default(), &mut || false, &mut |entry| {
            lines.push((entry.stream, entry.text.clone()));
            ControlFlow::Continue(())
        })
        .unwrap();
        lines
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The shim ends with its container.
        let _ = self.runtime.delete(&self.id, true);
        let deadline = Instant::now() + Duration::from_secs(5);
        while attach::state(&self.dir).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn process(terminal: bool, args: &[&str]) -> ProcessInput {
    ProcessInput {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["PATH=/bin".into(), "TERM=xterm".into()],
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        additional_gids: vec![],
        terminal,
        console_size: None,
        confinement: orlop_runtime::spec::Confinement::default(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a child that a failed test leaves behind.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn output_and_exit_code_arrive() {
    if !can_run() {
        return;
    }
    let container = Container::new("", &["sh", "-c", "echo out; echo err >&2; printf end; exit 7"]);
    let output = container.run();
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\nend".into(), "err\n".into()));
    assert_eq!(output.status.code(), Some(7));
    let record = container.exit();
    assert_eq!((record.code, record.oom_killed, record.stopping), (7, false, false));
    let mut log = container.log();
    log.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let wanted = [(Stream::Stdout, "out\n"), (Stream::Stdout, "end"), (Stream::Stderr, "err\n")];
    assert_eq!(log, wanted.map(|(stream, text)| (stream, text.to_owned())));
    wait_for(|| container.data.with_file_name("reaped").exists().then_some(()));
    // Nothing is left of the runtime's.
    assert!(!container.runtime.state_dir(&container.id).exists());
    assert!(!Path::new("/sys/fs/cgroup/memory/orlop-test").join(&container.id).exists());
    assert!(attach::state(&container.dir).is_err());
}

#[test]
fn failures_to_start_have_dockers_codes_and_words() {
    if !can_run() {
        return;
    }
    for (program, code, message) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH\n"),
        ("/nosuch", 127, "exec: \"/nosuch\": stat /nosuch: no such file or directory\n"),
        ("/etc", 126, "exec: \"/etc\": "),
        ("/bin/plain", 126, "exec: \"/bin/plain\": permission denied\n"),
        ("garbage", 126, "exec /bin/garbage: exec format error\n"),
    ] {
        let container = Container::new("", &[program]);
        let output = container.run();
        assert!(text(&output.stderr).starts_with(message), "{program}: {}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{program}");
        assert!(!container.runtime.state_dir(&container.id).exists(), "{program}");
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    if !can_run() {
        return;
    }
    let container = Container::new("d", &["sleep", "1000"]);
    container.start();
    attach::stopping(&container.dir).unwrap();
    attach::signal(&container.dir, None, 9).unwrap();
    let record = container.exit();
    assert_eq!((record.code, record.stopping), (137, true));
    let container = Container::new("", &["sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"]);
    let mut client = Killed(container.command().spawn().unwrap());
    let mut up = [0; 3];
    client.0.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    orlop_sys::process::signal(client.0.id().cast_signed(), 15).unwrap();
    assert_eq!(client.0.wait().unwrap().code(), Some(5));
}

#[test]
fn ten_megabytes_reach_a_slow_reader_and_the_shim_stays_small() {
    if !can_run() {
        return;
    }
    let container = Container::new("", &["sh", "-c", "seq 1 1500000; echo end >&2"]);
    let mut client = Killed(container.command().spawn().unwrap());
    let mut stdout = client.0.stdout.take().unwrap();
    let mut seen = vec![0; 1000];
    stdout.read_exact(&mut seen).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let shim = attach::state(&container.dir).unwrap();
    assert!(shim.running, "the program waits for its reader");
    let small = memory(shim.shim_pid);
    assert!(small < 8 * 1024, "the shim has {small} KiB");
    let mut chunk = vec![0; 300_000];
    loop {
        let length = stdout.read(&mut chunk).unwrap();
        if length == 0 {
            break;
        }
        seen.extend_from_slice(&chunk[..length]);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(client.0.wait().unwrap().success());
    let wanted: String = (1..=1_500_000).map(|number| format!("{number}\n")).collect();
    assert!(text(&seen) == wanted, "{} of {} bytes", seen.len(), wanted.len());
}

/// Resident KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn stdin_is_copied_and_ends() {
    if !can_run() {
        return;
    }
    let container = Container::new("i", &["md5sum"]);
    let bytes: Vec<u8> = (0..20_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = container.data.join("input");
    fs::write(&path, &bytes).unwrap();
    let output = container.command().stdin(File::open(&path).unwrap()).output().unwrap();
    let wanted = Command::new("/bin/busybox").args(["md5sum"]).stdin(File::open(&path).unwrap()).output().unwrap();
    assert_eq!(text(&output.stdout), text(&wanted.stdout));
    assert!(output.status.success());
    // A program that reads nothing doesn't hold up its end.
    let container = Container::new("i", &["sh", "-c", "exec <&-; echo done"]);
    let output = container.command().stdin(File::open(&path).unwrap()).output().unwrap();
    assert_eq!(text(&output.stdout), "done\n");
}

#[test]
fn exec_sessions_have_their_own_streams_and_codes() {
    if !can_run() {
        return;
    }
    let container = Container::new("d", &["sleep", "1000"]);
    container.start();
    let output = container.client(&["exec", "e1", "", "sh", "-c", "echo a; echo b >&2; exit 9"]).output().unwrap();
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("a\n".into(), "b\n".into()));
    assert_eq!(output.status.code(), Some(9));
    let record = ExecRecord::read(&container.dir, "e1").unwrap().unwrap();
    assert_eq!((record.running, record.exit_code), (false, Some(9)));
    for (program, code) in [("nosuch", 127), ("/etc", 126), ("garbage", 126)] {
        let output = container.client(&["exec", "e2", "", program]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{program}: {}", text(&output.stderr));
        assert!(text(&output.stderr).starts_with("exec"), "{}", text(&output.stderr));
    }
    let mut command = container.client(&["exec", "e3", "i", "cat"]);
    let mut client = Killed(command.stdin(Stdio::piped()).spawn().unwrap());
    client.0.stdin.take().unwrap().write_all(b"through").unwrap();
    let mut answer = String::new();
    client.0.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!((answer.as_str(), client.0.wait().unwrap().code()), ("through", Some(0)));
    let output = container.client(&["exec", "e4", "d", "sh", "-c", "echo 1 > /tmp/made; sleep 1000"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(attach::state(&container.dir).unwrap().execs, ["e4"]);
    attach::signal(&container.dir, Some("e4"), 9).unwrap();
    let code = wait_for(|| ExecRecord::read(&container.dir, "e4").unwrap().and_then(|record| record.exit_code));
    assert_eq!(code, 137);
    let many: Vec<Killed> = (0..8)
        .map(|number| {
            let id = format!("many{number}");
            Killed(container.client(&["exec", &id, "", "sh", "-c", &format!("exit {number}")]).spawn().unwrap())
        })
        .collect();
    for (number, mut client) in (0..).zip(many) {
        assert_eq!(client.0.wait().unwrap().code(), Some(number));
    }
    // What an exec session leaves behind doesn't hold up its end.
    let started = Instant::now();
    let output = container.client(&["exec", "e5", "", "sh", "-c", "sleep 1000 & echo left"]).output().unwrap();
    assert_eq!(text(&output.stdout), "left\n");
    assert!(started.elapsed() < Duration::from_secs(10));
    // An exec session that runs when the container ends, ends with it.
    let mut last = Killed(container.client(&["exec", "e6", "", "sleep", "1000"]).spawn().unwrap());
    wait_for(|| attach::state(&container.dir).unwrap().execs.contains(&"e6".to_owned()).then_some(()));
    attach::signal(&container.dir, None, 9).unwrap();
    assert_eq!(last.0.wait().unwrap().code(), Some(137));
}

/// A terminal: the person's end and the program's.
fn terminal(rows: u16, cols: u16) -> (File, OwnedFd) {
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    (File::from(master), slave)
}

fn on_terminal(mut command: Command, slave: &OwnedFd) -> Killed {
    let end = || Stdio::from(slave.try_clone().unwrap());
    Killed(command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap())
}

/// Reads until the text was seen.
fn expect(terminal: &mut File, wanted: &str) {
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !text(&seen).contains(wanted) {
        assert!(Instant::now() < deadline, "{wanted:?} did not come: {:?}", text(&seen));
        let mut fds = [rustix::event::PollFd::new(terminal, rustix::event::PollFlags::IN)];
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        if rustix::event::poll(&mut fds, Some(&second)).unwrap() > 0 {
            let mut chunk = [0; 4096];
            let length = terminal.read(&mut chunk).unwrap_or(0);
            seen.extend_from_slice(&chunk[..length]);
        }
    }
}

#[test]
fn a_terminal_is_resized_detached_and_attached_again() {
    if !can_run() {
        return;
    }
    let container = Container::new("it", &["sh"]);
    let (mut person, slave) = terminal(33, 77);
    let before = rustix::termios::tcgetattr(&slave).unwrap();
    let mut client = on_terminal(container.command(), &slave);
    person.write_all(b"stty size\n").unwrap();
    expect(&mut person, "33 77");
    attach::resize(&container.dir, None, 44, 88).unwrap();
    person.write_all(b"stty size\n").unwrap();
    expect(&mut person, "44 88");
    person.write_all(b"\x10\x11").unwrap();
    expect(&mut person, "detached");
    assert!(client.0.wait().unwrap().success());
    let after = rustix::termios::tcgetattr(&slave).unwrap();
    assert_eq!(before.local_modes, after.local_modes, "the terminal is as it was");
    let mut client = on_terminal(container.client(&["attach", "it"]), &slave);
    person.write_all(b"echo ag'ain'; tty=$(stty size); echo $tty\n").unwrap();
    expect(&mut person, "again");
    let mut exec = on_terminal(container.client(&["exec", "tt", "it", "sh"]), &slave);
    drop(client.0.kill());
    client.0.wait().unwrap();
    person.write_all(b"echo in'side'; exit 4\n").unwrap();
    expect(&mut person, "inside");
    assert_eq!(exec.0.wait().unwrap().code(), Some(4));
    attach::signal(&container.dir, None, 9).unwrap();
    assert_eq!(container.exit().code, 137);
}

#[test]
fn killing_the_client_and_its_group_leaves_the_container() {
    use std::os::unix::process::CommandExt;
    if !can_run() {
        return;
    }
    let container = Container::new("", &["sh", "-c", "echo up; while :; do echo tick; sleep 0.02; done"]);
    let mut command = container.command();
    command.process_group(0);
    let mut client = Killed(command.spawn().unwrap());
    let mut up = [0; 3];
    client.0.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let group = rustix::process::Pid::from_raw(client.0.id().cast_signed()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    client.0.wait().unwrap();
    let lines = container.log().len();
    wait_for(|| (container.log().len() > lines + 3).then_some(()));
    let state = attach::state(&container.dir).unwrap();
    assert!(state.running);
    let idle = memory(state.shim_pid);
    let _ = writeln!(std::io::stderr(), "the shim has {idle} KiB resident");
    assert!(idle < 8 * 1024);
    // SIGTERM at the shim alone doesn't end it before its container.
    orlop_sys::process::signal(state.shim_pid.cast_signed(), 15).unwrap();
    assert!(attach::state(&container.dir).is_ok());
    // Started clean: nothing of the caller's is held open.
    let open: Vec<String> = fs::read_dir(format!("/proc/{}/fd", state.shim_pid))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    assert!(open.iter().all(|target| !target.contains("request.json") && !target.starts_with("/dev/pts")), "{open:?}");
}

#[test]
fn two_clients_see_the_same_and_a_slow_one_is_dropped() {
    if !can_run() {
        return;
    }
    let container = Container::new("di", &["sh", "-c", "read x; seq 1 1000000; echo end; read y"]);
    container.start();
    let mut fast = Killed(container.client(&["attach", "i"]).stdin(Stdio::piped()).spawn().unwrap());
    let mut slow = Killed(container.client(&["attach", ""]).spawn().unwrap());
    let reader = {
        let mut stdout = fast.0.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut seen = String::new();
            stdout.read_to_string(&mut seen).unwrap();
            seen
        })
    };
    std::thread::sleep(Duration::from_millis(300));
    fast.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    wait_for(|| container.log().iter().any(|(_, line)| line == "end\n").then_some(()));
    let mut error = String::new();
    let mut swallowed = Vec::new();
    slow.0.stdout.take().unwrap().read_to_end(&mut swallowed).unwrap();
    slow.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(error.contains("behind"), "{error:?}");
    fast.0.stdin.as_mut().unwrap().write_all(b"over\n").unwrap();
    assert_eq!(fast.0.wait().unwrap().code(), Some(0));
    // The fast one isn't in the foreground either; what it saw is whole as long as it was not dropped.
    let seen = reader.join().unwrap();
    assert!(seen.ends_with("1000000\nend\n"), "{} bytes", seen.len());
}

#[test]
fn a_log_is_followed_to_the_end() {
    if !can_run() {
        return;
    }
    let container = Container::new("d", &["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done"]);
    container.start();
    let mut lines = Vec::new();
    let exit = container.data.join("exit.json");
    let query = LogQuery { follow: true, ..LogQuery::default() };
    log::read(&container.data.join("log"), &query, &mut || !exit.exists(), &mut |entry| {
        lines.push(entry.text.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(lines.concat(), "1\n2\n3\n4\n5\n");
}

#[test]
fn waiting_and_asking() {
    if !can_run() {
        return;
    }
    let container = Container::new("d", &["sh", "-c", "sleep 0.3; exit 6"]);
    container.start();
    assert_eq!(attach::wait(&container.dir, Some(Duration::from_millis(20))).unwrap(), None);
    assert_eq!(attach::wait(&container.dir, None).unwrap(), Some(6));
    assert!(matches!(attach::state(&container.dir), Err(orlop_runtime::Error::NotRunning(_))));
    assert_eq!(container.exit().code, 6);
}

#[test]
fn a_dead_shim_makes_the_container_wait_and_the_next_start_clears_up() {
    if !can_run() {
        return;
    }
    let container = Container::new("d", &["yes"]);
    container.start();
    let shim = attach::state(&container.dir).unwrap();
    orlop_sys::process::signal(shim.shim_pid.cast_signed(), 9).unwrap();
    wait_for(|| attach::state(&container.dir).is_err().then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    let status = container.runtime.state(&container.id).unwrap().unwrap().status;
    assert_eq!(status, "running", "it waits for a reader");
    let again = container.run();
    assert!(text(&again.stderr).contains("is running already"), "{}", text(&again.stderr));
    container.runtime.kill(&container.id, 9).unwrap();
    wait_for(|| (container.runtime.state(&container.id).unwrap()?.status == "stopped").then_some(()));
    container.start();
    assert!(attach::state(&container.dir).unwrap().running);
}

#[test]
fn memory_that_ran_out_is_noticed() {
    if !can_run() {
        return;
    }
    let container = Container::new("d", &["sh", "-c", "sleep 0.5; tail /dev/zero"]);
    let cgroup = Path::new("/sys/fs/cgroup/memory/orlop-test").join(&container.id);
    container.start();
    if !cgroup.exists() {
        let _ = writeln!(std::io::stderr(), "skipped: no cgroup v1 memory controller to limit here");
        return;
    }
    fs::write(cgroup.join("memory.limit_in_bytes"), "20000000").unwrap();
    let record = container.exit();
    assert_eq!((record.code, record.oom_killed), (137, true));
}

/// The shim may hold its log open a moment longer than its client waits, hence `-l`.
struct Unmounted(PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_log_on_a_full_disk_loses_lines_but_not_the_container() {
    if !can_run() {
        return;
    }
    let container = Container::new("", &["sh", "-c", "seq 1 20000"]);
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "full"]).arg(&container.data).status();
    if !mounted.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: a tmpfs can't be mounted here");
        return;
    }
    let _unmounted = Unmounted(container.data.clone());
    let output = container.run();
    let record = ExitRecord::find(&container.data.join("exit.json"), &container.dir).unwrap().unwrap();
    let lines = container.log();
    assert_eq!(text(&output.stdout).lines().count(), 20_000);
    assert!(record.log_lines_dropped > 0);
    assert_eq!(lines.len() as u64 + record.log_lines_dropped, 20_000);
}

fn kill_shim(container: &Container) {
    let shim = attach::state(&container.dir).unwrap().shim_pid;
    orlop_sys::process::signal(shim.cast_signed(), 9).unwrap();
    wait_for(|| attach::state(&container.dir).is_err().then_some(()));
}

fn adopt(container: &Container) {
    let output = container.client(&["adopt"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_container_whose_shim_was_killed_goes_on_with_another() {
    if !can_run() {
        return;
    }
    let script = "while ! [ -e /tmp/go ]; do sleep 0.05; done; seq 5000; echo err >&2; exit 7";
    let container = Container::new("d", &["sh", "-c", script]);
    container.start();
    let pid = attach::state(&container.dir).unwrap().pid;
    kill_shim(&container);
    adopt(&container);
    let state = attach::state(&container.dir).unwrap();
    assert_eq!((state.pid, state.running), (pid, true));
    let output = container.client(&["exec", "probe", "", "touch", "/tmp/go"]).output().unwrap();
    // The root file system has no touch.
    assert_eq!(output.status.code(), Some(127));
    let output = container.client(&["exec", "go", "", "sh", "-c", ": >/tmp/go"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let record = container.exit();
    if orlop_sys::pid::is_reaping_told() {
        assert_eq!((record.code, record.unknown), (7, false));
    } else {
        assert!(record.unknown || record.code == 7);
    }
    assert_eq!(container.log().len(), 5001);
    wait_for(|| container.data.with_file_name("reaped").exists().then_some(()));
    assert!(!container.runtime.state_dir(&container.id).exists());
    assert!(!container.client(&["adopt"]).output().unwrap().status.success(), "nothing to adopt");
}

#[test]
fn a_stopped_shim_is_made_to_go_on() {
    if !can_run() {
        return;
    }
    let container = Container::new("d", &["sleep", "60"]);
    container.start();
    let shim = attach::state(&container.dir).unwrap().shim_pid;
    orlop_sys::process::signal(shim.cast_signed(), 19).unwrap();
    wait_for(|| (orlop_sys::pid::state_letter(shim) == Some('T')).then_some(()));
    assert!(attach::state(&container.dir).unwrap().running);
    orlop_sys::process::signal(shim.cast_signed(), 19).unwrap();
    let output = container.client(&["exec", "e", "", "true"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn health_is_checked_and_told() {
    if !can_run() {
        return;
    }
    let mut container = Container::new("d", &["sleep", "60"]);
    let told = container.data.join("told");
    let notify =
        ["/bin/busybox".to_owned(), "sh".to_owned(), "-c".to_owned(), format!("echo $0 >> {}", told.display())];
    let script = "if [ -e /tmp/ok ]; then echo fine; elif [ -e /tmp/slow ]; then sleep 9; else echo bad; exit 3; fi";
    container.request["health"] = json!({
        "process": process(false, &["sh", "-c", script]), "interval": 30_000_000, "timeout": 500_000_000,
        "start_period": 0, "start_interval": 10_000_000, "retries": 2, "notify": notify,
    });
    container.start();
    let state_is = |wanted: HealthStatus, part: &str| {
        wait_for(|| {
            let state = HealthState::read(&container.dir)?;
            let last = state.log.last()?;
            (state.status == wanted && last.output.contains(part) && state.log.len() <= 5).then_some(state.clone())
        })
    };
    let sh = |script: &str| {
        let output = container.client(&["exec", "x", "", "sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let unhealthy = state_is(HealthStatus::Unhealthy, "bad");
    assert!(unhealthy.failing_streak >= 2 && unhealthy.log.iter().all(|result| result.exit_code == 3));
    sh(": >/tmp/ok");
    assert_eq!(state_is(HealthStatus::Healthy, "fine").failing_streak, 0);
    // A new shim goes on where the old one was.
    kill_shim(&container);
    adopt(&container);
    assert_eq!(state_is(HealthStatus::Healthy, "fine").failing_streak, 0);
    sh(": >/tmp/slow; rm /tmp/ok 2>/dev/null || busybox rm /tmp/ok");
    let slow = state_is(HealthStatus::Unhealthy, "exceeded timeout (500ms)");
    assert_eq!(slow.log.last().unwrap().exit_code, -1);
    wait_for(|| {
        let told = fs::read_to_string(&told).unwrap_or_default();
        (told == "unhealthy\nhealthy\nunhealthy\n").then_some(())
    });
}
