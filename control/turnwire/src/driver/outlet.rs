//! The server's outbox: its effects carried out on the workers and on the kernel program.
//!
//! ```text
//!   adding:   workers, then kernel, then (by the server) the success response
//!   removing: kernel, then workers
//! ```
//!
//! Permissions, and relayed addresses for Send indications, go to the workers only, and only those
//! of UDP clients; the kernel is asked for the next hops of those that may leave as frames.
//!
//! The tables below are caches of the server's truth. The workers' must hold a route for it to
//! exist; the kernel's may lack it, which is counted and costs speed only.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use dataplane::batch::Marks;
use dataplane::frames::Keeper;
use dataplane::kernel::Kernel;
use dataplane::{
    Dataplane, IpFields, OpenPortError, Permission, PortId, Relayed, Route, RouteCounters,
    Transport,
};
use turn::{
    ChannelRoute, Client, Input, Origin, Outbox, PeerConnection, Permit, PortRefusal, RouteRefusal,
};

use super::peers::Peers;

/// What the outbox counts, as its callers get no answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of the data plane that the server has dealt with.
    pub events: u64,
    /// Turns of the control thread's loop.
    pub turns: u64,
    /// Routes that the kernel's table had no room for: the workers carry them.
    pub kernel_refused: u64,
    /// Relay ports that could not be opened because they were in use.
    pub ports_in_use: u64,
    /// Relay ports that could not be opened for want of something.
    pub ports_refused: u64,
    /// Effects on relay ports, and on connections to peers, that are not open.
    pub unknown_port: u64,
}

/// The data plane, as the control thread holds it.
pub struct Outlet {
    /// The workers.
    pub plane: Dataplane,
    /// The kernel program, where it is attached.
    pub kernel: Option<Kernel>,
    /// What keeps the workers in AF_XDP queues, where they are to have some.
    pub keeper: Option<Keeper>,
    /// What happened.
    pub counts: Counts,
    /// Why the last port was refused, until it is told.
    pub port_trouble: Option<String>,
    /// TCP sockets towards peers.
    pub peers: Peers,
    /// While the server handles a datagram.
    pub passes_on: PassesOn,
    ports: HashMap<SocketAddr, Port>,
    /// What was carried for routes and permissions that stand no more, by relayed address; nothing
    /// for those where that is nothing.
    past: HashMap<SocketAddr, Carried>,
}

/// What the datagram leaves with that the server is given now, where it sends that on: a client's to
/// a peer, or a peer's to a client (RFC 8656 section 14). Answers and all else have the host's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassesOn {
    to_peer: Option<Marks>,
    to_client: Option<Marks>,
}

impl PassesOn {
    /// For this input, which leaves with `marks` if it is sent on.
    pub fn of(input: &Input<'_>, marks: Option<Marks>) -> PassesOn {
        match input {
            Input::Client { .. } => PassesOn { to_peer: marks, to_client: None },
            Input::Peer { .. } => PassesOn { to_peer: None, to_client: marks },
            _ => PassesOn::default(),
        }
    }
}

/// What the fast tiers carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// The kernel program, and workers by AF_XDP with its routes.
    pub xdp: RouteCounters,
    /// Workers and session threads; all indications that workers carried.
    pub socket: RouteCounters,
}

/// An open relay port.
#[derive(Debug, Clone, Copy)]
struct Port {
    id: PortId,
    client: Client,
}

impl Outlet {
    /// An outlet without open ports.
    pub fn new(
        plane: Dataplane,
        kernel: Option<Kernel>,
        keeper: Option<Keeper>,
        peers: Peers,
    ) -> Outlet {
        let (counts, ports, past) = (Counts::default(), HashMap::new(), HashMap::new());
        let (port_trouble, passes_on) = (None, PassesOn::default());
        Outlet { plane, kernel, keeper, counts, port_trouble, peers, passes_on, ports, past }
    }

    /// The data plane's words for a route. `None` if its relay port is not open.
    pub fn route(&self, route: &ChannelRoute) -> Option<Route> {
        Some(Route {
            transport: transport(route.client.transport),
            client: route.client.remote,
            listener: route.client.local,
            channel: route.channel.number(),
            relay: route.relay,
            port: self.port(route.relay)?,
            peer: route.peer,
            expires: route.expires,
            inner: route.inner,
        })
    }

    /// The open port of a relayed transport address.
    pub fn port(&self, relay: SocketAddr) -> Option<PortId> {
        self.ports.get(&relay).map(|port| port.id)
    }

    /// What was carried for a channel since it was published.
    pub fn route_carried(&self, route: &ChannelRoute) -> Carried {
        let Some(route) = self.route(route) else { return Carried::default() };
        let kernel = self.kernel.as_ref();
        Carried {
            xdp: kernel.map(|kernel| kernel.route_counters(&route)).unwrap_or_default(),
            socket: self.plane.route_counters(&route),
        }
    }

    /// What was carried by a relayed address, but for the channels that stand: in indications, and for
    /// what stands no more. `peers` have permissions.
    pub fn carried_beside_channels(
        &self,
        relay: SocketAddr,
        peers: impl Iterator<Item = IpAddr>,
    ) -> Carried {
        let mut carried = self.past.get(&relay).copied().unwrap_or_default();
        if let Some(relayed) = self.ports.get(&relay).and_then(|port| relayed(relay, *port)) {
            carried.socket.add(self.plane.indications(&relayed, peers));
        }
        carried
    }

    /// Relay ports that are open.
    pub fn open_ports(&self) -> usize {
        self.ports.len()
    }

    /// Detaches the program, then ends the workers.
    pub fn stop(self) {
        drop(self.kernel);
        self.plane.stop();
    }
}

impl Outbox for Outlet {
    fn open_port(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        origin: Origin,
    ) -> Result<(), PortRefusal> {
        match self.plane.open_port(origin.0.into(), relay) {
            Ok(id) => {
                self.hold(relay, Port { id, client: *client });
                self.open_in_kernel(relay, client);
                Ok(())
            }
            Err(OpenPortError::InUse) => {
                self.counts.ports_in_use += 1;
                Err(PortRefusal::InUse)
            }
            Err(error) => {
                self.counts.ports_refused += 1;
                self.port_trouble = Some(format!("{relay}: {error}"));
                Err(PortRefusal::Exhausted)
            }
        }
    }

    fn close_port(&mut self, relay: SocketAddr) {
        let Some(port) = self.ports.remove(&relay) else {
            self.counts.unknown_port += 1;
            return;
        };
        if let Some(kernel) = &mut self.kernel {
            kernel.close_port(relay);
        }
        self.withdraw_relayed(relay, port);
        self.past.remove(&relay);
        self.plane.close_port(port.id);
    }

    /// The port goes to the thread that serves the client. The kernel program takes its datagrams
    /// only while the client is a UDP client.
    fn move_port(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        origin: Origin,
    ) -> Result<(), PortRefusal> {
        let Some(port) = self.ports.get(&relay).copied() else {
            self.counts.unknown_port += 1;
            return Err(PortRefusal::Exhausted);
        };
        let id = self.plane.move_port(port.id, origin.0.into()).map_err(|error| {
            self.counts.ports_refused += 1;
            self.port_trouble = Some(format!("{relay} cannot move: {error}"));
            PortRefusal::Exhausted
        })?;
        self.withdraw_relayed(relay, port);
        self.hold(relay, Port { id, client: *client });
        if client.transport == turn::Transport::Udp {
            self.open_in_kernel(relay, client);
        } else if let Some(kernel) = &mut self.kernel {
            kernel.close_port(relay);
        }
        Ok(())
    }

    fn add_route(&mut self, route: &ChannelRoute) -> Result<(), RouteRefusal> {
        let Some(route) = self.route(route) else {
            self.counts.unknown_port += 1;
            return Err(RouteRefusal);
        };
        self.plane.add_route(&route).map_err(|_| RouteRefusal)?;
        if route.transport == Transport::Udp
            && let Some(kernel) = &mut self.kernel
            && kernel.add_route(&route).is_err()
        {
            self.counts.kernel_refused += 1;
        }
        Ok(())
    }

    fn remove_route(&mut self, route: &ChannelRoute) {
        let Some(route) = self.route(route) else {
            self.counts.unknown_port += 1;
            return;
        };
        let kernel = self.kernel.as_mut().filter(|_| route.transport == Transport::Udp);
        let xdp = kernel.map(|kernel| kernel.remove_route(&route)).unwrap_or_default();
        let socket = self.plane.remove_route(&route);
        self.fold(route.relay, Carried { xdp, socket });
    }

    /// Where there is no room, or the client is served by a session thread, the server carries what
    /// the permission is for; the workers count the former.
    fn permit(&mut self, permit: &Permit) {
        let Permit { client, relay, peer, expires, .. } = *permit;
        let (Client { remote, local, transport }, udp) = (client, turn::Transport::Udp);
        let permission = Permission { client: remote, listener: local, relay, peer, expires };
        if transport != udp || self.plane.add_permission(&permission).is_err() {
            // it may have been another client's, or have stood with another expiry
            return self.forbid(permit);
        }
        if let Some(kernel) = &mut self.kernel {
            let hops = kernel.hold_permission(&permission);
            self.plane.lead_permission(peer, relay, hops);
        }
    }

    fn forbid(&mut self, permit: &Permit) {
        let to_client = self.plane.remove_permission(permit.peer, permit.relay);
        let socket = RouteCounters { to_client, ..Default::default() };
        self.fold(permit.relay, Carried { socket, ..Default::default() });
        if let Some(kernel) = &mut self.kernel {
            kernel.release_permission(permit.peer, permit.relay);
        }
    }

    fn to_client(&mut self, client: &Client, origin: Origin, bytes: &[u8]) {
        let Client { local, remote, transport: by } = *client;
        let client = dataplane::Client { transport: transport(by), local, remote };
        self.plane.data_to_client(origin.0.into(), client, bytes, self.passes_on.to_client);
    }

    fn to_peer(&mut self, relay: SocketAddr, peer: SocketAddr, bytes: &[u8], dont_fragment: bool) {
        match self.port(relay) {
            Some(port) => {
                let fields = IpFields { dont_fragment, marks: self.passes_on.to_peer };
                self.plane.to_peer(port, peer, bytes, fields);
            }
            None => self.counts.unknown_port += 1,
        }
    }

    fn close_client(&mut self, client: &Client, origin: Origin) {
        self.plane.close_client(origin.0.into(), plane_client(client));
    }

    fn open_listener(
        &mut self,
        relay: SocketAddr,
        _: &Client,
        _: Origin,
    ) -> Result<(), PortRefusal> {
        self.peers.open_listener(relay).inspect_err(|refusal| match refusal {
            PortRefusal::InUse => self.counts.ports_in_use += 1,
            PortRefusal::Exhausted => self.counts.ports_refused += 1,
        })
    }

    fn close_listener(&mut self, relay: SocketAddr) {
        self.counts.unknown_port += u64::from(!self.peers.close_listener(relay));
    }

    fn connect(&mut self, id: PeerConnection, relay: SocketAddr, peer: SocketAddr) {
        self.peers.connect(id, relay, peer);
    }

    fn splice(&mut self, id: PeerConnection, client: &Client, origin: Origin) {
        match self.peers.take(id) {
            Some(peer) => self.plane.splice(origin.0.into(), plane_client(client), peer),
            // It ended a moment ago, and the server has yet to hear of it.
            None => self.plane.close_client(origin.0.into(), plane_client(client)),
        }
    }

    fn close_peer_connection(&mut self, id: PeerConnection) {
        self.counts.unknown_port += u64::from(!self.peers.close(id));
    }
}

impl Outlet {
    /// An open port; its client may send from it.
    fn hold(&mut self, relay: SocketAddr, port: Port) {
        self.ports.insert(relay, port);
        if let Some(relayed) = relayed(relay, port) {
            // without room the server carries what the client sends; the workers count it
            let _ = self.plane.add_relayed(&relayed);
        }
    }

    fn withdraw_relayed(&mut self, relay: SocketAddr, port: Port) {
        if let Some(relayed) = relayed(relay, port) {
            let to_peer = self.plane.remove_relayed(&relayed);
            let socket = RouteCounters { to_peer, ..Default::default() };
            self.fold(relay, Carried { socket, ..Default::default() });
        }
    }

    /// Keeps what was carried by something that stands no more, for as long as its port is open.
    fn fold(&mut self, relay: SocketAddr, carried: Carried) {
        if carried != Carried::default() {
            let past = self.past.entry(relay).or_default();
            past.xdp.add(carried.xdp);
            past.socket.add(carried.socket);
        }
    }

    /// The program only serves UDP clients.
    fn open_in_kernel(&mut self, relay: SocketAddr, client: &Client) {
        if client.transport == turn::Transport::Udp
            && let Some(kernel) = &mut self.kernel
        {
            kernel.open_port(relay);
        }
    }
}

/// What a UDP client sends from.
fn relayed(relay: SocketAddr, Port { id, client }: Port) -> Option<Relayed> {
    let Client { remote, local, transport } = client;
    let udp = transport == turn::Transport::Udp;
    udp.then_some(Relayed { client: remote, listener: local, relay, port: id })
}

/// The data plane's word for a transport.
fn transport(of: turn::Transport) -> Transport {
    match of {
        turn::Transport::Udp => Transport::Udp,
        turn::Transport::Tcp => Transport::Tcp,
        turn::Transport::Tls => Transport::Tls,
        turn::Transport::Dtls => Transport::Dtls,
    }
}

/// The data plane's words for a client.
fn plane_client(client: &Client) -> dataplane::Client {
    let Client { remote, local, transport: of } = *client;
    dataplane::Client { transport: transport(of), local, remote }
}
