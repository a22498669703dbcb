//! Where randomness comes from: an argument, like time, so that a test can replay a run by its seed.
//!
//! In production the source is the operating system's: relay ports, reservation tokens and nonce
//! keys must not be guessable.

/// A source of random bytes.
pub trait Random {
    /// Fills the whole buffer.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<R: Random + ?Sized> Random for &mut R {
    fn fill(&mut self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}

impl<R: Random + ?Sized> Random for Box<R> {
    fn fill(&mut self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}

/// A uniform number below `limit` (Lemire's method; the rejection keeps it free of bias).
///
/// Returns 0 when `limit` is 0 or 1.
pub(crate) fn below(random: &mut dyn Random, limit: u32) -> u32 {
    if limit < 2 {
        return 0;
    }
    let threshold = limit.wrapping_neg() % limit;
    loop {
        let mut bytes = [0; 4];
        random.fill(&mut bytes);
        let product = u64::from(u32::from_ne_bytes(bytes)) * u64::from(limit);
        // The low half decides whether the draw fell into the incomplete last stripe.
        if product as u32 >= threshold {
            return (product >> 32) as u32;
        }
    }
}

/// SplitMix64: a seeded source for tests and benches. Never for production.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// The same seed gives the same bytes for ever.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A uniform number below `limit`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        below(self, limit as u32) as usize
    }
}

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut random = Seeded::new(7);
        let mut seen = [0u32; 10];
        for _ in 0..100_000 {
            seen[below(&mut random, 10) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (9_500..10_500).contains(&n)), "{seen:?}");
    }
}
