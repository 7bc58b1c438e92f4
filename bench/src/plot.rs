//! Cost against size and against the number of vCPUs, as SVG.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

/// A line: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// Colors that stay apart on white.
const COLORS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(23, 190, 207),
    RGBColor(0, 0, 0),
    RGBColor(227, 119, 194),
    RGBColor(140, 86, 75),
    RGBColor(127, 127, 127),
];

/// Labels of the axes.
pub struct Labels<'a> {
    /// Above the plot.
    pub title: &'a str,
    /// What the x axis counts, and where it has labels.
    pub x: (&'a str, &'a [f64]),
    /// What the y axis counts, and where it has labels.
    pub y: (&'a str, &'a [f64]),
}

/// Draws lines over logarithmic axes.
pub fn draw(path: &Path, labels: &Labels<'_>, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let over = |f: fn((f64, f64)) -> f64| {
        let all = || points().map(f).filter(|v| v.is_finite() && *v > 0.0);
        (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max))
    };
    let ((x_min, x_max), (y_min, y_max)) = (over(|p| p.0), over(|p| p.1));
    if x_max <= 0.0 || y_max <= 0.0 {
        return Ok(());
    }
    let area = SVGBackend::new(path, (860, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(labels.title, ("sans-serif", 20))?;
    let (plot, legend) = area.split_horizontally(660);
    let (x, y) = (x_min * 0.9..x_max * 1.1, y_min * 0.8..y_max * 1.2);
    let inside = |points: &[f64], range: &Range<f64>| -> Vec<f64> {
        points.iter().copied().filter(|point| range.contains(point)).collect()
    };
    let (x_points, y_points) = (inside(labels.x.1, &x), inside(labels.y.1, &y));
    let x = x.log_scale().with_key_points(x_points);
    let y = y.log_scale().with_key_points(y_points);
    let mut chart = ChartBuilder::on(&plot)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(labels.x.0)
        .y_desc(labels.y.0)
        .x_label_formatter(&|v| format!("{v:.0}"))
        .y_label_formatter(&|v| format!("{v:.0}"))
        .draw()?;
    for (i, (name, points)) in lines.iter().enumerate() {
        let style = COLORS[i % COLORS.len()].stroke_width(2);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        let y = 60 + 22 * i32::try_from(i)?;
        legend.draw(&PathElement::new([(0, y), (24, y)], style))?;
        legend.draw(&Text::new(name.clone(), (32, y - 7), ("sans-serif", 14)))?;
    }
    area.present()?;
    Ok(())
}
