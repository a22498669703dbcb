//! What an operator may see of an allocation.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Allocation, Leg};
use crate::attribute::ChannelNumber;
use crate::connection::State;
use crate::outbox::{ChannelRoute, Client, Origin};
use crate::stats::BothWays;

/// An allocation, read only. Times are monotonic.
#[derive(Clone, Copy)]
pub struct AllocationView<'a>(pub(crate) &'a Allocation);

impl<'a> AllocationView<'a> {
    /// The five-tuple.
    pub fn client(&self) -> Client {
        self.0.client
    }

    /// The worker that serves the client.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// The whole username.
    pub fn username(&self) -> &'a str {
        self.0.account.username()
    }

    /// Whom quotas count: the user id of a REST username, else the username.
    pub fn user(&self) -> &'a str {
        self.0.account.user()
    }

    /// When it was made: its age is the time since.
    pub fn created(&self) -> Duration {
        self.0.created
    }

    /// When the last of its relayed addresses expires.
    pub fn expires(&self) -> Duration {
        self.0.legs().map(|leg| leg.expires).max().unwrap_or_default()
    }

    /// Its relayed addresses: one, or one of each family.
    pub fn relays(&self) -> impl Iterator<Item = RelayView<'a>> + use<'a> {
        let allocation = self.0;
        allocation.legs().map(move |leg| RelayView { allocation, leg })
    }

    /// Whether its relayed addresses are TCP (RFC 6062).
    pub fn is_tcp(&self) -> bool {
        self.0.tcp.is_some()
    }

    /// The TCP connections to peers.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionView> + use<'a> {
        self.0.connections().iter().map(|connection| ConnectionView {
            peer: connection.peer,
            data_client: match connection.state {
                State::Spliced { client, .. } => Some(client),
                State::Connecting { .. } | State::Waiting { .. } => None,
            },
        })
    }

    /// The routes that stand now, as published.
    pub fn routes(&self) -> impl Iterator<Item = ChannelRoute> + use<'a> {
        self.relays().flat_map(|relay| relay.channels()).filter_map(|channel| channel.route)
    }
}

/// One relayed transport address of an allocation.
#[derive(Clone, Copy)]
pub struct RelayView<'a> {
    allocation: &'a Allocation,
    leg: &'a Leg,
}

impl<'a> RelayView<'a> {
    /// As this host has it.
    pub fn local(&self) -> SocketAddr {
        self.leg.relay
    }

    /// As clients and peers see it.
    pub fn advertised(&self) -> SocketAddr {
        self.leg.advertised
    }

    /// When it expires.
    pub fn expires(&self) -> Duration {
        self.leg.expires
    }

    /// Permitted peer addresses, each with its expiry.
    pub fn permissions(&self) -> impl Iterator<Item = (IpAddr, Duration)> + use<'a> {
        self.leg.permissions.iter().map(|permission| (permission.ip, permission.expires))
    }

    /// The permissions that are published, each with its expiry as published.
    pub fn permits(&self) -> impl Iterator<Item = (IpAddr, Duration)> + use<'a> {
        let leg = self.leg;
        let published = leg.permissions.iter().filter(|permission| permission.published);
        published.map(|permission| (permission.ip, permission.expires.min(leg.expires)))
    }

    /// What the server itself relayed by it: what no fast tier took.
    pub fn carried(&self) -> BothWays {
        self.leg.carried
    }

    /// Channels, live and cooling.
    pub fn channels(&self) -> impl Iterator<Item = ChannelView> + use<'a> {
        let RelayView { allocation, leg } = *self;
        leg.channels.iter().map(move |channel| ChannelView {
            number: channel.number,
            peer: channel.peer,
            expires: channel.expires,
            route: channel.published.map(|_| allocation.route(leg, channel)),
        })
    }
}

/// A TCP connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionView {
    /// The peer.
    pub peer: SocketAddr,
    /// The client's data connection that it is spliced with.
    pub data_client: Option<Client>,
}

/// A channel.
#[derive(Debug, Clone, Copy)]
pub struct ChannelView {
    /// Its number.
    pub number: ChannelNumber,
    /// The peer it is bound to.
    pub peer: SocketAddr,
    /// When it stops relaying; it cools for five minutes more.
    pub expires: Duration,
    /// Its route, while one is published.
    pub route: Option<ChannelRoute>,
}
