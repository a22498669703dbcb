//! The highest rate that is carried, by bisection, open loop. Arithmetic only: what a trial is comes
//! from outside.
//!
//! ```text
//!  bracket:  first ──x1.5──> carries ──x1.5──> fails        (or downwards, until one carries)
//!  bisect:         carries |-------·-------| fails          until the two are close, or steps run out
//! ```
//!
//! A rate counts as carried if one of [`TRIES`] trials carries it: the machine's other work
//! interrupts now and then, and a relay cannot be better by luck. Trials are kept: the second search
//! (no loss) starts from what the first (0.1 %) has seen.

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Trials of a rate before it counts as too high.
const TRIES: usize = 2;
/// Steps of the bracket, up or down.
const BRACKET_MAX: u32 = 24;

/// What held a figure down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Limit {
    /// What was measured.
    #[default]
    Subject,
    /// The generator could not send faster: the figure is a lower bound.
    Generator,
    /// The sink lost what the relay had sent: the figure is a lower bound.
    Sink,
}

/// What one trial says about its rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing: the counts do not add up.
    Void,
    /// Nothing about the relay: the generator did not send what was asked.
    Late,
    /// It counts.
    Counts {
        /// Packets a second that arrived.
        delivered: f64,
        /// Share of those sent that did not arrive.
        loss: f64,
        /// Who lost most of it.
        by: Limit,
    },
}

/// How thorough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// Where to start, packets a second.
    pub(crate) first: f64,
    /// Factor of the bracket's steps.
    pub(crate) stride: f64,
    /// Bisections at most.
    pub(crate) steps: u32,
    /// Close enough: the failing rate is at most this share above the carried one.
    pub(crate) resolution: f64,
    /// Rates outside are not tried.
    pub(crate) bounds: (f64, f64),
}

/// What was found for one tolerance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Highest offered rate that was carried; 0 if none was.
    pub(crate) offered: f64,
    /// Packets a second that arrived then.
    pub(crate) delivered: f64,
    /// Why not more.
    pub(crate) limit: Limit,
}

/// All trials so far.
#[derive(Debug, Default)]
pub(crate) struct History(Vec<(f64, Verdict)>);

/// Whether a rate is carried.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Carries {
    Yes(f64),
    No(Limit),
    Unknown,
}

impl History {
    /// Adds a trial.
    pub(crate) fn push(&mut self, rate: f64, verdict: Verdict) {
        self.0.push((rate, verdict));
    }

    fn judge(&self, rate: f64, loss_max: f64) -> Carries {
        let tries: Vec<_> = self.0.iter().filter(|(tried, _)| *tried == rate).collect();
        let (mut late, mut lost, mut limit) = (0, 0, Limit::Generator);
        for (_, verdict) in &tries {
            match *verdict {
                Verdict::Counts { delivered, loss, .. } if loss <= loss_max => {
                    return Carries::Yes(delivered);
                }
                Verdict::Counts { by, .. } => (lost, limit) = (lost + 1, by),
                Verdict::Late => late += 1,
                Verdict::Void => {}
            }
        }
        if late + lost >= TRIES {
            // what was lost says more than what was late
            Carries::No(limit)
        } else if tries.len() >= 3 * TRIES {
            Carries::No(Limit::Generator)
        } else {
            Carries::Unknown
        }
    }

    /// The highest rate known to be carried, and the lowest above it known not to be.
    fn bracket(&self, loss_max: f64) -> (Found, Option<f64>) {
        let mut best = Found::default();
        for (rate, _) in &self.0 {
            if let Carries::Yes(delivered) = self.judge(*rate, loss_max)
                && *rate > best.offered
            {
                best = Found { offered: *rate, delivered, limit: Limit::Subject };
            }
        }
        let mut high = None;
        for (rate, _) in &self.0 {
            if let Carries::No(limit) = self.judge(*rate, loss_max)
                && *rate > best.offered
                && high.is_none_or(|high| *rate < high)
            {
                (high, best.limit) = (Some(*rate), limit);
            }
        }
        (best, high)
    }
}

impl Search {
    /// Finds the highest rate with a loss of at most `loss_max`. Void trials are made again.
    ///
    /// # Errors
    /// A trial's own.
    pub(crate) fn run(
        &self,
        loss_max: f64,
        history: &mut History,
        mut trial: impl FnMut(f64) -> Result<Verdict>,
    ) -> Result<Found> {
        let mut ask = |history: &mut History, rate: f64| -> Result<bool> {
            loop {
                match history.judge(rate, loss_max) {
                    Carries::Yes(_) => return Ok(true),
                    Carries::No(_) => return Ok(false),
                    Carries::Unknown => history.push(rate, trial(rate)?),
                }
            }
        };
        let (least, most) = self.bounds;
        let mut next = self.first.clamp(least, most);
        for _ in 0..BRACKET_MAX {
            match history.bracket(loss_max) {
                (found, None) if found.offered >= most => break,
                (found, None) if found.offered > 0.0 => next = found.offered * self.stride,
                (found, Some(high)) if found.offered == 0.0 => next = high / self.stride,
                (_, None) => {}
                (_, Some(_)) => break,
            }
            if next < least {
                return Ok(history.bracket(loss_max).0);
            }
            next = next.min(most);
            ask(history, next)?;
        }
        for _ in 0..self.steps {
            let (found, Some(high)) = history.bracket(loss_max) else { break };
            if high <= found.offered * (1.0 + self.resolution) {
                break;
            }
            ask(history, f64::midpoint(found.offered, high))?;
        }
        Ok(history.bracket(loss_max).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search =
        Search { first: 40_000.0, stride: 1.5, steps: 8, resolution: 0.02, bounds: (1_000.0, 6e6) };

    /// A relay that carries `most` and loses the rest.
    fn relay(most: f64) -> impl FnMut(f64) -> Result<Verdict> {
        move |rate| {
            let delivered = rate.min(most);
            let loss = 1.0 - delivered / rate;
            Ok(Verdict::Counts { delivered, loss, by: Limit::Subject })
        }
    }

    #[test]
    fn it_finds_what_a_relay_carries_from_below_and_from_above() {
        for most in [5_000.0, 39_000.0, 140_000.0, 3_000_000.0] {
            let found = SEARCH.run(0.001, &mut History::default(), relay(most)).unwrap();
            let share = found.offered / most;
            assert!((0.97..=1.002).contains(&share), "{most}: {found:?}");
            assert_eq!(found.limit, Limit::Subject);
        }
    }

    #[test]
    fn a_rate_is_carried_if_one_of_two_trials_carries_it() {
        // given a machine that disturbs every second trial
        let mut count = 0;
        let mut quiet = relay(100_000.0);
        let noisy = |rate| {
            count += 1;
            match quiet(rate)? {
                Verdict::Counts { delivered, by, .. } if count % 2 == 1 => {
                    Ok(Verdict::Counts { delivered: delivered * 0.9, loss: 0.1, by })
                }
                other => Ok(other),
            }
        };
        // when
        let found = SEARCH.run(0.001, &mut History::default(), noisy).unwrap();
        // then
        assert!(found.offered > 97_000.0, "{found:?}");
    }

    #[test]
    fn no_loss_is_looked_for_among_the_trials_that_there_are() {
        // given a relay that loses nothing up to 50,000 and 0.05 % up to 100,000
        let mut trials = 0;
        let mut relay = |rate: f64| {
            trials += 1;
            let loss = if rate <= 50_000.0 {
                0.0
            } else if rate <= 100_000.0 {
                0.0005
            } else {
                0.2
            };
            Ok(Verdict::Counts { delivered: rate * (1.0 - loss), loss, by: Limit::Subject })
        };
        let mut history = History::default();
        // when
        let most = SEARCH.run(0.001, &mut history, &mut relay).unwrap();
        let none = SEARCH.run(0.0, &mut history, &mut relay).unwrap();
        // then
        assert!(most.offered > 97_000.0 && most.offered <= 100_000.0, "{most:?}");
        assert!(none.offered > 48_000.0 && none.offered <= 50_000.0, "{none:?}");
        assert!(trials < 40, "{trials} trials");
    }

    #[test]
    fn a_generator_that_comes_too_late_is_named_as_the_limit() {
        // given a relay that is faster than the generator
        let slow = |rate: f64| {
            Ok(if rate > 1_000_000.0 {
                Verdict::Late
            } else {
                Verdict::Counts { delivered: rate, loss: 0.0, by: Limit::Subject }
            })
        };
        // when
        let found = SEARCH.run(0.001, &mut History::default(), slow).unwrap();
        // then
        assert_eq!(found.limit, Limit::Generator);
        assert!(found.offered > 950_000.0 && found.offered <= 1_000_000.0, "{found:?}");
    }

    #[test]
    fn void_trials_are_made_again_and_end_somewhere() {
        // given
        let mut trials = 0;
        let broken = |_| {
            trials += 1;
            Ok(Verdict::Void)
        };
        // when
        let found = SEARCH.run(0.001, &mut History::default(), broken).unwrap();
        // then
        assert_eq!(found.offered, 0.0);
        assert!(trials < 100, "{trials} trials");
        // and once is no harm
        let mut first = true;
        let mut good = relay(100_000.0);
        let once = |rate| if std::mem::take(&mut first) { Ok(Verdict::Void) } else { good(rate) };
        assert!(SEARCH.run(0.001, &mut History::default(), once).unwrap().offered > 97_000.0);
    }

    #[test]
    fn a_relay_that_carries_nothing_has_no_rate() {
        let nothing = |_| Ok(Verdict::Counts { delivered: 0.0, loss: 1.0, by: Limit::Subject });
        let found = SEARCH.run(0.001, &mut History::default(), nothing).unwrap();
        assert_eq!(found, Found::default());
    }
}
