//! Go's built-in functions and those that Docker adds.

use super::value::{Nil, Shape, Value};
use std::cmp::Ordering;
use std::fmt::Write;

/// Padding and widths above this are refused, as Go's `printf` does.
const MAX_WIDTH: i64 = 1_000_000;

/// Whether a row or a table's header is being written; in a header the functions leave the column's name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A row.
    Row,
    /// The header.
    Header,
}

const NAMES: [&str; 24] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println",
    "html", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad",
];

/// Whether a template may call this.
pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || name == "truncate"
}

/// Calls `name`. The error has Go's words without the place.
pub fn call(name: &str, arguments: &[Value], mode: Mode) -> Result<Value, String> {
    let wrong_count =
        |want: usize| Err(format!("wrong number of args for {name}: want {want} got {}", arguments.len()));
    let fail = |message: String| Err(format!("error calling {name}: {message}"));
    if mode == Mode::Header
        && let Some(first) = arguments.first()
    {
        match name {
            "json" | "join" | "title" | "lower" | "upper" | "truncate" => return Ok(first.clone()),
            "split" => return Ok(Value::list(vec![first.clone()])),
            _ => {}
        }
    }
    match (name, arguments) {
        ("and" | "or", []) => Err(format!("wrong number of args for {name}: want at least 1 got 0")),
        ("and", all) => Ok(all.iter().find(|value| !value.is_true()).or(all.last()).expect("not empty").clone()),
        ("or", all) => Ok(all.iter().find(|value| value.is_true()).or(all.last()).expect("not empty").clone()),
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("eq", [one, others @ ..]) if !others.is_empty() => {
            for other in others {
                match equal(one, other) {
                    Ok(true) => return Ok(Value::Bool(true)),
                    Ok(false) => {}
                    Err(message) => return fail(message),
                }
            }
            Ok(Value::Bool(false))
        }
        ("eq", [_]) => fail("missing argument for comparison".to_owned()),
        ("ne", [one, two]) => equal(one, two).map(|same| Value::Bool(!same)).or_else(fail),
        ("lt", [one, two]) => order(one, two).map(|order| Value::Bool(order == Ordering::Less)).or_else(fail),
        ("le", [one, two]) => order(one, two).map(|order| Value::Bool(order != Ordering::Greater)).or_else(fail),
        ("gt", [one, two]) => order(one, two).map(|order| Value::Bool(order == Ordering::Greater)).or_else(fail),
        ("ge", [one, two]) => order(one, two).map(|order| Value::Bool(order != Ordering::Less)).or_else(fail),
        ("len", [value]) => match value {
            Value::Text(text) => Ok(Value::Int(text.len() as i64)),
            Value::List(items) => Ok(Value::Int(items.len() as i64)),
            Value::Object(object) => Ok(Value::Int(object.entries.len() as i64)),
            Value::Null(Nil::List | Nil::Map) => Ok(Value::Int(0)),
            Value::Missing | Value::Null(_) => fail("len of nil pointer".to_owned()),
            other => fail(format!("len of type {}", type_name(other))),
        },
        ("index", [value, keys @ ..]) => {
            let mut value = value.clone();
            for key in keys {
                value = index(&value, key).or_else(&fail)?;
            }
            Ok(value)
        }
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds).or_else(fail),
        ("print", all) => Ok(Value::text(print(all))),
        ("println", all) => {
            let words: Vec<String> = all.iter().map(Value::to_string).collect();
            Ok(Value::text(words.join(" ") + "\n"))
        }
        ("printf", [Value::Text(format), rest @ ..]) => Ok(Value::text(printf(format, rest))),
        ("printf", [_, ..]) => Err("wrong type for value; expected string".to_owned()),
        ("html", all) => Ok(Value::text(html(&print(all)))),
        ("urlquery", all) => Ok(Value::text(urlquery(&print(all)))),
        ("json", [value]) => Ok(Value::text(value.to_json())),
        ("split", [text, separator]) => {
            let (text, separator) = (string(text)?, string(separator)?);
            Ok(Value::list(match &*separator {
                "" => text.chars().map(|one| Value::text(one.to_string())).collect(),
                separator => text.split(separator).map(Value::text).collect(),
            }))
        }
        ("join", [list, separator]) => {
            let separator = string(separator)?;
            match list {
                Value::List(items) => {
                    let words: Vec<String> = items.iter().map(Value::to_string).collect();
                    Ok(Value::text(words.join(&separator)))
                }
                Value::Null(_) | Value::Missing => Ok(Value::text("")),
                other => Err(format!("wrong type for value; expected []string; got {}", type_name(other))),
            }
        }
        ("title", [text]) => Ok(Value::text(title(&string(text)?))),
        ("lower", [text]) => Ok(Value::text(string(text)?.to_lowercase())),
        ("upper", [text]) => Ok(Value::text(string(text)?.to_uppercase())),
        ("pad", [text, Value::Int(before), Value::Int(after)]) => {
            let text = string(text)?;
            if *before > MAX_WIDTH || *after > MAX_WIDTH {
                return fail("too wide".to_owned());
            }
            // Docker leaves an empty cell empty.
            if text.is_empty() {
                return Ok(Value::text(""));
            }
            let spaces = |count: &i64| " ".repeat(usize::try_from(*count).unwrap_or(0));
            Ok(Value::text(format!("{}{text}{}", spaces(before), spaces(after))))
        }
        ("truncate", [text, Value::Int(length)]) => {
            let text = string(text)?;
            let length = usize::try_from(*length).map_err(|_| "error calling truncate: negative length".to_owned())?;
            Ok(Value::text(text.chars().take(length).collect::<String>()))
        }
        ("pad", [_, _, _]) | ("truncate", [_, _]) => Err("wrong type for value; expected int".to_owned()),
        ("not" | "len" | "json" | "title" | "lower" | "upper", _) => wrong_count(1),
        ("pad", _) => wrong_count(3),
        (_, _) => wrong_count(2),
    }
}

/// Go's name for the type, as error messages show it.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Missing | Value::Null(_) => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Object(object) => match object.shape {
            Shape::Struct(name) => name,
            Shape::Api(_) | Shape::Map | Shape::Header => "map[string]interface {}",
        },
    }
}

fn string(value: &Value) -> Result<std::rc::Rc<str>, String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        other => Err(format!("wrong type for value; expected string; got {}", type_name(other))),
    }
}

fn equal(one: &Value, two: &Value) -> Result<bool, String> {
    match (one, two) {
        (Value::Null(_) | Value::Missing, Value::Null(_) | Value::Missing) => Ok(true),
        (Value::Null(_) | Value::Missing, _) | (_, Value::Null(_) | Value::Missing) => Ok(false),
        (Value::Bool(one), Value::Bool(two)) => Ok(one == two),
        (Value::List(_) | Value::Object(_), _) | (_, Value::List(_) | Value::Object(_)) => {
            Err("non-comparable type".to_owned())
        }
        _ => order(one, two).map(|order| order == Ordering::Equal),
    }
}

fn order(one: &Value, two: &Value) -> Result<Ordering, String> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => Ok(one.cmp(two)),
        (Value::Text(one), Value::Text(two)) => Ok(one.cmp(two)),
        (Value::Float(one), Value::Float(two)) => Ok(one.total_cmp(two)),
        // JSON doesn't tell a float that happens to be whole from an integer, so the two compare.
        (Value::Int(one), Value::Float(two)) => Ok((*one as f64).total_cmp(two)),
        (Value::Float(one), Value::Int(two)) => Ok(one.total_cmp(&(*two as f64))),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Object(object), Value::Text(name)) => Ok(object.get(name).cloned().unwrap_or(match object.shape {
            // A label that isn't there prints as an empty line in Docker, whose maps hold strings.
            Shape::Map if object.entries.iter().all(|(_, value)| matches!(value, Value::Text(_))) => Value::text(""),
            _ => Value::Missing,
        })),
        (Value::Object(_), other) => Err(format!("value has type {}; should be string", type_name(other))),
        (Value::List(items), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::Text(text), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            found.map(|byte| Value::Int(i64::from(*byte))).ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::List(_) | Value::Text(_), _) => Err(format!("cannot index slice/array with type {}", type_name(key))),
        (Value::Null(Nil::Map), Value::Text(_)) => Ok(Value::text("")),
        (Value::Null(Nil::List), Value::Int(at)) => Err(format!("index out of range: {at}")),
        (Value::Missing | Value::Null(_), _) => Err("index of untyped nil".to_owned()),
        (other, _) => Err(format!("can't index item of type {}", type_name(other))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", type_name(other))),
    };
    let bound = |at: usize, otherwise: usize| match bounds.get(at) {
        None => Ok(otherwise),
        Some(Value::Int(value)) => {
            let inside = usize::try_from(*value).ok().filter(|value| *value <= length);
            inside.ok_or_else(|| format!("index out of range: {value}"))
        }
        Some(other) => Err(format!("cannot index slice/array with type {}", type_name(other))),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::Text(text) => Ok(Value::text(String::from_utf8_lossy(&text.as_bytes()[from..to]))),
        Value::List(items) => Ok(Value::list(items[from..to].to_vec())),
        _ => unreachable!("checked above"),
    }
}

/// Go's Sprint: a space between two operands when neither is a string.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    let mut after_text = true;
    for (index, value) in values.iter().enumerate() {
        let text = matches!(value, Value::Text(_));
        if index > 0 && !text && !after_text {
            out.push(' ');
        }
        out.push_str(&value.to_string());
        after_text = text;
    }
    out
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside_word = false;
    for letter in text.chars() {
        if inside_word {
            out.push(letter);
        } else {
            out.extend(letter.to_uppercase());
        }
        inside_word = letter.is_alphanumeric() || letter == '_' || letter == '\'';
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// The flags between `%` and its letter.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's Sprintf for what JSON holds; mistakes are shown in the text as Go shows them.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments_left = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(next) = chars.next() {
        if next != '%' {
            out.push(next);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|next| "-+# 0".contains(*next)) {
            match flag {
                '-' => verb.minus = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                ' ' => verb.space = true,
                _ => verb.zero = true,
            }
        }
        let mut digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.next_if_eq(&'*').is_some() {
                return match arguments_left.next() {
                    Some(Value::Int(value)) => usize::try_from((*value).clamp(0, MAX_WIDTH)).ok(),
                    _ => None,
                };
            }
            let mut number = None;
            while let Some(digit) = chars.peek().and_then(|next| next.to_digit(10)) {
                chars.next();
                number = Some((number.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH as usize));
            }
            number
        };
        verb.width = digits(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut chars).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match arguments_left.next() {
                None => {
                    let _ = write!(out, "%!{letter}(MISSING)");
                }
                Some(value) => out.push_str(&formatted(&verb, letter, value)),
            },
        }
    }
    let extra: Vec<String> = arguments_left.map(|value| format!("{}={value}", type_name(value))).collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn formatted(verb: &Verb, letter: char, value: &Value) -> String {
    let sign = |negative: bool| match (negative, verb.plus, verb.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let cut = |text: String| match verb.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text,
    };
    let (sign, body) = match (letter, value) {
        ('T', value) => ("", type_name(value).to_owned()),
        ('d' | 'v', Value::Int(number)) => (sign(*number < 0), number.unsigned_abs().to_string()),
        ('x', Value::Int(number)) => {
            (sign(*number < 0), format!("{}{:x}", if verb.sharp { "0x" } else { "" }, number.unsigned_abs()))
        }
        ('X', Value::Int(number)) => {
            (sign(*number < 0), format!("{}{:X}", if verb.sharp { "0X" } else { "" }, number.unsigned_abs()))
        }
        ('o', Value::Int(number)) => (sign(*number < 0), format!("{:o}", number.unsigned_abs())),
        ('b', Value::Int(number)) => (sign(*number < 0), format!("{:b}", number.unsigned_abs())),
        ('c', Value::Int(number)) => {
            let letter = u32::try_from(*number).ok().and_then(char::from_u32);
            ("", letter.unwrap_or(char::REPLACEMENT_CHARACTER).to_string())
        }
        ('f' | 'F', Value::Float(number)) => {
            (sign(*number < 0.0), format!("{:.*}", verb.precision.unwrap_or(6).min(1000), number.abs()))
        }
        ('e', Value::Float(number)) => {
            (sign(*number < 0.0), format!("{:.*e}", verb.precision.unwrap_or(6).min(1000), number.abs()))
        }
        ('g' | 'v', Value::Float(number)) => (sign(*number < 0.0), number.abs().to_string()),
        ('t', Value::Bool(value)) => ("", value.to_string()),
        ('q', Value::Text(text)) => ("", serde_json::Value::from(cut(text.to_string())).to_string()),
        ('q', Value::List(items)) => {
            let quoted: Vec<String> = items.iter().map(|item| formatted(&Verb::default(), 'q', item)).collect();
            ("", format!("[{}]", quoted.join(" ")))
        }
        ('x', Value::Text(text)) => ("", text.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ('s' | 'v', Value::Text(text)) => ("", cut(text.to_string())),
        ('s' | 'v', Value::List(_) | Value::Object(_)) | ('v', Value::Bool(_)) => ("", value.to_string()),
        ('s' | 'v', Value::Null(Nil::List | Nil::Map)) => ("", value.to_string()),
        ('v', Value::Null(_) | Value::Missing) => ("", "<nil>".to_owned()),
        (letter, Value::Null(_) | Value::Missing) => ("", format!("%!{letter}(<nil>)")),
        (letter, value) => ("", format!("%!{letter}({}={value})", type_name(value))),
    };
    let missing = verb.width.unwrap_or(0).saturating_sub(sign.len() + body.chars().count());
    let numeric = matches!(value, Value::Int(_) | Value::Float(_));
    match (verb.minus, verb.zero && numeric) {
        (true, _) => format!("{sign}{body}{}", " ".repeat(missing)),
        (false, true) => format!("{sign}{}{body}", "0".repeat(missing)),
        (false, false) => format!("{}{sign}{body}", " ".repeat(missing)),
    }
}
