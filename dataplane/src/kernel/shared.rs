//! The program's tables as workers read them: the same memory, mapped once more.
//!
//! A frame that reaches a worker by AF_XDP is decided by what decided in the program, over the same
//! routes, next hops and time. The control thread's stores reach both at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wire::table::{Bucket, Entry, Geometry, Table};
use wire::{Checksums, Hop, HopCell, Ingress, Network, PortUse, Tables};

use super::maps::Mapping;

/// From CLOCK_MONOTONIC to jiffies, for workers; one word, so that it changes at once.
#[derive(Debug)]
pub(crate) struct SharedClock {
    jiffy: u64,
    /// Nanoseconds that jiffies are ahead of CLOCK_MONOTONIC.
    ahead: AtomicI64,
}

impl SharedClock {
    pub(crate) fn new(jiffy: u64, ahead: i64) -> Arc<SharedClock> {
        Arc::new(SharedClock { jiffy, ahead: AtomicI64::new(ahead) })
    }

    pub(crate) fn set(&self, ahead: i64) {
        self.ahead.store(ahead, Relaxed);
    }

    /// Rounded up: a route is never found live after its end.
    fn jiffies(&self, time: Duration) -> u64 {
        let time = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let ahead = self.ahead.load(Relaxed);
        u64::try_from(time.saturating_add(ahead)).unwrap_or(0).div_ceil(self.jiffy)
    }
}

/// The program's route table, hops and ports.
pub(crate) struct FrameTables {
    pub(super) geometry: Geometry,
    pub(super) index: Mapping<Bucket>,
    pub(super) entries: Mapping<Entry>,
    pub(super) hops: Mapping<HopCell>,
    pub(super) ports: Mapping<AtomicU64>,
    pub(super) clock: Arc<SharedClock>,
}

impl FrameTables {
    /// Tables that no program looks at: these routes for ever, by one next hop.
    #[cfg(test)]
    pub(crate) fn for_tests(routes: &[crate::Route], ports: &[(u16, u64)]) -> FrameTables {
        use wire::table::{Memory, Writer};
        let (entries, buckets) = (64, Geometry::buckets_for(64));
        let tables = FrameTables {
            geometry: Geometry { secret: [77; wire::table::HASH_WORDS], buckets: buckets.into() },
            index: Mapping::anonymous(buckets as usize),
            entries: Mapping::anonymous(entries),
            hops: Mapping::anonymous(2),
            ports: Mapping::anonymous(1 << 16),
            clock: SharedClock::new(1, 0),
        };
        let (dst, src) = ([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
        tables.hops[1].store(&Hop { dst, src, ifindex: 2, mtu: 1500, vlan: 0.into() });
        for (port, word) in ports {
            tables.ports[usize::from(*port)].store(*word, Relaxed);
        }
        let (moves, FrameTables { geometry, index, entries, .. }) = (AtomicU64::new(0), &tables);
        let memory = Memory { geometry, index, entries, moves: &moves };
        let mut writer = Writer::new(memory);
        for (key, route) in routes.iter().flat_map(crate::table::entries) {
            let route = wire::Route { hop: 1, expires: u64::MAX, ..route };
            writer.insert(memory, &key, &route).expect("a table with room");
        }
        tables
    }

    /// As they are at `now`, CLOCK_MONOTONIC.
    pub(crate) fn view(&self, now: Duration) -> FrameView<'_> {
        FrameView { tables: self, now: self.clock.jiffies(now) }
    }
}

/// The tables at one moment.
pub(crate) struct FrameView<'t> {
    tables: &'t FrameTables,
    now: u64,
}

impl Table for FrameView<'_> {
    #[inline(always)]
    fn geometry(&self) -> Geometry {
        self.tables.geometry
    }
    #[inline(always)]
    fn bucket(&self, number: u32) -> [u64; 2] {
        self.tables.index.get(number as usize).map_or([0; 2], Bucket::load)
    }
    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.tables.entries.get(number as usize)
    }
}

impl Tables for FrameView<'_> {
    #[inline(always)]
    fn port(&self, number: u16) -> PortUse {
        PortUse(self.tables.ports.get(usize::from(number)).map_or(0, |word| word.load(Relaxed)))
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        self.now
    }
}

impl Network for FrameView<'_> {
    #[inline(always)]
    fn hop(&self, index: u16) -> Option<Hop> {
        self.tables.hops.get(usize::from(index))?.load()
    }
}

/// Where a worker's frames come in: the program has looked at MAC address, VLAN and checksum already.
pub(crate) struct Looked;

impl Ingress for Looked {
    #[inline(always)]
    fn own(&self, _mac: u64, _vlan: u16) -> Option<Checksums> {
        Some(Checksums::Made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_counts_the_same_jiffies_and_never_fewer() {
        let clock = SharedClock::new(4_000_000, 4_000_000 * 1_000 - 10_000_000_000);
        let jiffies = |milliseconds| clock.jiffies(Duration::from_millis(milliseconds));
        assert_eq!(
            [10_000, 10_001, 10_004, 11_000, 0].map(jiffies),
            [1_000, 1_001, 1_001, 1_250, 0]
        );
        clock.set(4_000_000);
        assert_eq!(jiffies(4), 2);
    }
}
