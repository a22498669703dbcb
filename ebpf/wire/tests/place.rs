//! Where keys belong, and that nothing but the key itself is taken for it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;

use wire::table::{Bucket, Entry, Geometry, HASH_WORDS, Memory, Miss, Table, Writer, lookup};
use wire::{Endpoint, Key, Route, Tuple};

fn endpoint(ip: impl Into<IpAddr>, port: u16) -> Endpoint {
    SocketAddr::new(ip.into(), port).into()
}

/// Words without a pattern, the same each time.
fn secret() -> [u64; HASH_WORDS] {
    std::array::from_fn(|at| {
        let word = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    })
}

fn key() -> Key {
    let (remote, local) =
        ([0x2e09_u16, 1, 2, 3, 4, 5, 6, 7], [0x2e00_u16, 8, 9, 10, 11, 12, 13, 14]);
    Key::new(endpoint(remote, 40_000), endpoint(local, 3478), 0x4000)
}

/// `key` with one bit changed.
fn flipped(key: &Key, bit: usize) -> Key {
    let mut words = *key.words();
    words[bit / 64] ^= 1 << (bit % 64);
    zerocopy::transmute!(words)
}

#[test]
fn every_bit_of_the_key_and_every_word_of_the_secret_has_a_say() {
    let geometry = Geometry { secret: secret(), buckets: 1 << 30 };
    let place = geometry.place(&key());
    let places: HashSet<_> =
        (0..320).map(|bit| geometry.place(&flipped(&key(), bit)).buckets).collect();
    assert_eq!(places.len(), 320, "two bits say the same");
    assert!(!places.contains(&place.buckets), "a bit says nothing");
    for word in 0..HASH_WORDS {
        let mut geometry = geometry;
        geometry.secret[word] ^= 1;
        let moved = geometry.place(&key());
        assert_ne!(moved.buckets[0], place.buckets[0], "word {word} of the secret");
        assert_ne!(moved.buckets[1], place.buckets[1], "word {word} of the secret");
    }
}

#[test]
fn marks_are_never_zero_and_buckets_are_there() {
    let geometry = Geometry { secret: secret(), buckets: 1001 };
    let mut marks = HashSet::new();
    for number in 0..100_000_u32 {
        let place = geometry.place(&Key::new(endpoint(number.to_be_bytes(), 1), key_local(), 0));
        assert!((1..1024).contains(&place.mark), "{place:?}");
        assert!(place.buckets.iter().all(|bucket| *bucket < 1001), "{place:?}");
        marks.insert(place.mark);
    }
    assert_eq!(marks.len(), 512, "nine bits, and one that is always set");
}

fn key_local() -> Endpoint {
    endpoint([44, 1, 0, 1], 3478)
}

/// In a table of one bucket keys differ by their marks, of which there are few: each part of a key is
/// varied until the mark is the same, and the key alone tells the two apart.
#[test]
fn a_key_that_differs_in_one_word_alone_finds_nothing_though_its_place_is_the_same() {
    let geometry = Geometry { secret: secret(), buckets: 1 };
    let (index, entries) = ([Bucket::default()], [Entry::default()]);
    let moves = AtomicU64::new(0);
    let memory = Memory { geometry: &geometry, index: &index, entries: &entries, moves: &moves };
    let route = Route::new(tuple(), tuple(), 0, 1);
    Writer::new(memory).insert(memory, &key(), &route).expect("a table with room");
    for word in 0..5 {
        let other = (1..100_000_u64).map(|change| {
            let mut words = *key().words();
            words[word] ^= change;
            zerocopy::transmute!(words)
        });
        let mut same = other.filter(|other: &Key| geometry.place(other) == geometry.place(&key()));
        let other = same.next().expect("one of many");
        let found = lookup(&memory, &other).map(|found| found.route);
        assert_eq!(found, Err(Miss::Absent), "word {word}: {other:?}");
        assert!(memory.entry_of(&other).is_none(), "word {word}");
    }
    assert!(lookup(&memory, &key()).is_ok());
}

fn tuple() -> Tuple {
    Tuple { src: endpoint([44, 1, 0, 2], 1), dst: endpoint([44, 1, 0, 3], 2) }
}

/// A reader that took the slots from the index a moment ago.
struct Late<'m> {
    memory: Memory<'m>,
    slots: [u64; 2],
}

impl Table for Late<'_> {
    fn geometry(&self) -> Geometry {
        *self.memory.geometry
    }
    fn bucket(&self, _number: u32) -> [u64; 2] {
        self.slots
    }
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.memory.entries.get(number as usize)
    }
}

#[test]
fn a_reader_that_is_late_by_a_moment_does_not_find_a_route_that_was_taken_out() {
    let geometry = Geometry { secret: secret(), buckets: 1 };
    let (index, entries) = ([Bucket::default()], [Entry::default(), Entry::default()]);
    let moves = AtomicU64::new(0);
    let memory = Memory { geometry: &geometry, index: &index, entries: &entries, moves: &moves };
    // the first word of an IPv4 key is zero, as is the link of the last free entry
    let gone = Key::new(endpoint([44, 9, 0, 20], 41_000), key_local(), 0);
    let mut writer = Writer::new(memory);
    writer.insert(memory, &gone, &Route::new(tuple(), tuple(), 0, 1)).expect("room");
    let late = Late { memory, slots: index[0].load() };
    assert!(lookup(&late, &gone).is_ok(), "while it is there");
    writer.remove(memory, &gone);
    assert_eq!(lookup(&late, &gone).map(drop), Err(Miss::Absent));
}

#[test]
fn an_index_without_a_free_slot_refuses_and_keeps_what_it_has() {
    let geometry = Geometry { secret: secret(), buckets: 2 };
    let index = [Bucket::default(), Bucket::default()];
    let entries: Vec<Entry> = (0..100).map(|_| Entry::default()).collect();
    let moves = AtomicU64::new(0);
    let memory = Memory { geometry: &geometry, index: &index, entries: &entries, moves: &moves };
    let mut writer = Writer::new(memory);
    let keys = (0..100).map(|port| Key::new(endpoint([44, 9, 0, 20], port), key_local(), 0));
    let route = Route::new(tuple(), tuple(), 0, 1);
    let taken: Vec<Key> = keys.filter(|key| writer.insert(memory, key, &route).is_ok()).collect();
    assert_eq!(taken.len(), 8, "two buckets of four");
    assert!(taken.iter().all(|key| lookup(&memory, key).is_ok()), "what was taken stays");
}
