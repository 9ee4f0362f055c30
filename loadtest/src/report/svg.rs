//! A plot as SVG, a file of its own.
//!
//! No crate draws this. `plotters`, the best kept one, writes each colour into each element, so a
//! picture is either light or dark; it has no titles, descriptions, dashes or markers per line
//! without drawing them by hand; and it measures text by a font of this machine or by guess. What
//! is needed here is few shapes, named by classes that one style sheet colours for both schemes.
//!
//! A picture is as legible at a phone's width as beside another: text is large for its frame, and
//! ticks that would touch are left out. It brings its own background, since a page that shows it
//! (GitHub's, for one) may be light where the browser prefers dark.

use std::fmt::Write as _;

use super::chart::{Chart, Line, Point};
use super::number::tick;
use super::scale::{Range, Scale};
use super::style::{STYLES, style_sheet};
use super::text::markup;

/// The picture as a file.
pub(crate) fn file(chart: &Chart) -> String {
    Picture::of(chart).drawn()
}

/// A plot with its coordinates.
struct Picture<'a> {
    chart: &'a Chart,
    x: Range,
    y: Range,
    /// Where the frame begins, from the left.
    left: f64,
    /// Lines of the legend, each with the entries that fit.
    legend: Vec<Vec<&'a Line>>,
}

impl<'a> Picture<'a> {
    fn of(chart: &'a Chart) -> Self {
        let (x, y) = (chart.x_range(), chart.y_range());
        let widest = y.ticks.iter().map(|value| width(&tick(*value))).fold(0.0, f64::max);
        let mut legend: Vec<Vec<&Line>> = Vec::new();
        let mut taken = f64::INFINITY;
        for line in &chart.lines {
            let needed = entry_width(line);
            if taken + needed > WIDTH - 2.0 * EDGE {
                legend.push(Vec::new());
                taken = 0.0;
            }
            taken += needed;
            if let Some(row) = legend.last_mut() {
                row.push(line);
            }
        }
        Self { chart, x, y, left: EDGE + widest + 8.0, legend }
    }

    fn drawn(&self) -> String {
        let Chart { name, title, .. } = self.chart;
        // As wide as the picture is, a title has about so many characters of the size that styles
        // give it.
        let characters = title.chars().count();
        let smaller = if characters > TITLE_CHARACTERS {
            format!(" style=\"font-size:{}px\"", 16 * TITLE_CHARACTERS / characters)
        } else {
            String::new()
        };
        let (id, title) = (markup(name), markup(title));
        let height = BOTTOM + 46.0 + ROW * self.legend.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {WIDTH} \
             {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\">\n<title id=\"{id}-t\">{title}</title>\n\
             <desc id=\"{id}-d\">{}</desc>\n<style>{}</style>\n",
            markup(&self.chart.described()),
            style_sheet(),
        );
        let _ = writeln!(
            svg,
            "<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n\
             <text class=\"title\" x=\"{EDGE}\" y=\"26\"{smaller}>{title}</text>\n\
             <text x=\"{EDGE}\" y=\"48\">{}</text>",
            markup(&self.chart.y.in_words()),
        );
        self.draw_axes(&mut svg);
        // The first is drawn last: over the others.
        for line in self.chart.lines.iter().rev() {
            self.draw_line(&mut svg, line);
        }
        self.draw_legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String) {
        let right = WIDTH - RIGHT;
        for (at, label) in apart(&self.y, |value| self.y_at(value), tick, |_| ROW) {
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{:.1} {at:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{label}</text>",
                self.left,
                self.left - 6.0,
                at + 5.0,
            );
        }
        let percent = |value| format!("{} %", tick(value));
        let named =
            |value| if self.chart.x.scale == Scale::Tail { percent(value) } else { tick(value) };
        for (at, label) in
            apart(&self.x, |value| self.x_at(value), named, |label| width(label) + 10.0)
        {
            // A label at the edge stays inside.
            let centre = at.min(WIDTH - 4.0 - width(&label) / 2.0);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{:.1}\"/><text x=\"{centre:.1}\" \
                 y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                BOTTOM + 4.0,
                BOTTOM + 19.0,
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            BOTTOM + 38.0,
            markup(&self.chart.x.in_words()),
        );
    }

    fn draw_line(&self, svg: &mut String, line: &Line) {
        let style = line.style % STYLES.len();
        let mut path = String::new();
        for point in &line.points {
            if let Some((x, y)) = self.coordinates(point) {
                let step = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{step}{x:.1} {y:.1}");
            }
        }
        let _ = writeln!(svg, "<path class=\"line l{style}\" d=\"{path}\"/>");
        for point in line.some_points(MARKS) {
            let Some((x, y)) = self.coordinates(&point) else { continue };
            let (low, high) = point.spread;
            if low < high
                && let (Some(low), Some(high)) = (self.y_at(low), self.y_at(high))
            {
                let _ = writeln!(
                    svg,
                    "<path class=\"spread l{style}\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>"
                );
            }
            mark(svg, style, x, y);
        }
    }

    fn draw_legend(&self, svg: &mut String) {
        let mut y = BOTTOM + 46.0 + ROW / 2.0 - 4.0;
        for row in &self.legend {
            let mut x = EDGE;
            for line in row {
                let style = line.style % STYLES.len();
                let end = x + SAMPLE;
                let _ =
                    writeln!(svg, "<path class=\"line l{style}\" d=\"M{x:.1} {y:.1}H{end:.1}\"/>");
                mark(svg, style, x + SAMPLE / 2.0, y);
                let label = markup(&line.label);
                let _ = writeln!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                    end + 6.0,
                    y + 5.0
                );
                x += entry_width(line);
            }
            y += ROW;
        }
    }

    fn coordinates(&self, point: &Point) -> Option<(f64, f64)> {
        Some((self.x_at(point.x)?, self.y_at(point.y)?))
    }

    fn x_at(&self, x: f64) -> Option<f64> {
        Some(self.left + self.x.fraction(x)? * (WIDTH - RIGHT - self.left))
    }

    fn y_at(&self, y: f64) -> Option<f64> {
        Some(BOTTOM - self.y.fraction(y)? * (BOTTOM - TOP))
    }
}

/// The ticks with their coordinates and labels, without those that would touch the one before.
fn apart(
    range: &Range,
    at: impl Fn(f64) -> Option<f64>,
    label: impl Fn(f64) -> String,
    room: impl Fn(&str) -> f64,
) -> Vec<(f64, String)> {
    let mut kept: Vec<(f64, String)> = Vec::new();
    for value in &range.ticks {
        let Some(coordinate) = at(*value) else { continue };
        let label = label(*value);
        let touches = |(before, label_before): &(f64, String)| {
            (coordinate - before).abs() < (room(&label) + room(label_before)) / 2.0
        };
        if !kept.last().is_some_and(touches) {
            kept.push((coordinate, label));
        }
    }
    kept
}

/// A line's marker, of a shape of its own.
fn mark(svg: &mut String, style: usize, x: f64, y: f64) {
    let shape = STYLES[style].mark;
    let _ = writeln!(
        svg,
        "<path class=\"mark m{style}\" transform=\"translate({x:.1} {y:.1})\" d=\"{shape}\"/>"
    );
}

/// What a text takes, by the mean width of its characters: enough to keep labels apart.
fn width(text: &str) -> f64 {
    text.chars().count() as f64 * 8.0
}

fn entry_width(line: &Line) -> f64 {
    SAMPLE + 6.0 + width(&line.label) + 14.0
}

const WIDTH: f64 = 480.0;
const EDGE: f64 = 14.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 290.0;
/// A row of text.
const ROW: f64 = 22.0;
/// A piece of line in the legend.
const SAMPLE: f64 = 30.0;
/// Markers on a line.
const MARKS: usize = 9;

const TITLE_CHARACTERS: usize = 52;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart::{Axis, tests::example};
    use crate::report::text::tests::is_balanced;

    #[test]
    fn picture_has_title_words_axes_and_legend() {
        let svg = file(&example());
        for part in [
            "role=\"img\" aria-labelledby=\"example-t example-d\"",
            "<title id=\"example-t\">Memory over connections</title>",
            "<desc id=\"example-d\">bytes against connections.",
            ">bytes</text>",
            ">connections</text>",
            ">first</text>",
            ">&lt;second&gt;</text>",
            "prefers-color-scheme:dark",
        ] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        assert!(is_balanced(&svg), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn lines_differ_in_more_than_colour() {
        let svg = file(&example());
        for (index, style) in STYLES.iter().enumerate().take(2) {
            assert!(svg.contains(&format!("line l{index}")), "{svg}");
            assert!(svg.contains(style.mark), "{svg}");
        }
    }

    #[test]
    fn labels_of_ticks_never_touch() {
        let mut chart = example();
        chart.x = Axis { label: "percentile".into(), scale: Scale::Tail };
        chart.lines[0].points = [10.0, 99.0, 99.999_99].map(|p| Point::at((p, 1e9))).to_vec();
        let picture = Picture::of(&chart);
        let room = |label: &str| width(label) + 30.0;
        let kept = apart(&picture.x, |value| picture.x_at(value), tick, room);
        assert!((3..picture.x.ticks.len()).contains(&kept.len()), "{kept:?}");
        for pair in kept.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= (room(&pair[0].1) + room(&pair[1].1)) / 2.0);
        }
    }

    #[test]
    fn single_points_and_odd_values_draw() {
        let mut chart = example();
        for points in [&[(0.0, 0.0)][..], &[(5.0, f64::NAN)], &[(1.0, -3.0), (1.0, -3.0)]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Tail] {
                chart.x.scale = scale;
                chart.y.scale = scale;
                chart.lines[0].points = points.iter().copied().map(Point::at).collect();
                let svg = file(&chart);
                let drawn = svg.split("</desc>").nth(1).expect("there is a description");
                assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{scale:?} {drawn}");
            }
        }
    }
}
