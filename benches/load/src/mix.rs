//! Payload lengths: one, several, or several by weight, in an order that is the same every time.

use std::fmt;
use std::str::FromStr;

use turn::Seeded;

use crate::stamp::{PAYLOAD_MAX, STAMP_LEN};

/// Most entries of the pattern: the sum of all weights.
const PATTERN_MAX: usize = 4_096;

/// Why a mix was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    /// Not a number, or not `BYTES:WEIGHT`.
    #[error("{0:?} is not BYTES or BYTES:WEIGHT; a mix is written 20,160,1160 or 160:8,1160:2")]
    Form(String),
    /// Too short for the stamp, or too long.
    #[error("a payload of {0} bytes is not between {STAMP_LEN} and {PAYLOAD_MAX}")]
    Length(usize),
    /// Weights that add up to nothing, or to more than the pattern holds.
    #[error("the weights of a mix must add up to 1 to {PATTERN_MAX}")]
    Weights,
}

/// Payload lengths in the order in which they are sent, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    text: String,
    pattern: Vec<usize>,
}

impl Mix {
    /// The length of the payload that is sent as number `at`.
    pub fn len_of(&self, at: u64) -> usize {
        self.pattern[(at % self.pattern.len() as u64) as usize]
    }

    /// The lengths in the order in which they take turns.
    pub fn pattern(&self) -> Vec<u16> {
        // PAYLOAD_MAX is far below what 16 bits hold.
        self.pattern.iter().map(|len| *len as u16).collect()
    }

    /// The longest payload.
    pub fn longest(&self) -> usize {
        self.pattern.iter().copied().max().unwrap_or(STAMP_LEN)
    }

    /// The mean length in bytes.
    pub fn mean(&self) -> f64 {
        self.pattern.iter().sum::<usize>() as f64 / self.pattern.len() as f64
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Mix, MixError> {
        let form = |part: &str| MixError::Form(part.to_owned());
        let mut pattern = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (len, weight) = part.split_once(':').unwrap_or((part, "1"));
            let len: usize = len.parse().map_err(|_| form(part))?;
            let weight: usize = weight.parse().map_err(|_| form(part))?;
            if !(STAMP_LEN..=PAYLOAD_MAX).contains(&len) {
                return Err(MixError::Length(len));
            }
            if weight > PATTERN_MAX || pattern.len() + weight > PATTERN_MAX {
                return Err(MixError::Weights);
            }
            pattern.extend(std::iter::repeat_n(len, weight));
        }
        if pattern.is_empty() {
            return Err(MixError::Weights);
        }
        // Fisher and Yates, by a fixed seed: the lengths are mixed, not in blocks.
        let mut random = Seeded::new(pattern.len() as u64);
        for at in (1..pattern.len()).rev() {
            pattern.swap(at, random.below(at + 1));
        }
        Ok(Mix { text: text.to_owned(), pattern })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_and_mixed() {
        // given
        let mix: Mix = "160:8,1160:2".parse().unwrap();
        // when
        let lens: Vec<usize> = (0..1_000).map(|at| mix.len_of(at)).collect();
        // then
        assert_eq!(lens.iter().filter(|len| **len == 1160).count(), 200);
        assert_eq!(mix.longest(), 1160);
        assert!((mix.mean() - 360.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_mix_is_refused_in_words() {
        for text in ["", "x", "160:", "160:x", "19", "9001", "160:0", "160:5000", "160,,20"] {
            let error = text.parse::<Mix>().unwrap_err().to_string();
            assert!(error.len() > 20, "{text}: {error}");
        }
    }
}
