//! Which name may have been meant, when one isn't there.

/// How many are offered.
const MOST: usize = 3;

/// Names of `candidates` that are close to `wanted`, the closest first: another case, the same name with a project's
/// before it (`n8n_data`, `n8n_n8n_data`; `db`, `shop-db-1`), a letter or two that differ.
pub fn near<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<(u8, &str)> =
        candidates.into_iter().filter_map(|name| Some((distance(wanted, name)?, name))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name.to_owned()).take(MOST).collect()
}

fn distance(wanted: &str, name: &str) -> Option<u8> {
    let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
    let ends_with_part = |whole: &str, part: &str| {
        let before = whole.strip_suffix(part).filter(|_| part.len() > 1);
        before.is_some_and(|before| before.ends_with(['_', '-', '.']))
    };
    let has_part = || name.split(['_', '-', '.']).any(|part| part == wanted && part.len() > 1);
    match () {
        () if wanted.is_empty() => None,
        () if wanted == name => Some(0),
        () if ends_with_part(&name, &wanted) => Some(1),
        () if ends_with_part(&wanted, &name) => Some(2),
        () if has_part() => Some(3),
        () => {
            let allowed = match wanted.chars().count() {
                0..3 => 0,
                3..8 => 1,
                _ => 2,
            };
            let edits = edits(&wanted, &name);
            (edits <= allowed).then_some(3 + u8::try_from(edits).unwrap_or(u8::MAX - 3))
        }
    }
}

/// Letters that are added, left out, changed, or swapped with their neighbour.
fn edits(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, letter) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other_letter) in other.iter().enumerate() {
            let change = rows[i][j] + usize::from(letter != other_letter);
            let mut best = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == other[j - 1] && one[i - 1] == *other_letter {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_meant() {
        for (wanted, candidates, expected) in [
            ("n8n_data", &["n8n_n8n_data", "pgdata"][..], &["n8n_n8n_data"][..]),
            ("shop_pgdata", &["pgdata"], &["pgdata"]),
            ("db", &["shop-db-1", "dba"], &["shop-db-1"]),
            ("pgdtaa", &["pgdata"], &["pgdata"]),
            ("PGDATA", &["pgdata"], &["pgdata"]),
            ("postgrse", &["postgres", "redis"], &["postgres"]),
            ("ab", &["ac"], &[]),
            ("web", &["db", "cache"], &[]),
            ("", &["a"], &[]),
            ("restrt", &["restart", "start"], &["restart"]),
        ] {
            assert_eq!(near(wanted, candidates.iter().copied()), expected, "{wanted}");
        }
    }
}
