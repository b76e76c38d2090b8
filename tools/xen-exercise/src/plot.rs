//! Plots as SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Rows of bars: a name, and a value for each of the runs.
pub type Bars = Vec<(String, Vec<f64>)>;

const WIDTH: u32 = 860;
const BLUE: RGBColor = RGBColor(0x2b, 0x6c, 0xb0);
const GREY: RGBColor = RGBColor(0xa0, 0xae, 0xc0);

fn error(why: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {why}")
}

/// Draws horizontal bars; the last value of each row is the newest.
pub fn bars(title: &str, unit: &str, rows: &Bars) -> Result<String> {
    let most = rows.iter().flat_map(|(_, values)| values).fold(1.0_f64, |most, v| most.max(*v));
    let height = 70 + 44 * rows.len() as u32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 17))
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(4)
            .build_cartesian_2d(0.0..most * 1.35, 0.0..rows.len() as f64)
            .map_err(error)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc(unit)
            .draw()
            .map_err(error)?;
        for (row, (name, values)) in rows.iter().rev().enumerate() {
            let each = 0.8 / values.len().max(1) as f64;
            for (number, value) in values.iter().rev().enumerate() {
                let bottom = row as f64 + 0.1 + each * number as f64;
                let colour = if number == 0 { BLUE } else { GREY };
                let bar =
                    Rectangle::new([(0.0, bottom), (*value, bottom + each * 0.9)], colour.filled());
                let label =
                    if number == 0 { format!("{name}  {value}") } else { format!("{value}") };
                let place = (*value + most * 0.01, bottom + each * 0.75);
                chart.draw_series([bar]).map_err(error)?;
                chart.draw_series([Text::new(label, place, ("sans-serif", 13))]).map_err(error)?;
            }
        }
        area.present().map_err(error)?;
    }
    Ok(svg)
}

/// Draws lines over a horizontal axis, each with its name.
pub fn lines(
    title: &str,
    unit: &str,
    x: &str,
    all: &[(String, Vec<(f64, f64)>)],
) -> Result<String> {
    let points = || all.iter().flat_map(|(_, points)| points);
    let most = points().fold(1.0_f64, |most, point| most.max(point.1));
    let end = points().fold(1.0_f64, |end, point| end.max(point.0));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, 300)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 17))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..end, 0.0..most * 1.1)
            .map_err(error)?;
        chart.configure_mesh().x_desc(x).y_desc(unit).draw().map_err(error)?;
        for (number, (name, points)) in all.iter().enumerate() {
            let colour = Palette99::pick(number).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour))
                .map_err(error)?
                .label(name.clone())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(error)?;
        area.present().map_err(error)?;
    }
    Ok(svg)
}
