//! The same mounts seen by a program that runc has started with them.

use crate::support::{World, skip};
use orlop_mounts::{AppliedKind, AppliedMount};
use orlop_sys::mount::Propagation;
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Output};

/// Runs a shell command in the world's image with the mounts that the flags make, below a root of that propagation.
fn run(world: &World, flags: &[&str], propagation: &str, command: &str) -> Option<Output> {
    if Command::new("runc").arg("--version").output().is_err() || !std::path::Path::new("/bin/busybox").exists() {
        skip("needs runc and a static busybox");
        return None;
    }
    fs::create_dir_all(world.image_dir("bin")).unwrap();
    for name in ["busybox", "sh"] {
        fs::copy("/bin/busybox", world.path("rootfs/bin").join(name)).unwrap();
    }
    for directory in ["proc", "dev"] {
        world.image_dir(directory);
    }
    let resolved = world.resolve(flags).unwrap();
    let applied = world.apply_mounts(&resolved.mounts).unwrap();
    let mut mounts = vec![json!({"destination": "/proc", "type": "proc", "source": "proc"})];
    mounts.extend(spec_mounts(&applied));
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/bin/sh", "-c", command], "env": ["PATH=/bin"],
                    "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true},
        "root": {"path": world.path("rootfs")},
        "mounts": mounts,
        "linux": {"rootfsPropagation": propagation,
                  "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "network"}]},
    });
    fs::write(world.dir("bundle").join("config.json"), spec.to_string()).unwrap();
    let output = Command::new("runc")
        .arg("--root")
        .arg(world.path("runc"))
        .args(["run", "--bundle"])
        .arg(world.path("bundle"))
        .arg(format!("orlop-test-{}", world.container.short()))
        .output()
        .unwrap();
    world.release();
    Some(output)
}

fn spec_mounts(mounts: &[AppliedMount]) -> Vec<Value> {
    let spec = |mount: &AppliedMount| match &mount.kind {
        AppliedKind::Bind { source, options } => {
            json!({"destination": mount.target, "type": "bind", "source": source, "options": options})
        }
        AppliedKind::Tmpfs { options } => {
            json!({"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options})
        }
    };
    mounts.iter().map(spec).collect()
}

fn lines(output: &Output) -> Vec<String> {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

#[test]
fn a_program_sees_what_was_asked_for() {
    let Some(world) = World::new() else { return };
    world.mount_tmpfs("deep/below", Propagation::Private);
    fs::write(world.path("file"), "host").unwrap();
    fs::set_permissions(world.path("deep"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    world.image_file("app/config", "image");
    std::os::unix::fs::symlink("/run", world.image_dir("var").join("run")).unwrap();
    let flags = [
        "-v data:/app",
        "-v read:/read:ro",
        "-v ./deep:/deep:ro",
        "-v ./file:/etc/file",
        "-v other:/var/run/other",
        "--tmpfs /cache:size=64k,mode=0750,uid=7",
        "--mount type=tmpfs,target=/app/tmp,ro",
        "--tmpfs /exec:exec",
        "--tmpfs /run/secrets:mode=0700,nr_inodes=1k,noatime,huge=never",
    ];
    let command = "busybox cat /app/config; echo; echo new > /app/new; \
        (echo x > /read/x) 2>/dev/null || echo ro; (echo x > /deep/below/x) 2>/dev/null || echo rro; \
        busybox cat /etc/file; echo; echo y > /var/run/other/y; busybox stat -c '%a %u' /cache; \
        (echo x > /app/tmp/x) 2>/dev/null || echo tro; \
        busybox grep ' /cache ' /proc/mounts | busybox grep -c nosuid,nodev,noexec,.*size=64k; \
        busybox cp /bin/sh /exec/sh; /exec/sh -c 'echo executed'";
    let Some(output) = run(&world, &flags, "rprivate", command) else { return };
    assert_eq!(lines(&output), ["image", "ro", "rro", "host", "750 7", "tro", "1", "executed"]);
    assert_eq!(fs::read_to_string(world.data("data").join("new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(world.data("other").join("y")).unwrap(), "y\n");
    assert!(!world.run_dir().exists());
}

#[test]
fn mounts_of_a_shared_bind_reach_the_host() {
    let Some(world) = World::new() else { return };
    world.mount_tmpfs("shared", Propagation::Shared);
    world.dir("shared/sub");
    let command = "busybox grep -E ' /x ' /proc/self/mountinfo | busybox grep -c shared:";
    let Some(output) = run(&world, &["-v ./shared:/x:rshared"], "shared", command) else { return };
    assert_eq!(lines(&output), ["1"]);
    let command = "busybox grep -E ' /x ' /proc/self/mountinfo | busybox grep -c master:";
    let Some(output) = run(&world, &["-v ./shared:/x:rslave"], "rslave", command) else { return };
    assert_eq!(lines(&output), ["1"]);
}
