//! SELinux: the labels of a container where the kernel enforces (container-selinux's `container_t`).

use std::fs;

/// Whether the kernel enforces.
pub fn is_enforcing() -> bool {
    fs::read("/sys/fs/selinux/enforce").is_ok_and(|value| value.first() == Some(&b'1'))
}

/// What a process of a container, and what is mounted into it, are labelled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub mount: String,
}

/// The labels for a container: None with `disable`. `options` are those of `--security-opt label=`; `categories` are
/// two numbers below 1024 that no other container has, made of its id.
pub fn labels(options: &[String], categories: (u16, u16)) -> Option<Labels> {
    if options.iter().any(|option| option == "disable") {
        return None;
    }
    let option = |part: &str| options.iter().rev().find_map(|option| option.strip_prefix(part)?.strip_prefix(':'));
    let (low, high) = (categories.0.min(categories.1), categories.0.max(categories.1));
    let own_level = format!("s0:c{low},c{high}");
    let level = option("level").unwrap_or(&own_level);
    let user = option("user").unwrap_or("system_u");
    let role = option("role").unwrap_or("system_r");
    let kind = option("type").unwrap_or("container_t");
    let file_kind = option("filetype").unwrap_or("container_file_t");
    Some(Labels {
        process: format!("{user}:{role}:{kind}:{level}"),
        mount: format!("system_u:object_r:{file_kind}:{level}"),
    })
}

/// Two different categories of an id's first bytes.
pub fn categories(id: &[u8]) -> (u16, u16) {
    let number = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]) % 1024);
    let (first, second) = (number(id.get(0..2)), number(id.get(2..4)));
    if first == second { (first, (second + 1) % 1024) } else { (first, second) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_options() {
        let labels = |texts: &[&str]| labels(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), (7, 3));
        let own = labels(&[]).unwrap();
        assert_eq!(own.process, "system_u:system_r:container_t:s0:c3,c7");
        assert_eq!(own.mount, "system_u:object_r:container_file_t:s0:c3,c7");
        let given = labels(&["type:spc_t", "level:s0:c1"]).unwrap();
        assert_eq!(given.process, "system_u:system_r:spc_t:s0:c1");
        assert_eq!(labels(&["disable"]), None);
        assert_eq!(categories(b"aaaa").0 + 1, categories(b"aaaa").1);
    }
}
