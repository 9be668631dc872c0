//! POSIX access control lists: from the text that star and libarchive write to the form of the kernel's attribute
//! `system.posix_acl_access` (linux/posix_acl_xattr.h).

const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// `user::rwx,user:lisa:rw-:502,group::r-x,mask::rwx,other::---` as the kernel takes it.
///
/// Names are not looked up, since the host's users are not the image's: a named entry must carry its number, either
/// behind it (star) or as the name itself. None for a list in which one doesn't, as GNU tar writes them.
pub(super) fn binary(text: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "an access control list is not UTF-8".to_owned())?;
    let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty() && !part.starts_with('#'));
    let entries = parts.map(entry).collect::<Result<Vec<_>, _>>()?;
    let Some(mut entries) = entries.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let named = |(tag, _, _): &(u16, u16, u32)| matches!(*tag, USER | GROUP);
    if entries.iter().any(named) && !entries.iter().any(|(tag, _, _)| *tag == MASK) {
        // As setfacl(1) computes it.
        let group_class = entries.iter().filter(|entry| named(entry) || entry.0 == GROUP_OBJ);
        let mask = group_class.fold(0, |mask, (_, permissions, _)| mask | permissions);
        entries.push((MASK, mask, NOBODY));
    }
    // The kernel wants this order.
    entries.sort_by_key(|&(tag, _, id)| (tag, id));
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    Ok(Some(bytes))
}

/// Tag, permissions and number; None when there is a name without its number.
fn entry(text: &str) -> Result<Option<(u16, u16, u32)>, String> {
    let invalid = || format!("{text:?} is not an entry of an access control list");
    let text_part = text.strip_prefix("default:").unwrap_or(text);
    let parts: Vec<&str> = text_part.split(':').map(str::trim).collect();
    let (kind, name, permissions, number) = match parts[..] {
        // `mask:rwx` and `other:rwx`, as some write them.
        [kind @ ("mask" | "m" | "other" | "o"), permissions] => (kind, "", permissions, None),
        [kind, name, permissions] => (kind, name, permissions, None),
        [kind, name, permissions, number] => (kind, name, permissions, Some(number)),
        _ => return Err(invalid()),
    };
    let tag = match (kind, name.is_empty()) {
        ("user" | "u", true) => USER_OBJ,
        ("user" | "u", false) => USER,
        ("group" | "g", true) => GROUP_OBJ,
        ("group" | "g", false) => GROUP,
        ("mask" | "m", true) => MASK,
        ("other" | "o", true) => OTHER,
        _ => return Err(invalid()),
    };
    let mut bits = 0;
    for letter in permissions.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err(invalid()),
        };
    }
    let id = if name.is_empty() {
        NOBODY
    } else {
        let Ok(number) = number.unwrap_or(name).parse() else { return Ok(None) };
        number
    };
    Ok(Some((tag, bits, id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_the_kernel_takes() {
        let bytes = binary(b"user::rwx,user:lisa:rw-:502,group::r-x,other::---").unwrap().unwrap();
        let entries: Vec<(u16, u16, u32)> = bytes[4..]
            .chunks(8)
            .map(|entry| {
                let short = |at| u16::from_le_bytes([entry[at], entry[at + 1]]);
                (short(0), short(2), u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]))
            })
            .collect();
        assert_eq!(bytes[..4], [2, 0, 0, 0]);
        let expected =
            [(USER_OBJ, 7, NOBODY), (USER, 6, 502), (GROUP_OBJ, 5, NOBODY), (MASK, 7, NOBODY), (OTHER, 0, NOBODY)];
        assert_eq!(entries, expected);
        assert_eq!(binary(b"user::rwx,user:lisa:rw-,group::r-x,other::---"), Ok(None));
        for bad in ["nobody::rwx", "user::rwz", "user"] {
            assert!(binary(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
