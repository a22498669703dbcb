//! Whether a worker lives by gathering: whether it would be behind at once if clients came by one
//! listener again.
//!
//! Trying that is dear. What waits in lanes is read first, and meanwhile a listener's buffer overflows:
//! of 240,000 datagrams a second each trial lost some thousands, and of 360,000, with lanes full, for half
//! a second all that clients sent. So who knows the answer does not try. A worker that is behind never
//! sleeps, and finds several datagrams of a client where it comes round: it sends two and more at once.
//! One that could do without finds neither. (With costs of m for each datagram and s for each send, and
//! a rate of r, one listener does while r (m + s) < 1. A worker that never sleeps and sends two at once
//! has r (m + s / 2) = 1, so r (m + s) is more than that.)

use std::time::Duration;

/// How long a worker is watched before it is judged.
const WINDOW: Duration = Duration::from_millis(100);

/// Datagrams that leave by one send, at least, where there is much to gather.
const GATHERED: usize = 2;

/// What a worker did since its window began.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    began: Duration,
    rounds: usize,
    /// Of these, those before which it had nothing to do.
    rested: usize,
    datagrams: usize,
    sends: usize,
}

impl Pressure {
    /// It had nothing to do.
    pub(super) fn rest(&mut self) {
        self.rested += 1;
    }

    /// It sent so many datagrams, by so many messages.
    pub(super) fn sent(&mut self, datagrams: usize, messages: usize) {
        self.datagrams += datagrams;
        self.sends += messages;
    }

    /// A round begins. True where it ends a window throughout which the worker lived by gathering.
    pub(super) fn round(&mut self, now: Duration) -> bool {
        self.rounds += 1;
        if now.saturating_sub(self.began) < WINDOW {
            return false;
        }
        let awake = 2 * self.rested < self.rounds;
        let gathers = self.sends > 0 && self.datagrams >= GATHERED * self.sends;
        *self = Self { began: now, ..Self::default() };
        awake && gathers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of 10 ms, each of so many datagrams and messages, some of them after a rest: how many
    /// windows of a second were under pressure.
    fn pressed(datagrams: usize, messages: usize, rests_every: usize) -> usize {
        let mut pressure = Pressure::default();
        let start = Duration::from_secs(1000);
        pressure.round(start);
        let mut round = |number: usize| {
            pressure.sent(datagrams, messages);
            if number.is_multiple_of(rests_every) {
                pressure.rest();
            }
            pressure.round(start + Duration::from_millis(10 * number as u64))
        };
        (1..=100).filter(|number| round(*number)).count()
    }

    #[test]
    fn a_worker_lives_by_gathering_while_it_sends_several_at_once_and_never_sleeps() {
        assert_eq!(pressed(1000, 400, 1000), 10);
        assert_eq!(pressed(1000, 400, 3), 10, "a rest now and then is noise");
        assert_eq!(pressed(1000, 700, 1000), 0, "nearly as many sends as without");
        assert_eq!(pressed(1000, 400, 1), 0, "it keeps up");
        assert_eq!(pressed(0, 0, 1000), 0, "it sends nothing");
    }

    #[test]
    fn one_that_slept_through_the_window_does_not() {
        // given one under pressure that then slept for long
        let mut pressure = Pressure::default();
        let start = Duration::from_secs(1000);
        pressure.round(start);
        pressure.rest();
        pressure.sent(64, 1);
        // then
        assert!(!pressure.round(start + Duration::from_secs(3)));
    }
}
