//! Figures as a table for a terminal, and numbers with as many digits as mean something.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::result::Figure;

/// A table of figures: name, value, unit, runs, extremes. Plain text without colours, lines
/// never wrapped. Ends with a line feed.
pub fn render(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["figure", "value", "unit", "runs", "min", "max"]);
    for figure in figures {
        table.add_row([
            one_line(&figure.name),
            number(figure.value),
            one_line(&figure.unit),
            number(f64::from(figure.runs)),
            number(figure.min),
            number(figure.max),
        ]);
    }
    for column in [1, 3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// A number as a person reads it: three significant digits, more for large whole parts, which
/// are grouped by spaces (0.0123, 4.12, 1 234 567); whole numbers without a fraction; powers of
/// ten below 0.0001 and from 10^15.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounding may carry into the next power of ten (9.996 is 10.0): ask after rounding.
    let scientific = format!("{value:.2e}");
    let exponent = scientific.rsplit_once('e').and_then(|(_, power)| power.parse::<i32>().ok());
    let exponent = exponent.unwrap_or(0);
    if !(-4..15).contains(&exponent) {
        return scientific;
    }
    if value.fract() == 0.0 || exponent >= 2 {
        return grouped(&format!("{value:.0}"));
    }
    let decimals = usize::try_from(2 - exponent).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// Puts a space between groups of three digits of a whole number, which may be negative.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Control characters would break the table, or reach the terminal.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_sensible_digits() {
        let expected = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.0123, "0.0123"),
            (0.012_345, "0.0123"),
            (0.000_123_4, "0.000123"),
            (0.000_099_96, "0.000100"),
            (0.000_012_3, "1.23e-5"),
            (4.1234, "4.12"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (2.0, "2"),
            (-4.125_01, "-4.13"),
            (999.7, "1 000"),
            (1_234.4, "1 234"),
            (1_234_567.0, "1 234 567"),
            (-123_456.0, "-123 456"),
            (123_456_789_012_345.0, "123 456 789 012 345"),
            (1e15, "1.00e15"),
            (f64::NAN, "n/a"),
            (f64::NEG_INFINITY, "n/a"),
        ];
        for (value, text) in expected {
            assert_eq!(number(value), text, "{value:?}");
        }
    }

    #[test]
    fn the_table_lines_up() {
        let figures = [
            Figure::of("read.p50", "us", &[4.125, 4.0, 5.5]).unwrap(),
            Figure::count("packets\nper op", "packets", 1_234_567),
        ];
        let expected = "\
┌────────────────┬───────────┬─────────┬──────┬───────────┬───────────┐
│ figure         ┆     value ┆ unit    ┆ runs ┆       min ┆       max │
╞════════════════╪═══════════╪═════════╪══════╪═══════════╪═══════════╡
│ read.p50       ┆      4.12 ┆ us      ┆    3 ┆         4 ┆      5.50 │
│ packets per op ┆ 1 234 567 ┆ packets ┆    1 ┆ 1 234 567 ┆ 1 234 567 │
└────────────────┴───────────┴─────────┴──────┴───────────┴───────────┘
";
        assert_eq!(render(&figures), expected);
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(render(&[]).lines().count(), 4);
    }
}
