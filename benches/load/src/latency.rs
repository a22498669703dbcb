//! Histograms of nanoseconds: making, summing up, and carrying them in JSON.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Highest latency that is told apart: a minute.
const MAX: u64 = 60_000_000_000;

/// A histogram of 1 ns to 60 s with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX, 3).expect("1 to MAX with 3 digits is a valid range")
}

/// A histogram for one of many: 1 us to 60 s, with fewer digits.
pub fn small_histogram(digits: u8) -> Histogram<u32> {
    Histogram::new_with_bounds(1_000, MAX, digits.clamp(1, 3))
        .expect("1,000 to MAX with 1 to 3 digits is a valid range")
}

/// What a histogram says, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Values.
    pub count: u64,
    /// The least.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half are not above it.
    pub p50_us: f64,
    /// 90 % are not above it.
    pub p90_us: f64,
    /// 99 % are not above it.
    pub p99_us: f64,
    /// 99.9 % are not above it.
    pub p999_us: f64,
    /// The greatest.
    pub max_us: f64,
}

impl Latency {
    /// Of this histogram; `None` when it is empty.
    pub fn of<C: hdrhistogram::Counter>(histogram: &Histogram<C>) -> Option<Latency> {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1_000.0;
        let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Latency {
            count: histogram.len(),
            min_us: us(histogram.min()),
            mean_us: histogram.mean() / 1_000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
        })
    }
}

/// HdrHistogram's V2 format, deflated, as base64.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        // Writing to memory cannot fail; an empty text reads back as an empty histogram.
        Err(_) => String::new(),
    }
}

/// Reads it back.
///
/// # Errors
/// The text is no histogram.
pub fn decode(text: &str) -> Result<Histogram<u64>> {
    if text.is_empty() {
        return Ok(histogram());
    }
    let bytes = STANDARD.decode(text).context("a histogram that is not base64")?;
    let read: Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| anyhow::anyhow!("a histogram that cannot be read: {error}"))?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_survive_json_and_can_be_merged() {
        // given
        let mut one = histogram();
        (1..=1_000).for_each(|value| one.saturating_record(value * 1_000));
        // when
        let mut read = decode(&encode(&one)).unwrap();
        read.add(&one).unwrap();
        // then
        let latency = Latency::of(&read).unwrap();
        assert_eq!(latency.count, 2_000);
        assert!((latency.p50_us - 500.0).abs() < 1.0, "{latency:?}");
        assert!((latency.max_us - 1_000.0).abs() < 1.0, "{latency:?}");
        assert!(Latency::of(&histogram()).is_none());
        assert!(decode("no base64!").is_err());
    }
}
