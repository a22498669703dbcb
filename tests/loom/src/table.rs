//! The route table around wire's reading and writing code: as wire's module `table`, with entries of
//! which loom follows a few words.

#[path = "../../../ebpf/wire/src/table/geometry.rs"]
mod geometry;
#[path = "../../../ebpf/wire/src/table/read.rs"]
mod read;
#[path = "../../../ebpf/wire/src/table/write.rs"]
mod write;

pub use geometry::{ENTRIES_MAX, Geometry, HASH_WORDS, LANES, Place};
pub use read::{Found, Miss, Table, lookup};
pub use write::{Bucket, Full, Memory, Writer};

use crate::Route;
use crate::word::{AtomicU64, ordered};

/// The words of an entry. Loom follows the sequence number, two words of the key and two of the
/// route.
#[derive(Debug)]
pub struct Entry {
    sequence: AtomicU64,
    key: [AtomicU64; 5],
    packets: AtomicU64,
    bytes: AtomicU64,
    route: [AtomicU64; 8],
}

impl Default for Entry {
    fn default() -> Self {
        let some = |followed: [usize; 2]| {
            move |at: usize| match followed.contains(&at) {
                true => AtomicU64::default(),
                false => AtomicU64::unfollowed(),
            }
        };
        Self {
            sequence: AtomicU64::default(),
            key: real::array::from_fn(some([0, 4])),
            packets: AtomicU64::unfollowed(),
            bytes: AtomicU64::unfollowed(),
            route: real::array::from_fn(some([0, 7])),
        }
    }
}

impl Entry {
    /// The route's words without a look at the sequence number: what must not be done.
    pub fn careless(&self) -> Route {
        Route(self.route_words())
    }
}
