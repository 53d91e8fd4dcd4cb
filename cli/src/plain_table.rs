//! Columns of plain text, as wide as they must be, and times as people read them.

/// A table without lines, under a head.
#[derive(Clone, Debug)]
pub struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A table with nothing but its head.
    pub fn new(head: &[&str]) -> Self {
        Columns { rows: vec![head.iter().map(|title| (*title).to_owned()).collect()] }
    }

    /// Adds a row of as many cells as the head has.
    pub fn push<const N: usize>(&mut self, row: [String; N]) {
        assert_eq!(N, self.rows[0].len(), "a row has a cell for each title");
        self.rows.push(row.into());
    }

    /// Whether there is nothing but the head.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// One line a row, each after `indent`.
    pub fn indented(&self, indent: &str) -> String {
        self.lines().map(|line| format!("{indent}{line}\n")).collect()
    }

    /// The rows, the head first.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let count = self.rows[0].len();
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        self.rows.iter().map(move |row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
    }
}

/// A time with three digits and a unit that suits it.
pub fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..999_500 => (ns as f64 / 1e3, "us"),
        999_500..999_500_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let shown =
            [0, 999, 1_000, 5_304, 61_250, 999_499, 999_500, 250_000_000, 3_600_000_000_000];
        let shown = shown.map(duration);
        let expected = [
            "0 ns", "999 ns", "1.00 us", "5.30 us", "61.2 us", "999 us", "1.00 ms", "250 ms",
            "3600 s",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut columns = Columns::new(&["a", "title"]);
        assert!(columns.is_empty());
        columns.push(["wide".to_owned(), "b".to_owned()]);
        assert_eq!(columns.indented("> "), "> a     title\n> wide  b\n");
    }
}
