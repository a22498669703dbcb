//! The clocks, read here and nowhere else: everything below takes the time as an argument.

#![allow(clippy::disallowed_methods, reason = "this is the edge at which the clock is read")]

use std::time::{Duration, SystemTime};

use turn::Now;

use crate::sys;

/// Both clocks.
pub fn now() -> Now {
    Now { monotonic: sys::monotonic(), unix: unix() }
}

/// The wall clock, since 1970.
pub fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
