//! TCP connections to peers: Connect, ConnectionAttempt, ConnectionBind (RFC 6062 section 5).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::permit::family_of;
use super::{Ask, Server};
use crate::allocation::Allocation;
use crate::attribute::Code;
use crate::connection::{BIND_TIMEOUT, CONNECT_TIMEOUT, ConnectRequest, Connection, State};
use crate::message::{Builder, Class, Message, Method, TransactionId};
use crate::outbox::{Client, ConnectRefusal, Outbox, PeerConnection};
use crate::policy::canonical;
use crate::random::Random;
use crate::stats::{Reason, Request};

/// Which allocation a connection belongs to, by each of its names.
#[derive(Debug, Default)]
pub(super) struct ConnectionIndex {
    by_id: HashMap<PeerConnection, u32>,
    /// By CONNECTION-ID, from the beginning until it is bound.
    by_public: HashMap<u32, u32>,
    by_data_client: HashMap<Client, u32>,
    last: u32,
}

impl ConnectionIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_public.is_empty() && self.by_data_client.is_empty()
    }

    /// The next number of ours. It is long until it comes round again.
    fn next_id(&mut self) -> PeerConnection {
        loop {
            self.last = self.last.wrapping_add(1) & !PeerConnection::ACCEPTED;
            let id = PeerConnection(self.last);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// A CONNECTION-ID that cannot be guessed, and is nobody's.
    fn next_public(&self, random: &mut dyn Random) -> u32 {
        loop {
            let mut bytes = [0; 4];
            random.fill(&mut bytes);
            let public = u32::from_ne_bytes(bytes);
            if !self.by_public.contains_key(&public) {
                return public;
            }
        }
    }

    fn insert(&mut self, slot: u32, connection: &Connection) {
        self.by_id.insert(connection.id, slot);
        self.by_public.insert(connection.public, slot);
    }

    fn remove(&mut self, connection: &Connection) {
        self.by_id.remove(&connection.id);
        match connection.state {
            State::Spliced { client, .. } => _ = self.by_data_client.remove(&client),
            State::Connecting { .. } | State::Waiting { .. } => {
                self.by_public.remove(&connection.public);
            }
        }
    }
}

impl Server {
    /// Begins to connect to a peer; the answer waits for the connection.
    pub(super) fn connect(&mut self, ask: &Ask<'_>, outbox: &mut dyn Outbox) -> Result<(), Reason> {
        let slot = self.owned(ask, outbox)?;
        let allocation = self.allocations.get(slot).ok_or(Reason::NoAllocation)?;
        if allocation.tcp.is_none() {
            return Err(Reason::UdpAllocation);
        }
        let peer = ask.message.xor_peer_address()?.ok_or(Reason::MissingAttribute)?;
        let peer = canonical(self.local_form(peer));
        if allocation.connections().iter().any(|connection| connection.peer == peer) {
            return Err(Reason::ConnectionExists);
        }
        let relay = allocation.leg(family_of(peer)).ok_or(Reason::FamilyMismatch)?.relay;
        self.policy.decide_connection(peer, &self.own)?;
        if allocation.connections().len() >= self.limits.connections_per_allocation {
            return Err(Reason::AllocationConnectionsFull);
        }
        if self.stats.connections >= self.limits.connections {
            return Err(Reason::ConnectionsFull);
        }
        let request = Box::new(ConnectRequest {
            client: ask.sender.client,
            origin: ask.sender.origin,
            transaction: ask.message.transaction(),
            key: ask.signer.account.key().clone(),
            hash: ask.signer.hash,
        });
        let id = self.connections.next_id();
        let state = State::Connecting { until: ask.now + CONNECT_TIMEOUT, request };
        self.add_connection(slot, id, peer, state);
        outbox.connect(id, relay, peer);
        self.rearm(slot, ask.now);
        Ok(())
    }

    /// Returns its CONNECTION-ID.
    fn add_connection(
        &mut self,
        slot: u32,
        id: PeerConnection,
        peer: SocketAddr,
        state: State,
    ) -> u32 {
        let public = self.connections.next_public(&mut self.random);
        let connection = Connection { id, public, peer, state };
        let allocation = self.allocations.get_mut(slot);
        if let Some(connections) = allocation.and_then(|allocation| allocation.tcp.as_mut()) {
            self.connections.insert(slot, &connection);
            connections.push(connection);
            self.stats.connections += 1;
        }
        public
    }

    /// What became of a Connect.
    pub(super) fn connected(
        &mut self,
        now: Duration,
        id: PeerConnection,
        result: Result<(), ConnectRefusal>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let slot = *self.connections.by_id.get(&id).ok_or(Reason::ConnectionUnknown)?;
        let connection = self.connection_mut(slot, id).ok_or(Reason::ConnectionUnknown)?;
        if !matches!(connection.state, State::Connecting { .. }) {
            return Err(Reason::ConnectionUnknown);
        }
        if result.is_err() {
            self.connect_failed(slot, id, outbox);
        } else {
            let (public, waiting) =
                (connection.public, State::Waiting { until: now + BIND_TIMEOUT });
            if let State::Connecting { request, .. } =
                std::mem::replace(&mut connection.state, waiting)
            {
                self.answer_connect(&request, Ok(public), outbox);
            }
        }
        self.rearm(slot, now);
        Ok(())
    }

    fn connect_failed(&mut self, slot: u32, id: PeerConnection, outbox: &mut dyn Outbox) {
        if let Some(connection) = self.take_connection(slot, id)
            && let State::Connecting { request, .. } = connection.state
        {
            self.answer_connect(&request, Err(Reason::ConnectionFailed), outbox);
        }
    }

    /// The answer to a Connect: its CONNECTION-ID, or why there is none.
    fn answer_connect(
        &mut self,
        request: &ConnectRequest,
        result: Result<u32, Reason>,
        outbox: &mut dyn Outbox,
    ) {
        let class = if result.is_ok() { Class::Success } else { Class::Error };
        let mut reply = Builder::new(&mut self.out, class, Method::CONNECT, request.transaction);
        match result {
            Ok(public) => {
                reply.connection_id(public);
                self.stats.successes[Request::Connect as usize] += 1;
            }
            Err(reason) => {
                let code = reason.code().unwrap_or(Code::SERVER_ERROR);
                reply.error_code(code);
                self.stats.refused[reason] += 1;
                self.stats.count_error(code);
            }
        }
        if let Some(software) = &self.software {
            reply.software(software);
        }
        reply.integrity(&request.key, request.hash);
        if let Ok(bytes) = reply.finish() {
            outbox.to_client(&request.client, request.origin, bytes);
        }
    }

    /// A peer has connected. `Err`: the connection is not wanted.
    pub(super) fn accepted(
        &mut self,
        now: Duration,
        relay: SocketAddr,
        peer: SocketAddr,
        id: PeerConnection,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let (relay, peer) = (canonical(relay), canonical(peer));
        let slot = self.own.listener_of(relay).ok_or(Reason::AcceptedNoAllocation)?;
        let allocation = self.allocations.get(slot).ok_or(Reason::AcceptedNoAllocation)?;
        let leg = allocation.leg(family_of(relay)).filter(|leg| now < leg.expires);
        let leg = leg.ok_or(Reason::AcceptedNoAllocation)?;
        if allocation.is_absent() {
            return Err(Reason::ClientAbsent);
        }
        if !leg.permissions.is_live(peer.ip(), now) {
            return Err(Reason::AcceptedNoPermission);
        }
        // The peer's port is one of its own choice: whether its address may be a peer is asked of
        // the connection as it stands.
        self.policy.decide_accepted(peer, &self.own).map_err(|_| Reason::AcceptedForbidden)?;
        let full = allocation.connections().len() >= self.limits.connections_per_allocation
            || self.stats.connections >= self.limits.connections;
        if full || self.connections.by_id.contains_key(&id) {
            return Err(Reason::AcceptedFull);
        }
        let (client, origin) = (allocation.client, allocation.origin);
        let public =
            self.add_connection(slot, id, peer, State::Waiting { until: now + BIND_TIMEOUT });
        let mut transaction = [0; 12];
        self.random.fill(&mut transaction);
        let transaction = TransactionId(transaction);
        let method = Method::CONNECTION_ATTEMPT;
        let mut told = Builder::new(&mut self.out, Class::Indication, method, transaction);
        told.connection_id(public).xor_peer_address(self.relays.advertised(peer));
        if let Ok(bytes) = told.finish() {
            outbox.to_client(&client, origin, bytes);
        }
        self.rearm(slot, now);
        Ok(())
    }

    /// The peer has ended a connection that was not bound yet.
    pub(super) fn peer_closed(&mut self, now: Duration, id: PeerConnection) -> Result<(), Reason> {
        let slot = *self.connections.by_id.get(&id).ok_or(Reason::ConnectionUnknown)?;
        let connection = self.connection_mut(slot, id).ok_or(Reason::ConnectionUnknown)?;
        if !matches!(connection.state, State::Waiting { .. }) {
            return Err(Reason::ConnectionUnknown);
        }
        self.take_connection(slot, id);
        self.rearm(slot, now);
        Ok(())
    }

    /// Joins the connection that the request came on with a peer's.
    pub(super) fn connection_bind(
        &mut self,
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let (client, origin) = (ask.sender.client, ask.sender.origin);
        if !client.transport.is_stream() || self.allocations.slot_of(&client).is_some() {
            return Err(Reason::NotAStream);
        }
        let public = ask.message.connection_id()?.ok_or(Reason::MissingAttribute)?;
        if let Some(&slot) = self.connections.by_public.get(&public) {
            self.tend(slot, ask.now, outbox);
        }
        let slot = *self.connections.by_public.get(&public).ok_or(Reason::NoConnection)?;
        let allocation = self.allocations.get_mut(slot).ok_or(Reason::NoConnection)?;
        if allocation.account.username() != ask.signer.account.username() {
            return Err(Reason::WrongUser);
        }
        let mut connections = allocation.tcp.iter_mut().flat_map(|tcp| tcp.iter_mut());
        let connection = connections.find(|connection| connection.public == public);
        let connection = connection.ok_or(Reason::NoConnection)?;
        if !matches!(connection.state, State::Waiting { .. }) {
            return Err(Reason::NoConnection);
        }
        let id = connection.id;
        connection.state = State::Spliced { client, origin };
        self.connections.by_public.remove(&public);
        self.connections.by_data_client.insert(client, slot);
        self.rearm(slot, ask.now);
        self.succeed(ask, Request::ConnectionBind, |reply| _ = reply.connection_id(public), outbox);
        outbox.splice(id, &client, origin);
        Ok(())
    }

    /// Whether nothing but raw bytes may come from this client.
    pub(super) fn is_data_connection(&self, client: &Client) -> bool {
        self.connections.by_data_client.contains_key(client)
    }

    /// A data connection has ended, and its peer's with it.
    pub(super) fn data_connection_gone(&mut self, client: &Client) {
        let Some(&slot) = self.connections.by_data_client.get(client) else { return };
        let allocation = self.allocations.get(slot);
        let id = allocation.and_then(|allocation| {
            let of = |connection: &&Connection| matches!(connection.state, State::Spliced { client: data, .. } if data == *client);
            allocation.connections().iter().find(of).map(|connection| connection.id)
        });
        if let Some(id) = id {
            self.take_connection(slot, id);
        }
    }

    /// The allocation whose connection a ConnectionBind names: it is verified with that account.
    pub(super) fn allocation_to_bind(
        &self,
        now: Duration,
        message: &Message<'_>,
    ) -> Option<&Allocation> {
        if message.method() != Method::CONNECTION_BIND {
            return None;
        }
        let slot = self.connections.by_public.get(&message.connection_id().ok()??)?;
        let allocation = self.allocations.get(*slot)?;
        allocation.legs().any(|leg| now < leg.expires).then_some(allocation)
    }

    /// Ends the connections of an allocation whose time to be made, or to be bound, is over.
    pub(super) fn tend_connections(&mut self, slot: u32, now: Duration, outbox: &mut dyn Outbox) {
        let Some(allocation) = self.allocations.get(slot) else { return };
        let over = |connection: &&Connection| connection.until().is_some_and(|until| until <= now);
        let over = allocation.connections().iter().filter(over);
        let over: Vec<PeerConnection> = over.map(|connection| connection.id).collect();
        for id in over {
            outbox.close_peer_connection(id);
            self.connect_failed(slot, id, outbox);
        }
    }

    /// Ends an allocation's connections of some kind, whatever their state.
    pub(super) fn close_connections(
        &mut self,
        slot: u32,
        outbox: &mut dyn Outbox,
        of_kind: impl Fn(&Connection) -> bool,
    ) {
        let Some(allocation) = self.allocations.get(slot) else { return };
        let ids = allocation.connections().iter().filter(|connection| of_kind(connection));
        let ids: Vec<PeerConnection> = ids.map(|connection| connection.id).collect();
        for id in ids {
            let Some(connection) = self.take_connection(slot, id) else { continue };
            match connection.state {
                State::Connecting { request, .. } => {
                    outbox.close_peer_connection(id);
                    self.answer_connect(&request, Err(Reason::ConnectionFailed), outbox);
                }
                State::Waiting { .. } => outbox.close_peer_connection(id),
                State::Spliced { client, origin } => outbox.close_client(&client, origin),
            }
        }
    }

    fn connection_mut(&mut self, slot: u32, id: PeerConnection) -> Option<&mut Connection> {
        let connections = self.allocations.get_mut(slot)?.tcp.as_mut()?;
        connections.iter_mut().find(|connection| connection.id == id)
    }

    fn take_connection(&mut self, slot: u32, id: PeerConnection) -> Option<Connection> {
        let connections = self.allocations.get_mut(slot)?.tcp.as_mut()?;
        let at = connections.iter().position(|connection| connection.id == id)?;
        let connection = connections.swap_remove(at);
        self.connections.remove(&connection);
        self.stats.connections -= 1;
        Some(connection)
    }
}
