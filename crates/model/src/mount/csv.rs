//! One line of comma-separated values, as Go's `encoding/csv` reads it.

use super::InvalidMount;

/// The fields of `line`. A field in double quotes may hold commas, and quotes as `""`.
pub(super) fn fields(line: &str) -> Result<Vec<String>, InvalidMount> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let start = line.len() - rest.len();
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, start + 1)?,
            None => plain_field(rest, start)?,
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

fn plain_field(text: &str, start: usize) -> Result<(String, &str), InvalidMount> {
    let end = text.find(',').unwrap_or(text.len());
    match text[..end].find('"') {
        Some(quote) => Err(InvalidMount::Csv { column: start + quote + 1, what: "bare \" in non-quoted field" }),
        None => Ok((text[..end].to_owned(), &text[end..])),
    }
}

/// `text` begins behind the opening quote, at byte `start` of the line.
fn quoted_field(text: &str, start: usize) -> Result<(String, &str), InvalidMount> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let stray = |at: usize| InvalidMount::Csv { column: at + 1, what: "extraneous or missing \" in quoted-field" };
        let Some(quote) = rest.find('"') else { return Err(stray(start + text.len())) };
        field.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.bytes().next() {
            Some(b'"') => {
                field.push('"');
                rest = &rest[1..];
            }
            None | Some(b',') => return Ok((field, rest)),
            Some(_) => return Err(stray(start + text.len() - rest.len() - 1)),
        }
    }
}
