//! What a list verb prints: `--format` of `table`, `table TEMPLATE`, `json`, `TEMPLATE`, or nothing.

use super::print::terminal_width;
use super::table::{align, fit};
use super::template::{self, Mode, Object, Shape, Template, Value};
use std::collections::BTreeMap;
use std::rc::Rc;

/// One column that a verb knows: the placeholder's name and the header above it.
pub type Column = (&'static str, &'static str);

/// What a verb's rows are made of.
#[derive(Debug)]
pub struct Listing {
    /// Every placeholder with its header.
    pub columns: &'static [Column],
    /// Docker's name for a row, seen in error messages.
    pub kind: &'static str,
    /// The template of `table`, as Docker has it.
    pub table: &'static str,
    /// The template of `--quiet`.
    pub quiet: &'static str,
}

/// One row: a value for each column, in the order of `Listing::columns`, and the labels that `.Label` looks into.
#[derive(Debug)]
pub struct Row {
    /// Texts, one for each column.
    pub cells: Vec<String>,
    /// Labels, where the object has some.
    pub labels: Option<BTreeMap<String, String>>,
}

/// The headers of columns that are cut where the terminal is too narrow, what is missed least first.
const MAY_CUT: [&str; 9] =
    ["COMMAND", "CREATED BY", "COMMENT", "CREATED", "IMAGE", "KEPT BY", "PROBLEM", "PORTS", "STATUS"];

/// A `--format` in effect.
#[derive(Debug)]
pub struct Format {
    source: String,
    table: bool,
    fits_terminal: bool,
}

impl Format {
    /// `given` is the flag, or what the config file of the user sets; quiet wins over a table only.
    pub fn new(listing: &Listing, given: &str, quiet: bool) -> Self {
        let (source, table) = match given.trim_start() {
            "" | "table" if quiet => (listing.quiet, false),
            "" | "table" => (listing.table, true),
            "json" => ("{{json .}}", false),
            rest => match rest.strip_prefix("table") {
                Some(template) => (template, true),
                None => (given, false),
            },
        };
        let source = source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        // Who names the columns gets all of them.
        let fits_terminal = matches!(given.trim(), "" | "table");
        Self { source, table, fits_terminal }
    }

    /// With `--no-trunc` nothing is cut.
    pub fn whole(mut self, no_trunc: bool) -> Self {
        self.fits_terminal &= !no_trunc;
        self
    }

    /// Whether a placeholder occurs in it; sizes are only computed for who asks.
    pub fn mentions(&self, placeholder: &str) -> bool {
        self.source.contains(placeholder) || self.source.contains("{{json .}}")
    }

    /// Whether each row is one JSON object; Docker leaves what is dear to compute out of it.
    pub fn is_json(&self) -> bool {
        self.source == "{{json .}}"
    }

    /// The whole listing as text.
    pub fn render(&self, listing: &Listing, rows: &[Row]) -> Result<String, template::Error> {
        let template = self.parse()?;
        let mut out = String::new();
        if self.table {
            let entries = listing.columns.iter().map(|(name, header)| ((*name).to_owned(), Value::text(header)));
            let header = Object { shape: Shape::Header, entries: entries.collect(), labels: None };
            out.push_str(&template.run(&Value::Object(Rc::new(header)), Mode::Header).map_err(prefixed)?);
            out.push('\n');
        }
        for row in rows {
            out.push_str(&template.run(&row_value(listing, row), Mode::Row).map_err(prefixed)?);
            out.push('\n');
        }
        Ok(match terminal_width().filter(|_| self.fits_terminal) {
            _ if !self.table => out,
            Some(width) => fit(&out, width, &MAY_CUT),
            None => align(&out),
        })
    }

    /// Whether it is a table, in which ids and commands are cut.
    pub fn is_table(&self) -> bool {
        self.table
    }

    /// The template run once, on one value that is no row.
    pub fn run(&self, value: &Value) -> Result<String, template::Error> {
        self.parse()?.run(value, Mode::Row).map_err(prefixed)
    }

    fn parse(&self) -> Result<Template, template::Error> {
        Template::parse(&self.source).map_err(prefixed)
    }
}

fn prefixed(error: template::Error) -> template::Error {
    template::Error::Execute(format!("template parsing error: {error}"))
}

/// JSON of a row has its fields sorted, as Go writes a map.
pub fn row_value(listing: &Listing, row: &Row) -> Value {
    let mut entries: Vec<(String, Value)> = listing
        .columns
        .iter()
        .zip(&row.cells)
        .map(|((name, _), cell)| ((*name).to_owned(), Value::text(cell)))
        .collect();
    entries.sort_by(|one, two| one.0.cmp(&two.0));
    Value::Object(Rc::new(Object { shape: Shape::Struct(listing.kind), entries, labels: row.labels.clone() }))
}

/// `a=1,b=2`, as `.Labels` shows them.
pub fn labels_text(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

/// At most `width` columns, with Docker's ellipsis where something was cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept = text.chars().take_while(|letter| {
        used += letter.width().unwrap_or(0);
        used <= width
    });
    kept.collect::<String>() + "\u{2026}"
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing = Listing {
        columns: &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Labels", "LABELS")],
        kind: "*formatter.ContainerContext",
        table: "table {{.ID}}\t{{.Names}}",
        quiet: "{{.ID}}",
    };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("com.example.a-b".to_owned(), "1".to_owned())]);
        let row = |id: &str, name: &str| Row {
            cells: vec![id.to_owned(), name.to_owned(), labels_text(&labels)],
            labels: Some(labels.clone()),
        };
        vec![row("0123456789ab", "db"), row("ba9876543210", "web")]
    }

    fn render(given: &str, quiet: bool) -> Result<String, String> {
        Format::new(&LISTING, given, quiet).render(&LISTING, &rows()).map_err(|error| error.to_string())
    }

    #[test]
    fn formats_as_docker_reads_them() {
        for (given, quiet, expected) in [
            ("table {{.ID}}\\t{{.Names}}", false, "CONTAINER ID   NAMES\n0123456789ab   db\nba9876543210   web\n"),
            (
                "table {{upper .Names}}\\t{{.Labels}}",
                false,
                "NAMES     LABELS\nDB        com.example.a-b=1\nWEB       com.example.a-b=1\n",
            ),
            (r#"table {{.Names}}\t{{.Label "com.example.a-b"}}"#, false, "NAMES     a b\ndb        1\nweb       1\n"),
            ("{{.Names}}", false, "db\nweb\n"),
            ("{{.Names}}", true, "db\nweb\n"),
            ("", true, "0123456789ab\nba9876543210\n"),
            ("table", true, "0123456789ab\nba9876543210\n"),
            (r#"{{.Label "nope"}}|{{.Label "com.example.a-b"}}"#, false, "|1\n|1\n"),
            (
                "json",
                false,
                "{\"ID\":\"0123456789ab\",\"Labels\":\"com.example.a-b=1\",\"Names\":\"db\"}\n{\"ID\":\"ba9876543210\",\"Labels\":\"com.example.a-b=1\",\"Names\":\"web\"}\n",
            ),
            ("{{json .Names}}", false, "\"db\"\n\"web\"\n"),
        ] {
            assert_eq!(render(given, quiet).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn unknown_placeholders_are_errors_in_dockers_words() {
        for (given, expected) in [
            (
                "{{.Foo}}",
                r#"template parsing error: template: :1:2: executing "" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"#,
            ),
            ("{{.Foo", "template parsing error: template: :1: unclosed action"),
        ] {
            assert_eq!(render(given, false), Err(expected.to_owned()));
        }
    }

    #[test]
    fn long_texts_are_cut_by_width() {
        for (text, width, expected) in [
            ("short", 20, "short"),
            ("0123456789", 5, "0123\u{2026}"),
            ("\u{6570}\u{636e}\u{5e93}", 5, "\u{6570}\u{636e}\u{2026}"),
        ] {
            assert_eq!(ellipsis(text, width), expected);
        }
    }
}
