//! Medians, and the tables that show them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Something that is measured: the column it stands in, and one turn of it.
pub type Turn<'a> = (String, Box<dyn FnMut(usize) -> Outcome<f64> + 'a>);

/// Lets all take turns, `rounds` times, and hands back each one's median.
pub fn take_turns(rounds: usize, mut turns: Vec<Turn<'_>>) -> Outcome<Vec<(String, f64)>> {
    let mut seen = vec![Vec::new(); turns.len()];
    for round in 0..rounds {
        for (index, (name, turn)) in turns.iter_mut().enumerate() {
            seen[index].push(turn(round).map_err(|error| format!("{name}: {error}"))?);
        }
    }
    Ok(turns.into_iter().zip(seen).map(|((name, _), figures)| (name, median(figures))).collect())
}

/// The time that something takes, in milliseconds.
pub fn milliseconds(work: impl FnOnce() -> Outcome) -> Outcome<f64> {
    let started = Instant::now();
    work()?;
    Ok(in_milliseconds(started.elapsed()))
}

pub fn in_milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => figures[length / 2],
        length => f64::midpoint(figures[length / 2 - 1], figures[length / 2]),
    }
}

/// A section with a table: a row per work, a column per name, and the ratio of the first column to each other one.
pub fn section(title: &str, words: &str, rows: &[(String, Vec<(String, f64)>)]) -> String {
    let mut text = format!("\n## {title}\n\n{words}\n\n");
    let Some((_, first)) = rows.first() else { return text };
    let _ = write!(text, "| work |");
    for (name, _) in first {
        let _ = write!(text, " {name} |");
    }
    for (name, _) in &first[1..] {
        let _ = write!(text, " ratio to {name} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(first.len() * 2 - 1));
    for (work, figures) in rows {
        let _ = write!(text, "| {work} |");
        for (_, figure) in figures {
            let _ = write!(text, " {} |", shown(*figure));
        }
        for (_, figure) in &figures[1..] {
            let ratio = figures[0].1 / figure;
            let _ = if ratio.is_nan() { write!(text, " - |") } else { write!(text, " {ratio:.2} |") };
        }
        text.push('\n');
    }
    text
}

fn shown(figure: f64) -> String {
    if figure.is_nan() {
        return "-".to_owned();
    }
    if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (figures, expected) in [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5), (vec![7.0], 7.0)] {
            assert!((median(figures) - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn a_table_has_a_ratio_to_each_other_column() {
        let rows = [("ls".to_owned(), vec![("orlop".to_owned(), 5.0), ("docker".to_owned(), 20.0)])];
        let text = section("Lists", "Words.", &rows);
        assert!(
            text.contains(
                "| work | orlop | docker | ratio to docker |\n|---|---:|---:|---:|\n| ls | 5.0 | 20.0 | 0.25 |"
            ),
            "{text}"
        );
    }
}
