//! When to look again: a binary heap that knows where each of its entries is.
//!
//! There is one entry for each slot at most, however often it is set: a refresh moves it. So the
//! heap is bounded by the number of allocations, and removing one leaves nothing behind.

use std::time::Duration;

/// Deadlines of numbered slots.
#[derive(Debug, Default)]
pub struct Timers {
    /// A binary heap of (deadline, slot), earliest first.
    heap: Vec<(Duration, u32)>,
    /// Where in the heap a slot's entry is, plus 1; 0 when it has none.
    position: Vec<u32>,
}

impl Timers {
    /// How many slots have a deadline.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no slot has a deadline.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Duration> {
        self.heap.first().map(|entry| entry.0)
    }

    /// Sets, or moves, the deadline of a slot.
    pub fn set(&mut self, slot: u32, deadline: Duration) {
        let index = slot as usize;
        if index >= self.position.len() {
            self.position.resize(index + 1, 0);
        }
        let at = match self.position[index] {
            0 => {
                self.heap.push((deadline, slot));
                self.position[index] = self.heap.len() as u32;
                self.heap.len() - 1
            }
            at => {
                self.heap[at as usize - 1].0 = deadline;
                at as usize - 1
            }
        };
        let at = self.up(at);
        self.down(at);
    }

    /// Removes the deadline of a slot.
    pub fn clear(&mut self, slot: u32) {
        let Some(at) = self.position.get(slot as usize).and_then(|&at| at.checked_sub(1)) else {
            return;
        };
        let at = at as usize;
        self.heap.swap_remove(at);
        self.position[slot as usize] = 0;
        if let Some(&(_, moved)) = self.heap.get(at) {
            self.position[moved as usize] = at as u32 + 1;
            let at = self.up(at);
            self.down(at);
        }
    }

    /// Takes one slot whose deadline has come.
    pub fn pop(&mut self, now: Duration) -> Option<u32> {
        let &(deadline, slot) = self.heap.first()?;
        if deadline > now {
            return None;
        }
        self.clear(slot);
        Some(slot)
    }

    fn up(&mut self, mut at: usize) -> usize {
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        at
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            let Some(mut least) = self.heap.get(left).map(|_| left) else { return };
            if self.heap.get(left + 1).is_some_and(|right| *right < self.heap[left]) {
                least = left + 1;
            }
            if self.heap[at] <= self.heap[least] {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.position[self.heap[a].1 as usize] = a as u32 + 1;
        self.position[self.heap[b].1 as usize] = b as u32 + 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::random::Seeded;

    #[test]
    fn random_use_agrees_with_a_sorted_map() {
        let seed = 11;
        println!("seed {seed}");
        let mut random = Seeded::new(seed);
        let mut timers = Timers::default();
        let mut model: HashMap<u32, Duration> = HashMap::new();
        let mut now = Duration::ZERO;
        for _ in 0..20_000 {
            let slot = random.below(200) as u32;
            match random.below(4) {
                0 | 1 => {
                    let deadline = now + Duration::from_millis(random.below(500) as u64);
                    timers.set(slot, deadline);
                    model.insert(slot, deadline);
                }
                2 => {
                    timers.clear(slot);
                    model.remove(&slot);
                }
                _ => {
                    now += Duration::from_millis(random.below(20) as u64);
                    while let Some(slot) = timers.pop(now) {
                        let deadline = model.remove(&slot).expect("the model has it");
                        assert!(deadline <= now);
                    }
                }
            }
            assert_eq!(timers.len(), model.len());
            assert_eq!(timers.next(), model.values().min().copied());
        }
    }

    #[test]
    fn a_hundred_thousand_entries_refreshed_often_stay_a_hundred_thousand() {
        let mut timers = Timers::default();
        for round in 0..5 {
            for slot in 0..100_000 {
                timers.set(slot, Duration::from_millis(u64::from(slot * 7919 % 100_003) + round));
            }
        }
        assert_eq!(timers.len(), 100_000);
        let mut last = Duration::ZERO;
        while let Some(next) = timers.next() {
            assert!(next >= last);
            last = next;
            timers.pop(next);
        }
        assert!(timers.is_empty());
    }
}
