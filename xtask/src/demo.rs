//! `cargo xtask demo`: data that outlives its container and its own removal, on a throw-away data root.

use std::path::{Path, PathBuf};
use std::process::Command;

use orlop_tests::leaks;

use crate::shell::{cargo, is_root, pass, target, which};
use crate::{Outcome, packages};

/// Builds, then tells the story step by step.
pub fn run() -> Outcome {
    if !is_root() {
        return Err("the demo mounts file systems and starts containers: run it as root, for instance `sudo -E env \"PATH=$PATH\" cargo xtask demo`".to_owned());
    }
    if which("runc").is_none() {
        packages::install(&["runc"])?;
    }
    println!("building …");
    pass(&mut cargo(&["build", "--package", "orlop-cli"]))?;
    let stage = Stage::set(target().join("debug/orlop"))?;

    stage.say("An image made of this machine's own tools, so that no registry is needed.");
    stage.orlop("image from-host demo")?;
    stage.orlop("images")?;
    stage.disk("overlay2", "image layers")?;

    stage.say("A volume, and a container that writes into it.");
    stage.orlop("volume create precious")?;
    stage.orlop("run --name writer -v precious:/data demo sh -c 'echo \"written by one container\" > /data/note'")?;
    stage.disk("volumes/precious/_data", "the volume")?;

    stage.say("The container goes; the volume stays, and another container reads it.");
    stage.orlop("rm writer")?;
    stage.orlop("run --rm -v precious:/data demo cat /data/note")?;
    stage.disk("volumes/precious/_data", "the volume")?;

    stage.say("Even the volume's removal is not the end: it waits in the trash.");
    stage.orlop("volume rm precious")?;
    stage.orlop("volume ls")?;
    stage.orlop("volume trash ls")?;
    stage.disk("trash", "the trash")?;

    stage.say("And comes back.");
    stage.orlop("volume restore precious")?;
    stage.orlop("run --rm -v precious:/data demo cat /data/note")?;
    stage.disk("volumes/precious/_data", "the volume")?;
    stage.orlop("system df")?;
    println!("\nThe throw-away data root is removed again. What works today and what comes next: README.md");
    Ok(())
}

/// A data root and a run root that are gone when this is dropped.
struct Stage {
    dir: tempfile::TempDir,
    orlop: PathBuf,
}

impl Stage {
    fn set(orlop: PathBuf) -> Outcome<Self> {
        let dir = tempfile::Builder::new().prefix("orlop-demo.").tempdir_in("/var/tmp");
        Ok(Self { dir: dir.map_err(|error| format!("/var/tmp: {error}"))?, orlop })
    }

    fn say(&self, text: &str) {
        println!("\n{text}");
    }

    /// A line of bash in which `$ORLOP` is the binary and its roots are ours.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env("ORLOP", &self.orlop);
        command.env("ORLOP_DATA_ROOT", self.dir.path().join("data")).env("ORLOP_RUN_ROOT", self.dir.path().join("run"));
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").env_remove("ORLOP_CONFIG");
        command
    }

    fn orlop(&self, line: &str) -> Outcome {
        println!("  $ orlop {line}");
        let output = self.command(&format!("exec \"$ORLOP\" {line}")).output().map_err(|error| error.to_string())?;
        for text in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(text).lines() {
                println!("    {line}");
            }
        }
        if output.status.success() { Ok(()) } else { Err(format!("orlop {line}: {}", output.status)) }
    }

    /// What lies below a directory of the data root.
    fn disk(&self, below: &str, what: &str) -> Outcome {
        let (mut files, mut bytes) = (0, 0);
        add_up(&self.dir.path().join("data").join(below), &mut files, &mut bytes)
            .map_err(|error| format!("{below}: {error}"))?;
        let plural = if files == 1 { "" } else { "s" };
        println!("    on disk: {what}, {files} file{plural}, {bytes} bytes in DATA-ROOT/{below}");
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let removal = "ids=$(\"$ORLOP\" ps -aq) && { [ -z \"$ids\" ] || \"$ORLOP\" rm -f -v $ids; }";
        if let Err(message) = crate::shell::capture(&mut self.command(removal)) {
            eprintln!("{message}");
        }
        leaks::force(self.dir.path());
    }
}

fn add_up(path: &Path, files: &mut u64, bytes: &mut u64) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            add_up(&entry.path(), files, bytes)?;
        } else if kind.is_file() {
            *files += 1;
            *bytes += entry.metadata()?.len();
        }
    }
    Ok(())
}
