//! `-c` of `commit` and `import`: Dockerfile instructions that change an image's config only.

use crate::Error;
use orlop_model::image::{ContainerDefaults, Empty};
use orlop_model::options::HealthCheck;
use parse_dockerfile::{Command, HealthcheckArguments, Instruction, JsonOrStringArray};
use std::iter::Peekable;
use std::str::Chars;

/// What shell forms run by, unless SHELL says otherwise.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Applies one instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or
/// WORKDIR (Dockerfile reference).
pub fn apply_instruction(config: &mut ContainerDefaults, text: &str) -> Result<(), Error> {
    let failed = |reason: String| Error::Instruction { text: text.to_owned(), reason };
    // An instruction only stands in a stage.
    let file = format!("FROM scratch\n{text}\n");
    let parsed = parse_dockerfile::parse(&file).map_err(|error| failed(error.to_string()))?;
    let [_, instruction] = &parsed.instructions[..] else {
        return Err(failed("it has to be one instruction".to_owned()));
    };
    let env = config.env.clone();
    let value = |text: &str| expand(text, &env).map_err(failed);
    match instruction {
        Instruction::Cmd(cmd) => config.cmd = command(&cmd.arguments, config),
        Instruction::Entrypoint(entrypoint) => config.entrypoint = command(&entrypoint.arguments, config),
        Instruction::Env(instruction) => {
            for (name, value) in pairs(&instruction.arguments.value, &env).map_err(failed)? {
                config.env.retain(|entry| entry.split_once('=').is_none_or(|(present, _)| present != name));
                config.env.push(format!("{name}={value}"));
            }
        }
        Instruction::Label(instruction) => {
            config.labels.extend(pairs(&instruction.arguments.value, &env).map_err(failed)?);
        }
        Instruction::Expose(instruction) => {
            for port in &instruction.arguments {
                let port = value(&port.value)?;
                let (numbers, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
                let protocol = protocol.to_ascii_lowercase();
                let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
                let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
                    return Err(failed(format!("invalid containerPort: {port}")));
                };
                if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) || first > last {
                    return Err(failed(format!("invalid containerPort: {port}")));
                }
                config.exposed_ports.extend((first..=last).map(|number| (format!("{number}/{protocol}"), Empty {})));
            }
        }
        Instruction::Healthcheck(instruction) => {
            let mut check = HealthCheck::default();
            for option in &instruction.options {
                let given = option.value.as_ref().map_or("", |value| &value.value);
                let time = || {
                    orlop_model::filter::parse_duration(given)
                        .and_then(|time| i64::try_from(time.as_nanos()).ok())
                        .ok_or_else(|| failed(format!("invalid duration {given:?}")))
                };
                match &*option.name.value {
                    "interval" => check.interval = time()?,
                    "timeout" => check.timeout = time()?,
                    "start-period" => check.start_period = time()?,
                    "start-interval" => check.start_interval = time()?,
                    "retries" => {
                        check.retries = given.parse().map_err(|_| failed(format!("invalid number {given:?}")))?;
                    }
                    other => return Err(failed(format!("unknown flag: --{other}"))),
                }
            }
            check.test = match &instruction.arguments {
                HealthcheckArguments::None { .. } => vec!["NONE".to_owned()],
                HealthcheckArguments::Cmd { arguments, .. } => match arguments {
                    Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.value.to_owned()],
                    Command::Exec(words) => {
                        let words = words.value.iter().map(|word| word.value.clone().into_owned());
                        std::iter::once("CMD".to_owned()).chain(words).collect()
                    }
                    _ => return Err(failed("it is not known".to_owned())),
                },
                _ => return Err(failed("it is not known".to_owned())),
            };
            check.check().map_err(|error| failed(error.to_string()))?;
            config.healthcheck = serde_json::to_value(&check).ok();
        }
        // Kept as it is written, for the build that starts from this image.
        Instruction::Onbuild(_) => {
            let rest = text.trim_start().split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim());
            config.on_build.push(rest.to_owned());
        }
        Instruction::Shell(instruction) => {
            config.shell = instruction.arguments.iter().map(|word| word.value.clone().into_owned()).collect();
        }
        Instruction::Stopsignal(instruction) => config.stop_signal = value(&instruction.arguments.value)?,
        Instruction::User(instruction) => config.user = value(&instruction.arguments.value)?,
        Instruction::Volume(instruction) => {
            let paths = match &instruction.arguments {
                JsonOrStringArray::Json(paths) => &paths.value[..],
                JsonOrStringArray::String(paths) => &paths[..],
            };
            for path in paths {
                config.volumes.insert(value(&path.value)?, Empty {});
            }
        }
        Instruction::Workdir(instruction) => {
            let path = value(&instruction.arguments.value)?;
            // A relative one goes on from where the image is.
            let path = std::path::Path::new("/").join(&config.working_dir).join(path);
            config.working_dir = path.to_string_lossy().into_owned();
        }
        other => {
            let name = format!("{other:?}");
            let name = name.split('(').next().unwrap_or_default().to_uppercase();
            return Err(failed(format!("{name} is not a valid change command")));
        }
    }
    Ok(())
}

fn command(command: &Command<'_>, config: &ContainerDefaults) -> Vec<String> {
    match command {
        Command::Exec(words) => words.value.iter().map(|word| word.value.clone().into_owned()).collect(),
        Command::Shell(line) => {
            let shell = match config.shell.is_empty() {
                true => SHELL.map(str::to_owned).to_vec(),
                false => config.shell.clone(),
            };
            shell.into_iter().chain([line.value.to_owned()]).collect()
        }
        _ => Vec::new(),
    }
}

/// `name=value name=value …`, or the old form `name value with spaces`.
fn pairs(text: &str, env: &[String]) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    let Some(first) = words.first() else { return Err("it needs a name and a value".to_owned()) };
    if !first.contains('=') {
        let (name, value) = text.trim().split_once(char::is_whitespace).ok_or("it needs a name and a value")?;
        return Ok(vec![(name.to_owned(), expand(value.trim(), env)?)]);
    }
    words
        .iter()
        .map(|word| {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("can't find = in {word:?}"))?;
            let name = expand(name, env)?;
            if name.is_empty() { Err("names can not be blank".to_owned()) } else { Ok((name, expand(value, env)?)) }
        })
        .collect()
}

/// Divides by white space outside of quotes; quotes and backslashes stay.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                word.push(character);
                word.extend(characters.next());
                continue;
            }
            ('"' | '\'', None) => quote = Some(character),
            (_, Some(open)) if open == character => quote = None,
            (_, None) if character.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(character);
    }
    if quote.is_some() {
        return Err("unterminated quotes".to_owned());
    }
    words.extend((!word.is_empty()).then_some(word));
    Ok(words)
}

/// Takes quotes and backslashes away and puts variables in: `$NAME`, `${NAME}`, and with a word `${NAME:-word}`,
/// `${NAME:+word}` and `${NAME:?word}`, or without the colon where an empty value counts as one (Dockerfile reference,
/// "Environment replacement").
fn expand(text: &str, env: &[String]) -> Result<String, String> {
    expand_to(None, &mut text.chars().peekable(), env)
}

/// The same up to `end`, which is stepped over, or to the end of the text.
fn expand_to(end: Option<char>, rest: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String, String> {
    let (mut result, mut quote) = (String::new(), None);
    while let Some(character) = rest.next() {
        match (character, quote) {
            (_, None) if Some(character) == end => return Ok(result),
            ('\\', None) => result.extend(rest.next()),
            // Inside of double quotes a backslash stands for itself, but before these.
            ('\\', Some('"')) => match rest.peek() {
                Some('"' | '$' | '\\') => result.extend(rest.next()),
                _ => result.push('\\'),
            },
            ('"' | '\'', None) => quote = Some(character),
            (_, Some(open)) if open == character => quote = None,
            ('$', None | Some('"')) if rest.next_if_eq(&'{').is_some() => result += &braced(rest, env)?,
            ('$', None | Some('"')) => {
                let name = variable(rest);
                match name.is_empty() {
                    true => result.push('$'),
                    false => result += look_up(&name, env).unwrap_or_default(),
                }
            }
            _ => result.push(character),
        }
    }
    match (quote, end) {
        (Some(_), _) => Err("unterminated quotes".to_owned()),
        (None, Some(end)) => Err(format!("syntax error: missing {end:?}")),
        (None, None) => Ok(result),
    }
}

/// What follows `${`, with its closing brace.
fn braced(rest: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String, String> {
    let name = variable(rest);
    let is_empty_unset = rest.next_if_eq(&':').is_some();
    let value = look_up(&name, env).filter(|value| !(is_empty_unset && value.is_empty()));
    let operator = rest.next();
    match operator {
        None => Err("syntax error: missing '}'".to_owned()),
        Some('}') if !name.is_empty() && !is_empty_unset => Ok(value.unwrap_or_default().to_owned()),
        Some(operator @ ('-' | '+' | '?')) if !name.is_empty() => {
            let word = expand_to(Some('}'), rest, env)?;
            match (operator, value) {
                ('-', None) | ('+', Some(_)) => Ok(word),
                ('+', None) => Ok(String::new()),
                ('?', None) if word.is_empty() => Err(format!("{name}: is not set or empty")),
                ('?', None) => Err(format!("{name}: {word}")),
                (_, Some(value)) => Ok(value.to_owned()),
                (_, None) => unreachable!("these are all operators"),
            }
        }
        Some(other) => {
            let colon = if is_empty_unset { ":" } else { "" };
            Err(format!("unsupported substitution ${{{name}{colon}{other}"))
        }
    }
}

fn variable(rest: &mut Peekable<Chars<'_>>) -> String {
    std::iter::from_fn(|| rest.next_if(|part| part.is_ascii_alphanumeric() || *part == '_')).collect()
}

fn look_up<'a>(name: &str, env: &'a [String]) -> Option<&'a str> {
    let found = env.iter().rev().filter_map(|entry| entry.split_once('='));
    found.into_iter().find(|(present, _)| *present == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(instructions: &[&str]) -> Result<ContainerDefaults, Error> {
        let mut config = ContainerDefaults { env: vec!["HOME=/root".to_owned()], ..ContainerDefaults::default() };
        instructions.iter().try_for_each(|text| apply_instruction(&mut config, text))?;
        Ok(config)
    }

    #[test]
    fn each_changes_its_part() {
        let config = applied(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint run it",
            "ENV A=1 B=\"two words\" C=$HOME/x",
            "ENV OLD the old form",
            "EXPOSE 80 53/udp 9000-9001",
            "LABEL x.y=z \"quoted name\"=v",
            "ONBUILD RUN touch /x",
            "STOPSIGNAL SIGINT",
            "USER ${NOBODY:-nobody}:nogroup",
            "VOLUME /data /more",
            "WORKDIR /srv",
            "WORKDIR app",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl -f localhost",
        ])
        .unwrap();
        assert_eq!(config.cmd, ["a", "b c"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.env, ["HOME=/root", "A=1", "B=two words", "C=/root/x", "OLD=the old form"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "9000/tcp", "9001/tcp"]);
        assert_eq!(config.labels["x.y"], "z");
        assert_eq!(config.labels["quoted name"], "v");
        assert_eq!(config.on_build, ["RUN touch /x"]);
        assert_eq!((config.stop_signal.as_str(), config.user.as_str()), ("SIGINT", "nobody:nogroup"));
        assert!(config.volumes.contains_key("/data"));
        assert_eq!(config.working_dir, "/srv/app");
        let health = config.healthcheck.unwrap();
        assert_eq!(health["Test"], serde_json::json!(["CMD-SHELL", "curl -f localhost"]));
        assert_eq!((&health["Interval"], &health["Retries"]), (&5_000_000_000_i64.into(), &2.into()));
    }

    #[test]
    fn the_rest_is_refused() {
        for text in [
            "",
            "RUN touch /x",
            "COPY a b",
            "FROM scratch",
            "NONSENSE x",
            "ENV",
            "ENV A",
            "ENV A=\"open",
            "EXPOSE many",
            "EXPOSE 80/icmp",
            "CMD a\nCMD b",
            "HEALTHCHECK --often CMD x",
        ] {
            let error = applied(&[text]).unwrap_err().to_string();
            assert!(error.lines().count() == 1, "{text:?}: {error}");
        }
    }

    #[test]
    fn quotes_and_variables() {
        let env = vec!["A=1".to_owned(), "EMPTY=".to_owned()];
        for (text, expected) in [
            ("$A", "1"),
            ("'$A'", "$A"),
            ("\"$A\"", "1"),
            ("\\$A", "$A"),
            ("${A}2", "12"),
            ("${B:-two}", "two"),
            ("${EMPTY:-$A}", "1"),
            ("${B:-${EMPTY:-${A}}}2", "12"),
            ("${B:-'}'\\}\"$A}\"}", "}}1}"),
            ("${EMPTY-x}${EMPTY+y}${B-z}${B+w}${A?}", "yz1"),
            ("${A:+yes}${B:+no}", "yes"),
            ("a\\ b", "a b"),
            ("\"a\\n\"", "a\\n"),
            ("$", "$"),
            ("$-", "$-"),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("${A", "missing '}'"),
            ("${B:-${A}", "missing '}'"),
            ("${A!}", "unsupported substitution ${A!"),
            ("${A:}", "unsupported substitution ${A:}"),
            ("${}", "unsupported substitution ${}"),
            ("${B:-\"}", "unterminated quotes"),
            ("${B:?give ${A} of them}", "B: give 1 of them"),
            ("${EMPTY:?}", "EMPTY: is not set or empty"),
        ] {
            let error = expand(text, &env).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
