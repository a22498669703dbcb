//! Many rounds in three numbers.

/// Samples of one quantity: the number of its round, and its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<(usize, f64)>);

impl Samples {
    /// One value a round.
    pub(crate) fn new(values: impl IntoIterator<Item = (usize, f64)>) -> Samples {
        Samples(values.into_iter().filter(|(_, value)| value.is_finite()).collect())
    }

    /// Values of rounds 1, 2 and so on.
    pub(crate) fn numbered(values: &[f64]) -> Samples {
        Samples::new(values.iter().copied().enumerate())
    }

    /// True before the first round.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In another unit.
    pub(crate) fn scaled(&self, factor: f64) -> Samples {
        Samples(self.0.iter().map(|(round, value)| (*round, value * factor)).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.0.iter().map(|(_, value)| *value).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one; not a number while there is none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => sorted[len / 2],
            len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        }
    }

    /// Smallest and largest.
    pub(crate) fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN))
    }

    /// The quotients, within a round each: both of a pair met the same noise. Rounds that one of
    /// them lacks are left out.
    pub(crate) fn over(&self, other: &Samples) -> Samples {
        self.pair(other, |a, b| a / b)
    }

    /// The differences, within a round each.
    pub(crate) fn minus(&self, other: &Samples) -> Samples {
        self.pair(other, |a, b| a - b)
    }

    fn pair(&self, other: &Samples, of: impl Fn(f64, f64) -> f64) -> Samples {
        Samples::new(self.0.iter().filter_map(|(round, a)| {
            let (_, b) = other.0.iter().find(|(number, _)| number == round)?;
            Some((*round, of(*a, *b)))
        }))
    }

    /// The values, in the order of their rounds.
    pub(crate) fn values(&self) -> Vec<f64> {
        self.0.iter().map(|(_, value)| *value).collect()
    }

    /// `median (smallest to largest)`, or a dash for nothing.
    pub(crate) fn show(&self, digits: usize) -> String {
        if self.is_empty() {
            return "–".to_owned();
        }
        let (low, high) = self.range();
        let number = |value: f64| number(value, digits);
        format!("{} ({} to {})", number(self.median()), number(low), number(high))
    }
}

/// With so many decimals, and the thousands apart.
pub(crate) fn number(value: f64, digits: usize) -> String {
    if digits == 0 { grouped(value) } else { format!("{value:.digits$}") }
}

/// A whole number with its thousands apart.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let samples = Samples::numbered(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(samples.median(), 2.5);
        assert_eq!(samples.range(), (1.0, 4.0));
        assert_eq!(Samples::numbered(&[3.0, 9.0, 1.0]).median(), 3.0);
        assert_eq!(Samples::default().show(2), "–");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let ratio = Samples::numbered(&[10.0, 40.0]).over(&Samples::numbered(&[5.0, 10.0]));
        assert_eq!(ratio.range(), (2.0, 4.0));
    }

    #[test]
    fn a_round_that_one_of_a_pair_lacks_has_no_ratio() {
        // given a subject that failed in round 1, and one that carried nothing in round 3
        let a = Samples::new([(1, 10.0), (2, 20.0), (3, 30.0)]);
        let b = Samples::new([(2, 5.0), (3, 0.0)]);
        // then
        assert_eq!(a.over(&b), Samples::new([(2, 4.0)]));
        assert_eq!(a.minus(&b), Samples::new([(2, 15.0), (3, 30.0)]));
    }

    #[test]
    fn thousands_stand_apart() {
        let shown = [0.0, 999.0, 1_000.0, 1_234_567.4, -12_345.0].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567", "-12,345"]);
        assert_eq!(number(1.005, 1), "1.0");
    }
}
