//! Numbers in few columns.

use std::fmt;

/// A number in at most six columns, seven where it is negative: `0`, `0.25`, `9.5`, `123`, `12.3k`,
/// `1.23M`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Short(pub(super) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&short(self.0))
    }
}

fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let (scaled, unit) = match value.abs() {
        size if size < 999.5 => (value, ""),
        size if size < 999.5e3 => (value / 1e3, "k"),
        size if size < 999.5e6 => (value / 1e6, "M"),
        size if size < 999.5e9 => (value / 1e9, "G"),
        _ => (value / 1e12, "T"),
    };
    let digits = match scaled.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{scaled:.digits$}");
    // a whole number stays one
    let text =
        if unit.is_empty() { text.trim_end_matches(".00").trim_end_matches(".0") } else { &text };
    format!("{text}{unit}")
}

/// A number, or `-` where there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Maybe(pub(super) Option<f64>);

impl fmt::Display for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => f.pad(&short(value)),
            None => f.pad("-"),
        }
    }
}

/// A part of one, in percent, with as many digits as matter: `0`, `0.3`, `42`, `<0.1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percent(pub(super) f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        f.pad(&match percent {
            0.0 => "0".to_owned(),
            little if little < 0.05 => "<0.1".to_owned(),
            little if little < 9.95 => format!("{little:.1}"),
            much => format!("{much:.0}"),
        })
    }
}

/// A time, in its two largest units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span(pub(super) f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = std::time::Duration::try_from_secs_f64(self.0).unwrap_or_default().as_secs();
        let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
        f.pad(&match (days, hours, minutes) {
            (0, 0, 0) => format!("{secs} s"),
            (0, 0, _) => format!("{minutes} min {} s", secs % 60),
            (0, ..) => format!("{hours} h {minutes} min"),
            _ => format!("{days} d {hours} h"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_six_columns_and_keep_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (3.0, "3"),
            (9.5, "9.50"),
            (20.0, "20"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (999_600.0, "1.00M"),
            (4.2e9, "4.20G"),
            (7e14, "700T"),
        ] {
            assert_eq!(Short(value).to_string(), text);
            assert!(text.len() <= 6);
        }
        assert_eq!(format!("{:>6}|{:>4}", Short(1.0), Maybe(None)), "     1|   -");
        assert_eq!(Maybe(Some(31.96)).to_string(), "32");
    }

    #[test]
    fn parts_and_times_are_as_exact_as_matters() {
        let parts = [0.0, 0.0001, 0.003, 0.0995, 0.42, 1.0].map(|part| Percent(part).to_string());
        assert_eq!(parts, ["0", "<0.1", "0.3", "10", "42", "100"]);
        let spans = [0.4, 59.0, 61.0, 3_700.0, 90_000.0].map(|secs| Span(secs).to_string());
        assert_eq!(spans, ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
