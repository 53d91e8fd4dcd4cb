//! Plots as SVG text: bars with their values written on them, and lines over a plain or log2 axis.
//!
//! They need no fonts on the machine: the viewer's sans-serif is named and never measured, and
//! there is room to spare around every text.

mod bars;
mod lines;
#[cfg(test)]
mod well_formed;

use plotters::prelude::{DrawingAreaErrorKind, RGBColor};

pub use bars::BarChart;
pub use lines::LineChart;

/// Why a plot cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// Add a bar, or a series with a point.
    #[error("the plot {title:?} has nothing to show")]
    Empty {
        /// Of the plot.
        title: String,
    },
    /// Leave the value out, or find out why it is NaN, infinite or absurd.
    #[error("{label:?} has the value {value}, and only numbers within 1e100 can be drawn")]
    NotDrawable {
        /// The bar's label or the series' name.
        label: String,
        /// As text.
        value: String,
    },
    /// A log2 axis shows only what is above zero.
    #[error("{label:?} has a point at x = {value}, and a log2 axis begins above 0")]
    NotPositive {
        /// The series' name.
        label: String,
        /// As text.
        value: String,
    },
    /// The drawing library failed.
    #[error("drawing failed: {0}")]
    Draw(String),
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Draw(error.to_string())
    }
}

/// Okabe and Ito's colours, which colour-blind people can tell apart; black and yellow left out.
const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
const INK: RGBColor = RGBColor(34, 34, 34);
const PALE: RGBColor = RGBColor(110, 110, 110);
const TITLE_SIZE: i32 = 22;
const TEXT_SIZE: i32 = 16;

/// Room that a text of [`TEXT_SIZE`] may take in pixels, generously: fonts differ.
fn text_width(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX / 16).saturating_mul(8)
}

/// Without what XML does not allow even escaped; the backend escapes the rest.
fn clean(text: &str) -> String {
    text.replace(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'), " ")
}

/// Refuses what has no place on an axis. The drawing library looks for the ticks of an axis step
/// by step, which never ends where floating point has no step that small or that large.
fn drawable(label: &str, value: f64) -> Result<(), PlotError> {
    const MAGNITUDE_MAX: f64 = 1e100;
    if value.abs() <= MAGNITUDE_MAX {
        return Ok(());
    }
    Err(PlotError::NotDrawable { label: label.to_owned(), value: format!("{value:e}") })
}
