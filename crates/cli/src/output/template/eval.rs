//! Runs a tree on a value. Work, recursion and output are bounded: a template is data, and the worst of them ends in
//! one error line.

use super::functions::{self, Mode};
use super::parse::{Branch, Command, Node, Pipe, Place, Term, TermKind, Tree};
use super::value::{Nil, Object, Shape, Value};
use super::{Error, MAX_OUTPUT};

/// Nodes that a template may visit; the largest listing needs a small part of it.
const MAX_STEPS: u64 = 10_000_000;
/// `range` over a number.
const MAX_COUNT: i64 = 100_000;
/// `template` calls inside one another.
const MAX_CALLS: usize = 200;

/// What a node does to the loop around it.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a> {
    tree: &'a Tree,
    mode: Mode,
    template: &'a str,
    out: String,
    variables: Vec<(String, Value)>,
    steps: u64,
    calls: usize,
}

/// The text that `tree` gives for `data`.
pub fn run(tree: &Tree, data: &Value, mode: Mode) -> Result<String, Error> {
    let mut run = Run {
        tree,
        mode,
        template: "",
        out: String::new(),
        variables: vec![("$".to_owned(), data.clone())],
        steps: 0,
        calls: 0,
    };
    run.nodes(&tree.main, data)?;
    Ok(run.out)
}

impl<'a> Run<'a> {
    fn error(&self, place: &Place, message: impl std::fmt::Display) -> Error {
        Error::execute(place, self.template, message)
    }

    fn step(&mut self) -> Result<(), Error> {
        self.steps += 1;
        match self.steps > MAX_STEPS || self.out.len() > MAX_OUTPUT {
            true => Err(Error::limit("the template runs too long")),
            false => Ok(()),
        }
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Value) -> Result<Flow, Error> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &'a Node, dot: &Value) -> Result<Flow, Error> {
        self.step()?;
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.to_string());
                }
            }
            Node::If(branch) => return self.branch(branch, dot, false),
            Node::With(branch) => return self.branch(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template(name, pipe, place) => self.template(name, pipe.as_ref(), place, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn branch(&mut self, branch: &'a Branch, dot: &Value, rebinds: bool) -> Result<Flow, Error> {
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = match value.is_true() {
            true => self.nodes(&branch.body, if rebinds { &value } else { dot }),
            false => self.nodes(&branch.otherwise, dot),
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value) -> Result<Flow, Error> {
        let scope = self.variables.len();
        let value = self.pipe_value(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::Missing | Value::Null(_) => Vec::new(),
            Value::List(items) => {
                items.iter().enumerate().map(|(index, item)| (Value::Int(index as i64), item.clone())).collect()
            }
            Value::Object(object) => {
                object.sorted().into_iter().map(|(name, value)| (Value::text(name), value.clone())).collect()
            }
            Value::Int(count) if *count > MAX_COUNT => {
                let place = &branch.pipe.commands[0].terms[0].place;
                return Err(self.error(place, format!("range over more than {MAX_COUNT}")));
            }
            Value::Int(count) => (0..*count).map(|index| (Value::Int(index), Value::Int(index))).collect(),
            other => {
                let place = &branch.pipe.commands[0].terms[0].place;
                return Err(self.error(place, format!("range can't iterate over {other}")));
            }
        };
        if items.is_empty() {
            let flow = self.nodes(&branch.otherwise, dot);
            self.variables.truncate(scope);
            return flow;
        }
        for (key, item) in items {
            self.step()?;
            match &branch.pipe.variables[..] {
                [one] => self.bind(one, item.clone(), branch.pipe.assigns),
                [one, two] => {
                    self.bind(one, key, branch.pipe.assigns);
                    self.bind(two, item.clone(), branch.pipe.assigns);
                }
                _ => {}
            }
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn template(&mut self, name: &str, pipe: Option<&'a Pipe>, place: &Place, dot: &Value) -> Result<(), Error> {
        let tree = self.tree;
        let Some((name, body)) = tree.named.iter().find(|(known, _)| known == name) else {
            return Err(self.error(place, format!("template {name:?} not defined")));
        };
        if self.calls >= MAX_CALLS {
            return Err(self.error(place, format!("exceeded maximum template depth ({MAX_CALLS})")));
        }
        let data = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Missing,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        let caller = std::mem::replace(&mut self.template, name);
        self.calls += 1;
        self.nodes(body, &data)?;
        self.calls -= 1;
        self.template = caller;
        self.variables = outer;
        Ok(())
    }

    fn bind(&mut self, name: &str, value: Value, assigns: bool) {
        if assigns && let Some(slot) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            slot.1 = value;
        } else {
            self.variables.push((name.to_owned(), value));
        }
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value, Error> {
        let value = self.pipe_value(pipe, dot)?;
        for name in &pipe.variables {
            self.bind(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn pipe_value(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value, Error> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Missing))
    }

    /// A function or method with its arguments; the value of the pipeline so far comes last.
    fn command(&mut self, command: &'a Command, dot: &Value, last: Option<Value>) -> Result<Value, Error> {
        self.step()?;
        let (first, rest) = command.terms.split_first().expect("the parser gives at least one term");
        if matches!(first.kind, TermKind::Literal(Value::Null(_))) {
            return Err(self.error(&first.place, "nil is not a command"));
        }
        if let TermKind::Function(name) = &first.kind {
            return self.call(name, first, rest, dot, last);
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for term in rest {
            arguments.push(self.term(term, dot, Vec::new())?);
        }
        arguments.extend(last);
        self.term(first, dot, arguments)
    }

    fn call(
        &mut self,
        name: &str,
        first: &'a Term,
        rest: &'a [Term],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for term in rest {
            let value = self.term(term, dot, Vec::new())?;
            // `and` and `or` stop at the argument that decides.
            let decided = match name {
                "and" => !value.is_true(),
                "or" => value.is_true(),
                _ => false,
            };
            if decided {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(last);
        functions::call(name, &arguments, self.mode).map_err(|message| self.error(&first.place, message))
    }

    fn term(&mut self, term: &'a Term, dot: &Value, arguments: Vec<Value>) -> Result<Value, Error> {
        let (value, fields) = match &term.kind {
            TermKind::Dot => (dot.clone(), &[][..]),
            TermKind::Literal(value) => (value.clone(), &[][..]),
            TermKind::Function(name) => {
                let value = functions::call(name, &arguments, self.mode);
                return value.map_err(|message| self.error(&term.place, message));
            }
            TermKind::Field(fields) => (dot.clone(), &fields[..]),
            TermKind::Variable(name, fields) => {
                let bound = self.variables.iter().rev().find(|(known, _)| known == name);
                (bound.map_or(Value::Missing, |(_, value)| value.clone()), &fields[..])
            }
            TermKind::Paren(pipe, fields) => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                self.variables.truncate(scope);
                (value, &fields[..])
            }
        };
        let Some((name, parents)) = fields.split_last() else {
            return match arguments.is_empty() {
                true => Ok(value),
                false => {
                    Err(self.error(&term.place, format!("can't give argument to non-function {}", term.place.source)))
                }
            };
        };
        let mut value = value;
        for parent in parents {
            value = field(&value, parent).map_err(|message| self.error(&term.place, message))?;
        }
        let result = match arguments.is_empty() && name != "Label" {
            true => field(&value, name),
            false => method(&value, name, &arguments),
        };
        result.map_err(|message| self.error(&term.place, message))
    }
}

fn field(value: &Value, name: &str) -> Result<Value, String> {
    match value {
        Value::Object(object) => match (object.get(name), object.shape) {
            (Some(found), _) => Ok(found.clone()),
            (None, Shape::Map | Shape::Header) => Ok(Value::Missing),
            // Docker's own structs call it ID where their JSON says Id; both work there.
            (None, Shape::Api(_)) if name == "ID" && object.get("Id").is_some() => field(value, "Id"),
            (None, Shape::Api(api)) => match (api.json_name(name), api.unset(name)) {
                (Some(json_name), _) => field(value, json_name),
                (None, Some(unset)) => Ok(unset),
                (None, None) => Err(format!("map has no entry for key {name:?}")),
            },
            (None, Shape::Struct(kind)) => Err(format!("can't evaluate field {name} in type {kind}")),
        },
        Value::Missing | Value::Null(Nil::Map) => Ok(Value::Missing),
        Value::Null(_) => Err(format!("nil pointer evaluating interface {{}}.{name}")),
        other => Err(format!("can't evaluate field {name} in type {}", functions::type_name(other))),
    }
}

/// The only method that takes an argument: `.Label "name"` of a row, or of a table's header.
fn method(value: &Value, name: &str, arguments: &[Value]) -> Result<Value, String> {
    let Value::Object(object) = value else { return field(value, name) };
    match (arguments, name, &object.labels) {
        ([Value::Text(label)], "Label", Some(labels)) => {
            Ok(Value::text(labels.get(&**label).map_or("", String::as_str)))
        }
        ([Value::Text(label)], "Label", None) if object.shape == Shape::Header => Ok(Value::text(label_header(label))),
        (_, "Label", labels) if labels.is_some() || object.shape == Shape::Header => {
            Err(format!("wrong number of args for Label: want 1 got {}", arguments.len()))
        }
        ([], ..) => field(value, name),
        _ => no_arguments(object, name, arguments.len()),
    }
}

fn no_arguments(object: &Object, name: &str, count: usize) -> Result<Value, String> {
    match object.shape {
        Shape::Struct(kind) if kind.starts_with("*formatter") && object.get(name).is_some() => {
            Err(format!("wrong number of args for {name}: want 0 got {count}"))
        }
        _ => Err(format!("{name} has arguments but cannot be invoked as function")),
    }
}

/// `com.example.some-label` heads its column as `some label`, as Docker does.
fn label_header(label: &str) -> String {
    label.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")
}
