//! What clients cause, told in summary: one line at most for each kind and ten seconds, however
//! many packets there were.

use std::time::Duration;

use turn::{Reason, Server};

use super::Outlet;

/// How often a kind of trouble is told.
const PERIOD: Duration = Duration::from_secs(10);

/// The counters as they were told last.
#[derive(Debug)]
pub(super) struct Summary {
    next: Duration,
    unauthenticated: u64,
    full: u64,
    ports_refused: u64,
    kernel_refused: u64,
}

/// Refusals that say that the relay is too small for what is asked of it.
const FULL: [Reason; 6] = [
    Reason::AllocationsFull,
    Reason::PortsExhausted,
    Reason::PortRefused,
    Reason::ReservationsFull,
    Reason::ChannelsFull,
    Reason::RoutesFull,
];

impl Summary {
    /// Nothing told yet.
    pub(super) fn new(now: Duration) -> Summary {
        let [unauthenticated, full, ports_refused, kernel_refused] = [0; 4];
        Summary { next: now + PERIOD, unauthenticated, full, ports_refused, kernel_refused }
    }

    /// Tells what happened since it was told last, if a period has passed.
    pub(super) fn tell(&mut self, now: Duration, server: &Server, outlet: &mut Outlet) {
        if now < self.next {
            return;
        }
        self.next = now + PERIOD;
        let refused = &server.stats().refused;
        if let Some(requests) = risen(&mut self.unauthenticated, refused[Reason::Unauthenticated]) {
            tracing::warn!(requests, "wrong users or passwords in the last 10 s");
        }
        if let Some(requests) = risen(&mut self.full, FULL.iter().map(|&r| refused[r]).sum()) {
            let reasons: Vec<&str> =
                FULL.iter().filter(|&&r| refused[r] > 0).map(|r| r.name()).collect();
            let reasons = reasons.join(",");
            tracing::warn!(requests, reasons, "no room for requests in the last 10 s");
        }
        if risen(&mut self.ports_refused, outlet.counts.ports_refused).is_some()
            && let Some(last) = outlet.port_trouble.take()
        {
            tracing::warn!(last, "a relay port could not be opened");
        }
        if let Some(routes) = risen(&mut self.kernel_refused, outlet.counts.kernel_refused) {
            tracing::warn!(routes, "the kernel's table is full: workers forward these channels");
        }
    }
}

/// By how much a counter has risen since it was told.
fn risen(told: &mut u64, now: u64) -> Option<u64> {
    let by = now.saturating_sub(std::mem::replace(told, now));
    (by > 0).then_some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let mut told = 0;
        assert_eq!(risen(&mut told, 0), None);
        assert_eq!(risen(&mut told, 5), Some(5));
        assert_eq!(risen(&mut told, 5), None);
        assert_eq!(risen(&mut told, 7), Some(2));
    }
}
