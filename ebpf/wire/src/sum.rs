//! The internet checksum's arithmetic (RFC 1071, RFC 1624 with errata 5864 and 5865).

use zerocopy::network_endian::U16;

/// A one's-complement sum. It is kept in memory order: the result is the same (RFC 1071 section 2).
///
/// Holds at most 65,536 added words, far more than a header and its deltas need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u32);

impl Sum {
    /// A folded sum from before.
    #[inline(always)]
    pub fn raw(word: u16) -> Self {
        Self(word as u32)
    }

    /// Adds a word.
    #[inline(always)]
    pub fn with(self, word: U16) -> Self {
        Self(self.0 + u16::from_ne_bytes(word.to_bytes()) as u32)
    }

    /// Takes a word away: adds its complement, limited to 16 bits (RFC 1624 erratum 5864).
    #[inline(always)]
    pub fn without(self, word: U16) -> Self {
        Self(self.0 + !u16::from_ne_bytes(word.to_bytes()) as u32)
    }

    /// Adds another sum.
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Adds the words of an even-sized array.
    #[inline(always)]
    pub fn bytes<const N: usize>(self, bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2)) };
        bytes.as_chunks().0.iter().fold(self, |sum, pair| sum.with(U16::from_bytes(*pair)))
    }

    /// Carries folded in: 16 bits.
    #[inline(always)]
    pub fn fold(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }

    /// What takes this sum away again when added.
    #[inline(always)]
    pub fn negated(self) -> Self {
        Self(!self.fold() as u32)
    }

    /// As a header's checksum field.
    #[inline(always)]
    pub fn checksum(self) -> U16 {
        U16::from_bytes((!self.fold()).to_ne_bytes())
    }
}
