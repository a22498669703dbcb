//! What the rounds say: the ratio's median, how sure it is, and how far rounds were apart.

use std::fmt;

/// Ratios of ours to theirs, one of each round.
#[derive(Debug, PartialEq)]
pub(crate) struct Comparison {
    median: f64,
    /// In 95 of 100 such comparisons the ratio's true median lies within.
    sure: [f64; 2],
    /// Half of the rounds lie within.
    half: [f64; 2],
    /// Rounds in which ours was ahead, and all.
    ahead: [usize; 2],
}

/// The value in the middle.
pub(crate) fn median(values: Vec<f64>) -> f64 {
    at(&sorted(values), 0.5)
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The value at a share of the way from the least to the greatest.
fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

impl Comparison {
    /// Nothing is assumed of how rounds are spread: each is on either side of the true median with even
    /// chances, so the ranks between which it lies follow from their number (the sign test's interval).
    pub(crate) fn of(ratios: Vec<f64>) -> Comparison {
        let ratios = sorted(ratios);
        let count = ratios.len();
        let reach = 1.96 * (count as f64).sqrt() / 2.0;
        let rank = |rank: f64| ratios.get(rank.max(0.0) as usize).or(ratios.last());
        let value = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        let middle = count as f64 / 2.0;
        Comparison {
            median: at(&ratios, 0.5),
            sure: [
                value(rank((middle - reach).floor() - 1.0)),
                value(rank((middle + reach).ceil())),
            ],
            half: [at(&ratios, 0.25), at(&ratios, 0.75)],
            ahead: [ratios.iter().filter(|ratio| **ratio > 1.0).count(), count],
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { median, sure: [from, to], half: [low, high], ahead: [ahead, all] } = self;
        write!(
            f,
            "{median:.3} ({from:.3} to {to:.3} with 95 % confidence; middle half of the rounds {low:.2} \
             to {high:.2}), ours ahead in {ahead} of {all}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rounds_does_not_matter() {
        let up: Vec<f64> = (0..100).map(|n| 0.9 + f64::from(n) / 500.0).collect();
        let down: Vec<f64> = up.iter().rev().copied().collect();
        assert_eq!(Comparison::of(up), Comparison::of(down));
    }

    #[test]
    fn a_hundred_rounds_tell_the_median_to_eleven_ranks_on_either_side() {
        // given ratios that are their own ranks
        let ratios = (0..100).map(f64::from).collect();
        // when they are compared
        let found = Comparison::of(ratios);
        // then the interval is that of the sign test: the 40th to the 61st
        assert_eq!(found.sure, [39.0, 60.0]);
        assert_eq!(found.half, [25.0, 74.0]);
        assert_eq!(found.median, 50.0);
        assert_eq!(found.ahead, [98, 100], "all but 0 and 1");
    }

    #[test]
    fn equal_rings_are_not_told_apart() {
        // given rounds that fall on either side in turn
        let ratios = (0..60).map(|n| if n % 2 == 0 { 0.95 } else { 1.05 }).collect();
        // when they are compared
        let found = Comparison::of(ratios);
        // then 1 is within what is sure
        assert!(found.sure[0] < 1.0 && found.sure[1] > 1.0, "{found}");
    }

    #[test]
    fn few_rounds_leave_all_open() {
        let found = Comparison::of(vec![0.8, 1.3]);
        assert_eq!(found.sure, [0.8, 1.3]);
        assert!(Comparison::of(Vec::new()).median.is_nan());
    }
}
