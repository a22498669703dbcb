//! Allocations: who has which relayed transport addresses, permissions and channels, and until when
//! (RFC 8656 section 6).
//!
//! A dual allocation has two relayed addresses, each with its own expiry, permissions and channels;
//! they are its [`Leg`]s here.

use std::net::SocketAddr;
use std::time::Duration;

use crate::attribute::{Code, Family};
use crate::channel::Channels;
use crate::connection::Connection;
use crate::credentials::Account;
use crate::limits::Bucket;
use crate::message::TransactionId;
use crate::outbox::{ChannelRoute, Client, Origin};
use crate::permission::Permissions;
use crate::stats::BothWays;

mod mobile;
mod table;
mod view;

pub(crate) use mobile::{Mobile, Worth};
pub(crate) use table::Allocations;
pub use view::{AllocationView, ChannelView, ConnectionView, RelayView};

/// One relayed transport address of an allocation.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) relay: SocketAddr,
    pub(crate) advertised: SocketAddr,
    pub(crate) expires: Duration,
    pub(crate) permissions: Permissions,
    pub(crate) channels: Channels,
    /// What the server itself relayed.
    pub(crate) carried: BothWays,
}

impl Leg {
    pub(crate) fn new(relay: SocketAddr, advertised: SocketAddr, expires: Duration) -> Self {
        let (permissions, channels, carried) = Default::default();
        Self { relay, advertised, expires, permissions, channels, carried }
    }

    /// When something here expires next.
    fn next_event(&self, now: Duration) -> Duration {
        let channels = self.channels.iter().map(|channel| {
            // A live channel's route goes at its expiry; a cooling one is forgotten later.
            if channel.is_live(now) { channel.expires } else { channel.cooled() }
        });
        let permissions = self.permissions.iter().map(|permission| permission.expires);
        channels.chain(permissions).fold(self.expires, Duration::min)
    }
}

/// A client's allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) client: Client,
    /// The worker that the Allocate request came by: it has the ports, and the client stays with it.
    pub(crate) origin: Origin,
    pub(crate) account: Account,
    /// Of the Allocate request that made it: the same again is a retransmission.
    pub(crate) transaction: TransactionId,
    pub(crate) created: Duration,
    /// The RESERVATION-TOKEN that was answered with, for a retransmission.
    pub(crate) token: Option<[u8; 8]>,
    /// The ADDRESS-ERROR-CODE that was answered with, for a retransmission.
    pub(crate) address_error: Option<(Family, Code)>,
    /// A TCP allocation's connections to peers; `None` for UDP (RFC 6062).
    #[allow(clippy::box_collection, reason = "8 bytes, not 24, of each allocation, mostly UDP")]
    pub(crate) tcp: Option<Box<Vec<Connection>>>,
    /// Tickets, if its client asked for mobility (RFC 8016).
    pub(crate) mobile: Option<Box<Mobile>>,
    /// The ICMP errors that its client was told.
    pub(crate) icmp: Bucket,
    /// IPv4, IPv6.
    pub(crate) legs: [Option<Leg>; 2],
}

impl Allocation {
    pub(crate) fn leg(&self, family: Family) -> Option<&Leg> {
        self.legs[family as usize].as_ref()
    }

    pub(crate) fn leg_mut(&mut self, family: Family) -> Option<&mut Leg> {
        self.legs[family as usize].as_mut()
    }

    pub(crate) fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().flatten()
    }

    /// Whether there is nobody to send to: the connection has ended, and the client may come back.
    pub(crate) fn is_absent(&self) -> bool {
        self.mobile.as_ref().is_some_and(|mobile| mobile.absent)
    }

    /// Connections to peers, of a TCP allocation.
    pub(crate) fn connections(&self) -> &[Connection] {
        self.tcp.as_deref().map_or(&[], Vec::as_slice)
    }

    /// When something of it expires next.
    pub(crate) fn next_event(&self, now: Duration) -> Option<Duration> {
        let connections = self.connections().iter().filter_map(Connection::until);
        self.legs().map(|leg| leg.next_event(now)).chain(connections).min()
    }

    /// The route of a channel as it should stand, whether or not it does.
    pub(crate) fn route(&self, leg: &Leg, channel: &crate::channel::Channel) -> ChannelRoute {
        ChannelRoute {
            client: self.client,
            origin: self.origin,
            channel: channel.number,
            relay: leg.relay,
            peer: channel.peer,
            expires: channel.published.unwrap_or_else(|| channel.expires.min(leg.expires)),
            inner: channel.inner,
        }
    }
}
