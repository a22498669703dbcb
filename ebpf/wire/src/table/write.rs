//! Writing: the control thread's side of the table.

use super::geometry::entry_number;
use super::{ENTRIES_MAX, Entry, Geometry, LANES, Table};
use crate::word::load;
use crate::{Key, Route};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// All entries are taken, or neither bucket of a key has a free slot and none could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("the route table has no free place for this channel")
    }
}

impl core::error::Error for Full {}

/// Four slots of the index, two in a word.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct Bucket([AtomicU64; 2]);

impl Bucket {
    /// The slots.
    #[inline(always)]
    pub fn load(&self) -> [u64; 2] {
        [load(&self.0[0]), load(&self.0[1])]
    }
}

/// The memory of a table on the host: zeroed when it is new.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'m> {
    /// Size and secret of the index.
    pub geometry: &'m Geometry,
    /// The index, `geometry.buckets` of them.
    pub index: &'m [Bucket],
    /// As many entries as there may be routes, at most [`ENTRIES_MAX`].
    pub entries: &'m [Entry],
    /// Odd while a slot changes its place.
    pub moves: &'m AtomicU64,
}

impl Table for Memory<'_> {
    #[inline(always)]
    fn geometry(&self) -> Geometry {
        *self.geometry
    }
    #[inline(always)]
    fn bucket(&self, number: u32) -> [u64; 2] {
        let bucket = self.index.get(number as usize);
        bucket.map_or([0; 2], |Bucket([low, high])| [low.load(Acquire), high.load(Acquire)])
    }
    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(number as usize)
    }
    #[inline(always)]
    fn moves(&self) -> u64 {
        self.moves.load(Acquire)
    }
}

/// How many slots may move in a row to make room for one. Two reach 40 places at full load.
const MOVES: u32 = 2;

/// Where a slot is.
#[derive(Clone, Copy)]
struct Slot {
    bucket: u32,
    lane: usize,
}

/// The only writer of a table. There must never be two for the same memory.
///
/// It does not hold the memory, so that whoever owns both can keep them side by side; every call
/// takes the memory that the writer was made for.
#[derive(Debug)]
pub struct Writer {
    live: u32,
    /// Entries from here on were never used.
    fresh: u32,
    /// One more than the first free entry before that; they are linked. 0 for none.
    free: u32,
}

impl Writer {
    /// A writer for `memory`, which is empty: all zero.
    pub fn new(memory: Memory<'_>) -> Self {
        let buckets = memory.geometry.buckets;
        assert!(memory.index.len() as u64 >= buckets, "an index of {buckets} buckets");
        assert!(memory.entries.len() <= ENTRIES_MAX as usize, "at most {ENTRIES_MAX} entries");
        Self { live: 0, fresh: 0, free: 0 }
    }

    /// How many routes are in the table.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Adds the route of `key`, or replaces it; its counters go on. Readers see the old or the new.
    pub fn insert(&mut self, memory: Memory<'_>, key: &Key, route: &Route) -> Result<(), Full> {
        if let Some(entry) = memory.entry_of(key) {
            entry.write(|entry| entry.store_route(route));
            return Ok(());
        }
        let place = memory.geometry.place(key);
        // A slot first: should there be none, no entry is wanted.
        let slot = memory.free_slot(place.buckets).ok_or(Full)?;
        let number = self.take_entry(memory).ok_or(Full)?;
        memory.entries[number as usize].write(|entry| {
            entry.store_key(key);
            entry.store_route(route);
            entry.packets.store(0, Relaxed);
            entry.bytes.store(0, Relaxed);
        });
        memory.set(slot, place.slot(number));
        self.live += 1;
        Ok(())
    }

    /// Takes the route of `key` out. False when there was none.
    pub fn remove(&mut self, memory: Memory<'_>, key: &Key) -> bool {
        let Some(slot) = memory.find(key) else { return false };
        let number = entry_number(memory.get(slot));
        memory.set(slot, 0);
        // The key's first word links the free entries: a reader, late by a moment, may still count
        // in the other words.
        let link = u64::from(self.free);
        memory.entries[number as usize].write(|entry| {
            entry.key.iter().for_each(|word| word.store(0, Relaxed));
            entry.key[0].store(link, Relaxed);
        });
        self.free = number + 1;
        self.live -= 1;
        true
    }

    fn take_entry(&mut self, memory: Memory<'_>) -> Option<u32> {
        if let Some(number) = self.free.checked_sub(1) {
            self.free = memory.entries[number as usize].key[0].load(Relaxed) as u32;
            return Some(number);
        }
        let number = self.fresh;
        memory.entries.get(number as usize)?;
        self.fresh += 1;
        Some(number)
    }
}

impl<'m> Memory<'m> {
    /// The entry of `key`, for its counters.
    pub fn entry_of(&self, key: &Key) -> Option<&'m Entry> {
        let slot = self.find(key)?;
        self.entries.get(entry_number(self.get(slot)) as usize)
    }

    fn slots(bucket: u32) -> impl Iterator<Item = Slot> {
        (0..LANES).map(move |lane| Slot { bucket, lane })
    }

    fn word(&self, slot: Slot) -> (&'m AtomicU64, usize) {
        (&self.index[slot.bucket as usize].0[slot.lane / 2], 32 * (slot.lane % 2))
    }

    fn get(&self, slot: Slot) -> u32 {
        let (word, shift) = self.word(slot);
        (word.load(Relaxed) >> shift) as u32
    }

    fn set(&self, slot: Slot, value: u32) {
        let (word, shift) = self.word(slot);
        let other = word.load(Relaxed) & !(0xffff_ffff << shift);
        word.store(other | u64::from(value) << shift, Release);
    }

    fn find(&self, key: &Key) -> Option<Slot> {
        let place = self.geometry.place(key);
        place.buckets.into_iter().flat_map(Self::slots).find(|slot| {
            let entry = place.entry(self.get(*slot));
            entry.is_some_and(|number| self.entries[number as usize].holds(key))
        })
    }

    fn free_in(&self, bucket: u32) -> Option<Slot> {
        Self::slots(bucket).find(|slot| self.get(*slot) == 0)
    }

    /// A free slot: in the first bucket, so that most lookups end there, else in the second, else
    /// one whose value could be moved away.
    fn free_slot(&self, buckets: [u32; 2]) -> Option<Slot> {
        let free = buckets.into_iter().find_map(|bucket| self.free_in(bucket));
        free.or_else(|| buckets.into_iter().find_map(|bucket| self.make_room(bucket, MOVES)))
    }

    /// Frees a slot of `bucket` by moving its value to its other bucket, which may first have to
    /// make room itself, by at most `moves` moves in all.
    fn make_room(&self, bucket: u32, moves: u32) -> Option<Slot> {
        let moves = moves.checked_sub(1)?;
        let others =
            || Self::slots(bucket).filter_map(|slot| Some((slot, self.other_bucket(slot)?)));
        let direct = others().find_map(|(slot, other)| Some((slot, self.free_in(other)?)));
        let (from, to) = direct.or_else(|| {
            others().find_map(|(slot, other)| Some((slot, self.make_room(other, moves)?)))
        })?;
        // What made room further on may have moved this very slot.
        if self.get(from) != 0 {
            self.relocate(from, to);
        }
        Some(from)
    }

    fn other_bucket(&self, slot: Slot) -> Option<u32> {
        let entry = &self.entries[entry_number(self.get(slot)) as usize];
        let place = self.geometry.place(&entry.load_key());
        place.buckets.into_iter().find(|bucket| *bucket != slot.bucket)
    }

    /// Sets the new place first and clears the old one afterwards: a reader that comes by
    /// meanwhile finds one of the two, or sees `moves` change and looks again.
    fn relocate(&self, from: Slot, to: Slot) {
        let moves = self.moves;
        moves.store(moves.load(Relaxed) + 1, Relaxed);
        fence(Release);
        self.set(to, self.get(from));
        self.set(from, 0);
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

    fn load_key(&self) -> Key {
        let words: [u64; 5] = core::array::from_fn(|at| self.key[at].load(Relaxed));
        zerocopy::transmute!(words)
    }
}
