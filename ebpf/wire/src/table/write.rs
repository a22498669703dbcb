//! Writing: the control thread's side of the table.

use super::{Entry, Geometry, LANES, Table};
use crate::{Key, Route};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// Neither bucket of a key has a free place, and none could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("the route table has no free place for this channel")
    }
}

impl core::error::Error for Full {}

/// The memory of a table on the host: zeroed when it is new.
///
/// `tags` has one word per bucket and `entries` has [`LANES`] per bucket.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'m> {
    /// Size and secret.
    pub geometry: &'m Geometry,
    /// Tag words.
    pub tags: &'m [AtomicU64],
    /// Entries.
    pub entries: &'m [Entry],
    /// Odd while an entry changes its place.
    pub moves: &'m AtomicU64,
}

impl Table for Memory<'_> {
    #[inline(always)]
    fn geometry(&self) -> Geometry {
        *self.geometry
    }
    #[inline(always)]
    fn tags(&self, bucket: u32) -> u64 {
        self.tags.get(bucket as usize).map_or(0, |word| word.load(Acquire))
    }
    #[inline(always)]
    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }
    #[inline(always)]
    fn moves(&self) -> u64 {
        self.moves.load(Acquire)
    }
}

/// How many entries may move in a row to make room for one. Two reach 40 places at full load.
const MOVES: u32 = 2;

/// Where an entry is.
#[derive(Clone, Copy)]
struct Slot {
    bucket: u32,
    lane: u32,
}

/// The only writer of a table. There must never be two for the same memory.
///
/// It does not hold the memory, so that whoever owns both can keep them side by side; every call
/// takes the memory that the writer was made for.
#[derive(Debug)]
pub struct Writer {
    live: u32,
}

impl Writer {
    /// A writer for `memory`, which is empty: all zero.
    pub fn new(memory: Memory<'_>) -> Self {
        let buckets = memory.geometry.buckets as usize;
        assert!(memory.tags.len() >= buckets, "one tag word per bucket");
        assert!(memory.entries.len() >= buckets * LANES as usize, "{LANES} entries per bucket");
        Self { live: 0 }
    }

    /// How many routes are in the table.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Adds the route of `key`, or replaces it; its counters go on. Readers see the old or the new.
    pub fn insert(&mut self, memory: Memory<'_>, key: &Key, route: &Route) -> Result<(), Full> {
        if let Some(slot) = memory.find(key) {
            memory.at(slot).write(|entry| entry.store_route(route));
            return Ok(());
        }
        let place = memory.geometry.place(key);
        let slot = memory.free_slot(place.buckets).ok_or(Full)?;
        memory.at(slot).write(|entry| {
            entry.store_key(key);
            entry.store_route(route);
            entry.packets.store(0, Relaxed);
            entry.bytes.store(0, Relaxed);
        });
        memory.set_tag(slot, place.tag);
        self.live += 1;
        Ok(())
    }

    /// Takes the route of `key` out. False when there was none.
    pub fn remove(&mut self, memory: Memory<'_>, key: &Key) -> bool {
        let Some(slot) = memory.find(key) else { return false };
        memory.vacate(slot);
        self.live -= 1;
        true
    }
}

impl<'m> Memory<'m> {
    /// The entry of `key`, for its counters.
    pub fn entry_of(&self, key: &Key) -> Option<&'m Entry> {
        self.find(key).map(|slot| self.at(slot))
    }

    fn vacate(&self, slot: Slot) {
        self.set_tag(slot, 0);
        self.at(slot).write(|entry| entry.key.iter().for_each(|word| word.store(0, Relaxed)));
    }

    fn at(&self, slot: Slot) -> &'m Entry {
        &self.entries[(slot.bucket * LANES + slot.lane) as usize]
    }

    fn slots(bucket: u32) -> impl Iterator<Item = Slot> {
        (0..LANES).map(move |lane| Slot { bucket, lane })
    }

    fn tag(&self, slot: Slot) -> u16 {
        (self.tags[slot.bucket as usize].load(Relaxed) >> (16 * slot.lane)) as u16
    }

    fn set_tag(&self, slot: Slot, tag: u16) {
        let word = &self.tags[slot.bucket as usize];
        let shift = 16 * slot.lane;
        let others = word.load(Relaxed) & !(0xffff << shift);
        word.store(others | u64::from(tag) << shift, Release);
    }

    fn find(&self, key: &Key) -> Option<Slot> {
        let place = self.geometry.place(key);
        place
            .buckets
            .into_iter()
            .flat_map(Self::slots)
            .find(|slot| self.tag(*slot) == place.tag && self.at(*slot).holds(key))
    }

    fn free_in(&self, bucket: u32) -> Option<Slot> {
        Self::slots(bucket).find(|slot| self.tag(*slot) == 0)
    }

    /// A free place: in the first bucket, so that most lookups end there, else in the second, else
    /// in one where another entry could be moved away.
    fn free_slot(&self, buckets: [u32; 2]) -> Option<Slot> {
        let free = buckets.into_iter().find_map(|bucket| self.free_in(bucket));
        free.or_else(|| buckets.into_iter().find_map(|bucket| self.make_room(bucket, MOVES)))
    }

    /// Frees a place in `bucket` by moving an entry to its other bucket, which may first have to
    /// make room itself, by at most `moves` moves in all.
    fn make_room(&self, bucket: u32, moves: u32) -> Option<Slot> {
        let moves = moves.checked_sub(1)?;
        let others =
            || Self::slots(bucket).filter_map(|slot| Some((slot, self.other_bucket(slot)?)));
        let (from, to) =
            others().find_map(|(slot, other)| Some((slot, self.free_in(other)?))).or_else(
                || others().find_map(|(slot, other)| Some((slot, self.make_room(other, moves)?))),
            )?;
        // What made room further on may have moved this very entry.
        if self.tag(from) != 0 {
            self.relocate(from, to);
        }
        Some(from)
    }

    fn other_bucket(&self, slot: Slot) -> Option<u32> {
        let place = self.geometry.place(&self.at(slot).load_key());
        place.buckets.into_iter().find(|bucket| *bucket != slot.bucket)
    }

    /// Copies first and clears afterwards: a reader that comes by meanwhile finds one of the two,
    /// or sees `moves` change and looks again.
    fn relocate(&self, from: Slot, to: Slot) {
        let moves = self.moves;
        moves.store(moves.load(Relaxed) + 1, Relaxed);
        fence(Release);
        let (old, new) = (self.at(from), self.at(to));
        new.write(|entry| entry.store_all(old));
        self.set_tag(to, self.tag(from));
        self.vacate(from);
        moves.store(moves.load(Relaxed) + 1, Release);
    }
}

impl Entry {
    /// Runs `change` while the sequence number is odd.
    fn write(&self, change: impl FnOnce(&Self)) {
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        change(self);
        self.sequence.store(sequence.wrapping_add(2), Release);
    }

    fn store_key(&self, key: &Key) {
        self.key.iter().zip(key.words()).for_each(|(word, value)| word.store(*value, Relaxed));
    }

    fn store_route(&self, route: &Route) {
        let words: &[u64; 8] = zerocopy::transmute_ref!(route);
        self.route.iter().zip(words).for_each(|(word, value)| word.store(*value, Relaxed));
    }

    fn store_all(&self, other: &Entry) {
        self.store_key(&other.load_key());
        self.store_route(&zerocopy::transmute!(other.route_words()));
        self.packets.store(other.packets.load(Relaxed), Relaxed);
        self.bytes.store(other.bytes.load(Relaxed), Relaxed);
    }

    fn load_key(&self) -> Key {
        let words: [u64; 5] = core::array::from_fn(|at| self.key[at].load(Relaxed));
        zerocopy::transmute!(words)
    }
}
