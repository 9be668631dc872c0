//! `--tmpfs`.

use super::{InvalidMount, MountKind, MountSpec, TmpfsMount, parse_target};

/// Reads the value of `--tmpfs`: `/target[:option,…]`. Of options that exclude each other the last one counts, as in
/// mount(8).
pub fn parse_tmpfs(text: &str) -> Result<MountSpec, InvalidMount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = parse_target(target).map_err(|error| error.in_config("tmpfs"))?;
    let mut mount = TmpfsMount::default();
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "rw" => read_only = option == "ro",
            "exec" | "noexec" => mount.exec = option == "exec",
            option => add(&mut mount, option)?,
        }
    }
    Ok(MountSpec { kind: MountKind::Tmpfs(mount), target, read_only, mode: options.to_owned() })
}

/// Options without a value, in groups whose members replace each other.
const FLAGS: [&[&str]; 8] = [
    &["suid", "nosuid"],
    &["dev", "nodev"],
    &["async", "sync"],
    &["dirsync"],
    &["atime", "noatime", "relatime", "norelatime", "strictatime"],
    &["diratime", "nodiratime"],
    &["noswap"],
    &["inode32", "inode64"],
];

fn add(mount: &mut TmpfsMount, option: &str) -> Result<(), InvalidMount> {
    if let Some(group) = FLAGS.iter().find(|group| group.contains(&option)) {
        mount.options.retain(|present| !group.contains(&present.as_str()));
        mount.options.push(option.to_owned());
        return Ok(());
    }
    let invalid = || InvalidMount::TmpfsOption(option.to_owned());
    let (key, value) = option.split_once('=').ok_or_else(invalid)?;
    match key {
        "size" if value.ends_with('%') => {
            value[..value.len() - 1].parse::<u32>().map_err(|_| invalid())?;
            mount.size = None;
            keep(mount, key, option);
        }
        "size" => {
            mount.size = Some(crate::size::parse_bytes(value).map_err(|_| invalid())?);
            mount.options.retain(|present| !present.starts_with("size="));
        }
        "mode" => mount.mode = Some(parse_permissions(value).ok_or_else(invalid)?),
        "uid" => mount.uid = Some(value.parse().map_err(|_| invalid())?),
        "gid" => mount.gid = Some(value.parse().map_err(|_| invalid())?),
        "nr_inodes" | "nr_blocks" => {
            is_count(value).then_some(()).ok_or_else(invalid)?;
            keep(mount, key, option);
        }
        "huge" if matches!(value, "never" | "always" | "within_size" | "advise") => keep(mount, key, option),
        // The kernel knows the node numbers; a policy that is none fails when it is mounted.
        "mpol" if is_policy(value) => keep(mount, key, option),
        _ => return Err(invalid()),
    }
    Ok(())
}

fn keep(mount: &mut TmpfsMount, key: &str, option: &str) {
    mount.options.retain(|present| present.split('=').next() != Some(key));
    mount.options.push(option.to_owned());
}

/// Octal permission bits with setuid, setgid and sticky.
pub(super) fn parse_permissions(text: &str) -> Option<u32> {
    let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o7777)
}

/// Digits, with a k, m or g behind them if need be.
fn is_count(text: &str) -> bool {
    let digits = text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_policy(text: &str) -> bool {
    let name = text.split([':', '=']).next().unwrap_or_default();
    matches!(name, "default" | "prefer" | "bind" | "interleave" | "local")
}
