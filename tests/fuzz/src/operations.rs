//! Users who sign what they send: by a model, and with anything at all.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::time::Duration;

use turn::attribute::{AttributeType, Family, PasswordAlgorithm};
use turn::integrity::{Hash, Key};
use turn::message::{Builder, ChannelData, Class, Message, Method, TransactionId};
use turn::{ChannelNumber, Client, Config, Icmp, Origin};

use crate::input::{Input, chunk};
use crate::lab::{Lab, REALM, Sent, USERS, address, client, config};

mod model;

use model::{Model, Op};

/// Most operations of one input.
const STEPS_MAX: usize = 64;

/// One user at one five-tuple; they are different users where the numbers differ by one.
struct User {
    client: Client,
    name: &'static str,
    nonce: Vec<u8>,
}

/// Deriving a key costs more than an operation.
fn key(name: &str) -> Key {
    thread_local! {
        static KEYS: OnceCell<[Key; 2]> = const { OnceCell::new() };
    }
    let long_term =
        |(name, password)| Key::long_term(PasswordAlgorithm::Md5, name, REALM, password);
    KEYS.with(|keys| {
        let keys = keys.get_or_init(|| USERS.map(long_term));
        keys[usize::from(name == USERS[1].0)].clone()
    })
}

struct Run {
    lab: Lab,
    users: Vec<User>,
    transactions: u64,
}

impl Run {
    fn new(config: Config) -> Self {
        let user =
            |at: usize| User { client: client(at), name: USERS[at % 2].0, nonce: Vec::new() };
        Self { lab: Lab::new(config), users: (0..6).map(user).collect(), transactions: 0 }
    }

    fn id(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut id = [0x5a; 12];
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId(id)
    }

    /// Signs and sends a request; what the client is answered, and with which transaction.
    fn ask(
        &mut self,
        at: usize,
        method: Method,
        fill: &dyn Fn(&mut Builder<'_>),
    ) -> (Option<Vec<u8>>, TransactionId) {
        // a 401 teaches the first nonce, a 438 each later one
        for attempt in 1.. {
            let id = self.id();
            let User { client, name, nonce } = &self.users[at];
            let mut out = Vec::new();
            let mut builder = Builder::new(&mut out, Class::Request, method, id);
            fill(&mut builder);
            let key = key(name);
            if !nonce.is_empty() {
                builder.username(name).realm(REALM).nonce(nonce).integrity(&key, Hash::Sha1);
            }
            if builder.finish().is_err() {
                return (None, id);
            }
            let sent = self.lab.datagram(*client, &out);
            let answer = the_answer(*client, sent);
            let told = answer.as_ref().map(|bytes| Message::parse(bytes).expect("we send STUN"));
            let code = told.and_then(|told| told.error_code().ok().flatten());
            match (code.map(|error| error.code.value()), told) {
                // unless there is another NONCE in front of ours
                (Some(438), Some(told)) if attempt < 3 => {
                    learn(&mut self.users[at].nonce, &told);
                }
                (Some(401), Some(told)) if nonce.is_empty() => {
                    learn(&mut self.users[at].nonce, &told);
                }
                (_, told) => {
                    if let Some(told) = told {
                        assert_eq!((told.method(), told.transaction()), (method, id));
                        let signed = told.has_integrity();
                        assert!(!signed || key.verify(&told).is_ok(), "signed with another key");
                    }
                    return (answer, id);
                }
            }
        }
        unreachable!("the third answer is returned, whatever it says")
    }
}

fn learn(nonce: &mut Vec<u8>, told: &Message<'_>) {
    *nonce = told.nonce().ok().flatten().expect("NONCE in a 401 or a 438").to_vec();
}

/// What `client` alone is sent; nothing goes to anybody else, save the end of other clients.
fn the_answer(client: Client, sent: Vec<Sent>) -> Option<Vec<u8>> {
    let mut answers = sent.into_iter().filter_map(|sent| match sent {
        Sent::Client(to, bytes) if to == client => Some(bytes),
        Sent::Closed(_) => None,
        other => panic!("a request makes {other:?}"),
    });
    let answer = answers.next();
    assert!(answers.next().is_none(), "one request, one answer");
    answer
}

fn code(answer: &[u8]) -> u16 {
    let message = Message::parse(answer).expect("we send STUN");
    message.error_code().expect("well-formed").map_or(0, |error| error.code.value())
}

fn peers(relays: &[SocketAddr], input: &mut Input<'_>) -> SocketAddr {
    const POOL: [&str; 7] = [
        "9.9.9.1:1",
        "9.9.9.1:2",
        "9.9.9.2:1",
        "[2620:fe::1]:1",
        "[2620:fe::1]:2",
        "127.0.0.1:1",
        "[::ffff:9.9.9.9]:1",
    ];
    let choice = input.below(POOL.len() + 4);
    match choice.checked_sub(POOL.len()) {
        None => address(POOL[choice]),
        Some(_) if relays.is_empty() => address("93.184.216.10:50003"),
        Some(at) => relays[at % relays.len()],
    }
}

/// Operations against the model: each answer, each forwarded datagram and all that is published.
pub(crate) fn modelled(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut run = Run::new(config());
    let mut model = Model::new(run.lab.now.monotonic);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        step(&mut run, &mut model, &mut input);
        assert_eq!(published(&run.lab), model.routes());
    }
    run.lab.pass(Duration::from_secs(4000), false);
    assert!(run.lab.server.holds_nothing(), "something outlives every lifetime");
}

type Published =
    std::collections::BTreeMap<(Client, u16), (SocketAddr, SocketAddr, Duration, bool)>;

fn published(lab: &Lab) -> Published {
    let routes = lab.host.routes.iter();
    routes.map(|(key, r)| (*key, (r.relay, r.peer, r.expires, r.inner))).collect()
}

fn step(run: &mut Run, model: &mut Model, input: &mut Input<'_>) {
    let (kind, at) = (input.below(16), input.below(3));
    let client = run.users[at].client;
    let relays: Vec<SocketAddr> = model.relays().into_iter().collect();
    let op = match kind {
        0 | 1 => Op::Allocate { v4: input.below(4) != 0, v6: input.below(4) == 0 },
        2 => Op::Refresh {
            family: [None, None, Some(false), Some(true)][input.below(4)],
            secs: [0, 1, 700, 3600, 9999][input.below(5)],
        },
        3 | 4 => Op::Permit((0..input.below(4)).map(|_| peers(&relays, input)).collect()),
        5..=8 => Op::Bind(0x4000 + input.below(4) as u16, peers(&relays, input)),
        9 | 10 => {
            let peer = peers(&relays, input);
            let id = run.id();
            let mut out = Vec::new();
            let mut builder = Builder::new(&mut out, Class::Indication, Method::SEND, id);
            builder.xor_peer_address(peer).data(b"data");
            builder.finish().expect("it fits");
            let sent = run.lab.datagram(client, &out);
            assert_eq!(to_peer(sent), model.send(client, peer).map(|relay| (relay, peer)));
            return;
        }
        11 => {
            let number = 0x4000 + input.below(4) as u16;
            let channel = ChannelNumber::new(number).expect("in the range");
            let bytes = [&ChannelData::header(channel, 4)[..], b"data"].concat();
            let sent = run.lab.datagram(client, &bytes);
            assert_eq!(to_peer(sent), model.channel_data(client, number));
            return;
        }
        12 => {
            let peer = peers(&relays, input);
            let relay =
                relays.get(input.below(8)).copied().unwrap_or(address("93.184.216.10:50009"));
            let sent = run.lab.input(turn::Input::Peer { relay, peer, bytes: b"data" });
            assert_eq!(to_client(sent), model.by_peer(relay, peer), "{peer} to {relay}");
            return;
        }
        13 | 14 => {
            let time = Duration::from_millis(u64::from(input.u16()) * 10);
            run.lab.pass(time, kind == 14);
            model.advance(run.lab.now.monotonic);
            return;
        }
        _ => {
            let full = input.byte();
            (run.lab.host.no_ports, run.lab.host.no_routes) = (full & 1 != 0, full & 2 != 0);
            (model.no_ports, model.no_routes) = (full & 1 != 0, full & 2 != 0);
            return;
        }
    };
    let (answer, _) = run.ask(at, op.method(), &|b| op.write(b));
    let answer = answer.expect("a request is answered");
    let predicted = model.predict(client, &op);
    assert_eq!(code(&answer), predicted, "{op:?}");
    if predicted == 0 {
        let message = Message::parse(&answer).expect("we send STUN");
        let made: Vec<_> =
            message.xor_relayed_addresses().map(|a| a.expect("well-formed")).collect();
        model.apply(client, &op, &made);
    }
}

fn to_peer(sent: Vec<Sent>) -> Option<(SocketAddr, SocketAddr)> {
    match sent.as_slice() {
        [] => None,
        [Sent::Peer { relay, peer, bytes }] => {
            assert_eq!(bytes, b"data");
            Some((*relay, *peer))
        }
        other => panic!("one datagram makes {other:?}"),
    }
}

/// 0 for a Data indication, or the channel.
fn to_client(sent: Vec<Sent>) -> Option<(Client, u16)> {
    match sent.as_slice() {
        [] => None,
        [Sent::Client(to, bytes)] => Some(match ChannelData::parse(bytes) {
            Some(message) => {
                assert_eq!(message.data, b"data");
                (*to, message.channel.number())
            }
            None => {
                let message = Message::parse(bytes).expect("a Data indication");
                assert_eq!(message.data(), Some(&b"data"[..]));
                (*to, 0)
            }
        }),
        other => panic!("one datagram makes {other:?}"),
    }
}

impl Op {
    fn method(&self) -> Method {
        match self {
            Op::Allocate { .. } => Method::ALLOCATE,
            Op::Refresh { .. } => Method::REFRESH,
            Op::Permit(_) => Method::CREATE_PERMISSION,
            Op::Bind(..) => Method::CHANNEL_BIND,
        }
    }

    fn write(&self, builder: &mut Builder<'_>) {
        let family = |v6: bool| if v6 { Family::V6 } else { Family::V4 };
        match self {
            Op::Allocate { v4, v6 } => {
                builder.requested_transport(17);
                match (v4, v6) {
                    (true, true) => _ = builder.additional_address_family(Family::V6),
                    (true, false) => {}
                    (false, _) => _ = builder.requested_address_family(Family::V6),
                }
            }
            Op::Refresh { family: only, secs } => {
                builder.lifetime_secs(*secs);
                only.inspect(|v6| _ = builder.requested_address_family(family(*v6)));
            }
            Op::Permit(peers) => peers.iter().for_each(|peer| _ = builder.xor_peer_address(*peer)),
            Op::Bind(number, peer) => {
                let channel = ChannelNumber::new(*number).expect("in the range");
                builder.channel_number(channel).xor_peer_address(*peer);
            }
        }
    }
}

/// Any methods with any attributes, rightly signed, over every transport, with peers that connect
/// and go: no panic, one answer, and host and server always agree.
pub(crate) fn signed(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let config = Config {
        tcp_relay: true,
        mobility: true,
        username_anonymity: true,
        software: Some("fuzz".into()),
        ..config()
    };
    let mut run = Run::new(config);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        anything(&mut run, &mut input);
    }
    for at in 0..6 {
        run.lab.input(turn::Input::Gone { client: client(at), origin: Origin(0) });
    }
    run.lab.pass(Duration::from_secs(8000), false);
    assert!(run.lab.server.holds_nothing(), "something outlives every lifetime");
    assert!(run.lab.host.connections.is_empty(), "connections outlive their allocation");
}

fn anything(run: &mut Run, input: &mut Input<'_>) {
    let relays: Vec<SocketAddr> =
        run.lab.host.ports.keys().chain(run.lab.host.listeners.keys()).copied().collect();
    let relay = relays.get(input.below(8)).copied().unwrap_or(address("93.184.216.10:50009"));
    match input.below(16) {
        0..=8 => {
            let at = input.below(6);
            // Allocate to ConnectionAttempt, and any other
            let method = match input.byte() {
                number @ 0..=15 => Method::new(number.into()),
                _ => Method::new(input.u16() & 0xfff),
            };
            let attributes = attributes(input, &relays);
            run.ask(at, method.expect("12 bits"), &|builder| {
                for (kind, value) in &attributes {
                    builder.attribute(*kind, value);
                }
            });
        }
        9 => {
            let client = client(input.below(6));
            let bytes = input.chunk();
            run.lab.datagram(client, bytes);
        }
        10 => {
            let peer = peers(&relays, input);
            run.lab.input(turn::Input::Peer { relay, peer, bytes: b"data" });
        }
        11 => {
            let icmp = Icmp { kind: input.byte(), code: input.byte(), data: input.u16().into() };
            let peer = peers(&relays, input);
            run.lab.input(turn::Input::Unreachable { relay, peer, icmp });
        }
        12 => {
            let peer = peers(&relays, input);
            // a connection comes in only where somebody listens
            if run.lab.host.listeners.contains_key(&relay) {
                run.lab.accept(relay, peer);
            }
        }
        13 => _ = run.lab.connected(input.below(2) == 0),
        14 => match input.below(3) {
            0 => _ = run.lab.peer_closes(),
            1 => {
                let client = client(3 + input.below(3));
                run.lab.input(turn::Input::Gone { client, origin: Origin(0) });
            }
            _ => {
                let full = input.byte();
                (run.lab.host.no_ports, run.lab.host.no_routes) = (full & 1 != 0, full & 2 != 0);
            }
        },
        _ => {
            let time = Duration::from_millis(u64::from(input.u16()) * 10);
            run.lab.pass(time, input.below(2) == 0);
        }
    }
}

/// Up to seven attributes: known ones with likely values, and any with any value.
fn attributes(input: &mut Input<'_>, relays: &[SocketAddr]) -> Vec<(AttributeType, Vec<u8>)> {
    let count = input.below(8);
    let one = |input: &mut Input<'_>| {
        let likely = input.byte();
        let known = AttributeType::KNOWN[usize::from(likely) % AttributeType::KNOWN.len()];
        match likely {
            0..=59 => (AttributeType::REQUESTED_TRANSPORT, vec![[17, 6][input.below(2)], 0, 0, 0]),
            60..=119 => {
                let value = peer_value(peers(relays, input));
                (AttributeType::XOR_PEER_ADDRESS, value)
            }
            120..=149 => (AttributeType::CHANNEL_NUMBER, vec![0x40, input.byte() % 8, 0, 0]),
            150..=169 => (AttributeType::LIFETIME, input.array::<4>().to_vec()),
            170..=229 => {
                let size = input.below(48);
                (known, input.take(size).to_vec())
            }
            _ => {
                let (kind, size) = (AttributeType(input.u16()), input.below(48));
                (kind, input.take(size).to_vec())
            }
        }
    };
    (0..count).map(|_| one(input)).collect()
}

/// XOR-PEER-ADDRESS of an IPv4 peer, or an IPv6 one whose upper bytes the transaction blurs: the
/// first four of the sixteen are right, which is enough to be of the right family.
fn peer_value(peer: SocketAddr) -> Vec<u8> {
    let id = TransactionId([0; 12]);
    let mut out = Vec::new();
    let mut builder = Builder::new(&mut out, Class::Request, Method::ALLOCATE, id);
    builder.xor_peer_address(peer);
    builder.finish().expect("one address");
    out[24..].to_vec()
}

pub(crate) fn modelled_seeds() -> Vec<Vec<u8>> {
    let call: &[u8] = &[
        0, 0, 1, 1, 1, 1, 0, 0, 3, 0, 2, 0, 3, 5, 0, 0, 0, 6, 0, 1, 3, 9, 0, 0, 11, 0, 0, 12, 0, 0,
        0, 13, 0, 0x75, 0x30, 5, 0, 0, 0, 2, 0, 0, 2, 13, 0, 0xff, 0xff, 2, 0, 0, 0,
    ];
    let inner: &[u8] =
        &[0, 0, 1, 1, 0, 2, 1, 1, 5, 0, 0, 8, 5, 2, 0, 7, 11, 0, 0, 2, 2, 0, 0, 11, 0, 0];
    let full: &[u8] =
        &[15, 0, 1, 0, 0, 1, 1, 15, 0, 2, 0, 0, 1, 1, 5, 0, 0, 0, 15, 0, 0, 14, 0, 9, 9];
    [call, inner, full].map(<[u8]>::to_vec).into()
}

pub(crate) fn signed_seeds() -> Vec<Vec<u8>> {
    let allocate: &[u8] = &[0, 0, 0, 3, 1, 0, 0];
    let tcp: &[u8] = &[0, 0, 3, 3, 1, 0, 1];
    let permit: &[u8] = &[0, 0, 0, 8, 1, 60, 0];
    let bind: &[u8] = &[0, 0, 0, 9, 2, 120, 0, 60, 0];
    let connect: &[u8] = &[0, 0, 3, 10, 1, 60, 0, 0, 13, 0, 0, 12, 0];
    let refresh: &[u8] = &[0, 0, 0, 4, 1, 150, 0, 0, 0, 0];
    let raw = [&[0, 9, 0][..], &chunk(b"\x40\0\0\x04data")].concat();
    let icmp: &[u8] = &[0, 11, 3, 4, 5, 0, 0];
    vec![
        [allocate, permit, bind, &raw, icmp, refresh].concat(),
        [tcp, &[0, 0, 3, 8, 1, 60, 0], connect, &[0, 15, 9, 9, 0]].concat(),
    ]
}
