//! A small mutator for runs without coverage: the everyday tests'. Its seed decides everything.

use turnwire_tests::random::Random;

/// Makes inputs of inputs.
pub struct Mutator(Random);

/// Numbers at which lengths and ports turn over.
const EDGES: [u16; 12] = [0, 1, 3, 4, 0x7f, 0x80, 0xff, 0x100, 0x3fff, 0x4000, 0x7fff, 0xffff];

impl Mutator {
    /// A mutator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// One of `pool`, changed in one to eight places, at most `size_max` bytes long.
    pub fn input(&mut self, pool: &[Vec<u8>], size_max: usize) -> Vec<u8> {
        let mut input = match pool.len() {
            0 => Vec::new(),
            count => pool[self.below(count)].clone(),
        };
        for _ in 0..=self.below(8) {
            self.change(&mut input, pool);
        }
        input.truncate(size_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(input.len());
        match self.below(8) {
            0 | 1 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            2 if !input.is_empty() => input[at] = self.0.next_u64() as u8,
            3 if input.len() > at + 1 => {
                let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
                input[at..at + 2].copy_from_slice(&edge);
            }
            4 => {
                let new: Vec<u8> = (0..=self.below(8)).map(|_| self.0.next_u64() as u8).collect();
                input.splice(at..at, new);
            }
            5 => {
                let end = (at + 1 + self.below(8)).min(input.len());
                input.drain(at.min(end)..end);
            }
            6 if !pool.is_empty() => {
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len());
                let count = self.below(64).min(other.len() - from);
                input.splice(at..at, other[from..from + count].iter().copied());
            }
            _ => {
                let end = (at + self.below(64)).min(input.len());
                let copy = input[at.min(end)..end].to_vec();
                input.extend(copy);
            }
        }
    }
}
