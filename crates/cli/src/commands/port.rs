//! `port`: which of a container's ports the host answers for, as `inspect` has them in NetworkSettings.Ports.

use crate::args::container::PortArgs;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::print::out;
use serde_json::{Map, Value};

/// `port`
pub fn port(door: &Door, args: PortArgs) -> Outcome {
    let (container, wanted) = args.names.split_first().expect("the number of arguments was checked");
    let inspected = door.engine()?.inspect_container(container, false)?;
    let ports = inspected.pointer("/NetworkSettings/Ports").and_then(Value::as_object).cloned().unwrap_or_default();
    let lines = match wanted.first().filter(|wanted| !wanted.is_empty()) {
        None => all(&ports),
        Some(wanted) => one(&ports, wanted, container).map_err(Failure::Usage)?,
    };
    out(&lines)?;
    Ok(0)
}

/// `80/tcp -> 0.0.0.0:8080`, by number and protocol; a port that is only exposed has no line.
fn all(ports: &Map<String, Value>) -> String {
    let number = |port: &str| port.split('/').next().and_then(|number| number.parse::<u16>().ok());
    let mut lines: Vec<(Option<u16>, &str, String)> = ports
        .iter()
        .flat_map(|(port, ends)| {
            ends_on_host(ends).into_iter().map(move |end| (number(port), port.as_str(), format!("{port} -> {end}\n")))
        })
        .collect();
    lines.sort_unstable();
    lines.into_iter().map(|(_, _, line)| line).collect()
}

/// Where the host answers for one port, or Docker's refusals.
fn one(ports: &Map<String, Value>, wanted: &str, container: &str) -> Result<String, String> {
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || number.parse::<u16>().is_err() {
        let problem = if is_number { "value out of range" } else { "invalid syntax" };
        return Err(format!("invalid port ({number}): strconv.ParseUint: parsing {number:?}: {problem}"));
    }
    match ports.get(&format!("{number}/{protocol}")).map(ends_on_host) {
        Some(ends) if !ends.is_empty() => Ok(ends.iter().map(|end| format!("{end}\n")).collect()),
        _ => Err(format!("No public port '{wanted}' published for {container}")),
    }
}

fn ends_on_host(bindings: &Value) -> Vec<String> {
    let text = |binding: &Value, key: &str| binding[key].as_str().unwrap_or_default().to_owned();
    let end = |binding: &Value| match (text(binding, "HostIp"), text(binding, "HostPort")) {
        (address, port) if address.contains(':') => format!("[{address}]:{port}"),
        (address, port) => format!("{address}:{port}"),
    };
    bindings.as_array().map(|bindings| bindings.iter().map(end).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_told_as_docker_tells_them() {
        let ports = json!({
            "443/tcp": null,
            "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }, { "HostIp": "::", "HostPort": "8080" }],
            "9/udp": [{ "HostIp": "127.0.0.1", "HostPort": "9" }],
        });
        let ports = ports.as_object().unwrap();
        assert_eq!(all(ports), "9/udp -> 127.0.0.1:9\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
        assert_eq!(all(&Map::new()), "");
        // The errors are those that docker 28.2 gives.
        for (wanted, expected) in [
            ("80", Ok("0.0.0.0:8080\n[::]:8080\n")),
            ("9/udp", Ok("127.0.0.1:9\n")),
            ("9", Err("No public port '9' published for web")),
            ("443", Err("No public port '443' published for web")),
            ("80/", Err("No public port '80/' published for web")),
            ("abc", Err(r#"invalid port (abc): strconv.ParseUint: parsing "abc": invalid syntax"#)),
            ("70000/tcp", Err(r#"invalid port (70000): strconv.ParseUint: parsing "70000": value out of range"#)),
            ("80-90", Err(r#"invalid port (80-90): strconv.ParseUint: parsing "80-90": invalid syntax"#)),
            ("/tcp", Err(r#"invalid port (): strconv.ParseUint: parsing "": invalid syntax"#)),
        ] {
            let found = one(ports, wanted, "web");
            assert_eq!(found.as_deref(), expected.map_err(str::to_owned).as_ref().copied(), "{wanted}");
        }
    }
}
