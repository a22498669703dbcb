//! What crosses the relay.

use traffic::{Path, Plan, Ways};
use wire::Family;

use super::site::{self, Side, Site};

/// What crosses the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Channels.
    pub(crate) flows: u16,
    /// Application data, bytes: 20 at least.
    pub(crate) payload: u16,
    pub(crate) ways: Ways,
    pub(crate) client: Family,
    pub(crate) peer: Family,
}

impl Mix {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        let ways = match self.ways {
            Ways::ToPeers => "to peers",
            Ways::ToClients => "to clients",
            Ways::Both => "both directions in turn",
        };
        let family = |family| if family == Family::V4 { "IPv4" } else { "IPv6" };
        format!(
            "{} channels, {} bytes of data, {ways}, clients over {}, peers over {}",
            self.flows,
            self.payload,
            family(self.client),
            family(self.peer)
        )
    }

    /// How it is sent here.
    pub(crate) fn plan(&self, site: &Site) -> Plan {
        let path = |cable: usize, src, dst| Path {
            interface: site.far[cable],
            own: site::mac(Side::Far, cable),
            next: site::mac(Side::Relay, cable),
            src,
            dst,
        };
        let peers = site.peer_cable();
        let to_peer = path(0, site::client_ip(self.client), site::listener_ip(self.client));
        let to_client = path(peers, site::peer_ip(self.peer), site::relay_ip(self.peer));
        let mut plan = Plan::new([to_peer, to_client], self.flows, self.payload);
        plan.ways = self.ways;
        plan.arms = [site.arms[0], site.arms[peers]];
        plan
    }
}
