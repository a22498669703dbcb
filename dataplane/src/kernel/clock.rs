//! From CLOCK_MONOTONIC to jiffies, the only clock that costs the program nothing.
//!
//! Routes expire at a time of CLOCK_MONOTONIC. The program compares jiffies, which it reads in a
//! nanosecond and which userspace cannot read at all. So a small program of ours reads both clocks
//! at one moment, and the length of a jiffy is the resolution of the kernel's coarse clock.
//!
//! ```text
//!  CLOCK_MONOTONIC  ────────────●──────────────────●────>
//!                          now, seen once      expires
//!  jiffies          ─┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴─>   rounded down: never late
//! ```
//!
//! Jiffies are counted from CLOCK_MONOTONIC, so one look at both is good for as long as the kernel
//! runs, unless the whole machine was stopped and moved. Each tick looks again.

#![allow(unsafe_code, reason = "clock_getres(2) has no safe wrapper in the standard library")]

use std::io;
use std::time::Duration;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) jiffies: u64,
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub(crate) nanoseconds: u64,
}

/// Beyond this the two clocks have parted and all expiries are wrong by as much. It is far more
/// than a jiffy, which is the error of a reading.
const PARTED: Duration = Duration::from_millis(250);

/// The relation between the two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Length of a jiffy.
    jiffy: u64,
    seen: Reading,
}

impl Clock {
    /// A clock for jiffies of `jiffy_nanoseconds`.
    pub(crate) fn new(jiffy_nanoseconds: u64, seen: Reading) -> Clock {
        Clock { jiffy: jiffy_nanoseconds.max(1), seen }
    }

    /// The jiffy in which `time`, CLOCK_MONOTONIC since boot, lies.
    pub(crate) fn jiffies(&self, time: Duration) -> u64 {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let Reading { jiffies, nanoseconds } = self.seen;
        match time.checked_sub(nanoseconds) {
            Some(ahead) => jiffies.saturating_add(ahead / self.jiffy),
            None => jiffies.saturating_sub((nanoseconds - time).div_ceil(self.jiffy)),
        }
    }

    /// Length of a jiffy, and how far jiffies, as time, are ahead of CLOCK_MONOTONIC: nanoseconds.
    pub(crate) fn relation(&self) -> (u64, i64) {
        let Reading { jiffies, nanoseconds } = self.seen;
        let ahead = i128::from(jiffies) * i128::from(self.jiffy) - i128::from(nanoseconds);
        (self.jiffy, i64::try_from(ahead).unwrap_or(i64::MAX))
    }

    /// Compares with a new reading. True when the clocks have parted: from now on the new one
    /// counts, and what was computed before is wrong.
    pub(crate) fn correct(&mut self, seen: Reading) -> bool {
        let expected = self.jiffies(Duration::from_nanos(seen.nanoseconds));
        let error = expected.abs_diff(seen.jiffies).saturating_mul(self.jiffy);
        let parted = u128::from(error) > PARTED.as_nanos();
        if parted {
            self.seen = seen;
        }
        parted
    }

    /// True when a count of jiffies that began at boot agrees with the time since boot.
    /// The kernel starts five minutes before zero, on 32 bits, so that wrap-around is no surprise.
    pub(crate) fn agrees_with_boot(&self) -> bool {
        let per_second = 1_000_000_000 / self.jiffy;
        let initial = (1 << 32) - 300 * per_second;
        let since_boot = self.seen.jiffies.saturating_sub(initial).saturating_mul(self.jiffy);
        let apart = since_boot.abs_diff(self.seen.nanoseconds);
        apart < Duration::from_secs(2).as_nanos() as u64
    }
}

/// The kernel's CLOCK_MONOTONIC as ours, which it read between `before` and `after` of ours. The two are
/// one but in a time namespace (time_namespaces(7)), where ours is the later moment: so that no expiry
/// is late.
pub(crate) fn as_ours(kernels: u64, before: Duration, after: Duration) -> u64 {
    let [before, after] = [before, after].map(|time| time.as_nanos() as u64);
    if (before..=after).contains(&kernels) { kernels } else { after }
}

/// Nanoseconds in a jiffy: `TICK_NSEC`, which the kernel tells as the resolution of its coarse
/// clocks.
pub(crate) fn jiffy_nanoseconds() -> io::Result<u64> {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    let done = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(resolution.tv_sec as u64 * 1_000_000_000 + resolution.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ_250: u64 = 4_000_000;
    const SEEN: Reading = Reading { jiffies: 1_000, nanoseconds: 10_000_000_000 };

    #[test]
    fn an_expiry_is_never_late_and_at_most_a_jiffy_early() {
        let clock = Clock::new(HZ_250, SEEN);
        let cases = [
            (10_000, 1_000),
            (10_003, 1_000),
            (10_004, 1_001),
            (11_000, 1_250),
            (9_999, 999),
            (9_996, 999),
            (0, 0),
        ];
        for (milliseconds, jiffies) in cases {
            assert_eq!(clock.jiffies(Duration::from_millis(milliseconds)), jiffies);
        }
        assert!(clock.jiffies(Duration::MAX) > 1 << 40, "for ever is far away");
    }

    #[test]
    fn in_a_time_namespace_of_its_own_a_process_goes_by_its_own_clock() {
        let [before, after] = [Duration::from_nanos(1_000), Duration::from_nanos(1_900)];
        assert_eq!(as_ours(1_200, before, after), 1_200, "one clock");
        for kernels in [0, 999, 1_901, 86_400_000_000_000] {
            assert_eq!(as_ours(kernels, before, after), 1_900);
        }
    }

    #[test]
    fn clocks_that_agree_are_left_alone() {
        let mut clock = Clock::new(HZ_250, SEEN);
        let later = Reading { jiffies: 1_000 + 250 * 60 - 3, nanoseconds: 70_000_000_000 };
        assert!(!clock.correct(later));
        assert_eq!(clock, Clock::new(HZ_250, SEEN));
    }

    #[test]
    fn clocks_that_parted_are_brought_together() {
        let mut clock = Clock::new(HZ_250, SEEN);
        let later = Reading { jiffies: 1_000 + 250 * 90, nanoseconds: 70_000_000_000 };
        assert!(clock.correct(later));
        assert_eq!(clock.jiffies(Duration::from_secs(70)), later.jiffies);
    }

    #[test]
    fn a_wrong_length_of_a_jiffy_shows_in_the_count_since_boot() {
        let uptime = 3600;
        let jiffies = (1 << 32) - 300 * 250 + uptime * 250;
        let seen = Reading { jiffies, nanoseconds: uptime * 1_000_000_000 };
        assert!(Clock::new(HZ_250, seen).agrees_with_boot());
        assert!(!Clock::new(1_000_000, seen).agrees_with_boot());
        assert!(!Clock::new(10_000_000, seen).agrees_with_boot());
    }

    #[test]
    fn the_kernel_tells_the_length_of_a_jiffy() {
        let jiffy = jiffy_nanoseconds().unwrap();
        assert!((1_000_000..=10_000_000).contains(&jiffy), "{jiffy} ns");
    }
}
