//! The highest rate that passes, by bisection over trials that may be noisy.
//!
//! ```text
//! from ──x2──x2──x2──> first failure        (or /2 down to the first success)
//!                 [ low ........... high ]   halve the ratio until it is within the precision
//!                   └─ again, N times ─┘     a failure lowers `high`, and it goes on
//! ```

/// How a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It held.
    Pass,
    /// It did not.
    Fail,
    /// It held, but this is as much as the generator can do.
    Limit,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Try this rate.
    Try(f64),
    /// This rate held, so many times in a row; `true`: the generator is the limit.
    Found(f64, u32, bool),
    /// Not even the lowest rate held.
    Nothing,
}

/// Below this rate there is nothing to search for.
const RATE_MIN: f64 = 10.0;

/// A search in progress.
#[derive(Clone, Debug)]
pub struct Bisection {
    from: f64,
    up_to: f64,
    precision: f64,
    confirm: u32,
    low: Option<f64>,
    high: Option<f64>,
    /// Times that `low` has held in a row since the interval is narrow.
    held: u32,
    limited: bool,
    /// Where to go on when a rate that had held does not any more.
    retreat: Option<f64>,
}

impl Bisection {
    /// A search that begins at `from`, ends at `up_to` at most, and is done when the rate is known
    /// to `precision` (a ratio) and has held `confirm` times more.
    pub fn new(from: f64, up_to: f64, precision: f64, confirm: u32) -> Bisection {
        let (low, high, held, limited) = (None, None, 0, false);
        let retreat = None;
        Bisection { from, up_to, precision, confirm, low, high, held, limited, retreat }
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        match (self.low, self.high) {
            (None, None) => Next::Try(self.from),
            (None, Some(high)) if high / 2.0 < RATE_MIN => Next::Nothing,
            (None, Some(high)) => {
                Next::Try(self.retreat.filter(|retreat| *retreat < high).unwrap_or(high / 2.0))
            }
            (Some(low), _) if self.is_narrow() => match self.held {
                held if held >= self.confirm => Next::Found(low, held, self.limited),
                _ => Next::Try(low),
            },
            (Some(low), None) => Next::Try((low * 2.0).min(self.up_to)),
            (Some(low), Some(high)) => Next::Try((low * high).sqrt()),
        }
    }

    /// Whether nothing between `low` and `high` is worth a try.
    fn is_narrow(&self) -> bool {
        match (self.low, self.high) {
            (Some(low), Some(high)) => high / low <= 1.0 + self.precision,
            (Some(low), None) => self.limited || low >= self.up_to,
            _ => false,
        }
    }

    /// How the trial at `rate` went; of a generator at its limit, `rate` is what it did.
    pub fn note(&mut self, rate: f64, verdict: Verdict) {
        match verdict {
            Verdict::Pass | Verdict::Limit if self.is_narrow() => {
                // A repetition, which may have been a little slower.
                self.held += 1;
                self.limited |= verdict == Verdict::Limit;
            }
            Verdict::Pass => {
                self.low = Some(self.low.map_or(rate, |low| low.max(rate)));
                self.held = 0;
            }
            Verdict::Limit => {
                (self.low, self.limited, self.held) = (Some(rate), true, 0);
                self.high = None;
            }
            Verdict::Fail => {
                (self.held, self.limited) = (0, false);
                self.high = Some(self.high.map_or(rate, |high| high.min(rate)));
                if self.low.is_some_and(|low| low >= rate) {
                    // It had held before: a step down, not all the way.
                    (self.low, self.high) = (None, Some(rate));
                    self.retreat = Some(rate * (1.0 - 2.0 * self.precision));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turn::Seeded;

    fn search(mut bisection: Bisection, mut trial: impl FnMut(f64) -> (f64, Verdict)) -> Next {
        for _ in 0..200 {
            match bisection.next() {
                Next::Try(rate) => {
                    let (did, verdict) = trial(rate);
                    bisection.note(did, verdict);
                }
                end => return end,
            }
        }
        panic!("the search does not end");
    }

    fn below(limit: f64) -> impl FnMut(f64) -> (f64, Verdict) {
        move |rate| (rate, if rate <= limit { Verdict::Pass } else { Verdict::Fail })
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for limit in [123.0, 9_999.0, 10_001.0, 345_678.0, 2e6] {
            let end = search(Bisection::new(10_000.0, 1e7, 0.03, 2), below(limit));
            let Next::Found(rate, 2, false) = end else { panic!("{limit}: {end:?}") };
            assert!(rate <= limit && rate >= limit / 1.031, "{limit}: {rate}");
        }
    }

    #[test]
    fn nothing_and_everything_are_ends_too() {
        let end = search(Bisection::new(10_000.0, 1e6, 0.03, 2), below(0.0));
        assert_eq!(end, Next::Nothing);
        let end = search(Bisection::new(10_000.0, 1e6, 0.03, 2), below(1e9));
        assert_eq!(end, Next::Found(1e6, 2, false));
    }

    #[test]
    fn a_generator_at_its_limit_is_told() {
        let end = search(Bisection::new(10_000.0, 1e7, 0.03, 2), |rate| match rate {
            rate if rate <= 300_000.0 => (rate, Verdict::Pass),
            _ => (300_000.0, Verdict::Limit),
        });
        assert_eq!(end, Next::Found(300_000.0, 2, true));
    }

    #[test]
    fn noise_lowers_the_rate_and_the_search_still_ends() {
        let seed = 5;
        println!("seed {seed}");
        let mut random = Seeded::new(seed);
        let end = search(Bisection::new(10_000.0, 1e7, 0.03, 2), |rate| {
            let lucky = random.below(5) > 0;
            (rate, if rate <= 200_000.0 && lucky { Verdict::Pass } else { Verdict::Fail })
        });
        let Next::Found(rate, 2, _) = end else { panic!("{end:?}") };
        assert!(rate <= 200_000.0);
    }
}
