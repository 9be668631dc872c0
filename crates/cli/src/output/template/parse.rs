//! Text to tree. The grammar is Go's text/template; messages are Go's where a script could look at them.

use super::value::{Nil, Value};
use super::{Error, functions};

/// Deeper nesting than this is refused, so that no template exhausts the stack.
const MAX_DEPTH: usize = 100;

/// One piece of a template.
#[derive(Debug)]
pub enum Node {
    /// Printed as it is.
    Text(String),
    /// `{{pipe}}`
    Action(Pipe),
    /// `{{if}}`
    If(Branch),
    /// `{{with}}`
    With(Branch),
    /// `{{range}}`
    Range(Branch),
    /// `{{template "name" pipe}}`
    Template(String, Option<Pipe>, Place),
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

/// A condition with what follows from it.
#[derive(Debug)]
pub struct Branch {
    /// What decides.
    pub pipe: Pipe,
    /// When it holds.
    pub body: Vec<Node>,
    /// When it doesn't.
    pub otherwise: Vec<Node>,
}

/// `$x, $y := command | command`
#[derive(Debug)]
pub struct Pipe {
    /// Variables that get the result.
    pub variables: Vec<String>,
    /// `=` instead of `:=`.
    pub assigns: bool,
    /// At least one.
    pub commands: Vec<Command>,
}

/// A term with its arguments.
#[derive(Debug)]
pub struct Command {
    /// At least one; the first is the function, method or value.
    pub terms: Vec<Term>,
}

/// An operand and where it stands.
#[derive(Debug)]
pub struct Term {
    /// What it is.
    pub kind: TermKind,
    /// For error messages.
    pub place: Place,
}

/// Line, byte and text of something in the template.
#[derive(Clone, Debug)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 0.
    pub column: usize,
    /// As written.
    pub source: String,
}

/// The operands.
#[derive(Debug)]
pub enum TermKind {
    /// `.`
    Dot,
    /// A constant.
    Literal(Value),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`
    Variable(String, Vec<String>),
    /// A function's name.
    Function(String),
    /// `(pipe).A.B`
    Paren(Box<Pipe>, Vec<String>),
}

/// The main template and those that `define` names.
#[derive(Debug, Default)]
pub struct Tree {
    /// What is run.
    pub main: Vec<Node>,
    /// What `template` calls.
    pub named: Vec<(String, Vec<Node>)>,
}

/// Parses a whole template.
pub fn parse(text: &str) -> Result<Tree, Error> {
    let pieces = split(text)?;
    let mut parser =
        Parser { text, pieces, next: 0, scope: vec!["$".to_owned()], named: Vec::new(), depth: 0, ranges: 0 };
    let (main, end) = parser.list()?;
    match end {
        Stop::Eof => Ok(Tree { main, named: parser.named }),
        Stop::End => Err(parser.error("unexpected {{end}}")),
        Stop::Else(_) => Err(parser.error("unexpected {{else}}")),
    }
}

/// Text, or the inside of an action with the place where it begins.
enum Piece<'a> {
    Text(&'a str),
    Action(&'a str, usize),
}

/// Cuts at the delimiters and trims where `{{-` and `-}}` ask for it.
fn split(text: &str) -> Result<Vec<Piece<'_>>, Error> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while let Some(open) = text[at..].find("{{").map(|found| found + at) {
        let mut plain = &text[at..open];
        let mut start = open + 2;
        if trim {
            plain = plain.trim_start();
        }
        if text[start..].starts_with('-') && text[start + 1..].starts_with(|next: char| next.is_ascii_whitespace()) {
            plain = plain.trim_end();
            start += 1;
        }
        pieces.push(Piece::Text(plain));
        let inner = text[start..].trim_start();
        let close = if inner.starts_with("/*") {
            let from = text.len() - inner.len();
            let end = text[from..].find("*/").ok_or_else(|| Error::parse(text, from, "unclosed comment"))? + from + 2;
            let rest = text[end..].trim_start_matches([' ', '\t', '\n', '\r']);
            let rest = rest.strip_prefix('-').unwrap_or(rest);
            if !rest.starts_with("}}") {
                return Err(Error::parse(text, from, "comment ends before closing delimiter"));
            }
            text.len() - rest.len()
        } else {
            action_end(text, start)?
        };
        let mut inside = &text[start..close];
        trim =
            inside.len() > 1 && inside.ends_with('-') && inside[..inside.len() - 1].ends_with([' ', '\t', '\n', '\r']);
        if trim {
            inside = &inside[..inside.len() - 1];
        }
        if !inner.starts_with("/*") {
            pieces.push(Piece::Action(inside, start));
        }
        at = close + 2;
    }
    let rest = &text[at..];
    pieces.push(Piece::Text(if trim { rest.trim_start() } else { rest }));
    Ok(pieces)
}

/// Where the action that begins at `start` is closed; delimiters inside quotes don't count.
fn action_end(text: &str, start: usize) -> Result<usize, Error> {
    let bytes = text.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Ok(at),
            quote @ (b'"' | b'`' | b'\'') => {
                let unterminated = match quote {
                    b'`' => "unterminated raw quoted string",
                    b'"' => "unterminated quoted string",
                    _ => "unterminated character constant",
                };
                at += 1;
                loop {
                    match bytes.get(at) {
                        None => return Err(Error::parse(text, start, unterminated)),
                        Some(b'\n') if quote != b'`' => return Err(Error::parse(text, start, unterminated)),
                        Some(b'\\') if quote != b'`' => at += 2,
                        Some(byte) if *byte == quote => break,
                        Some(_) => at += 1,
                    }
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    Err(Error::parse(text, start, "unclosed action"))
}

/// A word inside an action.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `.A`, `$x`, a name or `.`; fields that follow without a space are tokens of their own.
    Field(String),
    Dot,
    Variable(String),
    Name(String),
    Text(String),
    Int(i64),
    Float(f64),
    Open,
    Close,
    Bar,
    Declare,
    Assign,
    Comma,
    Space,
}

/// What ended a list of nodes.
enum Stop {
    Eof,
    End,
    /// With the words after `else`, and their place.
    Else(Vec<(Token, usize)>),
}

struct Parser<'a> {
    text: &'a str,
    pieces: Vec<Piece<'a>>,
    next: usize,
    scope: Vec<String>,
    named: Vec<(String, Vec<Node>)>,
    depth: usize,
    ranges: usize,
}

impl Parser<'_> {
    fn error(&self, message: impl std::fmt::Display) -> Error {
        let at = self.pieces[..self.next.min(self.pieces.len())].iter().rev().find_map(|piece| match piece {
            Piece::Action(_, at) => Some(*at),
            Piece::Text(_) => None,
        });
        Error::parse(self.text, at.unwrap_or(0), message)
    }

    fn list(&mut self) -> Result<(Vec<Node>, Stop), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let mut nodes = Vec::new();
        let end = loop {
            let Some(piece) = self.pieces.get(self.next) else { break Stop::Eof };
            self.next += 1;
            match piece {
                Piece::Text("") => {}
                Piece::Text(text) => nodes.push(Node::Text((*text).to_owned())),
                Piece::Action(inside, at) => {
                    let words = tokens(self.text, inside, *at)?;
                    let keyword = match words.first() {
                        Some((Token::Name(name), _)) => name.clone(),
                        _ => String::new(),
                    };
                    let rest = || words[1..].to_vec();
                    match keyword.as_str() {
                        "end" => break Stop::End,
                        "else" => break Stop::Else(rest()),
                        "if" => nodes.push(Node::If(self.branch(rest(), "if")?)),
                        "with" => nodes.push(Node::With(self.branch(rest(), "with")?)),
                        "range" => {
                            self.ranges += 1;
                            let branch = self.branch(rest(), "range");
                            self.ranges -= 1;
                            nodes.push(Node::Range(branch?));
                        }
                        "break" | "continue" if self.ranges == 0 => {
                            return Err(self.error(format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                        }
                        "break" => nodes.push(Node::Break),
                        "continue" => nodes.push(Node::Continue),
                        "define" | "block" => {
                            let node = self.define(rest(), keyword == "block")?;
                            nodes.extend(node);
                        }
                        "template" => nodes.push(self.template(rest())?),
                        _ => {
                            let pipe = self.pipe(&words, "command")?;
                            nodes.push(Node::Action(pipe));
                        }
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn branch(&mut self, words: Vec<(Token, usize)>, keyword: &str) -> Result<Branch, Error> {
        let outer = self.scope.len();
        let pipe = self.pipe(&words, keyword)?;
        let inner = self.scope.len();
        let (body, end) = self.list()?;
        self.scope.truncate(inner);
        let otherwise = match end {
            Stop::Eof => return Err(self.error("unexpected EOF")),
            Stop::End => Vec::new(),
            Stop::Else(rest) => self.otherwise(rest, keyword)?,
        };
        self.scope.truncate(outer);
        Ok(Branch { pipe, body, otherwise })
    }

    fn otherwise(&mut self, words: Vec<(Token, usize)>, keyword: &str) -> Result<Vec<Node>, Error> {
        let words: Vec<_> = words.into_iter().skip_while(|(token, _)| *token == Token::Space).collect();
        match words.first() {
            // `else if` and `else with` share the `end` of the chain.
            Some((Token::Name(name), _)) if name == keyword && keyword != "range" => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(self.error("nested too deeply"));
                }
                let branch = self.branch(words[1..].to_vec(), keyword)?;
                self.depth -= 1;
                Ok(vec![if keyword == "if" { Node::If(branch) } else { Node::With(branch) }])
            }
            Some(_) => Err(self.error("unexpected token in else")),
            None => match self.list()? {
                (nodes, Stop::End) => Ok(nodes),
                (_, Stop::Else(_)) => Err(self.error("expected end; found {{else}}")),
                (_, Stop::Eof) => Err(self.error("unexpected EOF")),
            },
        }
    }

    /// `define` gives nothing to print; `block` defines and calls.
    fn define(&mut self, words: Vec<(Token, usize)>, block: bool) -> Result<Option<Node>, Error> {
        let call = self.template(words)?;
        let Node::Template(name, pipe, _) = &call else { unreachable!("template() gives a template") };
        if pipe.is_some() != block {
            return Err(self.error("unexpected token in define"));
        }
        let name = name.clone();
        let scope = std::mem::replace(&mut self.scope, vec!["$".to_owned()]);
        let (body, end) = self.list()?;
        self.scope = scope;
        match end {
            Stop::End => {
                self.named.retain(|(known, _)| *known != name);
                self.named.push((name, body));
                Ok(block.then_some(call))
            }
            _ => Err(self.error("unexpected EOF")),
        }
    }

    fn template(&mut self, words: Vec<(Token, usize)>) -> Result<Node, Error> {
        let words: Vec<_> = words.into_iter().skip_while(|(token, _)| *token == Token::Space).collect();
        let Some((Token::Text(name), at)) = words.first() else {
            return Err(self.error("expected a template name in quotes"));
        };
        let place = self.place(*at, format!("{{{{template {name:?}}}}}"));
        let rest: Vec<_> = words[1..].iter().cloned().skip_while(|(token, _)| *token == Token::Space).collect();
        let pipe = if rest.is_empty() { None } else { Some(self.pipe(&rest, "template clause")?) };
        Ok(Node::Template(name.clone(), pipe, place))
    }

    fn place(&self, at: usize, source: String) -> Place {
        let (line, column) = line_and_column(self.text, at);
        Place { line, column, source }
    }

    fn pipe(&mut self, words: &[(Token, usize)], context: &str) -> Result<Pipe, Error> {
        let mut at = 0;
        let pipe = self.pipe_until(words, &mut at, context)?;
        match words.get(at) {
            None => Ok(pipe),
            Some((token, _)) => Err(self.error(format!("unexpected {} in {context}", describe(token)))),
        }
    }

    /// Stops at a closing parenthesis or at the end.
    fn pipe_until(&mut self, words: &[(Token, usize)], at: &mut usize, context: &str) -> Result<Pipe, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        skip_spaces(words, at);
        let (variables, assigns) = self.declaration(words, at, context)?;
        let mut commands = Vec::new();
        loop {
            commands.push(self.command(words, at, context)?);
            skip_spaces(words, at);
            match words.get(*at) {
                Some((Token::Bar, _)) => *at += 1,
                _ => break,
            }
        }
        // A declared variable is visible after the pipeline that gives it its value.
        for variable in &variables {
            if assigns {
                if !self.scope.contains(variable) {
                    return Err(self.error(format!("undefined variable {variable:?}")));
                }
            } else {
                self.scope.push(variable.clone());
            }
        }
        self.depth -= 1;
        Ok(Pipe { variables, assigns, commands })
    }

    fn declaration(
        &self,
        words: &[(Token, usize)],
        at: &mut usize,
        context: &str,
    ) -> Result<(Vec<String>, bool), Error> {
        let significant: Vec<(usize, &Token)> = words[*at..]
            .iter()
            .enumerate()
            .filter(|(_, (token, _))| *token != Token::Space)
            .map(|(index, (token, _))| (index + *at, token))
            .take(4)
            .collect();
        let (names, operator) = match significant[..] {
            [(_, Token::Variable(one)), (index, operator @ (Token::Declare | Token::Assign)), ..] => {
                (vec![one.clone()], (index, operator))
            }
            [
                (_, Token::Variable(one)),
                (_, Token::Comma),
                (_, Token::Variable(two)),
                (index, operator @ (Token::Declare | Token::Assign)),
            ] if context == "range" => (vec![one.clone(), two.clone()], (index, operator)),
            _ => return Ok((Vec::new(), false)),
        };
        *at = operator.0 + 1;
        Ok((names, *operator.1 == Token::Assign))
    }

    fn command(&mut self, words: &[(Token, usize)], at: &mut usize, context: &str) -> Result<Command, Error> {
        let mut terms = Vec::new();
        skip_spaces(words, at);
        let begin = words.get(*at).map_or(0, |(_, begin)| *begin);
        loop {
            skip_spaces(words, at);
            match words.get(*at) {
                None | Some((Token::Bar | Token::Close, _)) => break,
                Some(_) => terms.push(self.term(words, at, context)?),
            }
            match words.get(*at) {
                None | Some((Token::Space | Token::Bar | Token::Close, _)) => {}
                Some((token, _)) => {
                    return Err(self.error(format!("unexpected {} in operand", describe(token))));
                }
            }
        }
        let Some(first) = terms.first_mut() else {
            return Err(self.error(format!("missing value for {context}")));
        };
        // Go names the whole call in its errors, but a field alone.
        if matches!(first.kind, TermKind::Function(_)) {
            let end = words.get(*at).map_or(words_end(self.text, begin), |(_, end)| *end);
            first.place.source = self.text[begin..end].trim_end().to_owned();
        }
        Ok(Command { terms })
    }

    fn term(&mut self, words: &[(Token, usize)], at: &mut usize, context: &str) -> Result<Term, Error> {
        let (token, begin) = words[*at].clone();
        *at += 1;
        // Go places a chain of fields where its second link begins.
        let chained = match (&token, words.get(*at)) {
            (Token::Field(_) | Token::Variable(_), Some((Token::Field(_), second))) => *second,
            _ => begin,
        };
        let kind = match token {
            Token::Dot => TermKind::Dot,
            Token::Text(text) => TermKind::Literal(Value::text(text)),
            Token::Int(value) => TermKind::Literal(Value::Int(value)),
            Token::Float(value) => TermKind::Literal(Value::Float(value)),
            Token::Field(name) => {
                let mut fields = vec![name];
                fields.extend(self.fields(words, at));
                TermKind::Field(fields)
            }
            Token::Variable(name) => {
                if !self.scope.contains(&name) {
                    return Err(self.error(format!("undefined variable {name:?}")));
                }
                TermKind::Variable(name, self.fields(words, at))
            }
            Token::Name(name) => match name.as_str() {
                "true" => TermKind::Literal(Value::Bool(true)),
                "false" => TermKind::Literal(Value::Bool(false)),
                "nil" => TermKind::Literal(Value::Null(Nil::Pointer)),
                _ if functions::is_known(&name) => TermKind::Function(name),
                _ => return Err(self.error(format!("function {name:?} not defined"))),
            },
            Token::Open => {
                let pipe = self.pipe_until(words, at, "parenthesized pipeline")?;
                match words.get(*at) {
                    Some((Token::Close, _)) => *at += 1,
                    _ => return Err(self.error("unclosed left paren")),
                }
                TermKind::Paren(Box::new(pipe), self.fields(words, at))
            }
            other => return Err(self.error(format!("unexpected {} in {context}", describe(&other)))),
        };
        let end = words.get(*at).map_or(begin, |(_, end)| *end);
        let end = if end > begin { end } else { words_end(self.text, begin) };
        let source = self.text[begin..end].trim();
        let source = source.trim_end_matches([')', '|']).to_owned();
        Ok(Term { kind, place: self.place(chained, source) })
    }

    fn fields(&self, words: &[(Token, usize)], at: &mut usize) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some((Token::Field(name), _)) = words.get(*at) {
            fields.push(name.clone());
            *at += 1;
        }
        fields
    }
}

/// Where the words of the action around `from` end.
fn words_end(text: &str, from: usize) -> usize {
    let end = action_end(text, from).unwrap_or(text.len());
    let inside = text[from..end].trim_end();
    from + inside.strip_suffix(" -").unwrap_or(inside).trim_end().len()
}

fn skip_spaces(words: &[(Token, usize)], at: &mut usize) {
    while let Some((Token::Space, _)) = words.get(*at) {
        *at += 1;
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Field(name) => format!("<.{name}>"),
        Token::Dot => "<.>".to_owned(),
        Token::Variable(name) | Token::Name(name) => format!("<{name}>"),
        Token::Text(text) => format!("{text:?}"),
        Token::Int(value) => format!("{value:?}"),
        Token::Float(value) => format!("{value:?}"),
        Token::Open => "\"(\"".to_owned(),
        Token::Close => "right paren".to_owned(),
        Token::Bar => "\"|\"".to_owned(),
        Token::Declare => "\":=\"".to_owned(),
        Token::Assign => "\"=\"".to_owned(),
        Token::Comma => "\",\"".to_owned(),
        Token::Space => "space".to_owned(),
    }
}

/// Line from 1 and byte in it from 0, as Go counts them.
pub fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |found| found + 1);
    (line, before.len() - start)
}

/// The words of an action with their places in the whole text.
fn tokens(text: &str, inside: &str, start: usize) -> Result<Vec<(Token, usize)>, Error> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < inside.len() {
        let rest = &inside[at..];
        let place = start + at;
        let error = |message: String| Error::parse(text, place, message);
        let first = rest.chars().next().expect("not at the end");
        let word_end = |from: usize| {
            let tail = &rest[from..];
            from + tail.find(|next: char| !(next.is_alphanumeric() || next == '_')).unwrap_or(tail.len())
        };
        let (token, length) = match first {
            ' ' | '\t' | '\n' | '\r' => {
                (Token::Space, rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len())
            }
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Bar, 1),
            ',' => (Token::Comma, 1),
            '=' => (Token::Assign, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            ':' => return Err(error("expected :=".to_owned())),
            '.' if rest[1..].starts_with(|next: char| next.is_alphabetic() || next == '_') => {
                let end = word_end(1);
                (Token::Field(rest[1..end].to_owned()), end)
            }
            '.' if !rest[1..].starts_with(|next: char| next.is_ascii_digit()) => (Token::Dot, 1),
            '$' => {
                let end = word_end(1);
                (Token::Variable(rest[..end].to_owned()), end)
            }
            '"' | '`' | '\'' => quoted(rest, first).map_err(error)?,
            _ if first.is_ascii_digit() || "+-.".contains(first) => {
                let tail = &rest[1..];
                let end = 1 + tail
                    .find(|next: char| !(next.is_ascii_alphanumeric() || next == '.' || next == '_'))
                    .unwrap_or(tail.len());
                let digits = &rest[..end];
                match number(digits) {
                    Some(token) => (token, end),
                    None => return Err(error(format!("bad number syntax: {digits:?}"))),
                }
            }
            _ if first.is_alphabetic() || first == '_' => {
                let end = word_end(0);
                (Token::Name(rest[..end].to_owned()), end)
            }
            _ => return Err(error(format!("unexpected {:?} in operand", first.to_string()))),
        };
        words.push((token, place));
        at += length;
    }
    while let Some((Token::Space, _)) = words.first() {
        words.remove(0);
    }
    while let Some((Token::Space, _)) = words.last() {
        words.pop();
    }
    Ok(words)
}

fn number(digits: &str) -> Option<Token> {
    let plain = digits.replace('_', "");
    let (sign, magnitude) = match plain.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = magnitude.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = lower.strip_prefix(prefix) {
            return i64::from_str_radix(rest, radix).ok().map(|value| Token::Int(sign * value));
        }
    }
    match plain.parse::<i64>() {
        Ok(value) => Some(Token::Int(value)),
        Err(_) if lower.starts_with(|first: char| first.is_ascii_digit() || first == '.') => {
            plain.parse::<f64>().ok().filter(|value| value.is_finite()).map(Token::Float)
        }
        Err(_) => None,
    }
}

/// A quoted constant at the beginning of `rest`, with its length.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, next)) = chars.next() {
        if next == quote {
            let length = index + 1;
            return match quote {
                '\'' => {
                    let mut one = out.chars();
                    match (one.next(), one.next()) {
                        (Some(only), None) => Ok((Token::Int(i64::from(u32::from(only))), length)),
                        _ => Err(format!("malformed character constant: {}", &rest[..length])),
                    }
                }
                _ => Ok((Token::Text(out), length)),
            };
        }
        if next != '\\' || quote == '`' {
            out.push(next);
            continue;
        }
        let (_, escape) = chars.next().ok_or("unterminated quoted string")?;
        match escape {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'v' => out.push('\u{b}'),
            '\\' | '"' | '\'' => out.push(escape),
            'x' | 'u' | 'U' => {
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let hex: String = chars.by_ref().take(digits).map(|(_, digit)| digit).collect();
                let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits);
                out.push(code.and_then(char::from_u32).ok_or("invalid syntax in quoted string")?);
            }
            _ => return Err("invalid syntax in quoted string".to_owned()),
        }
    }
    Err("unterminated quoted string".to_owned())
}
