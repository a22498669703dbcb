//! Draining: no new allocations, and an end once the last one is gone, or after a time.

use std::time::Duration;

use super::Driver;
use crate::sys;

/// A relay that drains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// When it ends though there still are allocations (monotonic).
    until: Duration,
}

impl Driver {
    /// Begins to drain, unless it does already. Gives the allocations that are left.
    pub(super) fn drain(&mut self) -> usize {
        let allocations = self.server.stats().allocations;
        if self.drain.is_none() {
            let timeout = self.drain_timeout;
            self.drain = Some(Drain { until: sys::monotonic() + timeout });
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
    pub(super) fn drained(&self, now: Duration) -> bool {
        let Some(drain) = &self.drain else { return false };
        let allocations = self.server.stats().allocations;
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
