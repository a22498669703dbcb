//! Where a datagram goes, at the moments and on the ports where it just does or just does not.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;

use wire::table::{Bucket, Entry, Geometry, Memory, Table, Writer};
use wire::{
    Datagram, Endpoint, Forward, Key, LISTENER, PortUse, Reason, Route, Tables, Tuple, decide,
};

const CLIENT: &str = "44.1.0.10:40000";
const LISTENS: &str = "44.1.0.1:3478";
const RELAY: &str = "44.1.0.2:50000";
const PEER: &str = "44.9.0.20:41000";
const EXPIRES: u64 = 1000;

fn at(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().expect("an address of the test").into()
}

/// A relay with one channel, at a time of the test's choice, whose writer may be busy.
struct Relay {
    geometry: Geometry,
    index: Vec<Bucket>,
    entries: Vec<Entry>,
    writer_moves: AtomicU64,
    now: u64,
    /// What `moves` says, one after the other; the last for ever.
    moves: Cell<[u64; 2]>,
}

impl Relay {
    fn new(now: u64) -> Relay {
        let relay = Relay {
            geometry: Geometry { secret: [7; 11], buckets: 4 },
            index: (0..4).map(|_| Bucket::default()).collect(),
            entries: (0..4).map(|_| Entry::default()).collect(),
            writer_moves: AtomicU64::new(0),
            now,
            moves: Cell::new([0, 0]),
        };
        let key = Key::new(at(CLIENT), at(LISTENS), 0x4000);
        let old = Tuple { src: at(CLIENT), dst: at(LISTENS) };
        let new = Tuple { src: at(RELAY), dst: at(PEER) };
        let memory = relay.memory();
        Writer::new(memory)
            .insert(memory, &key, &Route::new(old, new, 0, EXPIRES))
            .expect("a table with room");
        relay
    }

    fn memory(&self) -> Memory<'_> {
        let Relay { geometry, index, entries, writer_moves: moves, .. } = self;
        Memory { geometry, index, entries, moves }
    }

    fn decide(&self, client: &str, port: PortUse) -> Result<Forward<'_>, Reason> {
        let (remote, local) = (at(client), at(LISTENS));
        let datagram = Datagram {
            remote: remote.address,
            local: local.address,
            remote_port: remote.port,
            local_port: local.port,
            size: 8,
            head: [0x40, 0, 0, 4],
            ttl: 64,
        };
        decide(&datagram, port, self)
    }
}

impl Table for Relay {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn bucket(&self, number: u32) -> [u64; 2] {
        self.memory().bucket(number)
    }
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(number as usize)
    }
    fn moves(&self) -> u64 {
        let [now, then] = self.moves.get();
        self.moves.set([then, then]);
        now
    }
}

impl Tables for Relay {
    fn port(&self, _number: u16) -> PortUse {
        PortUse(LISTENER)
    }
    fn now(&self) -> u64 {
        self.now
    }
}

#[test]
fn a_channel_carries_until_the_moment_that_it_expires() {
    for (now, expected) in [
        (0, None),
        (EXPIRES - 1, None),
        (EXPIRES, Some(Reason::Expired)),
        (u64::MAX, Some(Reason::Expired)),
    ] {
        let relay = Relay::new(now);
        assert_eq!(relay.decide(CLIENT, PortUse(LISTENER)).err(), expected, "at {now}");
    }
}

#[test]
fn a_port_that_is_nobodys_is_not_ours() {
    let relay = Relay::new(0);
    assert_eq!(relay.decide(CLIENT, PortUse(0)).err(), Some(Reason::NotOurs));
}

/// A route that is not found may only have been between two places.
#[test]
fn what_is_not_found_while_a_slot_moves_is_busy_and_not_absent() {
    for (moves, expected) in [
        ([0, 0], Reason::NoRoute),
        ([2, 2], Reason::NoRoute),
        ([1, 1], Reason::Busy),
        ([0, 1], Reason::Busy),
        ([0, 2], Reason::Busy),
        ([1, 2], Reason::Busy),
    ] {
        let relay = Relay::new(0);
        relay.moves.set(moves);
        let decided = relay.decide("44.1.0.11:40000", PortUse(LISTENER));
        assert_eq!(decided.err(), Some(expected), "{moves:?}");
        relay.moves.set(moves);
        assert!(relay.decide(CLIENT, PortUse(LISTENER)).is_ok(), "it is there: {moves:?}");
    }
}

/// The memory says so by itself, too.
#[test]
fn a_table_tells_its_readers_when_slots_move() {
    let relay = Relay::new(0);
    relay.writer_moves.store(7, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(relay.memory().moves(), 7);
}
