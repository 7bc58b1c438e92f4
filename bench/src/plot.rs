//! Cost against size and against the number of vCPUs, as SVG.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// A line: its name and its points.
type Line = (String, Vec<(f64, f64)>);

/// Draws lines over logarithmic axes.
pub fn draw(
    path: &Path,
    title: &str,
    x: &str,
    y: &str,
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
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
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(
            (x_min * 0.9..x_max * 1.1).log_scale(),
            (y_min * 0.8..y_max * 1.3).log_scale(),
        )?;
    let label = |v: &f64| crate::report::number(*v).trim_end_matches(".00").to_owned();
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .light_line_style(RGBColor(235, 235, 235))
        .draw()?;
    for (i, (name, points)) in lines.iter().enumerate() {
        let color = Palette99::pick(i).to_rgba();
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    Ok(())
}
