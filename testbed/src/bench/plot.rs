//! Figures as a picture: bars in groups, a panel for each quantity.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A picture with panels.
pub struct Plot {
    /// Heading of the picture.
    pub title: String,
    /// Names of the bars that stand side by side in each group, for all panels.
    pub series: Vec<&'static str>,
    /// The panels, from left to right and from top to bottom.
    pub panels: Vec<Panel>,
    /// Panels in a row.
    pub columns: usize,
}

/// Groups of bars for one quantity.
pub struct Panel {
    /// The quantity with its unit.
    pub title: String,
    /// For each group its name and a value for each of the series; `None` leaves the bar out.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
}

/// Size of a panel in pixels.
const PANEL: (u32, u32) = (460, 250);

/// Height of the heading and the legend above the panels, in pixels.
const HEAD: u32 = 64;

/// Colours of the series: ours dark, others light, so that they differ in print as well.
const COLOURS: [RGBColor; 4] = [
    RGBColor(27, 94, 155),
    RGBColor(239, 138, 71),
    RGBColor(102, 166, 214),
    RGBColor(247, 201, 163),
];

const INK: RGBColor = RGBColor(40, 48, 58);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Plot {
    /// Draws it as SVG.
    pub fn to_svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| anyhow!("cannot draw {}: {error}", self.title))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let rows = self.panels.len().div_ceil(self.columns);
        let size = (PANEL.0 * self.columns as u32, HEAD + PANEL.1 * rows as u32);
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        root.draw_text(&self.title, &text(17, HPos::Left), (14, 20))?;
        let mut x = 16;
        for (name, colour) in self.series.iter().zip(COLOURS) {
            root.draw(&Rectangle::new([(x, 40), (x + 12, 52)], colour.filled()))?;
            root.draw_text(name, &text(13, HPos::Left), (x + 18, 46))?;
            x += 40 + 8 * name.chars().count() as i32;
        }
        let (_, below) = root.split_vertically(HEAD);
        for (area, panel) in below.split_evenly((rows, self.columns)).iter().zip(&self.panels) {
            panel.draw(&root, area)?;
        }
        root.present()?;
        drop(below);
        Ok(())
    }
}

impl Panel {
    fn draw<'a>(&self, root: &Area<'a>, area: &Area<'a>) -> Result<(), Box<dyn std::error::Error>> {
        let values = self.groups.iter().flat_map(|(_, values)| values.iter().flatten());
        let most = values.fold(0.0, |most: f64, value| most.max(*value));
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, text(14, HPos::Center))
            .margin_right(14)
            .x_label_area_size(30)
            .y_label_area_size(54)
            .build_cartesian_2d(0.0..self.groups.len() as f64, 0.0..(most * 1.12).max(1e-9))
            .map_err(owned)?;
        let mesh = RGBColor(224, 228, 232);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(6)
            .light_line_style(TRANSPARENT)
            .bold_line_style(mesh)
            .axis_style(mesh)
            .label_style(text(11, HPos::Right))
            .y_label_formatter(&|value| format!("{value}"))
            .draw()
            .map_err(owned)?;
        for (number, (name, values)) in self.groups.iter().enumerate() {
            let width = 0.8 / values.len() as f64;
            for (at, value) in values.iter().enumerate() {
                let Some(value) = *value else { continue };
                let left = number as f64 + 0.1 + at as f64 * width;
                let bar = [(left, 0.0), (left + width * 0.94, value)];
                let colour = COLOURS[at % COLOURS.len()].filled();
                chart.draw_series([Rectangle::new(bar, colour)]).map_err(owned)?;
                let (x, y) = chart.backend_coord(&(left + width * 0.47, value));
                root.draw_text(&short(value), &text(9, HPos::Center), (x, y - 7)).map_err(owned)?;
            }
            let (x, y) = chart.backend_coord(&(number as f64 + 0.5, 0.0));
            root.draw_text(name, &text(11, HPos::Center), (x, y + 12)).map_err(owned)?;
        }
        Ok(())
    }
}

/// Frees an error from what it was drawing.
fn owned(error: impl std::fmt::Display) -> Box<dyn std::error::Error> {
    error.to_string().into()
}

/// A value in three digits or so.
fn short(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn text(size: u32, horizontal: HPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font())
        .color(&INK)
        .pos(Pos::new(horizontal, VPos::Center))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plot_has_every_value_and_name() {
        let groups = vec![
            ("64 B".to_string(), vec![Some(1.25), Some(200.0)]),
            ("1 KiB".to_string(), vec![Some(42.0), None]),
        ];
        let panel = Panel { title: "Throughput".into(), groups };
        let plot = Plot {
            title: "Echo".into(),
            series: vec!["ours", "C"],
            panels: vec![panel],
            columns: 1,
        };
        let svg = plot.to_svg().unwrap();
        for text in ["Echo", "Throughput", "64 B", "1 KiB", "ours", "C", "1.2", "200", "42"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}: {svg}");
        }
        // Two in the legend, three bars.
        assert_eq!(svg.matches("#1B5E9B").count() + svg.matches("#EF8A47").count(), 5, "{svg}");
    }
}
