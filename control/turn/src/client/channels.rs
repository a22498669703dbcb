//! A client's channels: which peer is behind which number.

use std::net::SocketAddr;

use crate::attribute::ChannelNumber;

struct Binding {
    channel: ChannelNumber,
    peer: SocketAddr,
    /// Whether the server has said yes. Data may come before its answer does.
    confirmed: bool,
}

/// Ordered by number.
#[derive(Default)]
pub(super) struct Channels(Vec<Binding>);

impl Channels {
    fn find(&self, channel: ChannelNumber) -> Result<usize, usize> {
        self.0.binary_search_by_key(&channel, |binding| binding.channel)
    }

    /// A ChannelBind is under way. A binding that stands is not touched.
    pub(super) fn bind(&mut self, channel: ChannelNumber, peer: SocketAddr) {
        if let Err(at) = self.find(channel) {
            self.0.insert(at, Binding { channel, peer, confirmed: false });
        }
    }

    /// A ChannelBind has succeeded.
    pub(super) fn confirm(&mut self, channel: ChannelNumber, peer: SocketAddr) {
        let binding = Binding { channel, peer, confirmed: true };
        match self.find(channel) {
            Ok(at) => self.0[at] = binding,
            Err(at) => self.0.insert(at, binding),
        }
    }

    /// A ChannelBind has failed; a binding that was confirmed before stays.
    pub(super) fn unbind_pending(&mut self, channel: ChannelNumber) {
        self.0.retain(|binding| binding.channel != channel || binding.confirmed);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn peer_of(&self, channel: ChannelNumber) -> Option<SocketAddr> {
        self.find(channel).ok().map(|at| self.0[at].peer)
    }

    pub(super) fn channel_of(&self, peer: SocketAddr) -> Option<ChannelNumber> {
        let mut confirmed = self.0.iter().filter(|binding| binding.confirmed);
        confirmed.find(|binding| binding.peer == peer).map(|binding| binding.channel)
    }
}
