//! The server's timers, as many as there are allocations.

use std::time::Duration;

use turn::Seeded;
use turn::timers::Timers;

/// Timers of so many allocations, each refreshed at a random moment of the last ten minutes.
pub struct Deadlines {
    timers: Timers,
    random: Seeded,
    count: usize,
    now: Duration,
}

impl Deadlines {
    /// For `count` allocations.
    pub fn new(count: usize) -> Self {
        let (mut timers, mut random) = (Timers::default(), Seeded::new(13));
        for slot in 0..count {
            timers.set(slot as u32, Duration::from_millis(random.below(600_000) as u64));
        }
        Self { timers, random, count, now: Duration::from_secs(600) }
    }

    /// What a Refresh does: moves the deadline of one of them to ten minutes from now.
    #[inline(always)]
    pub fn refresh(&mut self) {
        self.now += Duration::from_micros(10);
        let slot = self.random.below(self.count) as u32;
        self.timers.set(slot, self.now + Duration::from_secs(600));
    }

    /// What an expiry and a new allocation do: takes out the first, and puts it in again.
    #[inline(always)]
    pub fn expire(&mut self) {
        let first = self.timers.next().expect("there are timers");
        let slot = self.timers.pop(first).expect("its time has come");
        self.timers.set(slot, first + Duration::from_secs(600));
    }
}
