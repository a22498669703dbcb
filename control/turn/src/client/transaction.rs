//! One request under way, and when it is sent again (RFC 8489 sections 6.2.1 and 6.2.2).
//!
//! ```text
//! Rc = 7, Rm = 16:  sent at 0, 1, 3, 7, 15, 31, 63 RTO; given up at 79 RTO
//! ```

use std::time::Duration;

use super::{Failure, Request};
use crate::message::TransactionId;

/// When a request is sent again and given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// The first interval; each one is twice the one before.
    pub rto: Duration,
    /// Rc: how often a request is sent in all.
    pub sends_max: u32,
    /// Rm: how many RTO after the last one it is given up.
    pub last_wait: u32,
}

impl Retransmission {
    /// RFC 8489's recommendation for UDP: 500 ms, 7 times, given up after 39.5 s.
    pub const UDP: Retransmission =
        Retransmission { rto: Duration::from_millis(500), sends_max: 7, last_wait: 16 };

    /// For TCP and TLS: sent once, given up after 39.5 s (Ti).
    pub const STREAM: Retransmission =
        Retransmission { rto: Duration::from_millis(500), sends_max: 1, last_wait: 79 };

    /// From the `sent`th time (counted from 1) that a request is sent to the next step.
    fn wait(&self, sent: u32) -> Duration {
        let factor = if sent < self.sends_max {
            // 2^(sent - 1)
            1_u32.checked_shl(sent - 1).unwrap_or(u32::MAX)
        } else {
            self.last_wait
        };
        self.rto.saturating_mul(factor)
    }
}

/// What a transaction asks for at some time.
pub(super) enum Due {
    /// Nothing yet.
    Later,
    /// Its bytes are to be sent; the next step is scheduled.
    Send,
    /// It is over.
    Never,
}

/// One request under way.
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    request: Request,
    bytes: Vec<u8>,
    /// How often it has been challenged.
    pub(super) challenges: u32,
    /// Whether it carries message integrity.
    pub(super) signed: bool,
    /// Whether an answer has come that was not authentic.
    pub(super) violated: bool,
    retransmission: Retransmission,
    sent: u32,
    next: Duration,
}

impl Transaction {
    pub(super) fn new(
        id: TransactionId,
        request: Request,
        bytes: Vec<u8>,
        challenges: u32,
        signed: bool,
        retransmission: Retransmission,
        now: Duration,
    ) -> Transaction {
        Transaction {
            id,
            request,
            bytes,
            challenges,
            signed,
            violated: false,
            retransmission,
            sent: 0,
            next: now,
        }
    }

    /// Takes the step that is due, if one is. A late call does not shorten the intervals.
    pub(super) fn due(&mut self, now: Duration) -> Due {
        if now < self.next {
            return Due::Later;
        }
        if self.sent >= self.retransmission.sends_max {
            return Due::Never;
        }
        self.sent += 1;
        self.next = now + self.retransmission.wait(self.sent);
        Due::Send
    }

    pub(super) const fn deadline(&self) -> Duration {
        self.next
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) const fn request(&self) -> &Request {
        &self.request
    }

    /// Why it is over when its time is up.
    pub(super) const fn timeout(&self) -> Failure {
        if self.violated { Failure::Integrity } else { Failure::Timeout }
    }

    pub(super) fn into_parts(self) -> (Request, Vec<u8>) {
        (self.request, self.bytes)
    }
}
