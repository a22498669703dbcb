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

/// How long a binding relays after its last ChannelBind (RFC 8656 section 12: 10 minutes).
pub const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// How long, after that, the number and the peer may not be bound anew (RFC 8656 section 12).
pub const CHANNEL_COOLING: Duration = Duration::from_secs(300);

/// A channel number: 0x4000 to 0x4FFF by construction (RFC 8656 section 12, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// The lowest channel number.
    pub const MIN: Self = Self(0x4000);
    /// The highest channel number.
    pub const MAX: Self = Self(0x4FFF);

    /// `None` outside 0x4000..=0x4FFF.
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 0x4000 && number <= 0x4FFF { Some(Self(number)) } else { None }
    }

    /// The number as it is on the wire.
    pub const fn value(self) -> u16 {
        self.0
    }
}

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

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Channel) -> bool) {
        self.0.retain(keep);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_4096_of_all_numbers_are_channel_numbers() {
        let valid: Vec<u16> = (0..=u16::MAX).filter(|&n| ChannelNumber::new(n).is_some()).collect();
        assert_eq!(valid, (0x4000..=0x4FFF).collect::<Vec<u16>>());
    }
}
