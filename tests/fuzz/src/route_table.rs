//! The route table against a plain map: any order of additions, replacements and removals, in a
//! table so small that slots move and it fills up.
//!
//! ```text
//!   | secret 8 | size 1 | operation 1, flow 1 | operation 1, flow 1 | ...
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;

use wire::table::{Bucket, Entry, Full, Geometry, HASH_WORDS, Memory, Miss, Writer, lookup};
use wire::{Endpoint, Key, Route, Tuple};

use crate::input::Input;

fn key(flow: u8) -> Key {
    let remote: SocketAddr = match flow % 2 {
        0 => ([44, 0, 0, flow], 4000).into(),
        _ => ([0x2e00, 0, 0, 0, 0, 0, 0, u16::from(flow)], 4000).into(),
    };
    let local: SocketAddr = ([44, 1, 0, 1], 3478).into();
    Key::new(remote.into(), local.into(), 0x4000 + u16::from(flow / 16))
}

/// All fields follow from flow and version.
fn route(flow: u8, version: u16) -> Route {
    let end = |number: u16| -> Endpoint { SocketAddr::from(([44, flow, 0, 1], number)).into() };
    let tuple = |from: u16| Tuple { src: end(from), dst: end(from ^ 1) };
    Route { port_id: version.into(), ..Route::new(tuple(version), tuple(!version), version, 9) }
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = u64::from_le_bytes(input.array()) | 1;
    let secret = std::array::from_fn::<_, HASH_WORDS, _>(|at| {
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7 * at as u32) ^ at as u64
    });
    let routes_max = 1 + u32::from(input.byte() % 64);
    let buckets = Geometry::buckets_for(routes_max);
    let geometry = Geometry { secret, buckets: buckets.into() };
    let index: Vec<Bucket> = (0..buckets).map(|_| Bucket::default()).collect();
    let entries: Vec<Entry> = (0..routes_max).map(|_| Entry::default()).collect();
    let moves = AtomicU64::default();
    let memory = Memory { geometry: &geometry, index: &index, entries: &entries, moves: &moves };
    let mut writer = Writer::new(memory);
    let mut model: HashMap<u8, (u16, u64)> = HashMap::new();
    let mut version = 0;
    while !input.is_empty() {
        version += 1;
        let (operation, flow) = (input.byte(), input.byte());
        match operation % 4 {
            0 | 1 => match writer.insert(memory, &key(flow), &route(flow, version)) {
                Ok(()) => model.entry(flow).or_default().0 = version,
                Err(Full) => assert!(!model.contains_key(&flow), "replacing needs no room"),
            },
            2 => {
                let removed = writer.remove(memory, &key(flow));
                assert_eq!(removed, model.remove(&flow).is_some());
            }
            _ => {
                if let Ok(found) = lookup(&memory, &key(flow)) {
                    found.entry.count(7);
                    model.get_mut(&flow).expect("the map has it").1 += 1;
                }
            }
        }
        assert_eq!(writer.live() as usize, model.len());
        assert!(model.len() <= routes_max as usize);
    }
    for flow in 0..=u8::MAX {
        let found = lookup(&memory, &key(flow));
        let held = found.map(|found| (found.route, found.entry.counted()));
        let expected = model.get(&flow).map(|(version, n)| (route(flow, *version), (*n, 7 * n)));
        assert_eq!(held, expected.ok_or(Miss::Absent), "flow {flow}");
    }
    assert_eq!(moves.into_inner() % 2, 0, "no move is left half done");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let fill = (0..60).flat_map(|flow: u8| [flow % 3, flow]);
    let churn = (0..200).flat_map(|step: u8| [step.wrapping_mul(7), step.wrapping_mul(31) % 40]);
    let head = [3, 1, 4, 1, 5, 9, 2, 6];
    vec![
        head.into_iter().chain([47]).chain(fill).collect(),
        head.into_iter().chain([23]).chain(churn).collect(),
    ]
}
