//! Line charts.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{INK, PALE, PALETTE, PlotError, TEXT_SIZE, TITLE_SIZE, clean, drawable, text_width};
use crate::table::number;

/// Size of the part with the axes; the legend comes beside it.
const WIDTH: u32 = 640;
const HEIGHT: u32 = 400;
/// Length of the x axis, which its labels share: the width less the y labels and the margins.
const X_LENGTH: i32 = 520;
/// From one entry of the legend to the next.
const LEGEND_PITCH: i32 = 26;

/// Several series of points joined by lines, with a legend. The y axis begins at zero.
///
/// ```
/// use nic_figures::plot::LineChart;
///
/// let svg = LineChart::new("Loads that overlap", ("chains", ""), ("time per load", "ns"))
///     .log2_x()
///     .series("huge pages", [(1.0, 151.0), (8.0, 21.0), (64.0, 3.8)])
///     .series("4 KiB pages", [(1.0, 190.0), (8.0, 29.0), (64.0, 7.2)])
///     .to_svg()?;
/// assert!(svg.contains("4 KiB pages"));
/// # Ok::<(), nic_figures::plot::PlotError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LineChart {
    title: String,
    x_axis: String,
    y_axis: String,
    log2_x: bool,
    series: Vec<(String, Vec<(f64, f64)>)>,
}

impl LineChart {
    /// No series yet. Each axis is (what it shows, its unit); the unit may be empty.
    pub fn new(title: impl AsRef<str>, x: (&str, &str), y: (&str, &str)) -> Self {
        let axis = |(name, unit): (&str, &str)| match unit {
            "" => clean(name),
            _ => clean(&format!("{name} ({unit})")),
        };
        let title = clean(title.as_ref());
        Self { title, x_axis: axis(x), y_axis: axis(y), log2_x: false, series: Vec::new() }
    }

    /// Spaces the x axis by doublings: for sizes, counts of chains, depths of queues.
    #[must_use]
    pub fn log2_x(mut self) -> Self {
        self.log2_x = true;
        self
    }

    /// Adds a series of (x, y), joined in the order given.
    #[must_use]
    pub fn series(
        mut self,
        name: impl AsRef<str>,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        self.series.push((clean(name.as_ref()), points.into_iter().collect()));
        self
    }

    /// The chart as the text of an SVG file.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        let series = self.placed()?;
        let names = self.series.iter().map(|(name, _)| text_width(name));
        let legend_width = names.max().unwrap_or(0) + 60;
        let entries = i32::try_from(self.series.len()).unwrap_or(i32::MAX);
        let legend_height = 80 + entries.saturating_mul(LEGEND_PITCH);
        let title_width = text_width(&self.title) * TITLE_SIZE / TEXT_SIZE + 40;
        let width = (WIDTH as i32 + legend_width).max(title_width);
        let height = (HEIGHT as i32).max(legend_height);
        let mut svg = String::new();
        {
            let size = (width as u32, height as u32);
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            root.fill(&WHITE)?;
            let title = ("sans-serif", TITLE_SIZE, &INK).into_text_style(&root);
            root.draw_text(&self.title, &title, (20, 16))?;
            let (chart, legend) = root.split_horizontally(WIDTH);
            self.draw_chart(&chart.margin(52, 12, 12, 12), &series)?;
            self.draw_legend(&legend)?;
            root.present()?;
        }
        Ok(svg)
    }

    /// The points as they are drawn: checked, and x as its logarithm if the axis is one.
    fn placed(&self) -> Result<Vec<Vec<(f64, f64)>>, PlotError> {
        let mut all = Vec::new();
        for (name, points) in &self.series {
            let mut placed = Vec::new();
            for &(x, y) in points {
                drawable(name, x)?;
                drawable(name, y)?;
                if self.log2_x && x <= 0.0 {
                    let (label, value) = (name.clone(), x.to_string());
                    return Err(PlotError::NotPositive { label, value });
                }
                placed.push((if self.log2_x { x.log2() } else { x }, y));
            }
            all.push(placed);
        }
        if all.iter().all(Vec::is_empty) {
            return Err(PlotError::Empty { title: self.title.clone() });
        }
        Ok(all)
    }

    fn draw_chart(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        series: &[Vec<(f64, f64)>],
    ) -> Result<(), PlotError> {
        let x = extent(series.iter().flatten().map(|point| point.0));
        let x = if self.log2_x { widened((x.0.floor(), x.1.ceil())) } else { widened(x) };
        let (y_least, y_most) = extent(series.iter().flatten().map(|point| point.1));
        let y = widened((y_least.min(0.0), y_most.max(0.0)));
        let y = (if y.0 < 0.0 { y.0 * 1.05 } else { 0.0 }, y.1 * 1.05);
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(56)
            .y_label_area_size(90)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        let x_label = |x: &f64| tick(if self.log2_x { x.exp2() } else { *x });
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .axis_style(PALE)
            .label_style(("sans-serif", TEXT_SIZE - 2, &INK))
            .axis_desc_style(("sans-serif", TEXT_SIZE, &INK))
            .x_desc(&self.x_axis)
            .y_desc(&self.y_axis)
            .x_labels(self.x_labels(x))
            .y_labels(8)
            .x_label_formatter(&x_label)
            .y_label_formatter(&|y| tick(*y))
            .draw()?;
        for (index, points) in series.iter().enumerate() {
            let color = PALETTE[index % PALETTE.len()];
            chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
            let dots = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(dots)?;
        }
        Ok(())
    }

    /// How many labels fit side by side; on a log2 axis no more than one per doubling, so that
    /// each is a power of two.
    fn x_labels(&self, (first, last): (f64, f64)) -> usize {
        let scale = |x: f64| if self.log2_x { x.exp2() } else { x };
        let ends = [first, last].map(|x| text_width(&tick(scale(x))));
        let fitting = (X_LENGTH / (ends[0].max(ends[1]) + 24)).max(2) as usize;
        if self.log2_x { fitting.min((last - first) as usize + 1) } else { fitting }
    }

    /// Beside the chart, so that it hides no line.
    fn draw_legend(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), PlotError> {
        let left_middle = Pos::new(HPos::Left, VPos::Center);
        let text = ("sans-serif", TEXT_SIZE, &INK).into_text_style(area).pos(left_middle);
        for (index, (name, _)) in self.series.iter().enumerate() {
            let color = PALETTE[index % PALETTE.len()];
            let y = 70 + index as i32 * LEGEND_PITCH;
            area.draw(&PathElement::new([(4, y), (28, y)], color.stroke_width(2)))?;
            area.draw(&Circle::new((16, y), 3, color.filled()))?;
            area.draw_text(name, &text, (36, y))?;
        }
        Ok(())
    }
}

/// The least and the greatest. The caller has at least one value, all of them finite.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(value), most.max(value))
    })
}

/// With some width, even if all values are equal, or closer together than floating point could
/// divide into ticks.
fn widened((least, most): (f64, f64)) -> (f64, f64) {
    const MAGNITUDE_MIN: f64 = 1e-100;
    let magnitude = least.abs().max(most.abs());
    if most - least > (magnitude * 1e-9).max(MAGNITUDE_MIN) {
        return (least, most);
    }
    (least, least + if magnitude > MAGNITUDE_MIN { magnitude } else { 1.0 })
}

/// The label of a tick, without the last bits that adding up steps leaves behind
/// (0.30000000000000004).
fn tick(value: f64) -> String {
    let tidy: f64 = format!("{value:.9e}").parse().unwrap_or(value);
    let plain = tidy.fract() != 0.0 && tidy.abs() > 1e-4;
    if plain { tidy.to_string() } else { number(tidy) }
}

#[cfg(test)]
mod tests {
    use super::super::well_formed;
    use super::*;

    fn chart() -> LineChart {
        LineChart::new("Loads", ("chains", ""), ("time", "ns"))
            .series("huge <&> pages", [(1.0, 151.0), (8.0, 21.0), (64.0, 3.8)])
            .series("4 KiB", [(1.0, 190.0), (64.0, 7.2)])
    }

    #[test]
    fn title_axes_and_legend_are_written() {
        let texts = well_formed::check(&chart().to_svg().unwrap()).texts;
        for text in ["Loads", "chains", "time (ns)", "huge <&> pages", "4 KiB", "0"] {
            assert!(texts.iter().any(|other| other == text), "{text} is missing in {texts:?}");
        }
    }

    #[test]
    fn a_log2_axis_is_labelled_by_doublings() {
        let texts = well_formed::check(&chart().log2_x().to_svg().unwrap()).texts;
        for text in ["1", "2", "4", "8", "16", "32", "64"] {
            assert!(texts.iter().any(|other| other == text), "{text} is missing in {texts:?}");
        }
        // Over many doublings labels are left out, and none is between two powers.
        let wide = chart().series("wide", [(1.0, 1.0), (2.0_f64.powi(30), 1.0)]).log2_x();
        let svg = wide.to_svg().unwrap();
        let document = well_formed::check(&svg);
        assert!(document.texts.iter().any(|text| text == "1 048 576"), "{:?}", document.texts);
    }

    #[test]
    fn ticks_are_written_in_full_and_without_noise() {
        let expected = [
            (0.1 + 0.2, "0.3"),
            (1.0005, "1.0005"),
            (-2.5, "-2.5"),
            (1_200_000.0, "1 200 000"),
            (0.0, "0"),
            (2e-7, "2.00e-7"),
            (5e20, "5.00e20"),
        ];
        for (value, text) in expected {
            assert_eq!(tick(value), text);
        }
    }

    #[test]
    fn every_series_has_its_line_its_dots_and_its_colour() {
        let svg = chart().to_svg().unwrap();
        let document = well_formed::check(&svg);
        // Each series' points, and a dot in the legend.
        assert_eq!(document.named("circle").count(), 3 + 2 + 2);
        for color in ["#0072B2", "#D55E00"] {
            let drawn = |name| {
                let elements = document.named(name);
                elements.filter(|element| element.has(color)).count()
            };
            assert_eq!(drawn("polyline") + drawn("line"), 2, "{color}: a series, a legend entry");
        }
    }

    #[test]
    fn degenerate_data_is_drawn_or_refused() {
        let empty = || LineChart::new("t", ("x", ""), ("y", ""));
        for points in [
            vec![(5.0, 0.0)],
            vec![(3.0, -2.0), (3.0, -2.0)],
            vec![(0.0, 1e100)],
            vec![(0.0, 5e-324), (5e-324, 0.0)],
            vec![(-1e100, 1e100), (1e100, -1e100)],
            vec![(1e16, 1.0), (1e16 + 2.0, 1.0)],
        ] {
            well_formed::check(&empty().series("s", points).to_svg().unwrap());
        }
        well_formed::check(&empty().log2_x().series("s", [(4.0, 1.0)]).to_svg().unwrap());
        let nothing = PlotError::Empty { title: "t".to_owned() };
        assert_eq!(empty().to_svg(), Err(nothing.clone()));
        assert_eq!(empty().series("s", []).to_svg(), Err(nothing));
        let error = empty().series("s", [(0.0, 1.0)]).log2_x().to_svg().unwrap_err();
        assert!(matches!(error, PlotError::NotPositive { .. }), "{error}");
        let error = empty().series("s", [(0.0, f64::NAN)]).to_svg().unwrap_err();
        assert!(matches!(error, PlotError::NotDrawable { .. }), "{error}");
    }
}
