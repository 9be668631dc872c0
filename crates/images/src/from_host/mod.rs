//! `image from-host`: an image of this machine's own tools, so that everything can be tried with no registry at hand.
//!
//! What is collected is a sorted map from paths to entries; it becomes one layer with fixed times, so that the same
//! tools give the same image, and goes the way of every other archive.

mod elf;
mod tree;

use crate::Error;
use crate::archive::{self, ArchivedImage, ArchivedLayer, Blob, Spool};
use orlop_model::image::{ContainerDefaults, History, ImageConfig, RootFs};
use orlop_model::{Digest, Timestamp};
use std::path::{Path, PathBuf};
use tree::Tree;

/// What a usable machine has, as far as this one has it.
const USUAL: &[&str] = &[
    "sh",
    "bash",
    "busybox",
    "[",
    "awk",
    "base64",
    "basename",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "chroot",
    "cksum",
    "clear",
    "cmp",
    "comm",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "diff",
    "dirname",
    "du",
    "echo",
    "egrep",
    "env",
    "expr",
    "factor",
    "false",
    "fgrep",
    "find",
    "flock",
    "fold",
    "free",
    "getent",
    "getfattr",
    "setfattr",
    "getfacl",
    "setfacl",
    "grep",
    "groups",
    "gunzip",
    "gzip",
    "head",
    "hostname",
    "id",
    "install",
    "join",
    "kill",
    "link",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mktemp",
    "more",
    "mount",
    "mountpoint",
    "mv",
    "nice",
    "nl",
    "nohup",
    "nproc",
    "od",
    "paste",
    "pgrep",
    "pkill",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sha256sum",
    "shred",
    "shuf",
    "sleep",
    "sort",
    "split",
    "stat",
    "stdbuf",
    "stty",
    "sum",
    "sync",
    "tac",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "truncate",
    "tsort",
    "tty",
    "umount",
    "uname",
    "uniq",
    "unlink",
    "wc",
    "which",
    "who",
    "whoami",
    "xargs",
    "yes",
    "zcat",
];

const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";

/// Collects `binaries` (names in PATH or paths; a directory is taken whole), or a usual set when there are none,
/// with everything that they need to start. `ingest` holds the layer until it is unpacked.
///
/// A named binary that isn't there, or a library that is missing, is an error.
pub(crate) fn collect(name: &str, binaries: &[String], ingest: &Path) -> Result<ArchivedImage, Error> {
    let mut tree = Tree::new();
    for directory in ["dev", "etc", "home", "mnt", "proc", "run", "sys", "usr", "var"] {
        tree.directory(directory, 0o755);
    }
    tree.directory("root", 0o700);
    tree.directory("tmp", 0o1777);
    tree.directory("var/tmp", 0o1777);
    tree.file("etc/passwd", PASSWD);
    tree.file("etc/group", GROUP);
    tree.file("etc/nsswitch.conf", NSSWITCH);
    for directory in ["/bin", "/sbin", "/lib", "/lib64"] {
        // Where /usr is merged these are links, and interpreters are named by way of them.
        if Path::new(directory).is_symlink() {
            tree.add(Path::new(directory))?;
        }
    }
    let first = add_binaries(&mut tree, binaries)?;
    let command = match tree.holds("/bin/sh") {
        true => PathBuf::from("/bin/sh"),
        false => first.ok_or_else(|| Error::FromHost("this machine has no sh: name the binaries".to_owned()))?,
    };
    let (blob, diff_id) = write_layer(&tree, ingest)?;
    let created = Timestamp::from_seconds(tree.newest()).map(|time| time.to_string());
    let mut created_by = format!("orlop image from-host {name}");
    for binary in binaries {
        created_by = created_by + " " + binary;
    }
    let parsed = ImageConfig {
        created: created.clone(),
        architecture: orlop_model::Platform::host().architecture,
        os: "linux".to_owned(),
        config: ContainerDefaults {
            env: vec![format!("PATH={SEARCH}")],
            cmd: vec![command.to_string_lossy().into_owned()],
            ..ContainerDefaults::default()
        },
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: vec![History { created, created_by: Some(created_by), ..History::default() }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&parsed).expect("strings and lists become JSON");
    let layers = vec![ArchivedLayer { diff_id, blob: std::sync::Arc::new(blob), digest: None }];
    let names = vec![name.to_owned()];
    Ok(ArchivedImage {
        id: archive::sha256(&config),
        names,
        pinned: Vec::new(),
        config,
        parsed,
        manifest: None,
        layers,
    })
}

/// Adds what was asked for; returns the first of it that is a program.
fn add_binaries(tree: &mut Tree, binaries: &[String]) -> Result<Option<PathBuf>, Error> {
    let mut first = None;
    for binary in binaries {
        let path = find(binary)
            .ok_or_else(|| Error::FromHost(format!("{binary}: not found in PATH; give its path instead")))?;
        tree.add_whole(&path)?;
        if first.is_none() && path.is_file() {
            first = Some(path);
        }
    }
    if binaries.is_empty() {
        for path in USUAL.iter().filter_map(|name| find(name)) {
            tree.add_whole(&path)?;
        }
    }
    Ok(first)
}

/// A path as it is, a name in PATH.
pub(crate) fn find(binary: &str) -> Option<PathBuf> {
    if binary.contains('/') {
        let path = std::path::absolute(binary).ok()?;
        return path.exists().then_some(path);
    }
    let search = std::env::var("PATH").unwrap_or_default() + ":" + SEARCH;
    let mut candidates =
        search.split(':').filter(|part| part.starts_with('/')).map(|part| Path::new(part).join(binary));
    candidates.find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Writes the tree as a tar stream into a file without a name.
fn write_layer(tree: &Tree, ingest: &Path) -> Result<(Blob, Digest), Error> {
    let mut spool = Spool::new(ingest)?;
    let mut builder = tar::Builder::new(&mut spool);
    tree.write(&mut builder)?;
    builder.into_inner().map_err(|source| Error::Spool { path: ingest.to_owned(), source })?;
    spool.end("the layer of this machine's tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tools_give_the_same_image() {
        let ingest = tempfile::tempdir().unwrap();
        let collect = |binaries: &[&str]| {
            let binaries: Vec<String> = binaries.iter().map(|&binary| binary.to_owned()).collect();
            collect("tools", &binaries, ingest.path())
        };
        let one = collect(&["sh", "cat"]).unwrap();
        let two = collect(&["sh", "cat"]).unwrap();
        assert_eq!(one.id, two.id);
        assert_eq!(one.parsed.config.cmd, ["/bin/sh"]);
        assert_ne!(one.id, collect(&["sh"]).unwrap().id);
        assert!(collect(&["no-such-program"]).is_err());
        assert_eq!(collect(&["cat"]).unwrap().parsed.config.cmd.len(), 1);
        assert_eq!(std::fs::read_dir(ingest.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_runs_in_a_root_of_its_own() {
        let ingest = tempfile::tempdir().unwrap();
        let image = collect("tools", &[], ingest.path()).unwrap();
        let root = tempfile::tempdir().unwrap();
        let never = std::sync::atomic::AtomicBool::new(false);
        tar::Archive::new(
            image.layers[0]
                .blob
                .open(archive::Listener { diff_id: image.layers[0].diff_id, cancelled: &never, progress: &|_| {} })
                .unwrap(),
        )
        .unpack(root.path())
        .unwrap();
        for command in ["ls -l / > /dev/null", "id -u", "echo x | grep x | sed s/x/y/ | awk '{print}'", "tar --version"]
        {
            let status =
                std::process::Command::new("chroot").arg(root.path()).args(["/bin/sh", "-c", command]).output();
            let output = status.unwrap();
            // /dev/null of a tree without devices is a plain file.
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
