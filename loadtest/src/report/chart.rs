//! A plot as data: what is drawn, and the same in words.

use std::fmt::Write as _;

use super::number::{number, tick};
use super::scale::{Range, Scale};

/// A plot of some lines over one another.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// Its file's name without the end, and its id in a page; of a slug's characters.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) title: String,
    /// Across.
    pub(crate) x: Axis,
    /// Up.
    pub(crate) y: Axis,
    /// At least one, each with at least one point.
    pub(crate) lines: Vec<Line>,
}

/// An axis with its unit.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// What it counts, with the unit.
    pub(crate) label: String,
    /// How values lie on it.
    pub(crate) scale: Scale,
}

/// A line with its points.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What it stands for.
    pub(crate) label: String,
    /// Which of the styles it has in all plots of a report.
    pub(crate) style: usize,
    /// In the order of `x`.
    pub(crate) points: Vec<Point>,
}

/// A point, and how far it was spread over rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The lowest and the highest `y`; both are `y` itself where there is one only.
    pub(crate) spread: (f64, f64),
}

impl Point {
    /// A point without spread.
    pub(crate) fn at((x, y): (f64, f64)) -> Self {
        Self { x, y, spread: (y, y) }
    }
}

impl Chart {
    /// The range across.
    pub(crate) fn x_range(&self) -> Range {
        Range::around(self.x.scale, self.points().map(|point| point.x))
    }

    /// The range up.
    pub(crate) fn y_range(&self) -> Range {
        let values = self.points().flat_map(|point| [point.y, point.spread.0, point.spread.1]);
        Range::around(self.y.scale, values)
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.lines.iter().flat_map(|line| &line.points)
    }

    /// The plot in words, for readers who do not see it: the axes, then each line by some points.
    pub(crate) fn described(&self) -> String {
        let mut text = format!("{} against {}.", self.y.in_words(), self.x.in_words());
        for line in &self.lines {
            let _ = write!(text, " {}:", line.label);
            for (index, point) in self.labelled_points(line, POINTS_TOLD).iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(text, "{comma} {} at {}", number(point.y), self.x_in_words(point.x));
            }
            text.push('.');
        }
        text
    }

    /// Points of a line to be labelled in words or in a table: at most `most`, but of percentiles
    /// those that the axis names and the last.
    pub(crate) fn labelled_points(&self, line: &Line, most: usize) -> Vec<Point> {
        if self.x.scale != Scale::Tail {
            return line.some_points(most);
        }
        let ticks = self.x_range().ticks;
        let mut labelled: Vec<Point> = ticks
            .iter()
            .filter_map(|tick| line.points.iter().find(|point| point.x >= *tick))
            .copied()
            .collect();
        labelled.extend(line.points.last());
        labelled.dedup();
        labelled
    }

    /// A value of the axis across.
    pub(crate) fn x_in_words(&self, x: f64) -> String {
        match self.x.scale {
            // Steps of a distribution are finer than anyone reads.
            Scale::Tail => format!("{} %", tick((x * 1e4).floor() / 1e4)),
            _ if x.fract() == 0.0 => tick(x),
            _ => number(x),
        }
    }
}

impl Axis {
    /// Its label, and its scale if that is not the usual one.
    pub(crate) fn in_words(&self) -> String {
        let scale = if self.scale == Scale::Log { " (log scale)" } else { "" };
        format!("{}{scale}", self.label)
    }
}

impl Line {
    /// At most `most` of its points, evenly chosen, the first and the last among them.
    pub(crate) fn some_points(&self, most: usize) -> Vec<Point> {
        let (all, most) = (self.points.len(), most.max(2));
        if all <= most {
            return self.points.clone();
        }
        (0..most).map(|n| self.points[n * (all - 1) / (most - 1)]).collect()
    }
}

/// Points of a line that are labelled in words.
const POINTS_TOLD: usize = 5;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plot of invented points.
    pub(crate) fn example() -> Chart {
        let line = |label: &str, style, points: &[(f64, f64)]| Line {
            label: label.into(),
            style,
            points: points.iter().copied().map(Point::at).collect(),
        };
        Chart {
            name: "example".into(),
            title: "Memory over connections".into(),
            x: Axis { label: "connections".into(), scale: Scale::Linear },
            y: Axis { label: "bytes".into(), scale: Scale::Linear },
            lines: vec![
                line("first", 0, &[(1_000.0, 700.0), (18_000.0, 650.0)]),
                line("<second>", 1, &[(1_000.0, 10.0), (18_000.0, 12.5)]),
            ],
        }
    }

    #[test]
    fn words_say_what_the_picture_shows() {
        assert_eq!(
            example().described(),
            "bytes against connections. first: 700 at 1,000, 650 at 18,000. \
             <second>: 10.0 at 1,000, 12.5 at 18,000."
        );
    }

    #[test]
    fn percentiles_are_labelled_where_the_axis_names_them() {
        let mut chart = example();
        chart.x = Axis { label: "percentile".into(), scale: Scale::Tail };
        let points = [0.0, 40.0, 50.0, 87.5, 92.0, 99.0, 99.95, 99.999_97];
        chart.lines.truncate(1);
        chart.lines[0].points = points.map(|p| Point::at((p, 1.0))).to_vec();
        let labelled = chart.labelled_points(&chart.lines[0], 3);
        let labelled: Vec<String> =
            labelled.iter().map(|point| chart.x_in_words(point.x)).collect();
        assert_eq!(labelled, ["50 %", "92 %", "99 %", "99.95 %", "99.9999 %"]);
    }

    #[test]
    fn chosen_points_begin_and_end_the_line() {
        let points = (0..100).map(|n| Point::at((f64::from(n), 0.0))).collect();
        let line = Line { label: String::new(), style: 0, points };
        let chosen: Vec<f64> = line.some_points(4).iter().map(|point| point.x).collect();
        assert_eq!(chosen, [0.0, 33.0, 66.0, 99.0]);
        assert_eq!(line.some_points(1_000).len(), 100);
    }
}
