//! A server, an outbox and a clock.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turn::message::{Builder, Class, Message, Method, TransactionId};
use turn::{
    Client, Config, Credentials, Input, Now, Origin, RelayAddress, Seeded, Server, Transport,
};

use crate::wire::{Event, Wire};

pub(crate) const REALM: &str = "turnwire";
pub(crate) const SECRET: &[u8] = b"a shared secret";
pub(crate) const RELAY_V4: &str = "93.184.216.10";
pub(crate) const RELAY_V6: &str = "2a02:100::10";
/// Long past 2020, and not a whole second.
pub(crate) const UNIX_START: Duration = Duration::from_millis(1_800_000_000_250);

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// The five-tuple of the n-th client; all are of different /24 networks.
pub(crate) fn client(n: u16) -> Client {
    let [high, low] = n.to_be_bytes();
    let remote = SocketAddr::from(([81, high, low, 7], 5000));
    Client { remote, local: address("93.184.216.10:3478"), transport: Transport::Udp }
}

pub(crate) fn client_v6(n: u16) -> Client {
    let remote = SocketAddr::new([0x2a03, 0x100, n, 0, 0, 0, 0, 7].into(), 5000);
    Client { remote, local: address("[2a02:100::10]:3478"), transport: Transport::Udp }
}

/// The same addresses over another transport.
pub(crate) fn over(transport: Transport, client: Client) -> Client {
    Client { transport, ..client }
}

pub(crate) fn config() -> Config {
    let plain = |ip: &str| RelayAddress::plain(ip.parse().unwrap());
    Config {
        relays: vec![plain(RELAY_V4), plain(RELAY_V6)],
        services: vec![
            address("93.184.216.10:3478"),
            address("[2a02:100::10]:3478"),
            address("127.0.0.1:9641"),
        ],
        ..Config::default()
    }
}

pub(crate) fn credentials() -> Credentials {
    let mut credentials = Credentials::new(REALM).unwrap();
    for user in ["alice", "bob"] {
        credentials.add_user(user, &format!("{user}'s password")).unwrap();
    }
    credentials.add_rest_secret(SECRET).unwrap();
    credentials
}

pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) wire: Wire,
    pub(crate) now: Now,
    transactions: u64,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::seeded(config, 1)
    }

    pub(crate) fn seeded(config: Config, seed: u64) -> Self {
        Self::with_credentials(config, credentials(), seed)
    }

    pub(crate) fn with_credentials(config: Config, credentials: Credentials, seed: u64) -> Self {
        let now = Now { monotonic: Duration::from_secs(1_000), unix: UNIX_START };
        let random = Box::new(Seeded::new(seed));
        let server = Server::new(config, credentials, random, now);
        Self { server, wire: Wire::default(), now, transactions: 0 }
    }

    /// Lets time pass as a driver does: the timer is given at each deadline.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.monotonic + time;
        while let Some(deadline) = self.server.deadline().filter(|&deadline| deadline <= until) {
            let step = deadline.saturating_sub(self.now.monotonic);
            self.step(step);
            self.server.handle(self.now, Input::Timer, &mut self.wire);
        }
        self.step(until - self.now.monotonic);
    }

    pub(crate) fn pass_secs(&mut self, secs: u64) {
        self.pass(Duration::from_secs(secs));
    }

    /// Lets time pass without a timer: a driver that comes late.
    pub(crate) fn step(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.unix += time;
    }

    pub(crate) fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut id = [0x5a; 12];
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId(id)
    }

    /// Hands a datagram over and returns what followed.
    pub(crate) fn input(&mut self, client: Client, bytes: &[u8]) -> Vec<Event> {
        self.wire.take();
        let input = Input::Client { client, origin: Origin(client.remote.port()), bytes };
        self.server.handle(self.now, input, &mut self.wire);
        self.wire.take()
    }

    /// The one answer to the sender, or none. Nothing is sent anywhere else.
    pub(crate) fn answer(&mut self, client: Client, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut sent = Vec::new();
        for event in self.input(client, bytes) {
            match event {
                Event::ToClient(to, bytes) => {
                    assert_eq!(to, client, "somebody else is answered");
                    sent.push(bytes);
                }
                Event::ToPeer { .. } => panic!("a request makes no data"),
                _ => {}
            }
        }
        assert!(sent.len() <= 1, "one datagram, one answer");
        sent.pop()
    }

    /// A peer's datagram; returns what the client is sent.
    pub(crate) fn by_peer(
        &mut self,
        relay: SocketAddr,
        peer: SocketAddr,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        self.wire.take();
        self.server.handle(self.now, Input::Peer { relay, peer, bytes }, &mut self.wire);
        match datagrams(self.wire.take()).as_slice() {
            [] => None,
            [Event::ToClient(_, bytes)] => Some(bytes.clone()),
            other => panic!("a peer's datagram makes at most one: {other:?}"),
        }
    }

    /// A message without credentials.
    pub(crate) fn plain(
        &mut self,
        class: Class,
        method: Method,
        fill: impl FnOnce(&mut Builder<'_>),
    ) -> Vec<u8> {
        let id = self.transaction();
        let mut bytes = Vec::new();
        let mut builder = Builder::new(&mut bytes, class, method, id);
        fill(&mut builder);
        builder.finish().unwrap();
        bytes
    }

    /// A Send indication; what the peer is sent: relay, data, DF.
    pub(crate) fn send(
        &mut self,
        client: Client,
        peer: SocketAddr,
        data: &[u8],
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let bytes = self.plain(Class::Indication, Method::SEND, |b| {
            b.xor_peer_address(peer).data(data);
        });
        to_peer(self.input(client, &bytes), peer)
    }

    /// ChannelData; what the peer is sent.
    pub(crate) fn channel_data(
        &mut self,
        client: Client,
        channel: u16,
        data: &[u8],
    ) -> Option<(SocketAddr, SocketAddr)> {
        let mut bytes = channel.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(data);
        match datagrams(self.input(client, &bytes)).as_slice() {
            [] => None,
            [Event::ToPeer { relay, peer, bytes, dont_fragment: false }] => {
                assert_eq!(bytes, data);
                Some((*relay, *peer))
            }
            other => panic!("ChannelData makes at most one datagram: {other:?}"),
        }
    }

    pub(crate) fn refused(&self, reason: turn::Reason) -> u64 {
        self.server.stats().refused[reason]
    }
}

/// The datagrams among the events: a late input also ends what has expired.
fn datagrams(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| matches!(event, Event::ToClient(..) | Event::ToPeer { .. }));
    events
}

fn to_peer(events: Vec<Event>, to: SocketAddr) -> Option<(SocketAddr, Vec<u8>)> {
    match datagrams(events).as_slice() {
        [] => None,
        [Event::ToPeer { relay, peer, bytes, .. }] => {
            assert_eq!(*peer, to);
            Some((*relay, bytes.clone()))
        }
        other => panic!("an indication makes at most one datagram: {other:?}"),
    }
}

/// The error code of a response; `None` for success.
pub(crate) fn code(bytes: &[u8]) -> Option<u16> {
    let message = Message::parse(bytes).expect("the server sends well-formed STUN");
    match message.class() {
        Class::Success => None,
        Class::Error => Some(message.error_code().unwrap().expect("a code").code.value()),
        other => panic!("no response: {other:?}"),
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}
