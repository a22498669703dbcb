//! A server with a host around it, held against each other after every input: what is open and
//! published there is what the server says it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turn::limits::{Budget, Rate};
use turn::{
    ChannelRoute, Client, Config, ConnectRefusal, Credentials, Input, Now, Origin, Outbox,
    PeerConnection, Permit, PortRefusal, RelayAddress, RouteRefusal, Seeded, Server, Transport,
};

pub(crate) const REALM: &str = "turnwire";
pub(crate) const USERS: [(&str, &str); 2] = [("alice", "alice's password"), ("bob", "bob's")];
/// When a lab begins, since the Unix epoch.
pub(crate) const UNIX_START: Duration = Duration::from_secs(1 << 31);
/// So few that they run out.
const PORTS: std::ops::RangeInclusive<u16> = 50_000..=50_015;

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address of the target")
}

/// Five-tuples of all transports and both families; the first two are UDP.
pub(crate) fn client(number: usize) -> Client {
    let (v4, v6) = (address("93.184.216.10:3478"), address("[2a02:100::10]:3478"));
    let (remote, local, transport) = match number % 6 {
        0 => ("81.2.3.4:5000", v4, Transport::Udp),
        1 => ("[2a03:100::7]:5000", v6, Transport::Udp),
        2 => ("81.2.3.4:5001", v4, Transport::Udp),
        3 => ("81.2.3.4:5000", v4, Transport::Tcp),
        4 => ("[2a03:100::7]:5001", v6, Transport::Tls),
        _ => ("81.2.9.4:5000", v4, Transport::Dtls),
    };
    Client { remote: address(remote), local, transport }
}

pub(crate) fn config() -> Config {
    let relay = |ip: &str| RelayAddress::plain(ip.parse().expect("an address of the target"));
    let rate = Rate { per_second: 1_000_000, burst: 1_000_000 };
    let mut config = Config {
        relays: vec![relay("93.184.216.10"), relay("2a02:100::10")],
        ports: PORTS,
        services: vec![client(0).local, client(1).local],
        ..Config::default()
    };
    config.limits.unauthenticated = Budget { source: rate, prefix: rate, total: rate };
    config
}

pub(crate) fn credentials() -> Credentials {
    let mut credentials = Credentials::new(REALM).expect("a realm");
    for (name, password) in USERS {
        credentials.add_user(name, password).expect("a user");
    }
    credentials
}

/// What the server has sent, and whom it has closed.
#[derive(Debug, PartialEq)]
pub(crate) enum Sent {
    Client(Client, Vec<u8>),
    Peer { relay: SocketAddr, peer: SocketAddr, bytes: Vec<u8> },
    Closed(Client),
}

/// The host: what the server has opened and published on it.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) ports: BTreeMap<SocketAddr, Client>,
    pub(crate) listeners: BTreeMap<SocketAddr, Client>,
    pub(crate) routes: BTreeMap<(Client, u16), ChannelRoute>,
    pub(crate) permits: BTreeMap<(SocketAddr, IpAddr), Permit>,
    /// Connections to peers, their relayed addresses, and whether they stand already.
    pub(crate) connections: BTreeMap<PeerConnection, (SocketAddr, bool)>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) no_ports: bool,
    pub(crate) no_routes: bool,
}

impl Host {
    fn open(&self, relay: SocketAddr) -> Result<(), PortRefusal> {
        assert!(PORTS.contains(&relay.port()), "{relay} is outside the range");
        let taken = self.ports.contains_key(&relay) || self.listeners.contains_key(&relay);
        assert!(!taken, "{relay} is open already");
        if self.no_ports { Err(PortRefusal::Exhausted) } else { Ok(()) }
    }
}

impl Outbox for Host {
    fn open_port(&mut self, relay: SocketAddr, of: &Client, _: Origin) -> Result<(), PortRefusal> {
        self.open(relay)?;
        self.ports.insert(relay, *of);
        Ok(())
    }

    fn close_port(&mut self, relay: SocketAddr) {
        assert!(self.ports.remove(&relay).is_some(), "{relay} is not open");
        let left = self.routes.values().find(|r| r.relay == relay || r.peer == relay);
        assert!(left.is_none(), "{relay} closes under {left:?}");
        let left = self.permits.keys().find(|(of, _)| *of == relay);
        assert!(left.is_none(), "{relay} closes under {left:?}");
    }

    fn move_port(&mut self, relay: SocketAddr, to: &Client, _: Origin) -> Result<(), PortRefusal> {
        if self.no_ports {
            return Err(PortRefusal::Exhausted);
        }
        *self.ports.get_mut(&relay).expect("only an open port moves") = *to;
        Ok(())
    }

    fn add_route(&mut self, route: &ChannelRoute) -> Result<(), RouteRefusal> {
        assert_eq!(self.ports.get(&route.relay), Some(&route.client), "a route without its port");
        assert_eq!(route.inner, self.ports.contains_key(&route.peer), "inner is a live port");
        let key = (route.client, route.channel.number());
        match self.routes.get(&key) {
            Some(known) => assert!(known.same_path(route), "a channel changes its peer"),
            None if self.no_routes => return Err(RouteRefusal),
            None => {}
        }
        self.routes.insert(key, *route);
        Ok(())
    }

    fn remove_route(&mut self, route: &ChannelRoute) {
        let known = self.routes.remove(&(route.client, route.channel.number()));
        assert_eq!(known.as_ref(), Some(route), "only what was published is withdrawn");
    }

    fn permit(&mut self, permit: &Permit) {
        assert_eq!(self.ports.get(&permit.relay), Some(&permit.client), "without its port");
        assert!(!self.ports.keys().any(|port| port.ip() == permit.peer), "an address of our own");
        self.permits.insert((permit.relay, permit.peer), *permit);
    }

    fn forbid(&mut self, permit: &Permit) {
        let known = self.permits.remove(&(permit.relay, permit.peer));
        assert!(known.is_some(), "only what was published is withdrawn");
    }

    fn to_client(&mut self, client: &Client, _: Origin, bytes: &[u8]) {
        self.sent.push(Sent::Client(*client, bytes.to_vec()));
    }

    fn to_peer(&mut self, relay: SocketAddr, peer: SocketAddr, bytes: &[u8], _: bool) {
        assert!(self.ports.contains_key(&relay), "{relay} sends, but is not open");
        self.sent.push(Sent::Peer { relay, peer, bytes: bytes.to_vec() });
    }

    fn close_client(&mut self, client: &Client, _: Origin) {
        assert_ne!(client.transport, Transport::Udp, "UDP has no connection");
        self.sent.push(Sent::Closed(*client));
    }

    fn open_listener(
        &mut self,
        relay: SocketAddr,
        of: &Client,
        _: Origin,
    ) -> Result<(), PortRefusal> {
        self.open(relay)?;
        self.listeners.insert(relay, *of);
        Ok(())
    }

    fn close_listener(&mut self, relay: SocketAddr) {
        assert!(self.listeners.remove(&relay).is_some(), "{relay} does not listen");
        assert!(!self.connections.values().any(|(of, _)| *of == relay), "{relay} has connections");
    }

    fn connect(&mut self, id: PeerConnection, relay: SocketAddr, _: SocketAddr) {
        assert!(self.listeners.contains_key(&relay), "{relay} does not listen");
        assert_eq!(id.0 & PeerConnection::ACCEPTED, 0, "a number of the driver's");
        assert!(self.connections.insert(id, (relay, false)).is_none(), "{id:?} twice");
    }

    fn splice(&mut self, id: PeerConnection, _: &Client, _: Origin) {
        let (_, stands) = self.connections.remove(&id).expect("only what is there is spliced");
        assert!(stands, "{id:?} does not stand yet");
    }

    fn close_peer_connection(&mut self, id: PeerConnection) {
        assert!(self.connections.remove(&id).is_some(), "{id:?} is not there");
    }
}

pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) host: Host,
    pub(crate) now: Now,
    accepted: u32,
}

impl Lab {
    pub(crate) fn new(config: Config) -> Self {
        Self::with_credentials(config, credentials())
    }

    pub(crate) fn with_credentials(config: Config, credentials: Credentials) -> Self {
        let now = Now { monotonic: Duration::from_secs(1000), unix: UNIX_START };
        let server = Server::new(config, credentials, Box::new(Seeded::new(1)), now);
        Self { server, host: Host::default(), now, accepted: PeerConnection::ACCEPTED }
    }

    /// Hands an input over, checks that host and server agree, and returns what was sent.
    pub(crate) fn input(&mut self, input: Input<'_>) -> Vec<Sent> {
        self.server.handle(self.now, input, &mut self.host);
        self.agree();
        std::mem::take(&mut self.host.sent)
    }

    pub(crate) fn datagram(&mut self, client: Client, bytes: &[u8]) -> Vec<Sent> {
        self.input(Input::Client { client, origin: Origin(0), bytes })
    }

    /// A connection from a peer, which the driver has accepted.
    pub(crate) fn accept(&mut self, relay: SocketAddr, peer: SocketAddr) -> Vec<Sent> {
        let id = PeerConnection(self.accepted);
        self.accepted += 1;
        self.host.connections.insert(id, (relay, true));
        self.input(Input::Accepted { relay, peer, id })
    }

    /// What became of a connection that the server asked for.
    pub(crate) fn connected(&mut self, good: bool) -> Vec<Sent> {
        let mut asked = self.host.connections.iter_mut().filter(|(_, (_, stands))| !stands);
        let Some((&id, (_, stands))) = asked.next() else { return Vec::new() };
        *stands = true;
        if !good {
            self.host.connections.remove(&id);
        }
        let result = if good { Ok(()) } else { Err(ConnectRefusal::Failed) };
        self.input(Input::Connected { id, result })
    }

    /// The peer of the newest connection that stands closes it.
    pub(crate) fn peer_closes(&mut self) -> Vec<Sent> {
        let mut standing = self.host.connections.iter().filter(|(_, (_, stands))| *stands);
        let Some((&id, _)) = standing.next_back() else { return Vec::new() };
        self.host.connections.remove(&id);
        self.input(Input::PeerClosed { id })
    }

    /// Lets time pass: the timer is given at each deadline, or, by a late driver, once at the end.
    pub(crate) fn pass(&mut self, time: Duration, late: bool) {
        let until = self.now.monotonic + time;
        while let Some(at) = self.server.deadline().filter(|at| !late && *at <= until) {
            self.step(at.saturating_sub(self.now.monotonic));
            self.input(Input::Timer);
        }
        self.step(until - self.now.monotonic);
        self.input(Input::Timer);
    }

    fn step(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.unix += time;
    }

    fn agree(&self) {
        let server = &self.server;
        let published: BTreeMap<_, _> = server
            .allocations()
            .flat_map(|allocation| allocation.routes())
            .map(|route| ((route.client, route.channel.number()), route))
            .collect();
        assert_eq!(self.host.routes, published);
        let relays = server.allocations().flat_map(|allocation| allocation.relays());
        let permits: BTreeMap<_, _> = relays
            .flat_map(|relay| {
                relay.permits().map(move |(peer, expires)| ((relay.local(), peer), expires))
            })
            .collect();
        let told = self.host.permits.iter().map(|(key, permit)| (*key, permit.expires));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), permits);
        let relays = server.allocations().flat_map(|allocation| allocation.relays());
        let relays: BTreeSet<SocketAddr> = relays.map(|relay| relay.local()).collect();
        let open: BTreeSet<SocketAddr> =
            self.host.ports.keys().chain(self.host.listeners.keys()).copied().collect();
        assert_eq!(open, relays);
        let stats = server.stats();
        assert_eq!(stats.allocations, server.allocations().count());
        assert_eq!(stats.relayed_addresses, relays.len());
    }
}
