//! Keeping allocations, permissions and channels alive during long measurements.
//!
//! Everything is refreshed in one wave, often enough for permissions (300 s) and for the lifetimes
//! that the server granted; few sessions at a time, so that it does not disturb what is measured.

use turn::client::Request;

use super::SECOND;
use crate::control::{Engine, Session};

/// Permissions last 300 s (RFC 8656 section 9).
const PERMISSIONS: u64 = 240;
/// Sessions that refresh at once.
const IN_FLIGHT: usize = 4;

/// When to refresh what.
pub(super) struct Keeper {
    /// The requests that keep each session's channels and permissions.
    requests: Vec<Vec<Request>>,
    every: u64,
    next: u64,
}

impl Keeper {
    pub(super) fn new(requests: Vec<Vec<Request>>, sessions: &[Session], now: u64) -> Keeper {
        let shortest = sessions.iter().map(|session| u64::from(session.lifetime_secs)).min();
        let lifetime = shortest.unwrap_or(600) * 6 / 10;
        let every = lifetime.clamp(1, PERMISSIONS) * SECOND;
        Keeper { requests, every, next: now + every }
    }

    /// Starts a wave when it is time.
    pub(super) fn tick(&mut self, engine: &mut Engine, now: u64) {
        if now < self.next || !engine.is_idle() {
            return;
        }
        self.next = now + self.every;
        engine.set_in_flight(IN_FLIGHT);
        let wave = self.requests.iter().enumerate().map(|(session, requests)| {
            let refresh = Request::Refresh { lifetime_secs: None, family: None };
            (session, std::iter::once(refresh).chain(requests.iter().cloned()).collect())
        });
        engine.enqueue_each(wave);
    }
}
