//! Line plots as SVG.

use std::fmt::Write as _;

use super::escape;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// A line along the edge would not be seen.
const HEADROOM: f64 = 1.02;

/// How an axis maps values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero, evenly.
    Linear,
    /// By powers of ten.
    Log,
    /// By nines: the value is 1 / (1 - quantile).
    Percentile,
}

/// One line.
pub struct Series {
    /// In the legend; lines of one name share an entry.
    pub name: String,
    /// As CSS has it.
    pub colour: &'static str,
    /// From left to right; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
pub struct Plot {
    /// From left to right.
    pub x: Scale,
    /// From bottom to top.
    pub y: Scale,
    /// What `x` is, with its unit.
    pub x_label: &'static str,
    /// What `y` is, with its unit.
    pub y_label: &'static str,
    /// The lines.
    pub series: Vec<Series>,
}

/// One axis: from values to places between 0 and 1.
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let finite = values.filter(|value| value.is_finite());
        let most = finite.clone().fold(f64::MIN_POSITIVE, f64::max);
        let least = finite.fold(f64::INFINITY, f64::min).min(most);
        match scale {
            Scale::Linear => Axis { scale, least: 0.0, most: nice(most * HEADROOM) },
            Scale::Percentile => Axis { scale, least: 1.0, most: most.max(10.0) },
            Scale::Log => {
                let floor = 10_f64.powf(least.max(1e-3).log10().floor());
                let ceiling = 10_f64.powf(most.max(1e-3).log10().ceil());
                Axis { scale, least: floor, most: ceiling.max(floor * 10.0) }
            }
        }
    }

    fn place(&self, value: f64) -> f64 {
        let Axis { scale, least, most } = *self;
        match scale {
            Scale::Linear => (value - least) / (most - least),
            _ => (value.max(least).ln() - least.ln()) / (most.ln() - least.ln()),
        }
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let Axis { scale, least, most } = *self;
        match scale {
            Scale::Linear => {
                (0..=5).map(|at| most * f64::from(at) / 5.0).map(|v| (v, short(v))).collect()
            }
            Scale::Log => {
                let powers = least.log10().round() as i32..=most.log10().round() as i32;
                powers.map(|power| 10_f64.powi(power)).map(|v| (v, short(v))).collect()
            }
            Scale::Percentile => {
                let ticks = [
                    (1.0, "0"),
                    (2.0, "50"),
                    (10.0, "90"),
                    (100.0, "99"),
                    (1e3, "99.9"),
                    (1e4, "99.99"),
                    (1e5, "99.999"),
                    (1e6, "99.9999"),
                    (1e7, "99.99999"),
                ];
                let inside = ticks.into_iter().filter(|(value, _)| *value <= most);
                inside.map(|(value, text)| (value, format!("{text} %"))).collect()
            }
        }
    }
}

/// The next 1, 2 or 5 times a power of ten; 1 for nothing.
fn nice(value: f64) -> f64 {
    if value < 1e-9 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

/// A number as short as it can be.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

impl Plot {
    /// The plot as an SVG element.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::new(self.x, points().map(|point| point.0));
        let y = Axis::new(self.y, points().map(|point| point.1));
        let left = |value: f64| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
        let top = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} by {}\">",
            escape(self.y_label),
            escape(self.x_label)
        );
        for (value, text) in x.ticks() {
            let (at, low) = (left(value), HEIGHT - BOTTOM);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{low}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                low + 16.0
            );
        }
        for (value, text) in y.ticks() {
            let (at, right) = (top(value), WIDTH - RIGHT);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for series in &self.series {
            let line = series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
            let line: Vec<String> =
                line.map(|(x, y)| format!("{:.1},{:.1}", left(*x), top(*y))).collect();
            let _ = write!(
                out,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" \
                 stroke-linejoin=\"round\" points=\"{}\"><title>{}</title></polyline>",
                series.colour,
                line.join(" "),
                escape(&series.name)
            );
        }
        self.legend(&mut out);
        let (middle, centre) =
            (f64::midpoint(LEFT, WIDTH - RIGHT), f64::midpoint(TOP, HEIGHT - BOTTOM));
        let _ = write!(
            out,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"14\" y=\"{centre:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 14 {centre:.1})\">{}</text></svg>",
            HEIGHT - 8.0,
            escape(self.x_label),
            escape(self.y_label),
        );
        out
    }

    /// Each name once, from left to right.
    fn legend(&self, out: &mut String) {
        let mut at = LEFT;
        let mut told: Vec<&str> = Vec::new();
        for Series { name, colour, .. } in &self.series {
            if told.contains(&name.as_str()) {
                continue;
            }
            told.push(name);
            let _ = write!(
                out,
                "<rect x=\"{at:.1}\" y=\"12\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"18\">{}</text>",
                at + 20.0,
                escape(name)
            );
            at += 34.0 + 7.0 * name.chars().count() as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, x: Scale, y: Scale) -> String {
        let series = vec![Series { name: "<a & b>".to_owned(), colour: "#000", points }];
        Plot { x, y, x_label: "x", y_label: "y", series }.svg()
    }

    #[test]
    fn every_point_lies_inside_whatever_the_values() {
        for points in [
            vec![],
            vec![(0.0, 0.0)],
            vec![(1.0, 5.0), (10.0, 5.0)],
            vec![(1.0, 0.2), (1e7, 3e7)],
            vec![(1.0, f64::NAN), (2.0, f64::INFINITY)],
        ] {
            for (x, y) in [(Scale::Linear, Scale::Linear), (Scale::Percentile, Scale::Log)] {
                let svg = plot(points.clone(), x, y);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                let line = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
                for number in line.unwrap_or("").split([' ', ',']).filter(|n| !n.is_empty()) {
                    let number: f64 = number.parse().unwrap();
                    assert!((0.0..=WIDTH).contains(&number), "{svg}");
                }
            }
        }
    }

    #[test]
    fn names_cannot_become_markup() {
        let svg = plot(vec![(1.0, 1.0)], Scale::Linear, Scale::Linear);
        assert!(svg.contains("&lt;a &amp; b&gt;") && !svg.contains("<a &"), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(nice(0.0), 1.0);
        assert_eq!(nice(19_999.0), 20_000.0);
        assert_eq!(short(20_000.0), "20k");
        assert_eq!(short(0.25), "0.25");
        assert_eq!(short(1_250_000.0), "1.25M");
    }
}
