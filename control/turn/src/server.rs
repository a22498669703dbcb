//! The server: one datagram, or one tick, at a time.
//!
//! ```text
//!  Input::Client ─> source ─> ChannelData ──────────────────────────────> relay
//!                       └──> STUN ─> Send indication ────────────────────> relay
//!                               └─> Binding
//!                               └─> authenticate ─> allocate, refresh, permit, bind
//!  Input::Peer ──────────────────────────────────────────────────────────> relay
//!  every input ──> expire what is due
//! ```
//!
//! Nothing is kept for a client before it has authenticated, and so has shown that it receives what
//! is sent to its address. What is refused has a [`Reason`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::allocation::{AllocationView, Allocations};
use crate::attribute::{ChannelNumber, PasswordAlgorithm, TEXT_WRITE_MAX};
use crate::config::{Alternate, Config, NatDiscovery};
use crate::credentials::Credentials;
use crate::limits::{Budgets, Limits, Quota};
use crate::message::Message;
use crate::nonce::{Nonces, SecurityFeatures};
use crate::outbox::{Client, Input, Now, Origin, Outbox};
use crate::policy::{Own, Policy};
use crate::ports::{Relays, Reservations};
use crate::random::Random;
use crate::stats::{Reason, Stats};
use crate::ticket::Tickets;
use crate::timers::Timers;

mod allocate;
mod answer;
mod authenticate;
mod connect;
mod discovery;
mod expire;
mod gone;
mod mobility;
mod permit;
mod permits;
mod receive;
mod redirect;
mod refresh;
mod relay;
mod routes;
mod unreachable;
mod wish;

use authenticate::Signer;
use connect::ConnectionIndex;

/// How many expired allocations and reservations one call takes care of, at most: a burst of them
/// must not hold up the datagrams. Until its turn comes, an expired one is treated as gone.
const EXPIRE_MAX: usize = 256;

/// A TURN server. See the crate's documentation.
pub struct Server {
    limits: Limits,
    lifetime_default: Duration,
    lifetime_max: Duration,
    credentials: Credentials,
    /// What PASSWORD-ALGORITHMS lists.
    offered: &'static [PasswordAlgorithm],
    nonces: Nonces,
    /// Nonces without features, for a 401 that has no room for PASSWORD-ALGORITHMS.
    plain_nonces: Nonces,
    policy: Policy,
    own: Own,
    relays: Relays,
    reservations: Reservations,
    allocations: Allocations,
    timers: Timers,
    /// The channels that are bound to addresses of our own: their routes go with the address.
    own_peers: HashMap<SocketAddr, Vec<(u32, ChannelNumber)>>,
    /// TCP connections to peers, with the slots of their allocations.
    connections: ConnectionIndex,
    tcp_relay: bool,
    mobility: bool,
    tickets: Tickets,
    alternates: Vec<Alternate>,
    redirect: bool,
    discovery: Vec<NatDiscovery>,
    discovery_budgets: Budgets,
    /// SOFTWARE in answers to authenticated requests.
    software: Option<String>,
    users: Quota<Box<str>>,
    prefixes: Quota<IpAddr>,
    budgets: Budgets,
    /// When the server was made: the buckets' origin of time.
    started: Duration,
    random: Box<dyn Random + Send>,
    /// No new allocations are made.
    draining: bool,
    stats: Stats,
    /// Where datagrams are built; reused.
    out: Vec<u8>,
}

/// Who sent a datagram.
#[derive(Debug, Clone, Copy)]
struct Sender {
    client: Client,
    origin: Origin,
}

/// An authenticated request.
#[derive(Clone, Copy)]
struct Ask<'a> {
    now: Duration,
    unix: Duration,
    sender: Sender,
    message: &'a Message<'a>,
    signer: &'a Signer,
}

impl Server {
    /// A server without allocations. `random` must be the operating system's outside of tests.
    pub fn new(
        config: Config,
        credentials: Credentials,
        mut random: Box<dyn Random + Send>,
        now: Now,
    ) -> Self {
        let key = config.nonce_key.unwrap_or_else(|| key_of(&mut random));
        let features = SecurityFeatures {
            password_algorithms: true,
            username_anonymity: config.username_anonymity && credentials.allows_anonymity(),
        };
        let relay_ips: Vec<IpAddr> = config.relays.iter().map(|relay| relay.local).collect();
        let (budget, discovery) = (config.limits.unauthenticated, config.limits.nat_discovery);
        Self {
            lifetime_default: config.lifetime_default.min(config.lifetime_max),
            lifetime_max: config.lifetime_max,
            offered: credentials.password_algorithms(),
            credentials,
            nonces: Nonces::new(&key, config.nonce_lifetime, features),
            plain_nonces: Nonces::new(&key, config.nonce_lifetime, SecurityFeatures::default()),
            policy: config.policy,
            own: Own::new(&config.services, &config.local_addresses, &relay_ips),
            relays: Relays::new(&config.relays, &config.ports),
            reservations: Reservations::default(),
            allocations: Allocations::default(),
            timers: Timers::default(),
            own_peers: HashMap::new(),
            connections: ConnectionIndex::default(),
            tcp_relay: config.tcp_relay,
            mobility: config.mobility,
            alternates: config.alternates,
            redirect: config.redirect,
            discovery: config.nat_discovery,
            discovery_budgets: Budgets::new(discovery, now.monotonic, &mut random),
            tickets: Tickets::new(&key_of(&mut random)),
            software: config.software.filter(|software| software.len() <= TEXT_WRITE_MAX),
            users: Quota::default(),
            prefixes: Quota::default(),
            budgets: Budgets::new(budget, now.monotonic, &mut random),
            started: now.monotonic,
            random,
            draining: false,
            stats: Stats::default(),
            out: Vec::new(),
            limits: config.limits,
        }
    }

    /// Takes one input and calls the outbox with what follows from it. Time must not run backwards.
    pub fn handle(&mut self, now: Now, input: Input<'_>, outbox: &mut dyn Outbox) {
        self.expire(now.monotonic, outbox);
        let done = match input {
            Input::Client { client, origin, bytes } => {
                let client = without_flow_label(client);
                let done = self.client_datagram(now, Sender { client, origin }, bytes, outbox);
                if client.transport.is_stream() && done.is_err_and(ends_the_stream) {
                    outbox.close_client(&client, origin);
                }
                done
            }
            Input::Peer { relay, peer, bytes } => {
                self.peer_datagram(now.monotonic, relay, peer, bytes, outbox)
            }
            Input::Gone { client, .. } => {
                self.gone(now.monotonic, &without_flow_label(client), outbox);
                Ok(())
            }
            Input::Unreachable { relay, peer, icmp } => {
                self.unreachable(now.monotonic, (relay, peer), icmp, outbox)
            }
            Input::Connected { id, result } => self.connected(now.monotonic, id, result, outbox),
            Input::Accepted { relay, peer, id } => {
                let done = self.accepted(now.monotonic, relay, peer, id, outbox);
                if done.is_err() {
                    outbox.close_peer_connection(id);
                }
                done
            }
            Input::PeerClosed { id } => self.peer_closed(now.monotonic, id),
            Input::Timer => Ok(()),
        };
        if let Err(reason) = done {
            self.stats.refused[reason] += 1;
        }
    }

    /// When [`Input::Timer`] is due (monotonic). It moves with every input.
    pub fn deadline(&self) -> Option<Duration> {
        let (timer, reservation) = (self.timers.next(), self.reservations.next_expiry());
        timer.into_iter().chain(reservation).min()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Relay ports that are free now, on all addresses.
    pub fn ports_free(&self) -> usize {
        self.relays.free_len()
    }

    /// The realm that clients are asked to authenticate for.
    pub fn realm(&self) -> &str {
        self.credentials.realm()
    }

    /// Every allocation, in no particular order.
    pub fn allocations(&self) -> impl Iterator<Item = AllocationView<'_>> {
        self.allocations.iter().map(AllocationView)
    }

    /// The allocation of a five-tuple.
    pub fn allocation(&self, client: &Client) -> Option<AllocationView<'_>> {
        let slot = self.allocations.slot_of(client)?;
        self.allocations.get(slot).map(AllocationView)
    }

    /// Takes other users and secrets. Live allocations go on under the credentials that made them.
    pub fn replace_credentials(&mut self, credentials: Credentials) {
        self.offered = credentials.password_algorithms();
        self.credentials = credentials;
    }

    /// Uses another key for nonces from now on; those under the one before stay good in their time.
    pub fn rotate_nonce_key(&mut self, key: &[u8; 32]) {
        self.nonces.rotate(key);
        self.plain_nonces.rotate(key);
    }

    /// Whether anything of ours is counted or held for anybody (for tests of leaks).
    #[doc(hidden)]
    pub fn holds_nothing(&self) -> bool {
        self.allocations.is_empty()
            && self.timers.is_empty()
            && self.own.relayed_len() == 0
            && self.own_peers.is_empty()
            && self.connections.is_empty()
            && self.users.len() == 0
            && self.prefixes.len() == 0
            && self.reservations.len() == 0
    }

    /// Counts a refusal that is answered or that has no datagram of its own.
    fn count(&mut self, reason: Reason) {
        self.stats.refused[reason] += 1;
    }
}

fn key_of(random: &mut dyn Random) -> [u8; 32] {
    let mut key = [0; 32];
    random.fill(&mut key);
    key
}

/// The flow label is not part of an address.
fn without_flow_label(mut client: Client) -> Client {
    if let SocketAddr::V6(remote) = &mut client.remote {
        remote.set_flowinfo(0);
    }
    client
}

/// What is neither STUN nor ChannelData ends a stream: who speaks another protocol, or has lost the
/// frames' beginning, will not find it again.
fn ends_the_stream(reason: Reason) -> bool {
    matches!(reason, Reason::NotStun | Reason::Malformed | Reason::ChannelMalformed)
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("realm", &self.realm())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
