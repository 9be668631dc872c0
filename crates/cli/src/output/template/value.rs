//! What a template looks at: JSON with the one distinction that Go makes and JSON doesn't, between a struct (a field
//! that isn't there is an error) and a map (a key that isn't there has no value).

use super::api::Api;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// A value inside a template. Clones are cheap.
#[derive(Clone, Debug)]
pub enum Value {
    /// What a map gives for a key that isn't there.
    Missing,
    /// JSON's null, Go's nil.
    Null(Nil),
    /// true or false.
    Bool(bool),
    /// Any integer.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Rc<str>),
    /// A slice.
    List(Rc<Vec<Value>>),
    /// A struct or a map.
    Object(Rc<Object>),
}

/// What was never set; Go prints it by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nil {
    /// `[]`
    List,
    /// `map[]`
    Map,
    /// `<nil>`
    Pointer,
}

/// A struct or a map; order is kept.
#[derive(Debug)]
pub struct Object {
    /// Which of the two.
    pub shape: Shape,
    /// Fields or keys.
    pub entries: Vec<(String, Value)>,
    /// What the method `Label` looks into; rows of list verbs have it.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Whether a missing entry is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// With the name that Docker's error messages use for it.
    Struct(&'static str),
    /// One of Docker's API, with the fields that its JSON leaves out.
    Api(Api),
    /// Keys are data.
    Map,
    /// The header of a table: `Label` names its column after the label.
    Header,
}

/// Entries of `inspect` that are one value or nothing.
const POINTERS: [&str; 10] = [
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
];

/// Entries of `inspect` whose keys are data, so that a key that isn't there prints `<no value>`.
const MAPS: [&str; 17] = [
    "Annotations",
    "Attributes",
    "BuildCache",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "GraphOptions",
    "Labels",
    "Networks",
    "Options",
    "Ports",
    "Runtimes",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

impl Value {
    /// A string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Rc::from(text.as_ref()))
    }

    /// A list.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    /// The output of `inspect`: objects are structs, except under the names that hold maps.
    pub fn from_json(json: &serde_json::Value) -> Self {
        let api = json.as_object().map_or(Api::Other, Api::of);
        Self::from_json_as("", api, json)
    }

    fn from_json_as(name: &str, api: Api, json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null if MAPS.contains(&name) => Self::Null(Nil::Map),
            serde_json::Value::Null if POINTERS.contains(&name) => Self::Null(Nil::Pointer),
            serde_json::Value::Null => Self::Null(Nil::List),
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(integer) => Self::Int(integer),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Array(items) => {
                Self::list(items.iter().map(|item| Self::from_json_as("", api, item)).collect())
            }
            serde_json::Value::Object(object) => {
                let shape = if MAPS.contains(&name) { Shape::Map } else { Shape::Api(api) };
                let entries = object.iter().map(|(name, value)| {
                    let value = Self::from_json_as(name, api.below(name), value);
                    (name.clone(), value)
                });
                Self::Object(Rc::new(Object { shape, entries: entries.collect(), labels: None }))
            }
        }
    }

    /// What `if`, `and`, `or` and `not` take for true.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Null(_) => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Object(object) => object.shape != Shape::Map || !object.entries.is_empty(),
        }
    }

    /// Compact JSON.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_else(|_| "null".to_owned());
        // A row is written by Go's Marshal, which escapes for HTML; anything else by an encoder that doesn't.
        match self.is_row() {
            true => text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
            false => text,
        }
    }

    /// A row of a list verb, or a list of such rows.
    fn is_row(&self) -> bool {
        match self {
            Self::Object(object) => matches!(object.shape, Shape::Struct(kind) if kind.starts_with("*formatter")),
            Self::List(items) => items.first().is_some_and(Self::is_row),
            _ => false,
        }
    }
}

impl Object {
    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(entry, _)| entry == name).map(|(_, value)| value)
    }

    /// The entries in the order in which Go visits a map.
    pub fn sorted(&self) -> Vec<&(String, Value)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|one, two| one.0.cmp(&two.0));
        entries
    }
}

/// As Go's `%v`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("<no value>"),
            Self::Null(Nil::List) => f.write_str("[]"),
            Self::Null(Nil::Map) => f.write_str("map[]"),
            Self::Null(Nil::Pointer) => f.write_str("<nil>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " " })?;
                    item.nested(f)?;
                }
                f.write_str("]")
            }
            Self::Object(object) => {
                let named = object.shape == Shape::Map;
                f.write_str(if named { "map[" } else { "{" })?;
                let entries = if named { object.sorted() } else { object.entries.iter().collect() };
                for (index, (name, value)) in entries.into_iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " " })?;
                    if named {
                        write!(f, "{name}:")?;
                    }
                    value.nested(f)?;
                }
                f.write_str(if named { "]" } else { "}" })
            }
        }
    }
}

impl Value {
    /// Inside another value Go writes nil as `<nil>`.
    fn nested(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("<nil>"),
            other => write!(f, "{other}"),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Missing | Self::Null(_) => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.entries.len()))?;
                object.entries.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}
