//! Timers of many connections for little: a wheel of slots, one entry for each connection.
//!
//! ```text
//!   now ──> | 0.25 s | 0.25 s | 0.25 s | ... 512 slots ... |   later ones wait in the last slot
//! ```
//!
//! What a connection does moves its deadline all the time; its entry stays where it is, and when
//! the slot comes up the connection is asked again. A deadline that comes nearer makes a second
//! entry and the first is void: its number is another.

use super::members::Key;
use std::time::Duration;

/// How exact timers are.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Slots: 128 s, beyond which a connection is asked in between.
const SLOTS: usize = 512;

/// An entry of the wheel, as its owner knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Armed {
    /// When the slot comes up.
    at: Duration,
    /// Which entry is the valid one.
    number: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    number: u32,
}

/// The wheel of one thread.
pub(crate) struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// The tick that comes up next.
    next: u64,
    /// The first tick whose slot has something.
    soonest: u64,
    entries: usize,
}

impl Wheel {
    pub(crate) fn new(now: Duration) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, next: tick(now) + 1, soonest: u64::MAX, entries: 0 }
    }

    /// Sees to it that `key` is asked at `deadline`, or a tick later. Does nothing where an entry
    /// comes up before.
    pub(crate) fn arm(&mut self, armed: &mut Armed, key: Key, deadline: Duration) {
        if armed.at != Duration::ZERO && armed.at <= deadline + TICK {
            return;
        }
        // the tick after the deadline's own: a timer is late rather than early
        let due = (tick(deadline) + 1).clamp(self.next, self.next + SLOTS as u64 - 1);
        *armed = Armed {
            at: TICK * u32::try_from(due).unwrap_or(u32::MAX),
            number: armed.number.wrapping_add(1),
        };
        self.slots[due as usize % SLOTS].push(Entry { key, number: armed.number });
        self.soonest = self.soonest.min(due);
        self.entries += 1;
    }

    /// Entries, void ones among them.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// How long nothing comes up; `None` when there is nothing.
    pub(crate) fn until_next(&self, now: Duration) -> Option<Duration> {
        if self.entries == 0 {
            return None;
        }
        let due = TICK * u32::try_from(self.soonest).unwrap_or(u32::MAX);
        Some(due.saturating_sub(now))
    }

    /// Moves what has come up by `now` into `due`, with the numbers of the entries.
    pub(crate) fn turn(&mut self, now: Duration, due: &mut Vec<(Key, u32)>) {
        let last = tick(now);
        if last < self.soonest {
            // nothing lies in between
            self.next = self.next.max(last + 1);
            return;
        }
        // after a long sleep every slot comes up once
        let first = self.next.max((last + 1).saturating_sub(SLOTS as u64));
        for at in first..=last {
            let slot = &mut self.slots[at as usize % SLOTS];
            self.entries -= slot.len();
            due.extend(slot.drain(..).map(|entry| (entry.key, entry.number)));
        }
        self.next = self.next.max(last + 1);
        let slots = self.next..self.next + SLOTS as u64;
        let mut filled = slots.filter(|at| !self.slots[*at as usize % SLOTS].is_empty());
        self.soonest = filled.next().unwrap_or(u64::MAX);
    }
}

impl Armed {
    /// True for the valid entry, which is used up by that.
    pub(crate) fn comes_up(&mut self, number: u32) -> bool {
        let valid = self.number == number && self.at != Duration::ZERO;
        if valid {
            self.at = Duration::ZERO;
        }
        valid
    }
}

fn tick(time: Duration) -> u64 {
    (time.as_millis() / TICK.as_millis()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn key(slot: u32) -> Key {
        Key::new(slot, 7)
    }

    fn due(wheel: &mut Wheel, now: Duration) -> Vec<(Key, u32)> {
        let mut due = Vec::new();
        wheel.turn(now, &mut due);
        due
    }

    #[test]
    fn timers_come_up_after_their_deadline_and_at_most_two_ticks_late() {
        for millis in [0, 1, 249, 250, 251, 10_000, 127_000] {
            let mut wheel = Wheel::new(START);
            let deadline = START + Duration::from_millis(millis);
            let mut armed = Armed::default();
            wheel.arm(&mut armed, key(1), deadline);
            let mut now = START;
            while due(&mut wheel, now).is_empty() {
                let wait = wheel.until_next(now).unwrap();
                now += wait.max(Duration::from_millis(1));
                assert!(now <= deadline + 2 * TICK, "{millis}: not at {now:?}");
            }
            assert!(now >= deadline, "{millis}: early, at {now:?}");
            assert_eq!((wheel.len(), wheel.until_next(now)), (0, None));
        }
    }

    #[test]
    fn a_deadline_beyond_the_wheel_comes_up_in_between() {
        let mut wheel = Wheel::new(START);
        let mut armed = Armed::default();
        wheel.arm(&mut armed, key(1), START + Duration::from_secs(3900));
        let wait = wheel.until_next(START).unwrap();
        assert!(wait > Duration::from_secs(120) && wait <= Duration::from_secs(128), "{wait:?}");
        let [(_, number)] = due(&mut wheel, START + wait)[..] else { panic!("not due") };
        assert!(armed.comes_up(number) && !armed.comes_up(number));
    }

    #[test]
    fn later_deadlines_cost_nothing_and_nearer_ones_void_the_entry() {
        let mut wheel = Wheel::new(START);
        let mut armed = Armed::default();
        for seconds in 10..100 {
            wheel.arm(&mut armed, key(1), START + Duration::from_secs(seconds));
        }
        assert_eq!(wheel.len(), 1);
        wheel.arm(&mut armed, key(1), START + Duration::from_secs(1));
        assert_eq!(wheel.len(), 2);
        let all = due(&mut wheel, START + Duration::from_secs(20));
        let valid: Vec<_> = all.into_iter().map(|(_, number)| armed.comes_up(number)).collect();
        assert_eq!(valid, [true, false]);
    }

    #[test]
    fn after_a_sleep_longer_than_the_wheel_everything_comes_up_once() {
        let mut wheel = Wheel::new(START);
        for slot in 0..1000 {
            let deadline = START + Duration::from_millis(u64::from(slot) * 120);
            wheel.arm(&mut Armed::default(), key(slot), deadline);
        }
        let all = due(&mut wheel, START + Duration::from_secs(1_000_000));
        assert_eq!((all.len(), wheel.len()), (1000, 0));
        let mut armed = Armed::default();
        wheel.arm(&mut armed, key(1), START + Duration::from_secs(1_000_001));
        assert_eq!(due(&mut wheel, START + Duration::from_secs(1_000_002)).len(), 1);
    }
}
