//! What generator and sink have counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use aya::maps::PerCpuArray;

use crate::abi;
use crate::traffic::{FLOW_SENT, FLOW_WORDS, Traffic};

/// What the sink saw, in short.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Right, to peers and to clients.
    pub right: [u64; 2],
    /// Ours, and wrong.
    pub wrong: u64,
}

/// What the sink saw, each to peers and to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Right; where flows are tracked, each number once.
    pub right: [u64; 2],
    /// Of a known flow, with wrong bytes.
    pub damaged: [u64; 2],
    /// At a port of ours, and nothing that can be read, by the direction that ends there.
    pub unreadable: [u64; 2],
    /// Right, at another port or channel than its flow's.
    pub misrouted: [u64; 2],
    /// Of another run.
    pub stray: u64,
    /// Of a tracked flow, and seen before.
    pub repeated: u64,
    /// Not ours: passed on.
    pub other: u64,
}

/// What arrived of one tracked flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Intact, each number once.
    pub received: u64,
    /// Of these, after one with a higher number.
    pub reordered: u64,
    /// Seen before, among the last thousand numbers.
    pub duplicated: u64,
    /// With wrong bytes.
    pub damaged: u64,
}

impl Traffic {
    /// What the sink has seen since the programs were loaded.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub fn received(&self) -> Result<Received> {
        let seen = self.seen()?;
        let wrong = [seen.damaged, seen.unreadable, seen.misrouted, [seen.stray, 0]];
        Ok(Received { right: seen.right, wrong: wrong.into_iter().flatten().sum() })
    }

    /// What the sink has seen since the programs were loaded.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub fn seen(&self) -> Result<Seen> {
        let map = self.ebpf.map("SEEN").context("SEEN")?;
        let map: PerCpuArray<_, u64> = map.try_into()?;
        let count = |word: u32| -> Result<u64> { Ok(map.get(&word, 0)?.iter().sum()) };
        let both = |word: u32| -> Result<[u64; 2]> { Ok([count(word)?, count(word + 1)?]) };
        Ok(Seen {
            right: both(abi::seen::RIGHT)?,
            damaged: both(abi::seen::DAMAGED)?,
            unreadable: both(abi::seen::UNREADABLE)?,
            misrouted: both(abi::seen::MISROUTED)?,
            stray: count(abi::seen::STRAY)?,
            repeated: count(abi::seen::REPEATED)?,
            other: count(abi::seen::OTHER)?,
        })
    }

    /// How many of a flow the generator has sent in this run.
    pub fn sent_of(&self, flow: usize) -> u64 {
        self.maps.flows[flow * FLOW_WORDS + FLOW_SENT].load(Relaxed)
    }

    /// What arrived of a flow in this run; nothing where flows are not tracked.
    pub fn arrivals_of(&self, flow: usize) -> Arrivals {
        let Some(words) = self.arrivals_words(flow) else { return Arrivals::default() };
        let word = |at: usize| words[at].load(Relaxed);
        Arrivals { received: word(1), reordered: word(2), duplicated: word(3), damaged: word(4) }
    }

    /// Sent, by the part of the run in which it was due.
    pub fn sent_by_slot(&self) -> Vec<u64> {
        self.maps.sent.iter().map(|word| word.load(Relaxed)).collect()
    }

    /// Received right, or with wrong bytes, by the part of the run in which it was due.
    pub fn received_by_slot(&self) -> Vec<u64> {
        self.maps.received.iter().map(|word| word.load(Relaxed)).collect()
    }

    /// From being due to leaving, as the generator's clock told: nanoseconds and how often.
    pub fn lateness(&self) -> Vec<(u64, u64)> {
        histogram(self.maps.lateness, abi::COARSE)
    }

    /// From being due to the sink, of one direction: nanoseconds, to 0.4 %, and how often.
    pub fn latency(&self, to_client: bool) -> Vec<(u64, u64)> {
        let len = abi::buckets(abi::FINE);
        let start = usize::from(to_client) * len;
        histogram(&self.maps.latency[start..start + len], abi::FINE)
    }

    /// The same for both directions of one part of the run, to 3 %.
    pub fn latency_of_slot(&self, slot: usize) -> Vec<(u64, u64)> {
        let len = abi::buckets(abi::COARSE);
        histogram(&self.maps.latency_by_slot[slot * len..(slot + 1) * len], abi::COARSE)
    }
}

fn histogram(words: &[AtomicU64], bits: u32) -> Vec<(u64, u64)> {
    let counts = words.iter().map(|word| word.load(Relaxed)).enumerate();
    let some = counts.filter(|(_, count)| *count > 0);
    some.map(|(bucket, count)| (abi::middle(bucket, bits), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_near_its_middle() {
        for bits in [abi::COARSE, abi::FINE] {
            let mut last = 0;
            for power in 0..36 {
                for value in [1u64 << power, (1 << power) + (1 << power) / 3, (2 << power) - 1] {
                    let bucket = abi::bucket(value, bits);
                    assert!(bucket >= last && bucket < abi::buckets(bits), "{value}: {bucket}");
                    last = bucket;
                    let off = abi::middle(bucket, bits).abs_diff(value) as f64 / value as f64;
                    assert!(off <= 0.5 / f64::from(1 << bits), "{value} is put at {off}");
                }
            }
            assert_eq!(abi::bucket(u64::MAX, bits), abi::buckets(bits) - 1);
        }
    }

    #[test]
    fn a_stamp_is_known_by_its_sum_and_any_changed_bit_shows() {
        let stamp = abi::stamp(0x85, 0x01_0203, 77, 1 << 60 | 5);
        assert!(abi::is_stamp(stamp));
        assert_eq!(abi::stamp(5, 0x01_0203, 77, 1 << 60 | 5), stamp, "tags have their highest bit");
        for bit in 0..160 {
            let mut other = stamp;
            other[bit / 32] ^= 1 << (bit % 32);
            assert!(!abi::is_stamp(other), "bit {bit}");
        }
    }
}
