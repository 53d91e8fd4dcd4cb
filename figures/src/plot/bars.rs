//! Bar charts.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{INK, PALE, PALETTE, PlotError, TEXT_SIZE, TITLE_SIZE, clean, drawable, text_width};
use crate::table::number;

/// Pixels from the edge, and between parts.
const MARGIN: i32 = 20;
/// Height of the title and the unit above the bars.
const HEADING: i32 = 70;
/// From one bar to the next; the bar takes two thirds of it.
const PITCH: i32 = 36;
/// Length of the longest bar.
const LENGTH: i32 = 480;
/// Height of the tallest upright bar.
const HEIGHT: i32 = 260;

/// Bars from zero, each with its value written at its end.
///
/// ```
/// use nic_figures::plot::BarChart;
///
/// let svg = BarChart::new("Round trip, 64 B", "us")
///     .bar("udp", 4.1)
///     .bar("ring", 0.31)
///     .to_svg()?;
/// assert!(svg.starts_with("<svg"));
/// # Ok::<(), nic_figures::plot::PlotError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BarChart {
    title: String,
    unit: String,
    bars: Vec<(String, f64)>,
    vertical: bool,
}

impl BarChart {
    /// No bars yet. They lie horizontally, so that labels can be long.
    pub fn new(title: impl AsRef<str>, unit: impl AsRef<str>) -> Self {
        let (title, unit) = (clean(title.as_ref()), clean(unit.as_ref()));
        Self { title, unit, bars: Vec::new(), vertical: false }
    }

    /// Adds a bar: from the top down, or from the left if vertical.
    #[must_use]
    pub fn bar(mut self, label: impl AsRef<str>, value: f64) -> Self {
        self.bars.push((clean(label.as_ref()), value));
        self
    }

    /// Stands the bars upright, with their labels below.
    #[must_use]
    pub fn vertical(mut self) -> Self {
        self.vertical = true;
        self
    }

    /// The chart as the text of an SVG file, as large as its bars and labels need.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        if self.bars.is_empty() {
            return Err(PlotError::Empty { title: self.title.clone() });
        }
        self.bars.iter().try_for_each(|(label, value)| drawable(label, *value))?;
        let layout = Layout::of(self);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, layout.size).into_drawing_area();
            root.fill(&WHITE)?;
            self.draw_heading(&root)?;
            for (index, bar) in self.bars.iter().enumerate() {
                self.draw_bar(&root, &layout, index as i32, bar)?;
            }
            let (start, end) = layout.baseline;
            root.draw(&PathElement::new([start, end], INK.stroke_width(1)))?;
            root.present()?;
        }
        Ok(svg)
    }

    fn draw_heading(&self, root: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), PlotError> {
        let title = ("sans-serif", TITLE_SIZE, &INK).into_text_style(root);
        root.draw_text(&self.title, &title, (MARGIN, MARGIN - 4))?;
        let unit = ("sans-serif", TEXT_SIZE, &PALE).into_text_style(root);
        root.draw_text(&self.unit, &unit, (MARGIN, MARGIN + 24))?;
        Ok(())
    }

    fn draw_bar(
        &self,
        root: &DrawingArea<SVGBackend<'_>, Shift>,
        layout: &Layout,
        index: i32,
        (label, value): &(String, f64),
    ) -> Result<(), PlotError> {
        let along = layout.zero + layout.direction * layout.scale.pixels(*value);
        let across = layout.first + index * layout.pitch;
        let half = (layout.pitch / 3).min(PITCH);
        let (corners, label_at, value_at) = if self.vertical {
            let corners = [(across - half, layout.zero), (across + half, along)];
            let beyond = if *value < 0.0 { along + 6 } else { along - 6 };
            (corners, (across, layout.labels), (across, beyond))
        } else {
            let corners = [(layout.zero, across - half), (along, across + half)];
            let beyond = if *value < 0.0 { along - 6 } else { along + 6 };
            (corners, (layout.labels, across), (beyond, across))
        };
        root.draw(&Rectangle::new(corners, PALETTE[0].filled()))?;
        let text = ("sans-serif", TEXT_SIZE, &INK).into_text_style(root);
        let (label_pos, value_pos) = anchors(self.vertical, *value < 0.0);
        root.draw_text(label, &text.pos(label_pos), label_at)?;
        let text = ("sans-serif", TEXT_SIZE, &INK).into_text_style(root);
        root.draw_text(&number(*value), &text.pos(value_pos), value_at)?;
        Ok(())
    }
}

/// Which side of a text its position names: of the label, of the value.
fn anchors(vertical: bool, negative: bool) -> (Pos, Pos) {
    if vertical {
        let value = if negative { VPos::Top } else { VPos::Bottom };
        return (Pos::new(HPos::Center, VPos::Top), Pos::new(HPos::Center, value));
    }
    let value = if negative { HPos::Right } else { HPos::Left };
    (Pos::new(HPos::Right, VPos::Center), Pos::new(value, VPos::Center))
}

/// Where everything goes, in pixels. *Along* is the direction in which bars grow.
struct Layout {
    size: (u32, u32),
    scale: Scale,
    /// Where zero is, along.
    zero: i32,
    /// 1 if bars grow to the right, -1 if they grow up, for y counts downwards.
    direction: i32,
    /// The middle of the first bar, across.
    first: i32,
    /// From one bar to the next, across.
    pitch: i32,
    /// Where labels end (horizontal) or begin (vertical), along.
    labels: i32,
    baseline: ((i32, i32), (i32, i32)),
}

/// From values to pixels.
struct Scale {
    /// The least value, or 0, and the greatest, or 0.
    least: f64,
    most: f64,
    /// Pixels between the two.
    length: i32,
}

impl Scale {
    fn pixels(&self, value: f64) -> i32 {
        let span = self.most - self.least;
        // Divided first, for the span of very small values has no finite inverse.
        if span > 0.0 { (value / span * f64::from(self.length)).round() as i32 } else { 0 }
    }

    fn below_zero(&self) -> i32 {
        -self.pixels(self.least)
    }
}

impl Layout {
    fn of(chart: &BarChart) -> Self {
        let values = || chart.bars.iter().map(|bar| bar.1);
        let (least, most) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
        let labels = chart.bars.iter().map(|bar| text_width(&bar.0)).max().unwrap_or(0);
        let numbers = values().map(|value| text_width(&number(value))).max().unwrap_or(0);
        let count = i32::try_from(chart.bars.len()).unwrap_or(i32::MAX);
        let mut layout = if chart.vertical {
            Self::upright(Scale { least, most, length: HEIGHT }, labels.max(numbers), count)
        } else {
            Self::lying(Scale { least, most, length: LENGTH }, labels, numbers, count)
        };
        let title = text_width(&chart.title) * TITLE_SIZE / TEXT_SIZE;
        let heading = title.max(text_width(&chart.unit)) + 2 * MARGIN;
        layout.size.0 = layout.size.0.max(heading as u32);
        layout
    }

    fn upright(scale: Scale, text_width: i32, count: i32) -> Self {
        let pitch = text_width.max(PITCH) + MARGIN;
        let zero = HEADING + 2 * MARGIN + scale.pixels(scale.most);
        // Bars below zero write their value below themselves.
        let labels = zero + scale.below_zero() + if scale.least < 0.0 { 36 } else { 10 };
        let right = MARGIN + count * pitch;
        let size = ((right + MARGIN) as u32, (labels + 2 * MARGIN) as u32);
        let (first, baseline) = (MARGIN + pitch / 2, ((MARGIN, zero), (right, zero)));
        Self { size, scale, zero, direction: -1, first, pitch, labels, baseline }
    }

    fn lying(scale: Scale, label_width: i32, value_width: i32, count: i32) -> Self {
        let labels = MARGIN + label_width;
        // Bars to the left of zero write their value to the left of themselves.
        let aside = if scale.least < 0.0 { value_width + 12 } else { 0 };
        let zero = labels + 10 + aside + scale.below_zero();
        let right = zero + scale.pixels(scale.most) + value_width + 12 + MARGIN;
        let bottom = HEADING + count * PITCH;
        let size = (right as u32, (bottom + MARGIN) as u32);
        let (first, baseline) = (HEADING + PITCH / 2, ((zero, HEADING), (zero, bottom)));
        Self { size, scale, zero, direction: 1, first, pitch: PITCH, labels, baseline }
    }
}

#[cfg(test)]
mod tests {
    use super::super::well_formed;
    use super::*;

    fn count(svg: &str, what: &str) -> usize {
        svg.matches(what).count()
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let chart = BarChart::new("t", "us").bar("long", 8.0).bar("short", 2.0).bar("none", 0.0);
        for (chart, side, lengths) in [
            (chart.clone(), "width", [LENGTH, LENGTH / 4]),
            (chart.vertical(), "height", [HEIGHT, HEIGHT / 4]),
        ] {
            let svg = chart.to_svg().unwrap();
            let document = well_formed::check(&svg);
            let bars: Vec<_> = document.rectangles().skip(1).map(|bar| bar.number(side)).collect();
            assert_eq!(bars.len(), 3, "{svg}");
            for (bar, length) in bars.iter().zip(lengths) {
                assert!((bar - f64::from(length)).abs() <= 1.0, "{bar} and {length}");
            }
            assert!(bars[2] <= 1.0);
        }
    }

    #[test]
    fn titles_units_labels_and_values_are_written() {
        let chart = BarChart::new("Round trip", "us").bar("udp", 4.123).bar("ring", 1_234_567.0);
        for chart in [chart.clone(), chart.vertical()] {
            let texts = well_formed::check(&chart.to_svg().unwrap()).texts;
            assert_eq!(texts, ["Round trip", "us", "udp", "4.12", "ring", "1 234 567"]);
        }
    }

    #[test]
    fn markup_in_text_is_escaped_and_control_characters_removed() {
        let chart = BarChart::new("a < b & \"c\" > 'd'\u{1}", "</text>").bar("<script>\n", 1.0);
        let svg = chart.to_svg().unwrap();
        let texts = well_formed::check(&svg).texts;
        assert_eq!(texts, ["a < b & \"c\" > 'd' ", "</text>", "<script> ", "1"]);
        assert_eq!(count(&svg, "<script"), 0);
    }

    #[test]
    fn negative_and_zero_values_stay_on_the_canvas() {
        let mixed = BarChart::new("change", "%").bar("better", -40.0).bar("worse", 10.0);
        let zeros = BarChart::new("lost", "packets").bar("udp", 0.0);
        let tiny = BarChart::new("tiny", "s").bar("a", 5e-324).bar("b", -5e-324);
        let huge = BarChart::new("huge", "B").bar("a", 1e100).bar("b", 1.0);
        let opposite = BarChart::new("huge", "B").bar("a", 1e100).bar("b", -1e100);
        for chart in [mixed, zeros, tiny, huge, opposite] {
            well_formed::check(&chart.to_svg().unwrap());
            well_formed::check(&chart.vertical().to_svg().unwrap());
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let empty = BarChart::new("t", "us").to_svg().unwrap_err();
        assert_eq!(empty, PlotError::Empty { title: "t".to_owned() });
        let error = BarChart::new("t", "us").bar("x", f64::NAN).to_svg().unwrap_err();
        assert!(error.to_string().starts_with("\"x\" has the value NaN"), "{error}");
    }
}
