//! The outbox of the tests: what a driver would do, with every rule of the seam checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turn::{
    ChannelRoute, Client, Now, Origin, Outbox, PeerConnection, Permit, PortRefusal, RouteRefusal,
    Transport,
};

/// One effect, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Open(SocketAddr),
    Close(SocketAddr),
    Add(ChannelRoute),
    Remove(ChannelRoute),
    Permit(Permit),
    Forbid(Permit),
    ToClient(Client, Vec<u8>),
    ToPeer { relay: SocketAddr, peer: SocketAddr, bytes: Vec<u8>, dont_fragment: bool },
    Move(SocketAddr, Client),
    CloseClient(Client),
    Listen(SocketAddr),
    Unlisten(SocketAddr),
    Connect { id: PeerConnection, relay: SocketAddr, peer: SocketAddr },
    Splice(PeerConnection, Client),
    ClosePeer(PeerConnection),
}

type RouteKey = (Client, u16);

/// Ports and routes as they stand, and what happened since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) ports: BTreeMap<SocketAddr, Client>,
    pub(crate) routes: BTreeMap<RouteKey, ChannelRoute>,
    pub(crate) permits: BTreeMap<(SocketAddr, IpAddr), Permit>,
    pub(crate) events: Vec<Event>,
    /// Ports that somebody else on this host holds.
    pub(crate) in_use: BTreeSet<SocketAddr>,
    pub(crate) ports_max: Option<usize>,
    pub(crate) routes_max: Option<usize>,
    /// Refuse every open_port, as a host without descriptors does.
    pub(crate) exhausted: bool,
    /// Listeners of TCP allocations.
    pub(crate) listeners: BTreeMap<SocketAddr, Client>,
    /// Connections to peers that are being made, or wait to be bound, and their relayed addresses.
    pub(crate) connections: BTreeMap<PeerConnection, SocketAddr>,
    /// Data connections that are joined with a peer's.
    pub(crate) spliced: BTreeMap<Client, PeerConnection>,
    pub(crate) opened: u64,
    pub(crate) closed: u64,
}

impl Wire {
    /// The datagrams to clients since the last call; the other events are forgotten.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Where a tier that has only been told of ports and permits lets a Send indication leave from.
    pub(crate) fn permitted_send(
        &self,
        client: Client,
        peer: SocketAddr,
        now: Now,
    ) -> Option<SocketAddr> {
        let mut ports = self.ports.iter().filter(|(_, of)| **of == client);
        let (relay, _) = ports.find(|(relay, _)| relay.is_ipv4() == peer.is_ipv4())?;
        let permit = self.permits.get(&(*relay, peer.ip()))?;
        (now.monotonic < permit.expires).then_some(*relay)
    }

    /// How such a tier forwards a peer's datagram: by a channel, or 0 for a Data indication.
    pub(crate) fn tier_by_peer(
        &self,
        relay: SocketAddr,
        peer: SocketAddr,
        now: Now,
    ) -> Option<u16> {
        let mut routes = self.routes.values().filter(|r| r.relay == relay && r.peer == peer);
        if let Some(route) = routes.find(|route| now.monotonic < route.expires) {
            return Some(route.channel.number());
        }
        let permit = self.permits.get(&(relay, peer.ip()))?;
        (now.monotonic < permit.expires).then_some(0)
    }

    /// The route of a client's channel that has not expired by itself.
    pub(crate) fn route(
        &self,
        client: Client,
        channel: u16,
        now: Duration,
    ) -> Option<&ChannelRoute> {
        self.routes.get(&(client, channel)).filter(|route| now < route.expires)
    }
}

impl Outbox for Wire {
    fn open_port(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        _origin: Origin,
    ) -> Result<(), PortRefusal> {
        assert_ne!(relay.port(), 0, "port 0 is no port");
        assert!(!self.ports.contains_key(&relay), "{relay} is open already");
        if self.exhausted || self.ports_max.is_some_and(|max| self.ports.len() >= max) {
            return Err(PortRefusal::Exhausted);
        }
        if self.in_use.contains(&relay) {
            return Err(PortRefusal::InUse);
        }
        self.ports.insert(relay, *client);
        self.opened += 1;
        self.events.push(Event::Open(relay));
        Ok(())
    }

    fn close_port(&mut self, relay: SocketAddr) {
        assert!(self.ports.remove(&relay).is_some(), "{relay} is not open");
        let left: Vec<_> =
            self.routes.values().filter(|r| r.relay == relay || r.peer == relay).collect();
        assert!(left.is_empty(), "{relay} closes under {left:?}");
        let left = self.permits.keys().find(|(of, _)| *of == relay);
        assert!(left.is_none(), "{relay} closes under {left:?}");
        self.closed += 1;
        self.events.push(Event::Close(relay));
    }

    fn move_port(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        _origin: Origin,
    ) -> Result<(), PortRefusal> {
        if self.exhausted {
            return Err(PortRefusal::Exhausted);
        }
        let owner = self.ports.get_mut(&relay).unwrap_or_else(|| panic!("{relay} is not open"));
        *owner = *client;
        self.events.push(Event::Move(relay, *client));
        Ok(())
    }

    fn add_route(&mut self, route: &ChannelRoute) -> Result<(), RouteRefusal> {
        assert_eq!(self.ports.get(&route.relay), Some(&route.client), "a route without its port");
        assert_eq!(
            route.inner,
            self.ports.contains_key(&route.peer),
            "inner is a live port of ours"
        );
        let key = (route.client, route.channel.number());
        let known = self.routes.get(&key);
        if let Some(known) = known {
            assert!(known.same_path(route), "a channel changes its peer under way");
        } else if self.routes_max.is_some_and(|max| self.routes.len() >= max) {
            return Err(RouteRefusal);
        }
        let same_ends = |r: &&ChannelRoute| r.relay == route.relay && r.peer == route.peer;
        let peers = self.routes.values().filter(same_ends).filter(|r| r.client == route.client);
        assert!(peers.count() <= usize::from(known.is_some()), "a peer has two channels");
        self.routes.insert(key, *route);
        self.events.push(Event::Add(*route));
        Ok(())
    }

    fn remove_route(&mut self, route: &ChannelRoute) {
        let known = self.routes.remove(&(route.client, route.channel.number()));
        assert_eq!(known.as_ref(), Some(route), "only what was published is withdrawn");
        self.events.push(Event::Remove(*route));
    }

    fn permit(&mut self, permit: &Permit) {
        let Permit { relay, client, peer, .. } = *permit;
        assert_eq!(self.ports.get(&relay), Some(&client), "a permit without its port");
        assert_eq!(relay.is_ipv4(), peer.is_ipv4(), "of the family of its port");
        assert!(!self.ports.keys().any(|port| port.ip() == peer), "an address of our own");
        self.permits.insert((relay, peer), *permit);
        self.events.push(Event::Permit(*permit));
    }

    fn forbid(&mut self, permit: &Permit) {
        let known = self.permits.remove(&(permit.relay, permit.peer));
        assert!(known.is_some(), "only what was published is withdrawn");
        self.events.push(Event::Forbid(*permit));
    }

    fn to_client(&mut self, client: &Client, _origin: Origin, bytes: &[u8]) {
        self.events.push(Event::ToClient(*client, bytes.to_vec()));
    }

    fn to_peer(&mut self, relay: SocketAddr, peer: SocketAddr, bytes: &[u8], dont_fragment: bool) {
        assert!(self.ports.contains_key(&relay), "{relay} sends, but is not open");
        self.events.push(Event::ToPeer { relay, peer, bytes: bytes.to_vec(), dont_fragment });
    }

    fn close_client(&mut self, client: &Client, _origin: Origin) {
        assert_ne!(client.transport, Transport::Udp, "UDP has no connection");
        self.spliced.remove(client);
        self.events.push(Event::CloseClient(*client));
    }

    fn open_listener(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        _origin: Origin,
    ) -> Result<(), PortRefusal> {
        assert!(!self.ports.contains_key(&relay), "{relay} is a port");
        assert!(!self.listeners.contains_key(&relay), "{relay} is open already");
        if self.exhausted {
            return Err(PortRefusal::Exhausted);
        }
        if self.in_use.contains(&relay) {
            return Err(PortRefusal::InUse);
        }
        self.listeners.insert(relay, *client);
        self.opened += 1;
        self.events.push(Event::Listen(relay));
        Ok(())
    }

    fn close_listener(&mut self, relay: SocketAddr) {
        assert!(self.listeners.remove(&relay).is_some(), "{relay} does not listen");
        assert!(!self.connections.values().any(|&of| of == relay), "{relay} has connections");
        self.closed += 1;
        self.events.push(Event::Unlisten(relay));
    }

    fn connect(&mut self, id: PeerConnection, relay: SocketAddr, peer: SocketAddr) {
        assert!(self.listeners.contains_key(&relay), "{relay} does not listen");
        assert_eq!(id.0 & PeerConnection::ACCEPTED, 0, "a number of the driver's");
        assert!(self.connections.insert(id, relay).is_none(), "{id:?} twice");
        self.events.push(Event::Connect { id, relay, peer });
    }

    fn splice(&mut self, id: PeerConnection, client: &Client, _origin: Origin) {
        assert!(self.connections.remove(&id).is_some(), "{id:?} is not there");
        assert!(self.spliced.insert(*client, id).is_none(), "{client:?} twice");
        self.events.push(Event::Splice(id, *client));
    }

    fn close_peer_connection(&mut self, id: PeerConnection) {
        assert!(self.connections.remove(&id).is_some(), "{id:?} is not there");
        self.events.push(Event::ClosePeer(id));
    }
}
