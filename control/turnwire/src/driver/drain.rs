//! Draining: no new allocations, and an end once the last one is gone, or after a time.

use std::time::Duration;

use super::Driver;
use crate::sys;

/// How long a relay goes on after its last allocation: the answer to who ended it is still under way
/// then, to a worker and through the network, and asked for again if it is lost (RFC 8489 section
/// 6.2.1: after 500 and 1,500 ms).
const LINGER: Duration = Duration::from_secs(2);

/// A relay that drains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// When it ends though there still are allocations (monotonic).
    until: Duration,
    /// When it ends because there are none.
    empty_until: Option<Duration>,
}

impl Driver {
    /// Begins to drain, unless it does already. Gives the allocations that are left.
    pub(super) fn drain(&mut self) -> usize {
        let allocations = self.server.stats().allocations;
        if self.drain.is_none() {
            let timeout = self.drain_timeout;
            self.drain = Some(Drain { until: sys::monotonic() + timeout, empty_until: None });
            self.server.set_draining(true);
            tracing::info!(
                allocations,
                timeout_secs = timeout.as_secs(),
                "draining: no new allocations; ending with the last one, or after the time"
            );
        }
        allocations
    }

    /// Whether draining has come to its end.
    pub(super) fn drained(&mut self, now: Duration) -> bool {
        let allocations = self.server.stats().allocations;
        let Some(drain) = &mut self.drain else { return false };
        if allocations == 0 && now < *drain.empty_until.get_or_insert(now + LINGER) {
            return false;
        }
        if allocations == 0 {
            tracing::info!("drained: the last allocation is gone");
        } else if now >= drain.until {
            tracing::warn!(allocations, "ending: these did not end in the time for draining");
        } else {
            return false;
        }
        true
    }
}
