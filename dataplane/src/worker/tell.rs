//! Telling the control thread of ICMP errors, no more often than it wants to hear.

use super::Worker;
use crate::batch::SocketKind;
use crate::link::{Link, Unreachable};
use crate::mailbox::{Letter, LetterKind};
use std::net::SocketAddr;
use std::time::Duration;

/// ICMP errors that one worker hands over in any second; each becomes a Data indication, and a
/// router that answers every datagram must not double the traffic of a client (RFC 8656 section
/// 11.5 leaves the rate to the server).
pub const UNREACHABLE_PER_SECOND: u32 = 1000;

/// What is left of a second's errors.
#[derive(Default)]
pub(crate) struct Allowance {
    /// Whole seconds of the clock.
    second: u64,
    used: u32,
}

impl Allowance {
    /// Uses one up, if any is left at `now`.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        if self.second != now.as_secs() {
            *self = Self { second: now.as_secs(), used: 0 };
        }
        let left = self.used < UNREACHABLE_PER_SECOND;
        self.used += u32::from(left);
        left
    }
}

impl<L: Link> Worker<L> {
    /// Hands over the ICMP errors that the link met in this round.
    pub(super) fn tell(&mut self, now: Duration) {
        while let Some(Unreachable { by, peer, kind, code, data }) = self.link.unreachable() {
            let SocketKind::Port(slot) = by.kind() else { continue };
            // closed meanwhile: nobody to tell
            let Some(owner) = self.egress.owner(slot) else { continue };
            let letter = Letter {
                transport: crate::route::Transport::Udp,
                kind: LetterKind::Unreachable,
                dont_fragment: false,
                marks: None,
                slot,
                generation: owner.generation(),
                remote: peer,
                local: UNUSED,
            };
            let [a, b, c, d] = data.to_be_bytes();
            let reserve = self.mail.events_size() / 2;
            let told = self.allowance.take(now)
                && self.mail.report(&letter, &[kind, code, a, b, c, d], reserve);
            let counter =
                if told { &self.counters.icmp_told } else { &self.counters.icmp_withheld };
            counter.add(1);
        }
    }
}

/// The control thread knows a relay port's address by its slot.
const UNUSED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_allowance_and_no_more() {
        let mut allowance = Allowance::default();
        for second in [5, 6, 1000] {
            let taken = (0..2 * UNREACHABLE_PER_SECOND)
                .filter(|at| allowance.take(Duration::new(second, *at)))
                .count();
            assert_eq!(taken, UNREACHABLE_PER_SECOND as usize);
        }
    }
}
