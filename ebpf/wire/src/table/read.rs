//! Reading: what the kernel program and the workers do for every datagram.

use super::{Entry, Geometry, LANES, ordered};
use crate::{Key, Route, word::load};

/// Memory that holds a route table.
pub trait Table {
    /// Size and secret.
    fn geometry(&self) -> Geometry;
    /// The four slots of a bucket, two in a word; 0 beyond the end.
    fn bucket(&self, number: u32) -> [u64; 2];
    /// An entry.
    fn entry(&self, number: u32) -> Option<&Entry>;
    /// Counts up by one before and after a slot changes its place. A table that does not offer
    /// it may miss a route in that moment.
    #[inline(always)]
    fn moves(&self) -> u64 {
        0
    }
}

/// A route that was found, copied out whole.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// The route.
    pub route: Route,
    /// Its entry, for counting.
    pub entry: &'t Entry,
}

/// Nothing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No such key.
    Absent,
    /// The entry was being written, or its slot moved: look again, or leave the datagram to a slower tier.
    Busy,
}

/// Finds the route of `key`.
#[inline(always)]
pub fn lookup<'t, T: Table>(table: &'t T, key: &Key) -> Result<Found<'t>, Miss> {
    let moves = table.moves();
    let place = table.geometry().place(key);
    // The second bucket is looked at in the same loop, so that this code stands once.
    let mut slots = table.bucket(place.buckets[0]);
    let mut lane = 0;
    while lane < 2 * LANES {
        if lane == LANES {
            slots = table.bucket(place.buckets[1]);
        }
        if let Some(number) = place.entry(slots[0] as u32)
            && let Some(entry) = table.entry(number)
        {
            let sequence = load(&entry.sequence);
            ordered();
            if entry.holds(key) {
                return entry.copy(sequence);
            }
        }
        slots = [slots[0] >> 32 | slots[1] << 32, slots[1] >> 32];
        lane += 1;
    }
    ordered();
    Err(if moves != table.moves() || moves % 2 == 1 { Miss::Busy } else { Miss::Absent })
}

impl Entry {
    /// True when the entry's key is `key`. Only a hint until the copy was checked.
    #[inline(always)]
    pub(super) fn holds(&self, key: &Key) -> bool {
        let ours = &self.key;
        let [a, b, c, d, e] = *key.words();
        load(&ours[4]) == e
            && load(&ours[1]) == b
            && load(&ours[0]) == a
            && load(&ours[3]) == d
            && load(&ours[2]) == c
    }

    /// The route as it was at `sequence`, if nobody wrote since.
    #[inline(always)]
    fn copy(&self, sequence: u64) -> Result<Found<'_>, Miss> {
        let words = self.route_words();
        ordered();
        if sequence % 2 == 1 || load(&self.sequence) != sequence {
            return Err(Miss::Busy);
        }
        Ok(Found { route: Route::from_words(words), entry: self })
    }

    #[inline(always)]
    pub(super) fn route_words(&self) -> [u64; 8] {
        let [a, b, c, d, e, f, g, h] = &self.route;
        [load(a), load(b), load(c), load(d), load(e), load(f), load(g), load(h)]
    }
}
