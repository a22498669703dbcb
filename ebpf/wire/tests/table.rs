//! The route table: against a plain map, filled to its limit, and read while it changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use wire::table::{Bucket, Entry, Full, Geometry, Memory, Miss, Writer, lookup};
use wire::{Endpoint, Key, Route, Tuple};

struct Owned {
    geometry: Geometry,
    index: Vec<Bucket>,
    entries: Vec<Entry>,
    moves: AtomicU64,
}

impl Owned {
    fn new(routes_max: u32, secret: u64) -> Self {
        let buckets = Geometry::buckets_for(routes_max);
        let secret = std::array::from_fn(|at| mix(secret + at as u64));
        Self {
            geometry: Geometry { secret, buckets: buckets.into() },
            index: (0..buckets).map(|_| Bucket::default()).collect(),
            entries: (0..routes_max).map(|_| Entry::default()).collect(),
            moves: AtomicU64::default(),
        }
    }

    fn memory(&self) -> Memory<'_> {
        let Self { geometry, index, entries, moves } = self;
        Memory { geometry, index, entries, moves }
    }
}

fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn endpoint(number: u64) -> Endpoint {
    let [.., a, b, c] = (number as u32).to_be_bytes();
    SocketAddr::from(([44, a, b, c], 40_000)).into()
}

fn key(number: u64) -> Key {
    Key::new(endpoint(number), endpoint(0), 0x4000)
}

/// All fields follow from `number` and `version`, so that a mixture of two is recognised.
fn route(number: u64, version: u64) -> Route {
    let tuple = |at: u64| Tuple { src: endpoint(at), dst: endpoint(at + version) };
    let mut route = Route::new(tuple(number), tuple(number + 7), 0x4000, version);
    route.port_id = (number ^ version) as u32;
    (route.hop, route.peer_hop) = (number as u16, !number as u16 ^ version as u16);
    route.flow_label = version as u32;
    route
}

#[test]
fn a_million_changes_agree_with_a_plain_map() {
    let owned = Owned::new(3000, 1);
    let (memory, mut model) = (owned.memory(), HashMap::new());
    let mut writer = Writer::new(memory);
    for step in 0..1_000_000_u64 {
        let random = mix(step);
        let number = random % 4000;
        if random & 1 << 40 == 0 && (model.len() < 3000 || model.contains_key(&number)) {
            assert_eq!(writer.insert(memory, &key(number), &route(number, step)), Ok(()));
            model.insert(number, step);
        } else {
            assert_eq!(writer.remove(memory, &key(number)), model.remove(&number).is_some());
        }
        let probe = mix(random) % 4000;
        let found = lookup(&memory, &key(probe)).map(|found| found.route);
        let expected = model.get(&probe).map(|version| route(probe, *version));
        assert_eq!(found, expected.ok_or(Miss::Absent), "step {step}");
    }
    assert_eq!(writer.live() as usize, model.len());
}

#[test]
fn a_table_takes_all_the_routes_that_it_was_made_for_whatever_its_secret() {
    for (routes_max, secrets) in [(1, 200), (2, 200), (64, 200), (1000, 50), (131_072, 2)] {
        for secret in 0..secrets {
            let owned = Owned::new(routes_max, secret * 1000);
            let mut writer = Writer::new(owned.memory());
            for number in 0..u64::from(routes_max) {
                let added = writer.insert(owned.memory(), &key(number), &route(number, 1));
                assert_eq!(added, Ok(()), "{number} of {routes_max}, secret {secret}");
            }
            for number in 0..u64::from(routes_max) {
                assert!(lookup(&owned.memory(), &key(number)).is_ok(), "{number} was lost");
            }
        }
    }
}

#[test]
fn a_full_table_refuses_and_keeps_what_it_has() {
    let owned = Owned::new(100, 5);
    let (memory, places) = (owned.memory(), owned.entries.len() as u64);
    let mut writer = Writer::new(memory);
    let taken: Vec<u64> = (0..10 * places)
        .filter(|number| writer.insert(memory, &key(*number), &route(*number, 1)) != Err(Full))
        .collect();
    assert_eq!(taken.len(), 100);
    assert_eq!(writer.live() as usize, taken.len());
    for number in &taken {
        let found = lookup(&memory, &key(*number)).expect("what was taken stays");
        assert_eq!(found.route, route(*number, 1));
    }
    for number in &taken {
        assert!(writer.remove(memory, &key(*number)));
    }
    assert_eq!(writer.live(), 0);
    assert!(owned.index.iter().all(|bucket| bucket.load() == [0; 2]), "a slot was left behind");
}

#[test]
fn counters_outlive_a_replacement_and_not_a_removal() {
    let owned = Owned::new(10, 3);
    let memory = owned.memory();
    let mut writer = Writer::new(memory);
    writer.insert(memory, &key(1), &route(1, 1)).unwrap();
    let found = lookup(&memory, &key(1)).unwrap();
    found.entry.count(160);
    found.entry.count_shared(20);
    writer.insert(memory, &key(1), &route(1, 2)).unwrap();
    assert_eq!(memory.entry_of(&key(1)).unwrap().counted(), (2, 180));
    writer.remove(memory, &key(1));
    assert!(memory.entry_of(&key(1)).is_none());
    writer.insert(memory, &key(1), &route(1, 1)).unwrap();
    assert_eq!(memory.entry_of(&key(1)).unwrap().counted(), (0, 0));
}

/// One thread replaces, removes and adds so many routes that slots move all the time; another
/// reads. Every copy that it gets is one route, whole, and a route that stays is always there.
#[test]
fn a_reader_sees_whole_routes_and_never_misses_one_that_stays() {
    const STAYS: u64 = 5;
    let owned = Owned::new(49, 11);
    let memory = owned.memory();
    let mut writer = Writer::new(memory);
    writer.insert(memory, &key(STAYS), &route(STAYS, 0)).unwrap();
    let done = AtomicBool::new(false);
    let (mut found, mut busy) = (0_u64, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..400_000_u64 {
                let number = 100 + mix(step) % 48;
                if !writer.remove(memory, &key(number)) {
                    let _ = writer.insert(memory, &key(number), &route(number, step));
                }
                writer.insert(memory, &key(STAYS), &route(STAYS, step)).unwrap();
            }
            done.store(true, Relaxed);
        });
        let mut step = 0_u64;
        while !done.load(Relaxed) {
            step += 1;
            for number in [STAYS, 100 + mix(step) % 48] {
                match lookup(&memory, &key(number)) {
                    Ok(hit) => {
                        assert_eq!(hit.route, route(number, hit.route.expires), "a mixture");
                        found += 1;
                    }
                    Err(Miss::Busy) => busy += 1,
                    Err(Miss::Absent) => assert_ne!(number, STAYS, "the one that stays is gone"),
                }
            }
        }
    });
    println!("{found} found, {busy} busy, {} moves", owned.moves.load(Relaxed) / 2);
    assert!(found > 1000);
    assert!(owned.moves.load(Relaxed) > 100, "the test never moved a slot");
}
