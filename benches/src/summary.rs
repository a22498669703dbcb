//! Many rounds in three numbers.

use serde_json::{Value, json};

/// Samples of one quantity, one a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds a round's value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// True before the first round.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest round's.
    pub(crate) fn last(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// In another unit.
    pub(crate) fn scaled(&self, factor: f64) -> Samples {
        Samples(self.0.iter().map(|value| value * factor).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one; not a number while there is none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => sorted[len / 2],
            len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
        }
    }

    /// Smallest and largest.
    pub(crate) fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN))
    }

    /// The quotients, round by round: both of a pair met the same noise.
    pub(crate) fn over(&self, other: &Samples) -> Samples {
        Samples(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// The differences, round by round.
    pub(crate) fn minus(&self, other: &Samples) -> Samples {
        Samples(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }

    /// `median (smallest to largest)`.
    pub(crate) fn show(&self, digits: usize) -> String {
        let (low, high) = self.range();
        format!("{:.digits$} ({low:.digits$} to {high:.digits$})", self.median())
    }

    /// For the record.
    pub(crate) fn json(&self) -> Value {
        json!({ "median": self.median(), "samples": self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let samples = Samples(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(samples.median(), 2.5);
        assert_eq!(samples.range(), (1.0, 4.0));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let ratio = Samples(vec![10.0, 40.0]).over(&Samples(vec![5.0, 10.0]));
        assert_eq!(ratio.range(), (2.0, 4.0));
    }
}
