//! What an allocation that may move knows of its tickets (RFC 8016 section 3.2.2).
//!
//! ```text
//!  Allocate            ticket 1
//!  Refresh, ticket 1   ticket 2; the new five-tuple is known beside the old one
//!  first data there    the new one takes over; ticket 1 is discarded
//! ```

use std::time::Duration;

use crate::outbox::{Client, Origin};

/// How long a spent ticket is known again, for a retransmission (RFC 8016 section 3.2.2: at least
/// 30 s).
pub(crate) const SPENT_LIFETIME: Duration = Duration::from_secs(30);

/// An allocation's mobility.
#[derive(Debug)]
pub(crate) struct Mobile {
    /// Random: which allocation this is.
    pub(crate) serial: u64,
    /// Of the newest ticket.
    pub(crate) count: u32,
    /// The ticket that was used last.
    pub(crate) spent: Option<Spent>,
    /// The five-tuple that takes over with the first data from there.
    pub(crate) next: Option<(Client, Origin)>,
    /// The five-tuple's connection has ended, and nobody has come back yet.
    pub(crate) absent: bool,
}

/// A ticket that has been used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) count: u32,
    /// Where it was shown.
    pub(crate) client: Client,
    /// Until then it is known again from there.
    pub(crate) until: Duration,
    /// The client has shown that it has the next ticket, or that it has had the answer.
    pub(crate) superseded: bool,
}

/// What a ticket is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// The allocation moves.
    Moves,
    /// It has moved already: the answer was lost.
    Again,
    /// Nothing.
    Nothing,
}

impl Mobile {
    pub(crate) fn new(serial: u64) -> Self {
        Self { serial, count: 1, spent: None, next: None, absent: false }
    }

    /// What the ticket of this count is worth, shown from this five-tuple. `current` is the
    /// allocation's.
    pub(crate) fn worth(
        &self,
        count: u32,
        from: &Client,
        current: &Client,
        now: Duration,
    ) -> Worth {
        let here = current == from && !self.absent;
        if let Some(spent) = self.spent.filter(|spent| spent.count == count) {
            return match spent {
                Spent { client, until, .. } if client == *from && now < until => Worth::Again,
                // The client moved on before the answer found it.
                Spent { superseded: false, .. } if here => Worth::Nothing,
                Spent { superseded: false, .. } => Worth::Moves,
                Spent { .. } => Worth::Nothing,
            };
        }
        let here = here || self.is_next(from);
        if count == self.count && !here { Worth::Moves } else { Worth::Nothing }
    }

    /// Uses a ticket up: there is a newer one from here on.
    pub(crate) fn spend(&mut self, count: u32, from: Client, now: Duration) {
        let until = now + SPENT_LIFETIME;
        self.spent = Some(Spent { count, client: from, until, superseded: false });
        self.count = self.count.wrapping_add(1);
    }

    /// Whether this is the five-tuple that takes over.
    pub(crate) fn is_next(&self, client: &Client) -> bool {
        self.next.is_some_and(|next| next.0 == *client)
    }
}
