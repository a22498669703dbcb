//! Numbers that look random and are the same for the same seed, on every machine.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers for ever.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed that `TURNWIRE_SEED` names, or else `usual`; it is printed, so that a failed run can be
    /// repeated.
    pub fn replayable(usual: u64) -> Random {
        let named = std::env::var("TURNWIRE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = named.unwrap_or(usual);
        println!("TURNWIRE_SEED={seed}");
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound.max(1) as u64) as usize
    }

    /// True once in `bound` times.
    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}
