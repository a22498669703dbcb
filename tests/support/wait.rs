//! Bounded waiting: every wait of a test has an end, and says what it waited for.
#![allow(clippy::disallowed_methods, reason = "tests of running programs live in real time")]

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a thing that ought to happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// A point in time by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `after` from now.
    pub fn after(after: Duration) -> Self {
        Self(Instant::now() + after)
    }

    /// What is left; `None` when it has passed.
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// Measures elapsed time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks `attempt` again and again until it has an answer.
///
/// # Errors
/// `what` did not happen within `limit`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(answer) = attempt()? {
            return Ok(answer);
        }
        if deadline.left().is_none() {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
