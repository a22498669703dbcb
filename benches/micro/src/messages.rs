//! Messages to a server with nobody around it: parsed, checked, answered.

use std::net::SocketAddr;
use std::time::Duration;

use turn::attribute::PasswordAlgorithm;
use turn::integrity::{Hash, Key};
use turn::message::{Builder, Class, Message, Method, TransactionId};
use turn::{
    ChannelNumber, ChannelRoute, Client, Config, Credentials, Input, Now, Origin, Outbox,
    PeerConnection, Permit, PortRefusal, RelayAddress, RouteRefusal, Seeded, Server, Transport,
};

const REALM: &str = "example.org";
const USER: &str = "alice";
const PASSWORD: &str = "a password";

/// Takes everything, does nothing, and keeps the last answer's size.
#[derive(Default)]
struct Nobody {
    answer: Vec<u8>,
}

impl Outbox for Nobody {
    fn open_port(&mut self, _: SocketAddr, _: &Client, _: Origin) -> Result<(), PortRefusal> {
        Ok(())
    }
    fn close_port(&mut self, _: SocketAddr) {}
    fn move_port(&mut self, _: SocketAddr, _: &Client, _: Origin) -> Result<(), PortRefusal> {
        Ok(())
    }
    fn add_route(&mut self, _: &ChannelRoute) -> Result<(), RouteRefusal> {
        Ok(())
    }
    fn remove_route(&mut self, _: &ChannelRoute) {}
    fn permit(&mut self, _: &Permit) {}
    fn forbid(&mut self, _: &Permit) {}
    fn to_client(&mut self, _: &Client, _: Origin, bytes: &[u8]) {
        self.answer.clear();
        self.answer.extend_from_slice(bytes);
    }
    fn to_peer(&mut self, _: SocketAddr, _: SocketAddr, _: &[u8], _: bool) {}
    fn close_client(&mut self, _: &Client, _: Origin) {}
    fn open_listener(&mut self, _: SocketAddr, _: &Client, _: Origin) -> Result<(), PortRefusal> {
        Ok(())
    }
    fn close_listener(&mut self, _: SocketAddr) {}
    fn connect(&mut self, _: PeerConnection, _: SocketAddr, _: SocketAddr) {}
    fn splice(&mut self, _: PeerConnection, _: &Client, _: Origin) {}
    fn close_peer_connection(&mut self, _: PeerConnection) {}
}

/// A server, one client of it, and the client's messages, made once.
pub struct Desk {
    server: Server,
    nobody: Nobody,
    now: Now,
    client: Client,
    key: Key,
    nonce: Vec<u8>,
}

impl Desk {
    /// A server without allocations, and a client that knows a nonce.
    pub fn new() -> Self {
        let relay = RelayAddress::plain([93, 184, 216, 10].into());
        let mut credentials = Credentials::new(REALM).expect("a realm");
        credentials.add_user(USER, PASSWORD).expect("a user");
        let now = Now { monotonic: Duration::from_secs(1000), unix: Duration::from_secs(1 << 31) };
        let config = Config { relays: vec![relay], ..Config::default() };
        let server = Server::new(config, credentials, Box::new(Seeded::new(1)), now);
        let client = Client {
            remote: ([81, 2, 3, 4], 5000).into(),
            local: ([93, 184, 216, 10], 3478).into(),
            transport: Transport::Udp,
        };
        let key = Key::long_term(PasswordAlgorithm::Md5, USER, REALM, PASSWORD);
        let mut desk =
            Self { server, nobody: Nobody::default(), now, client, key, nonce: Vec::new() };
        let stranger = message(Method::ALLOCATE, |b| _ = b.requested_transport(17));
        desk.handle(&stranger);
        let answer = Message::parse(&desk.nobody.answer).expect("a 401");
        desk.nonce = answer.nonce().expect("well-formed").expect("a 401 has a nonce").to_vec();
        desk
    }

    /// The same with an allocation, and a channel bound to a peer.
    pub fn allocated() -> Self {
        let mut desk = Self::new();
        desk.succeed(&desk.allocate());
        desk.succeed(&desk.channel_bind());
        desk
    }

    /// Hands a datagram over; the size of the answer.
    #[inline]
    pub fn handle(&mut self, bytes: &[u8]) -> usize {
        self.nobody.answer.clear();
        let input = Input::Client { client: self.client, origin: Origin(0), bytes };
        self.server.handle(self.now, input, &mut self.nobody);
        self.nobody.answer.len()
    }

    /// The same, where anything but success is a mistake.
    pub fn succeed(&mut self, bytes: &[u8]) {
        self.handle(bytes);
        let answer = Message::parse(&self.nobody.answer).expect("an answer");
        assert_eq!(answer.class(), Class::Success, "{:?}", answer.error_code());
    }

    /// A Binding request: a bare header.
    pub fn binding(&self) -> Vec<u8> {
        message(Method::BINDING, |_| {})
    }

    /// Asks for an IPv4 allocation.
    pub fn allocate(&self) -> Vec<u8> {
        self.signed(Method::ALLOCATE, |b| _ = b.requested_transport(17))
    }

    /// Refreshes the allocation for ten minutes.
    pub fn refresh(&self) -> Vec<u8> {
        self.signed(Method::REFRESH, |b| _ = b.lifetime_secs(600))
    }

    /// Ends the allocation.
    pub fn delete(&self) -> Vec<u8> {
        self.signed(Method::REFRESH, |b| _ = b.lifetime_secs(0))
    }

    /// Binds, or refreshes, the channel.
    pub fn channel_bind(&self) -> Vec<u8> {
        self.signed(Method::CHANNEL_BIND, |b| {
            b.channel_number(ChannelNumber::MIN).xor_peer_address(([9, 9, 9, 9], 9000).into());
        })
    }

    /// A Send indication with 160 bytes for the peer.
    pub fn send(&self) -> Vec<u8> {
        let id = TransactionId([7; 12]);
        let mut out = Vec::new();
        let mut builder = Builder::new(&mut out, Class::Indication, Method::SEND, id);
        builder.xor_peer_address(([9, 9, 9, 9], 9000).into()).data(&[0xc5; 160]);
        builder.finish().expect("it fits");
        out
    }

    fn signed(&self, method: Method, fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
        message(method, |b| {
            fill(b);
            b.username(USER).realm(REALM).nonce(&self.nonce);
            b.integrity(&self.key, Hash::Sha1);
        })
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

fn message(method: Method, fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = Builder::new(&mut out, Class::Request, method, TransactionId([7; 12]));
    fill(&mut builder);
    builder.finish().expect("it fits");
    out
}

/// A Refresh of 148 bytes or so as clients send them, signed with this hash, and its key.
pub fn signed_refresh(hash: Hash) -> (Vec<u8>, Key) {
    let key = Key::long_term(PasswordAlgorithm::Md5, USER, REALM, PASSWORD);
    key.warm();
    let bytes = message(Method::REFRESH, |b| {
        b.lifetime_secs(600).username(USER).realm(REALM).nonce(&[b'n'; 40]);
        b.integrity(&key, hash).fingerprint();
    });
    (bytes, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_answered_as_often_as_it_is_measured() {
        let mut desk = Desk::allocated();
        let messages = [desk.binding(), desk.refresh(), desk.channel_bind(), desk.refresh()];
        messages.iter().for_each(|bytes| desk.succeed(bytes));
        assert_eq!(desk.handle(&desk.send()), 0, "an indication is not answered");
        for _ in 0..3 {
            desk.succeed(&desk.delete());
            desk.succeed(&desk.allocate());
        }
    }

    #[test]
    fn the_signed_message_is_good() {
        for hash in [Hash::Sha1, Hash::Sha256] {
            let (bytes, key) = signed_refresh(hash);
            assert_eq!(key.verify(&Message::parse(&bytes).unwrap()), Ok(hash));
        }
    }
}
