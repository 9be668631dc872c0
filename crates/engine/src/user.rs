//! Who runs in a container: `--user` and the image's User, looked up in the image's own /etc/passwd and /etc/group.
//!
//! Follows runc's libcontainer/user as Docker uses it: a number needs no entry, a name does; without a group the
//! user's own group counts, and the groups that list the user's name are added.

use crate::{Error, Result};
use std::os::fd::AsFd;
use std::path::Path;

/// How much of /etc/passwd and /etc/group is read.
const LIMIT: u64 = 4 << 20;

/// A user of a container, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub home: String,
}

/// Looks `text` (`user`, `uid`, `user:group` …; empty is root) up in the container's root file system.
/// `more` are the groups of `--group-add`, by name or number.
pub(crate) fn resolve(root: impl AsFd, text: &str, more: &[String]) -> Result<User> {
    let read = |path| -> Result<String> {
        let bytes = orlop_sys::path::read_in_root(&root, Path::new(path), LIMIT)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let groups = read("/etc/group")?;
    let mut user = find(text, &read("/etc/passwd")?, &groups)?;
    for name in more {
        let gid = group_id(name, &groups)?;
        if !user.additional_gids.contains(&gid) {
            user.additional_gids.push(gid);
        }
    }
    Ok(user)
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn find(text: &str, passwd: &str, group: &str) -> Result<User> {
    let (user, group_name) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user)?;
    let line = passwd.lines().filter_map(passwd_line).find(|line| line.name == user || Some(line.uid) == number);
    let uid = match (&line, number) {
        // A user whose name is a number comes before the number itself.
        (Some(line), _) => line.uid,
        (None, Some(number)) => number,
        (None, None) => {
            return Err(Error::Invalid(format!("unable to find user {user}: no matching entries in passwd file")));
        }
    };
    let (gid, additional_gids) = match group_name {
        Some(name) => (group_id(name, group)?, Vec::new()),
        None => {
            let own = line.as_ref().map_or(0, |line| line.gid);
            (own, line.as_ref().map_or_else(Vec::new, |line| memberships(line.name, own, group)))
        }
    };
    let home = line.map(|line| line.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Ok(User { uid, gid, additional_gids, home })
}

fn memberships(user: &str, own: u32, group: &str) -> Vec<u32> {
    let mut gids: Vec<u32> = group
        .lines()
        .filter_map(group_line)
        .filter(|line| line.gid != own && line.members.contains(&user))
        .map(|line| line.gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn group_id(name: &str, group: &str) -> Result<u32> {
    if let Some(line) = group.lines().filter_map(group_line).find(|line| line.name == name) {
        return Ok(line.gid);
    }
    id(name)?.ok_or_else(|| Error::Invalid(format!("unable to find group {name}: no matching entries in group file")))
}

/// The number that `text` is, None when it is a name. Ids have 31 bits, as for runc.
fn id(text: &str) -> Result<Option<u32>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= i32::MAX as u32 => Ok(Some(number)),
        _ => Err(Error::Invalid(format!("uids and gids must be in range 0-{}: {text}", i32::MAX))),
    }
}

fn passwd_line(line: &str) -> Option<PasswdLine<'_>> {
    let fields: Vec<&str> = line.trim().split(':').collect();
    Some(PasswdLine {
        name: fields.first()?,
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        home: fields.get(5).copied().unwrap_or(""),
    })
}

fn group_line(line: &str) -> Option<GroupLine<'_>> {
    let fields: Vec<&str> = line.trim().split(':').collect();
    Some(GroupLine {
        name: fields.first()?,
        gid: fields.get(2)?.parse().ok()?,
        members: fields.get(3).map(|members| members.split(',').collect()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nbad line\n77:x:1077:77::/:\n";
    const GROUP: &str = "root:x:0:\nnode:x:1000:\nwheel:x:10:root,node\ndocker:x:999:node\n";

    #[test]
    fn names_numbers_and_groups() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            additional_gids: groups.to_vec(),
            home: home.to_owned(),
        };
        for (text, expected) in [
            ("", user(0, 0, &[10], "/root")),
            ("node", user(1000, 1000, &[10, 999], "/home/node")),
            ("1000", user(1000, 1000, &[10, 999], "/home/node")),
            ("node:docker", user(1000, 999, &[], "/home/node")),
            ("999:999", user(999, 999, &[], "/")),
            ("999", user(999, 0, &[], "/")),
            ("77", user(1077, 77, &[], "/")),
            (":10", user(0, 10, &[], "/root")),
        ] {
            assert_eq!(find(text, PASSWD, GROUP).unwrap(), expected, "{text}");
        }
        for (text, part) in [
            ("nobody", "unable to find user nobody"),
            ("node:nogroup", "unable to find group nogroup"),
            ("4294967295", "must be in range"),
            ("-1", "unable to find user -1"),
        ] {
            assert!(find(text, PASSWD, GROUP).unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
