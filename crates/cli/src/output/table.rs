//! Go's text/tabwriter with the settings that Docker's tables have: cells at least ten wide, three spaces between.

use super::list::ellipsis;
use unicode_width::UnicodeWidthStr;

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns cells that end with a tab. A column reaches over consecutive lines that have it, as in Go; what follows a
/// line's last tab belongs to no column.
pub fn align(text: &str) -> String {
    let mut lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    // What is cut at the last line's end, or an empty text, is no line.
    if lines.last().is_some_and(|cells| *cells == [""]) {
        lines.pop();
    }
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let block = widths[start..].iter().take_while(|row| row.len() > column).count();
            let cells = &lines[start..start + block];
            let widest = cells.iter().map(|cells| cells[column].width()).max().unwrap_or(0);
            let width = (widest + PADDING).max(MIN_WIDTH);
            for row in &mut widths[start..start + block] {
                row[column] = width;
            }
            start += block.max(1);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
        }
        out.push_str(cells.last().copied().unwrap_or_default());
        out.push('\n');
    }
    out
}

/// No column is cut below this, nor below its header.
const NARROWEST: usize = 8;

/// As [`align`], for a terminal of `width` columns: where that is too narrow, the columns move together, and those whose
/// header stands in `may_cut` are cut, one after the other, but never the first. Names, ids and sizes never are: half of
/// one is worse than a line that the terminal wraps.
pub fn fit(text: &str, width: usize, may_cut: &[&str]) -> String {
    let aligned = align(text);
    if aligned.lines().all(|line| line.trim_end().width() <= width) {
        return aligned;
    }
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let headers = lines.first().cloned().unwrap_or_default();
    // A tab within a cell: whose column is whose can't be told any more.
    if lines.iter().any(|cells| cells.len() > headers.len()) {
        return aligned;
    }
    let needed = |column: usize| lines.iter().filter_map(|cells| cells.get(column)).map(|cell| cell.width()).max();
    let natural: Vec<usize> = (0..headers.len()).map(|column| needed(column).unwrap_or(0)).collect();
    // The last (STATUS, which tells who is unhealthy) stays whole as long as that can be.
    let but_last = &may_cut[..may_cut.len().saturating_sub(1)];
    let tries = [(2, but_last), (1, but_last), (1, may_cut)].map(|(gap, may_cut)| {
        let room = width.saturating_sub(gap * headers.len().saturating_sub(1));
        let widths = narrow(&headers, &natural, room, may_cut);
        (gap, widths.iter().sum::<usize>() <= room, widths)
    });
    let (gap, _, widths) = tries.iter().find(|(_, fits, _)| *fits).unwrap_or(&tries[2]);
    let mut out = String::with_capacity(text.len() * 2);
    for cells in &lines {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let cut = ellipsis(cell, *width);
            line += &cut;
            line.extend(std::iter::repeat_n(' ', (width + gap).saturating_sub(cut.width())));
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// The columns' widths with what is cut off so that they take no more than `room`, as far as that can be.
fn narrow(headers: &[&str], natural: &[usize], room: usize, may_cut: &[&str]) -> Vec<usize> {
    let mut widths = natural.to_vec();
    let places = may_cut.iter().filter_map(|header| headers.iter().position(|other| other == header));
    for column in places.filter(|column| *column > 0) {
        let excess = widths.iter().sum::<usize>().saturating_sub(room);
        let least = headers[column].width().max(NARROWEST).min(widths[column]);
        widths[column] = widths[column].saturating_sub(excess).max(least);
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::{align, fit};

    #[test]
    fn a_narrow_terminal_cuts_what_may_be_cut() {
        let text = "CONTAINER ID\tCOMMAND\tPORTS\tSTATUS\tNAMES\n\
            0123456789ab\t\"docker-entrypoint.s\u{2026}\"\t\tUp 2 minutes (healthy)\tshop-db-1\n";
        let together = "CONTAINER ID  COMMAND                 PORTS  STATUS                  NAMES\n\
            0123456789ab  \"docker-entrypoint.s\u{2026}\"         Up 2 minutes (healthy)  shop-db-1\n";
        let narrow = "CONTAINER ID  COMMAND     PORTS  STATUS                  NAMES\n\
            0123456789ab  \"docker-e\u{2026}         Up 2 minutes (healthy)  shop-db-1\n";
        let by_one = "CONTAINER ID COMMAND  PORTS STATUS                 NAMES\n\
            0123456789ab \"docker\u{2026}       Up 2 minutes (healthy) shop-db-1\n";
        let least = "CONTAINER ID COMMAND  PORTS STATUS   NAMES\n\
            0123456789ab \"docker\u{2026}       Up 2 mi\u{2026} shop-db-1\n";
        let expected =
            [(200, align(text)), (80, together.into()), (66, narrow.into()), (60, by_one.into()), (20, least.into())];
        for (width, expected) in expected {
            let found = fit(text, width, &["COMMAND", "PORTS", "STATUS"]);
            assert_eq!(found, expected, "{width}:\n{found}");
        }
    }

    #[test]
    fn columns_are_as_wide_as_dockers() {
        for (text, expected) in [
            ("DRIVER\tVOLUME NAME\nlocal\tpgdata\n", "DRIVER    VOLUME NAME\nlocal     pgdata\n"),
            ("CONTAINER ID\tNAMES\nabcdefabcdef\tdb\n", "CONTAINER ID   NAMES\nabcdefabcdef   db\n"),
            (
                "NAME\tX\n\u{6570}\u{636e}\u{5e93}\u{5e93}\u{5e93}\ty\n",
                "NAME         X\n\u{6570}\u{636e}\u{5e93}\u{5e93}\u{5e93}   y\n",
            ),
            ("a\tb\n\nlonger than that\tc\n", "a         b\n\nlonger than that   c\n"),
            ("", ""),
            ("one\n", "one\n"),
        ] {
            assert_eq!(align(text), expected);
        }
    }
}
