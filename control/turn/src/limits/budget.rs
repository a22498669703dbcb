//! What strangers may be told: token buckets by source, by network and in all, in fixed memory.
//!
//! A 401 goes to an address that has proved nothing, perhaps to a victim whose address was forged.
//! So the answers are counted out by source (IPv4 address; IPv6 /64), by network (IPv4 /24; IPv6
//! /48) and in all.
//!
//! There is no entry per source: each level is two rows of buckets, a source has one in each row by
//! a keyed hash, and is refused only when both are empty. A flood from many sources can thus empty
//! a stranger's buckets only by hitting both, and grows nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use super::prefix_of;
use crate::random::Random;

/// Buckets in each row of a level.
const ROW: usize = 8192;

/// One level's allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Answers a second, in the long run.
    pub per_second: u32,
    /// Answers at once, after silence.
    pub burst: u32,
}

/// Error answers to requests that are not authenticated, per level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// By IPv4 address, or IPv6 /64.
    pub source: Rate,
    /// By IPv4 /24, or IPv6 /48.
    pub prefix: Rate,
    /// In all.
    pub total: Rate,
}

impl Default for Budget {
    /// A real client needs one 401 for each allocation, and thousands of clients may share the
    /// address of a carrier's NAT and come back at once after a network's outage. A victim whose
    /// address is forged gets at most 88 kB a second, three times what the forger sends.
    fn default() -> Self {
        Self {
            source: Rate { per_second: 1_000, burst: 4_000 },
            prefix: Rate { per_second: 4_000, burst: 16_000 },
            total: Rate { per_second: 20_000, burst: 40_000 },
        }
    }
}

impl Budget {
    /// A client that asks how its NAT behaves sends about a dozen such requests, at most a few a
    /// second; the answer may go to a port that has not asked, so that little is all there is.
    pub fn discovery() -> Self {
        Self {
            source: Rate { per_second: 10, burst: 50 },
            prefix: Rate { per_second: 40, burst: 200 },
            total: Rate { per_second: 500, burst: 1_000 },
        }
    }
}

/// The level that has nothing left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// The source has had its share.
    Source,
    /// The source's network has had its share.
    Prefix,
    /// All strangers together have had theirs.
    Total,
}

/// Tokens left, and when that was true.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// Thousandths of an answer that are spent.
    spent_milli: u32,
    /// Milliseconds since the start.
    at_ms: u32,
}

impl Bucket {
    /// What is spent at `now_ms`, after the refill since.
    fn spent_at(&self, now_ms: u32, rate: Rate) -> u32 {
        let elapsed_ms = u64::from(now_ms.wrapping_sub(self.at_ms));
        let refill = elapsed_ms * u64::from(rate.per_second);
        u64::from(self.spent_milli).saturating_sub(refill) as u32
    }

    /// Spends one, if there is one. `start` is the same in every call.
    pub(crate) fn try_spend(&mut self, start: Duration, now: Duration, rate: Rate) -> bool {
        let now_ms = milliseconds(start, now);
        let room = self.has_room(now_ms, rate);
        if room {
            self.spend(now_ms, rate);
        }
        room
    }

    fn spend(&mut self, now_ms: u32, rate: Rate) {
        // Not above the burst: the other row may have had the room.
        let full = rate.burst.saturating_mul(1000);
        self.spent_milli = self.spent_at(now_ms, rate).saturating_add(1000).min(full);
        self.at_ms = now_ms;
    }

    fn has_room(&self, now_ms: u32, rate: Rate) -> bool {
        let after = u64::from(self.spent_at(now_ms, rate)) + 1000;
        after <= u64::from(rate.burst) * 1000
    }
}

/// The state of all levels: about 256 KiB, whatever happens.
#[derive(Debug)]
pub(crate) struct Budgets {
    budget: Budget,
    key: [u8; 16],
    start: Duration,
    sources: Vec<Bucket>,
    prefixes: Vec<Bucket>,
    total: Bucket,
}

impl Budgets {
    pub(crate) fn new(budget: Budget, now: Duration, random: &mut dyn Random) -> Self {
        let mut key = [0; 16];
        random.fill(&mut key);
        Self {
            budget,
            key,
            start: now,
            sources: vec![Bucket::default(); 2 * ROW],
            prefixes: vec![Bucket::default(); 2 * ROW],
            total: Bucket::default(),
        }
    }

    /// Spends one answer to this source, at every level or at none.
    pub(crate) fn spend(&mut self, ip: IpAddr, now: Duration) -> Result<(), Exhausted> {
        let now_ms = milliseconds(self.start, now);
        let budget = self.budget;
        let sources = self.cells(source_of(ip), 1);
        let prefixes = self.cells(prefix_of(ip), 2);
        let room = |row: &[Bucket], cells: [usize; 2], rate| {
            cells.iter().any(|&cell| row[cell].has_room(now_ms, rate))
        };
        if !room(&self.sources, sources, budget.source) {
            return Err(Exhausted::Source);
        }
        if !room(&self.prefixes, prefixes, budget.prefix) {
            return Err(Exhausted::Prefix);
        }
        if !self.total.has_room(now_ms, budget.total) {
            return Err(Exhausted::Total);
        }
        for cell in sources {
            self.sources[cell].spend(now_ms, budget.source);
        }
        for cell in prefixes {
            self.prefixes[cell].spend(now_ms, budget.prefix);
        }
        self.total.spend(now_ms, budget.total);
        Ok(())
    }

    /// The address's bucket in each row.
    fn cells(&self, ip: IpAddr, level: u8) -> [usize; 2] {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.key);
        (level, ip).hash(&mut hasher);
        let hash = hasher.finish();
        [hash as usize % ROW, ROW + (hash >> 32) as usize % ROW]
    }
}

/// The buckets' time. It wraps after 49 days, and a bucket untouched for so long may then look
/// younger than it is: it refills a little later.
fn milliseconds(start: Duration, now: Duration) -> u32 {
    now.saturating_sub(start).as_millis() as u32
}

/// The address itself, or an IPv6 address's /64: one host has all of it.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;

    fn budgets() -> Budgets {
        let budget = Budget {
            source: Rate { per_second: 1, burst: 5 },
            prefix: Rate { per_second: 10, burst: 20 },
            total: Rate { per_second: 100, burst: 1_000 },
        };
        Budgets::new(budget, Duration::ZERO, &mut Seeded::new(1))
    }

    fn spend(budgets: &mut Budgets, ip: impl Into<IpAddr>, secs: u64) -> Result<(), Exhausted> {
        budgets.spend(ip.into(), Duration::from_secs(secs))
    }

    #[test]
    fn each_level_has_its_burst_and_refills() {
        let mut budgets = budgets();
        for _ in 0..5 {
            assert_eq!(spend(&mut budgets, [198, 18, 0, 1], 0), Ok(()));
        }
        assert_eq!(spend(&mut budgets, [198, 18, 0, 1], 0), Err(Exhausted::Source));
        for host in 2..5 {
            for _ in 0..5 {
                assert_eq!(spend(&mut budgets, [198, 18, 0, host], 0), Ok(()));
            }
        }
        assert_eq!(spend(&mut budgets, [198, 18, 0, 9], 0), Err(Exhausted::Prefix));
        assert_eq!(spend(&mut budgets, [198, 18, 1, 9], 0), Ok(()));
        assert_eq!(spend(&mut budgets, [198, 18, 0, 1], 1), Ok(()));
        assert_eq!(spend(&mut budgets, [198, 18, 0, 1], 1), Err(Exhausted::Source));
    }

    #[test]
    fn hosts_of_one_ipv6_network_share() {
        let mut budgets = budgets();
        for host in 0..5u16 {
            let ip = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, host, 0, 0, 1);
            assert_eq!(spend(&mut budgets, ip, 0), Ok(()));
        }
        let same = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 99, 0, 0, 1);
        assert_eq!(spend(&mut budgets, same, 0), Err(Exhausted::Source));
    }

    #[test]
    fn the_total_is_held_against_65536_sources_in_fixed_memory() {
        let mut budgets = budgets();
        let size = budgets.sources.len() + budgets.prefixes.len();
        let mut answered = 0;
        for n in 0..65_536u32 {
            let ip: [u8; 4] = (0x0b00_0000 + n * 251).to_be_bytes();
            answered += u32::from(spend(&mut budgets, ip, 0).is_ok());
        }
        assert_eq!(answered, 1_000);
        assert_eq!(budgets.sources.len() + budgets.prefixes.len(), size);
    }
}
