//! When each datagram is due: an open loop, which does not wait for what it sends to arrive.
//!
//! Number k is due k / rate seconds after the start, however late its predecessors were. Latency
//! counts from then, so that a stall shows in every datagram that it held up (coordinated omission).

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;
/// How long after the end a sender may still send what was due before it: a machine that stutters
/// then does not lose the end of a run. The result says how long it really took.
const GRACE: u64 = 1_000_000_000;

/// The dues of one sender.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// CLOCK_MONOTONIC of number 0, in nanoseconds.
    pub start: u64,
    /// CLOCK_MONOTONIC from which on nothing is due any more.
    pub end: u64,
    /// Datagrams a second; `None`: as many as go.
    pub rate: Option<f64>,
}

impl Schedule {
    /// When number `k` is due.
    pub fn due_at(&self, k: u64, now: u64) -> u64 {
        match self.rate {
            Some(rate) => self.start + (k as f64 * SECOND / rate) as u64,
            None => now,
        }
    }

    /// How many are due at `now`; without a rate, `None`.
    pub fn due(&self, now: u64) -> Option<u64> {
        let elapsed = now.min(self.end).saturating_sub(self.start);
        let rate = self.rate?;
        // Number 0 is due at the start itself; the end is not part of the run.
        let due = (elapsed as f64 * rate / SECOND).floor() as u64 + 1;
        Some(due.min(self.total().unwrap_or(due)))
    }

    /// Whether a sender that has sent `k` datagrams is done: all are sent, or it is much too late.
    pub fn is_over(&self, k: u64, now: u64) -> bool {
        match self.total() {
            Some(total) => k >= total || now >= self.end + GRACE,
            None => now >= self.end,
        }
    }

    /// How many are due in all; without a rate, `None`.
    pub fn total(&self) -> Option<u64> {
        let elapsed = self.end.saturating_sub(self.start);
        Some((elapsed as f64 * self.rate? / SECOND).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_due_as_the_rate_and_the_time_say() {
        let schedule = Schedule { start: 1_000, end: 1_000 + 10_000_000_000, rate: Some(3.0) };
        assert_eq!(schedule.total(), Some(30));
        assert_eq!(schedule.due(1_000), Some(1));
        assert_eq!(schedule.due(1_000 + 1_000_000_000), Some(4));
        assert_eq!(schedule.due(u64::MAX), Some(30));
        assert_eq!(schedule.due_at(3, 0), 1_000_001_000);
        assert!(schedule.is_over(30, 0) && !schedule.is_over(29, schedule.end));
        for k in 0..30 {
            assert!(schedule.due(schedule.due_at(k, 0) + 1) >= Some(k + 1), "{k}");
        }
    }

    #[test]
    fn without_a_rate_everything_is_due_now() {
        let schedule = Schedule { start: 0, end: 10, rate: None };
        assert_eq!((schedule.due(5), schedule.due_at(9, 5)), (None, 5));
    }
}
