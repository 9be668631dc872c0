//! `--add-host`, `--dns*` and `--expose`: names, addresses and ports.

use super::{InvalidOption, invalid};
use std::net::IpAddr;

/// `--add-host NAME:ADDRESS` or `NAME=ADDRESS`, as `NAME:ADDRESS`; the address may be `host-gateway` or in brackets.
pub fn parse_host(text: &str) -> Result<String, InvalidOption> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = split.filter(|(name, _)| !name.is_empty()) else {
        return invalid(format!("bad format for add-host: {text:?}"));
    };
    if name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return invalid(format!("bad format for add-host: {text:?}"));
    }
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return invalid(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{address}"))
}

/// `--dns`: an address.
pub fn parse_server(text: &str) -> Result<String, InvalidOption> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => invalid(format!("IP address is not correctly formatted: {text}")),
    }
}

/// `--dns-search`: a domain; `.` alone means none.
pub fn parse_search(text: &str) -> Result<String, InvalidOption> {
    let domain = text.trim();
    if domain == "." {
        return Ok(domain.to_owned());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let inner = domain.strip_suffix('.').unwrap_or(domain);
    match inner.len() < 255 && inner.split('.').all(is_label) {
        true => Ok(domain.to_owned()),
        false => invalid(format!("{text} is not a valid domain")),
    }
}

/// `--dns-option`: one word, since each is a word of a line of resolv.conf.
pub fn parse_dns_option(text: &str) -> Result<String, InvalidOption> {
    match !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => invalid(format!("{text:?} is not an option of resolv.conf")),
    }
}

/// `--expose 80`, `80/udp`, `8000-8010/tcp`: each port as `80/tcp`.
pub fn parse_expose(text: &str) -> Result<Vec<String>, InvalidOption> {
    let bad = |reason: &str| InvalidOption(format!("invalid range format for --expose: {text}, error: {reason}"));
    if text.contains(':') {
        return invalid(format!("invalid port format for --expose: {text}"));
    }
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(bad(&format!("invalid proto: {protocol}")));
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().map_err(|_| bad(&format!("invalid port {text:?}")));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(bad("invalid range specified for port"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_servers_and_domains() {
        for (text, expected) in [
            ("a:1.2.3.4", Some("a:1.2.3.4")),
            ("a=1.2.3.4", Some("a:1.2.3.4")),
            ("a:::1", Some("a:::1")),
            ("a:[::1]", Some("a:::1")),
            ("a:host-gateway", Some("a:host-gateway")),
            ("a", None),
            (":1.2.3.4", None),
            ("a:b", None),
            ("a b:1.2.3.4", None),
        ] {
            assert_eq!(parse_host(text).ok().as_deref(), expected, "{text}");
        }
        assert!(parse_server("1.1.1.1").is_ok() && parse_server("::1").is_ok() && parse_server("x").is_err());
        assert!(parse_search("example.com").is_ok() && parse_search(".").is_ok());
        assert!(parse_search("a b").is_err() && parse_search("").is_err() && parse_search("-a.b").is_err());
        assert!(parse_dns_option("ndots:2").is_ok() && parse_dns_option("a\nb").is_err());
    }

    #[test]
    fn ports() {
        for (text, expected) in [
            ("80", Some("80/tcp")),
            ("80/UDP", Some("80/udp")),
            ("80-82", Some("80/tcp,81/tcp,82/tcp")),
            ("82-80", None),
            ("80:80", None),
            ("x", None),
            ("80/x", None),
            ("70000", None),
        ] {
            assert_eq!(parse_expose(text).ok().map(|ports| ports.join(",")).as_deref(), expected, "{text}");
        }
    }
}
