//! What a dependent load costs on this machine now: the floor of any table that does not fit a
//! cache.

use anyhow::Result;
use turnwire_tests::wait::Stopwatch;

use crate::sys;

const LINE_WORDS: usize = 8;

/// A ring of cache lines in random order.
pub(crate) struct Chase {
    words: &'static mut [u64],
    at: usize,
}

impl Chase {
    /// A ring through `bytes` bytes in small pages.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let words = sys::small_pages(bytes / 8)?;
        let lines = bytes / 8 / LINE_WORDS;
        // Sattolo's algorithm: one cycle through all lines.
        let mut order: Vec<usize> = (0..lines).collect();
        let mut seed = 0x1234_5678_9abc_def1_u64;
        for last in (1..lines).rev() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            order.swap(last, (seed % last as u64) as usize);
        }
        for (line, next) in order.into_iter().enumerate() {
            words[line * LINE_WORDS] = (next * LINE_WORDS) as u64;
        }
        Ok(Self { words, at: 0 })
    }

    /// Nanoseconds for each of `steps` loads.
    pub(crate) fn run(&mut self, steps: usize) -> f64 {
        let watch = Stopwatch::start();
        let mut at = self.at;
        for _ in 0..steps {
            at = self.words[at] as usize;
        }
        let elapsed = watch.elapsed();
        self.at = std::hint::black_box(at);
        elapsed.as_nanos() as f64 / steps as f64
    }
}
