//! How many buckets there are and where a key belongs.

use crate::Key;
use zerocopy::{Immutable, IntoBytes};

/// Slots in a bucket, each of 32 bits.
pub const LANES: usize = 4;

/// Entries that a slot can number.
pub const ENTRIES_MAX: u32 = 1 << ENTRY_BITS;

/// Bits of a slot that number the entry; the others are the mark.
const ENTRY_BITS: u32 = 22;

/// Words of secret key that the hash takes.
pub const HASH_WORDS: usize = 11;

/// Size and secret of a table. The loader writes it into the program's `.rodata`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Geometry {
    /// Random words, unknown to clients: nobody can aim at a bucket.
    pub secret: [u64; HASH_WORDS],
    /// Number of buckets, 1 to 2^30.
    pub buckets: u64,
}

/// The two buckets where a key's slot may be, and the mark that it bears there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First choice, then second; they may be the same.
    pub buckets: [u32; 2],
    /// 10 bits, never 0.
    pub mark: u32,
}

impl Place {
    /// The slot of entry `number`.
    pub(super) fn slot(&self, number: u32) -> u32 {
        self.mark << ENTRY_BITS | number
    }

    /// The number of the entry in `slot`, if it bears this mark.
    #[inline(always)]
    pub(super) fn entry(&self, slot: u32) -> Option<u32> {
        if slot >> ENTRY_BITS == self.mark { Some(entry_number(slot)) } else { None }
    }
}

/// The number of the entry in `slot`.
#[inline(always)]
pub(super) fn entry_number(slot: u32) -> u32 {
    slot & (ENTRIES_MAX - 1)
}

impl Geometry {
    /// Buckets for `routes_max` entries at a load of three quarters. About nine entries in ten are
    /// then in their first bucket, and two moves make room for practically every key: a test
    /// fills tables to the limit.
    pub const fn buckets_for(routes_max: u32) -> u32 {
        (routes_max / 3).saturating_add(1)
    }

    /// Where `key` belongs: a universal hash (multilinear over pairs of 32-bit words, with a
    /// 64-bit secret for each), then two rounds of mixing. Its five multiplications do not wait
    /// for one another.
    #[inline(always)]
    pub fn place(&self, key: &Key) -> Place {
        let mut hash = self.secret[0];
        let words = key.words();
        let mut at = 0;
        while at < words.len() {
            let (low, high) = (words[at] & 0xffff_ffff, words[at] >> 32);
            let (a, b) = (self.secret[1 + 2 * at], self.secret[2 + 2 * at]);
            hash = hash.wrapping_add(a.wrapping_add(low).wrapping_mul(b.wrapping_add(high)));
            at += 1;
        }
        hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let (first, second) = (hash >> 32, hash & 0xffff_ffff);
        Place {
            buckets: [self.bucket(first), self.bucket(second)],
            // from bits that neither bucket's number depends on much
            mark: (first ^ second >> 16) as u32 & 0x3fe | 1,
        }
    }

    /// `hash`, 32 bits, scaled to a bucket number.
    #[inline(always)]
    fn bucket(&self, hash: u64) -> u32 {
        ((hash * self.buckets) >> 32) as u32
    }
}
