//! What arrived of one flow: lost, reordered, duplicated, corrupted.
//!
//! ```text
//! sequence  ... [ window: the last WINDOW numbers, one bit each ] next
//!           too old to tell             seen or not               higher: moves the window
//! ```
//!
//! A datagram is reordered when a later one of its flow came before it (RFC 4737's type P), and
//! duplicated when its number has been seen. One from before the window counts as reordered:
//! whether it is a duplicate, nobody can tell.

/// Counts of one flow's arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Intact, each number once.
    pub received: u64,
    /// Of these, after one with a higher number.
    pub reordered: u64,
    /// Intact, and seen before; not in `received`.
    pub duplicated: u64,
    /// Damaged behind the stamp; not in `received`.
    pub corrupted: u64,
}

impl std::ops::AddAssign for Arrivals {
    fn add_assign(&mut self, other: Arrivals) {
        self.received += other.received;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
    }
}

/// What one datagram was to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first of its number.
    New,
    /// Its number has been seen.
    Duplicate,
}

/// One flow's arrivals.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// One above the highest number seen.
    next: u32,
    window: Box<[u64]>,
    arrivals: Arrivals,
}

impl Tracker {
    /// A tracker that tells duplicates among the last `window` numbers, rounded up to a multiple
    /// of 64.
    pub fn new(window: usize) -> Tracker {
        let words = window.div_ceil(64).max(1);
        Tracker { next: 0, window: vec![0; words].into(), arrivals: Arrivals::default() }
    }

    /// Counts from elsewhere, to which nothing will be added.
    pub fn of(arrivals: Arrivals) -> Tracker {
        Tracker { arrivals, ..Tracker::new(1) }
    }

    /// The counts so far.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals
    }

    /// An intact datagram.
    pub fn intact(&mut self, sequence: u32) -> Arrival {
        let late = sequence < self.next;
        if self.note(sequence) {
            self.arrivals.received += 1;
            self.arrivals.reordered += u64::from(late);
            Arrival::New
        } else {
            self.arrivals.duplicated += 1;
            Arrival::Duplicate
        }
    }

    /// A datagram with a good stamp and bad bytes behind it. An intact copy that came before, or
    /// comes later, makes it a duplicate of that one, so it is counted only for a new number.
    pub fn damaged(&mut self, sequence: u32) {
        if self.note(sequence) {
            self.arrivals.corrupted += 1;
        } else {
            self.arrivals.duplicated += 1;
        }
    }

    /// Marks a number; whether it is new.
    fn note(&mut self, sequence: u32) -> bool {
        let bits = (self.window.len() * 64) as u32;
        if sequence >= self.next {
            self.slide(sequence, bits);
        } else if self.next - sequence > bits {
            return true;
        }
        let (word, bit) = self.place(sequence, bits);
        let new = self.window[word] & bit == 0;
        self.window[word] |= bit;
        new
    }

    /// Forgets the numbers that leave the window when `sequence` becomes the highest.
    fn slide(&mut self, sequence: u32, bits: u32) {
        if sequence - self.next >= bits {
            self.window.fill(0);
        } else {
            for new in self.next..=sequence {
                let (word, bit) = self.place(new, bits);
                self.window[word] &= !bit;
            }
        }
        self.next = sequence.saturating_add(1);
    }

    fn place(&self, sequence: u32, bits: u32) -> (usize, u64) {
        let at = sequence % bits;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turn::Seeded;

    fn arrivals(window: usize, numbers: impl IntoIterator<Item = u32>) -> Arrivals {
        let mut tracker = Tracker::new(window);
        numbers.into_iter().for_each(|number| {
            tracker.intact(number);
        });
        tracker.arrivals()
    }

    #[test]
    fn order_loss_repetition_and_lateness_are_told_apart() {
        let counts = |received, reordered, duplicated| Arrivals {
            received,
            reordered,
            duplicated,
            corrupted: 0,
        };
        assert_eq!(arrivals(64, 0..1000), counts(1000, 0, 0));
        assert_eq!(arrivals(64, (0..1000).step_by(3)), counts(334, 0, 0));
        assert_eq!(arrivals(64, [0, 2, 1, 3]), counts(4, 1, 0));
        assert_eq!(arrivals(64, [0, 1, 1, 2, 0]), counts(3, 0, 2));
        assert_eq!(arrivals(64, [5, 4, 3, 3]), counts(3, 2, 1));
        assert_eq!(arrivals(64, [100_000, 0]), counts(2, 1, 0));
        assert_eq!(arrivals(64, [u32::MAX - 1, u32::MAX - 1]), counts(1, 0, 1));
    }

    #[test]
    fn a_damaged_datagram_uses_its_number_up() {
        let mut tracker = Tracker::new(64);
        tracker.damaged(0);
        tracker.intact(0);
        tracker.intact(1);
        let expected = Arrivals { received: 1, reordered: 0, duplicated: 1, corrupted: 1 };
        assert_eq!(tracker.arrivals(), expected);
    }

    #[test]
    fn within_the_window_it_agrees_with_a_set() {
        let seed = 11;
        println!("seed {seed}");
        let mut random = Seeded::new(seed);
        let (mut seen, mut next) = (std::collections::HashSet::new(), 0);
        let (mut tracker, mut expected) = (Tracker::new(256), Arrivals::default());
        let mut base = 0;
        for _ in 0..100_000 {
            base += random.below(3) as u32;
            let number = base + random.below(120) as u32;
            if seen.insert(number) {
                expected.received += 1;
                expected.reordered += u64::from(number < next);
            } else {
                expected.duplicated += 1;
            }
            next = next.max(number + 1);
            tracker.intact(number);
        }
        assert_eq!(tracker.arrivals(), expected);
    }
}
