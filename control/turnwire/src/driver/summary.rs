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
    full: [u64; FULL.len()],
    ports_refused: u64,
    kernel_refused: u64,
}

/// Refusals that say that the relay is too small for what is asked of it, and what would help.
const FULL: [(Reason, &str); 6] = [
    (Reason::AllocationsFull, "raise max-allocations"),
    (Reason::PortsExhausted, "widen relay-ports or add a relay-ip"),
    (Reason::PortRefused, "raise the limit of open files"),
    (Reason::ReservationsFull, "clients reserve ports and leave them"),
    (Reason::ChannelsFull, "raise max-channels"),
    (Reason::RoutesFull, "raise max-channels"),
];

impl Summary {
    /// Nothing told yet.
    pub(super) fn new(now: Duration) -> Summary {
        let [unauthenticated, ports_refused, kernel_refused] = [0; 3];
        let full = [0; FULL.len()];
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
        let (requests, reasons) = no_room(&mut self.full, |reason| refused[reason]);
        if requests > 0 {
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

/// How many requests found no room since they were told, for which reasons, and what would help.
fn no_room(told: &mut [u64; FULL.len()], now: impl Fn(Reason) -> u64) -> (u64, String) {
    let (mut requests, mut reasons) = (0, Vec::new());
    for (told, (reason, help)) in told.iter_mut().zip(FULL) {
        if let Some(by) = risen(told, now(reason)) {
            requests += by;
            reasons.push(format!("{}: {help}", reason.name()));
        }
    }
    (requests, reasons.join("; "))
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
    fn only_the_reasons_of_now_are_told_with_what_would_help() {
        let mut told = [0; FULL.len()];
        let count = |ports, channels| {
            move |reason| match reason {
                Reason::PortsExhausted => ports,
                Reason::ChannelsFull => channels,
                _ => 0,
            }
        };
        let (ports, channels) = (
            "ports_exhausted: widen relay-ports or add a relay-ip",
            "channels_full: raise max-channels",
        );
        assert_eq!(no_room(&mut told, count(3, 0)), (3, ports.to_owned()));
        assert_eq!(no_room(&mut told, count(3, 2)), (2, channels.to_owned()));
        assert_eq!(no_room(&mut told, count(4, 3)), (2, format!("{ports}; {channels}")));
        assert_eq!(no_room(&mut told, count(4, 3)), (0, String::new()));
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut told = 0;
        assert_eq!(risen(&mut told, 0), None);
        assert_eq!(risen(&mut told, 5), Some(5));
        assert_eq!(risen(&mut told, 5), None);
        assert_eq!(risen(&mut told, 7), Some(2));
    }
}
