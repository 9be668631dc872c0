//! Go's text/tabwriter with the settings that Docker's tables have: cells at least ten wide, three spaces between.

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

#[cfg(test)]
mod tests {
    use super::align;

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
