//! What `inspect` prints: a JSON array with four spaces, the same in one line, or a template on each.

use super::template::{self, Mode, Template, Value};

/// The whole output for `objects`. An empty format is the array.
pub fn render(objects: &[serde_json::Value], format: &str) -> Result<String, template::Error> {
    match format {
        "" => Ok(array(objects)),
        "json" => Ok(format!("{}\n", serde_json::Value::from(objects))),
        template => {
            let template = Template::parse(template).map_err(prefixed)?;
            // With nothing to show Docker prints an empty line.
            let mut out = if objects.is_empty() { "\n".to_owned() } else { String::new() };
            for object in objects {
                out.push_str(&template.run(&Value::from_json(object), Mode::Row).map_err(prefixed)?);
                out.push('\n');
            }
            Ok(out)
        }
    }
}

/// Docker says this of both, a template that can't be read and one that doesn't fit.
fn prefixed(error: template::Error) -> template::Error {
    match error {
        template::Error::Parse(message) => template::Error::Parse(format!("template parsing error: {message}")),
        template::Error::Execute(message) => template::Error::Execute(format!("template parsing error: {message}")),
    }
}

fn array(objects: &[serde_json::Value]) -> String {
    if objects.is_empty() {
        return "[]\n".to_owned();
    }
    let mut out = Vec::new();
    let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, style);
    serde::Serialize::serialize(objects, &mut serializer).expect("writing JSON into memory can't fail");
    out.push(b'\n');
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indents_by_four_and_keeps_order() {
        let objects = [serde_json::json!({"b": [1], "a": {}})];
        assert_eq!(
            render(&objects, "").unwrap(),
            "[\n    {\n        \"b\": [\n            1\n        ],\n        \"a\": {}\n    }\n]\n"
        );
        assert_eq!(render(&[], "").unwrap(), "[]\n");
        assert_eq!(render(&objects, "json").unwrap(), "[{\"b\":[1],\"a\":{}}]\n");
        assert_eq!(render(&objects, "{{.b}}").unwrap(), "[1]\n");
    }

    #[test]
    fn mistakes_are_named() {
        let objects = [serde_json::json!({"b": 1})];
        for (template, expected) in [
            (
                "{{.c}}",
                "template parsing error: template: :1:2: executing \"\" at <.c>: map has no entry for key \"c\"",
            ),
            ("{{.c", "template parsing error: template: :1: unclosed action"),
        ] {
            assert_eq!(render(&objects, template).unwrap_err().to_string(), expected);
        }
    }
}
