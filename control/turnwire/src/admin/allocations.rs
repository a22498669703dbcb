//! `/allocations`: who relays what, as JSON.

use serde::Serialize;
use serde_json::json;

/// Allocations that the control thread lists in one answer.
pub const PAGE_MAX: usize = 256;

/// Some of the allocations.
#[derive(Debug, Default)]
pub struct Listing {
    /// How many there are in all.
    pub total: usize,
    /// Those that are listed.
    pub allocations: Vec<Allocation>,
}

impl Listing {
    /// As JSON, saying that `offset` were skipped. Allocations come and go between pages, so
    /// one may be missed or listed twice.
    pub fn to_json(&self, offset: usize) -> String {
        let next = offset + self.allocations.len();
        let value = json!({
            "total": self.total,
            "offset": offset,
            "next_offset": (next < self.total && next > offset).then_some(next),
            "allocations": self.allocations,
        });
        format!("{value:#}\n")
    }
}

/// An allocation. Times are whole seconds from now.
#[derive(Debug, Clone, Serialize)]
pub struct Allocation {
    /// The client's transport address.
    pub client: String,
    /// The listening address that it uses.
    pub listener: String,
    /// The username.
    pub username: String,
    /// Whom quotas count.
    pub user: String,
    /// The worker that serves the client.
    pub worker: u16,
    /// Since it was made.
    pub age_secs: u64,
    /// Until it expires, unless it is refreshed.
    pub expires_in_secs: u64,
    /// Its relayed addresses: one, or one of each family.
    pub relayed: Vec<Relayed>,
    /// What it carried since it was made, by channels and in indications, by tier.
    pub traffic: Tiers,
}

/// A relayed transport address.
#[derive(Debug, Clone, Serialize)]
pub struct Relayed {
    /// As this host has it.
    pub address: String,
    /// As clients and peers know it.
    pub advertised: String,
    /// Until it expires.
    pub expires_in_secs: u64,
    /// Who may send to it.
    pub permissions: Vec<Permission>,
    /// Its channels.
    pub channels: Vec<Channel>,
}

/// A permission (RFC 8656 section 9).
#[derive(Debug, Clone, Serialize)]
pub struct Permission {
    /// The peer's address; every port of it.
    pub peer: String,
    /// Until it expires.
    pub expires_in_secs: u64,
}

/// A channel (RFC 8656 section 12).
#[derive(Debug, Clone, Serialize)]
pub struct Channel {
    /// Its number, in hexadecimal.
    pub number: String,
    /// The peer's transport address.
    pub peer: String,
    /// Until it expires; 0 while it only keeps its number from being bound anew.
    pub expires_in_secs: u64,
    /// What it carried, by tier.
    pub traffic: Tiers,
}

/// Traffic by the tier that forwarded it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tiers {
    /// The kernel program, and workers by AF_XDP with its routes.
    pub xdp: BothWays,
    /// Workers and session threads; all indications that workers carried.
    pub socket: BothWays,
    /// The control thread. What it carries for a channel counts for the allocation alone.
    pub control: BothWays,
}

/// Traffic by direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BothWays {
    /// From the client to its peers.
    pub to_peer: Traffic,
    /// From its peers to the client.
    pub to_client: Traffic,
}

/// An amount of traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of application data.
    pub bytes: u64,
}

impl Tiers {
    /// Adds what another carried.
    pub fn add(&mut self, other: &Tiers) {
        self.xdp.add(&other.xdp);
        self.socket.add(&other.socket);
        self.control.add(&other.control);
    }
}

impl BothWays {
    fn add(&mut self, other: &BothWays) {
        for (sum, more) in
            [(&mut self.to_peer, &other.to_peer), (&mut self.to_client, &other.to_client)]
        {
            sum.packets += more.packets;
            sum.bytes += more.bytes;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Any allocation.
    pub(crate) fn one() -> Allocation {
        Allocation {
            client: "192.0.2.1:5000".to_owned(),
            listener: "198.51.100.7:3478".to_owned(),
            username: "alice".to_owned(),
            user: "alice".to_owned(),
            worker: 0,
            age_secs: 1,
            expires_in_secs: 599,
            relayed: Vec::new(),
            traffic: Tiers::default(),
        }
    }

    #[test]
    fn a_listing_says_how_many_there_are_and_where_the_next_page_starts() {
        // given, when
        let listing = Listing { total: 12, allocations: vec![one(); 2] };
        let value: serde_json::Value = serde_json::from_str(&listing.to_json(5)).expect("JSON");
        // then
        assert_eq!(value["total"], 12);
        assert_eq!(value["next_offset"], 7);
        assert_eq!(value["allocations"][1]["client"], "192.0.2.1:5000");
        assert_eq!(value["allocations"][1]["traffic"]["xdp"]["to_peer"]["packets"], 0);
        let last = Listing::default();
        let value: serde_json::Value = serde_json::from_str(&last.to_json(0)).expect("JSON");
        assert!(value["next_offset"].is_null());
    }
}
