//! Channels: a number bound to a peer's transport address (RFC 8656 section 12).
//!
//! ```text
//!  bind            refresh...          expires            cooling ends
//!   |---------------- 600 s -------------->|------ 300 s ------>|
//!   relayed, number and peer belong        not relayed, but     both are free
//!   to each other                          still each other's
//! ```

use std::net::SocketAddr;
use std::time::Duration;

pub use crate::attribute::ChannelNumber;

/// How long a binding relays after its last ChannelBind (RFC 8656 section 12: 10 minutes).
pub const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// How long, after that, the number and the peer may not be bound anew (RFC 8656 section 12).
pub const CHANNEL_COOLING: Duration = Duration::from_secs(300);

/// One binding of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) number: ChannelNumber,
    pub(crate) peer: SocketAddr,
    /// The channel's own expiry; its route may end earlier, with the allocation.
    pub(crate) expires: Duration,
    /// The expiry last published; `None` while no route stands.
    pub(crate) published: Option<Duration>,
    /// As published.
    pub(crate) inner: bool,
}

impl Channel {
    pub(crate) fn is_live(&self, now: Duration) -> bool {
        now < self.expires
    }

    /// Until then neither the number nor the peer may be bound to anything else.
    pub(crate) fn cooled(&self) -> Duration {
        self.expires + CHANNEL_COOLING
    }
}

/// An allocation's bindings, live and cooling, ordered by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Channels(Vec<Channel>);

impl Channels {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Channel> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Channel> {
        self.0.iter_mut()
    }

    pub(crate) fn by_number(&self, number: ChannelNumber) -> Option<&Channel> {
        self.0.binary_search_by_key(&number, |c| c.number).ok().map(|at| &self.0[at])
    }

    pub(crate) fn by_peer(&self, peer: SocketAddr) -> Option<&Channel> {
        self.0.iter().find(|c| c.peer == peer)
    }

    /// Inserts, or replaces the binding of the same number.
    pub(crate) fn put(&mut self, channel: Channel) {
        match self.0.binary_search_by_key(&channel.number, |c| c.number) {
            Ok(at) => self.0[at] = channel,
            Err(at) => self.0.insert(at, channel),
        }
    }

    /// Where the channels lie whose route stands and whose time is over.
    pub(crate) fn ended(&self, now: Duration) -> Vec<usize> {
        let over = |channel: &Channel| channel.published.is_some() && !channel.is_live(now);
        self.0.iter().enumerate().filter(|(_, c)| over(c)).map(|(at, _)| at).collect()
    }

    pub(crate) fn at(&self, at: usize) -> Channel {
        self.0[at]
    }

    pub(crate) fn at_mut(&mut self, at: usize) -> &mut Channel {
        &mut self.0[at]
    }

    /// Takes out the channels that have cooled.
    pub(crate) fn take_cooled(&mut self, now: Duration) -> Vec<Channel> {
        let mut cooled = Vec::new();
        self.0.retain(|channel| {
            let over = channel.cooled() <= now;
            if over {
                cooled.push(*channel);
            }
            !over
        });
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        cooled
    }
}
