//! M1: random operations against a reference model. After each step the published routes, the open
//! ports and the gauges are what the model says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use turn::attribute::Family;
use turn::message::{Builder, Class, Message, Method};
use turn::{
    ChannelNumber, Client, Config, ConnectRefusal, Icmp, Input, Origin, PeerConnection, Reason,
    Seeded, Server, Transport,
};

use crate::lab::{Lab, address, client, client_v6, code, config, credentials, ip, over};
use crate::user::{Mode, User};
use crate::wire::{Event, Wire};

mod extensions;
mod reference;

use reference::{CONNECTIONS_MAX, Model, Op};

const STEPS: usize = 100_000;
const KINDS: usize = 36;

/// A request as it was sent, to be sent again.
#[derive(Clone)]
struct Sent {
    user: User,
    bytes: Vec<u8>,
    op: Op,
}

struct Run {
    lab: Lab,
    model: Model,
    random: Seeded,
    users: Vec<User>,
    sent: Vec<Sent>,
    tokens: Vec<[u8; 8]>,
    rotations: u32,
    /// When each nonce was issued: after how many rotations of the key, and at what time.
    nonces: BTreeMap<Vec<u8>, (u32, Duration)>,
    /// CONNECTION-IDs, good and bad.
    publics: Vec<u32>,
    /// Of data connections: each has its own port.
    last_port: u16,
    crashes: u64,
    /// How often each kind of step was taken, and each code was seen.
    kinds: [u32; KINDS],
    codes: BTreeMap<u16, u32>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let config = model_config();
        let mut users: Vec<User> = Vec::new();
        for n in 0..10 {
            let (name, mode) = [("alice", Mode::Legacy), ("bob", Mode::Modern)][usize::from(n % 2)];
            let at = if n < 8 { client(n) } else { client_v6(n) };
            let transport = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls];
            users.push(User::new(name, over(transport[usize::from(n) / 2 % 4], at), mode));
        }
        let model = Model {
            own: [ip(crate::lab::RELAY_V4), ip(crate::lab::RELAY_V6)].into(),
            services: config.services.iter().copied().collect(),
            ..Model::default()
        };
        Self {
            lab: Lab::seeded(config, seed),
            model,
            random: Seeded::new(seed),
            users,
            sent: Vec::new(),
            tokens: Vec::new(),
            rotations: 0,
            publics: vec![7],
            last_port: 10_000,
            crashes: 0,
            nonces: BTreeMap::new(),
            kinds: [0; KINDS],
            codes: BTreeMap::new(),
        }
    }

    fn peer(&mut self) -> SocketAddr {
        let relays: Vec<SocketAddr> = self.model.relays().into_iter().collect();
        let pool = [
            "9.9.9.1:1",
            "9.9.9.1:2",
            "9.9.9.2:1",
            "8.8.8.1:1",
            "8.8.8.2:1",
            "8.8.8.2:2",
            "[2620:fe::1]:1",
            "[2620:fe::2]:1",
            "[2620:fe::2]:2",
            "127.0.0.1:1",
            "93.184.216.10:3478",
            "93.184.216.10:50001",
            "[::ffff:9.9.9.9]:1",
        ];
        match self.random.below(pool.len() + 6) {
            n if n < pool.len() => address(pool[n]),
            _ if relays.is_empty() => address(pool[0]),
            _ => relays[self.random.below(relays.len())],
        }
    }

    fn op(&mut self, kind: usize) -> Op {
        match kind {
            0 => self.allocate(true, false, false, None),
            1 => self.allocate(false, true, false, None),
            2 => self.allocate(true, true, false, None),
            3 => self.allocate(true, false, true, None),
            4 => {
                let token = self.tokens.pop().unwrap_or([9; 8]);
                self.allocate(true, false, false, Some(token))
            }
            5 => Op::Refresh { family: None, secs: [1, 700, 3600, 9999][self.random.below(4)] },
            6 => {
                let family = Some(self.random.below(2) == 1);
                Op::Refresh { family, secs: [0, 600, 1800][self.random.below(3)] }
            }
            7 => Op::Refresh { family: None, secs: 0 },
            8 | 9 => {
                let count = self.random.below(4);
                Op::Permit((0..count).map(|_| self.peer()).collect())
            }
            _ => {
                let peer = self.peer();
                Op::Bind(0x4000 + self.random.below(6) as u16, peer)
            }
        }
    }

    fn allocate(&mut self, v4: bool, v6: bool, pair: bool, token: Option<[u8; 8]>) -> Op {
        let mobile = self.random.below(2) == 0;
        Op::Allocate { v4, v6, pair, token, mobile, tcp: false }
    }

    /// Signs and sends an operation; a stale nonce is renewed as clients do.
    fn ask(&mut self, mut user: User, op: Op) {
        if user.nonce.is_empty() {
            user.learn(&mut self.lab);
        }
        for _ in 0..2 {
            let bytes = sign(&mut self.lab, &user, &op);
            let issued = (self.rotations, self.lab.now.unix);
            self.nonces.entry(user.nonce.clone()).or_insert(issued);
            let sent = Sent { user: user.clone(), bytes, op: op.clone() };
            let answer = self.deliver(&sent);
            if code(&answer) != Some(438) {
                self.sent.push(sent);
                break;
            }
            user.learn_from(&answer);
        }
        if self.sent.len() > 64 {
            let at = self.random.below(self.sent.len());
            self.sent.swap_remove(at);
        }
        if let Some(known) =
            self.users.iter_mut().find(|u| u.client == user.client && u.name == user.name)
        {
            *known = user;
        }
    }

    /// Hands a request over and holds the answer against the model.
    fn deliver(&mut self, sent: &Sent) -> Vec<u8> {
        let Sent { user, bytes, op, .. } = sent;
        let id = Message::parse(bytes).unwrap().transaction().0;
        self.model.no_ports = self.lab.wire.exhausted;
        self.model.no_routes = self.lab.wire.routes_max.is_some();
        let predicted = self.model.predict(user.client, &user.name, id, op);
        let answer = user.clone().exchange(&mut self.lab, bytes).expect("an answer");
        *self.codes.entry(answer.code()).or_default() += 1;
        if answer.code() == 438 {
            let (rotations, at) = self.nonces[&user.nonce];
            // Too old, or from the future, as the wall clock says.
            let old = self.lab.now.unix.saturating_sub(at) >= Duration::from_secs(3599)
                || at.saturating_sub(self.lab.now.unix) >= Duration::from_secs(59);
            assert!(old || self.rotations > rotations + 1, "a good nonce is refused");
            return answer.bytes;
        }
        assert_eq!(
            answer.code(),
            predicted,
            "{op:?}\n{:#?}",
            self.model.allocations.get(&user.client)
        );
        if !matches!(op, Op::Allocate { .. } | Op::Move { .. })
            && self.model.find(&user.client).is_some_and(|found| found.user == user.name)
        {
            self.model.arrive(user.client);
        }
        if predicted == 0 {
            let message = answer.message();
            let relays: Vec<_> = message.xor_relayed_addresses().map(Result::unwrap).collect();
            let token = message.reservation_token().unwrap();
            let ticket = message.mobility_ticket();
            if let Op::Move { ticket: shown, secs } = op {
                self.model.shift(user.client, shown, *secs, ticket);
                return answer.bytes;
            }
            if let (Some(token), false) = (token, self.model.find(&user.client).is_some()) {
                self.tokens.push(token);
            }
            self.model.apply(user.client, &user.name, id, op, &relays, token);
            let mobile = self.model.find(&user.client).and_then(|found| found.mobile.as_ref());
            if let (Some(ticket), Some(mobile)) = (ticket, mobile) {
                let said = (mobile.id, mobile.count);
                self.model.tickets.insert(ticket.to_vec(), said);
            }
        }
        answer.bytes
    }

    fn step(&mut self) {
        let kind = self.random.below(KINDS);
        self.kinds[kind] += 1;
        let at = self.random.below(self.users.len());
        let user = self.users[at].clone();
        match kind {
            0..=11 => {
                // Mostly with an allocation to work on.
                if kind > 4 && !self.model.allocations.contains_key(&user.client) {
                    let kind = self.random.below(3);
                    let op = self.op(kind);
                    self.ask(user.clone(), op);
                }
                let op = self.op(kind);
                self.ask(user, op);
            }
            // Retransmission, and an old request that comes late.
            12 | 13 => self.again(),
            14 => {
                let peer = self.peer();
                let sent = self.lab.send(user.client, peer, b"data").map(|(relay, _)| relay);
                self.model.arrive(user.client);
                assert_eq!(sent, self.model.send(user.client, peer), "Send to {peer}");
                let permitted = self.lab.wire.permitted_send(user.client, peer, self.lab.now);
                assert!(permitted.is_none() || permitted == sent, "a tier sends otherwise");
            }
            15 => {
                let number = 0x4000 + self.random.below(7) as u16;
                let sent = self.lab.channel_data(user.client, number, b"data");
                self.model.arrive(user.client);
                assert_eq!(sent, self.model.channel_data(user.client, number), "ChannelData");
            }
            16 => self.datagram_from_peer(),
            17 => self.time(1, false),
            18 => self.time(150, false),
            19 => self.time(400, true),
            20 => {
                let denied = [None, Some([9, 9, 9]), Some([8, 8, 8])][self.random.below(3)];
                self.reload(denied);
            }
            // Not so often that every other request is a 438.
            21 if self.random.below(8) != 0 => {}
            21 => {
                let key = [self.random.below(256) as u8; 32];
                self.lab.server.rotate_nonce_key(&key);
                self.rotations += 1;
            }
            22 => {
                // Somebody else on the same five-tuple.
                let name = if user.name == "alice" { "bob" } else { "alice" };
                let other = User::new(name, user.client, Mode::Legacy);
                let op_kind = self.random.below(12);
                let op = self.op(op_kind);
                if !matches!(op, Op::Allocate { .. }) {
                    self.ask(other, op);
                }
            }
            23 => {
                let guess = User::with_password(&user.name, "guess", user.client, Mode::Legacy);
                let op = self.op(7);
                let bytes = sign(&mut self.lab, &User { nonce: user.nonce.clone(), ..guess }, &op);
                assert_eq!(code(&self.lab.answer(user.client, &bytes).unwrap()), Some(401));
            }
            24 => {
                let bytes: Vec<u8> =
                    (0..self.random.below(60)).map(|_| self.random.next_u64() as u8).collect();
                let binding = self.lab.plain(Class::Request, Method::BINDING, |_| {});
                assert_eq!(code(&self.lab.answer(user.client, &binding).unwrap()), None);
                if bytes.first().is_none_or(|first| *first >= 0x50) {
                    let events = self.lab.input(user.client, &bytes);
                    let stream = user.client.transport.is_stream();
                    let hung_up = |e: &Event| stream && matches!(e, Event::CloseClient(_));
                    assert!(events.iter().all(hung_up), "{events:?}");
                }
            }
            // A host without descriptors, or with full tables.
            25 => {
                self.lab.wire.exhausted = self.random.below(2) == 0;
                self.lab.wire.routes_max = (self.random.below(2) == 0).then_some(0);
                let op_kind = [0, 1, 10][self.random.below(3)];
                let op = self.op(op_kind);
                self.ask(user, op);
                self.lab.wire.exhausted = false;
                self.lab.wire.routes_max = None;
                (self.model.no_ports, self.model.no_routes) = (false, false);
            }
            _ => self.extension(kind, user),
        }
        self.compare();
    }

    fn again(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let at = self.random.below(self.sent.len());
        let sent = self.sent[at].clone();
        let answer = self.deliver(&sent);
        if code(&answer) == Some(438) {
            self.sent.swap_remove(at);
        }
    }

    fn datagram_from_peer(&mut self) {
        let peer = self.peer();
        let relays: Vec<SocketAddr> = self.model.relays().into_iter().collect();
        let relay = match relays.len() {
            0 => address("93.184.216.10:50000"),
            len => relays[self.random.below(len)],
        };
        let got = self.lab.by_peer(relay, peer, b"data").map(|bytes| match bytes[0] {
            0x40..=0x4f => u16::from_be_bytes([bytes[0], bytes[1]]),
            _ => 0,
        });
        assert_eq!(got, self.model.by_peer(relay, peer), "{peer} to {relay}");
        if let Some(channel) = self.lab.wire.tier_by_peer(relay, peer, self.lab.now) {
            assert_eq!(got, Some(channel), "a tier forwards {peer} to {relay} otherwise");
        }
    }

    fn time(&mut self, secs_max: usize, late: bool) {
        let time = Duration::from_millis(self.random.below(secs_max * 1000) as u64);
        if late {
            self.lab.step(time);
            self.lab.server.handle(self.lab.now, Input::Timer, &mut self.lab.wire);
        } else {
            self.lab.pass(time);
        }
        self.model.advance(self.lab.now.monotonic);
    }

    fn reload(&mut self, denied: Option<[u8; 3]>) {
        let rule = |[a, b, c]: [u8; 3]| format!("{a}.{b}.{c}.0/24");
        let deny = denied.map(|net| turn::policy::parse_rule(&rule(net)).unwrap());
        let policy = turn::Policy::new(
            turn::policy::Profile::Public,
            Vec::new(),
            deny.into_iter().collect(),
        );
        self.lab.server.replace_policy(policy, self.lab.now, &mut self.lab.wire);
        self.model.reload(denied);
    }

    fn compare(&self) {
        let published: BTreeMap<_, _> = self
            .lab
            .wire
            .routes
            .iter()
            .map(|(key, r)| (*key, (r.relay, r.peer, r.expires, r.inner)))
            .collect();
        assert_eq!(published, self.model.routes());
        self.compare_permits();
        assert_eq!(
            self.lab.wire.ports.keys().copied().collect::<Vec<_>>(),
            self.model.relays().into_iter().collect::<Vec<_>>()
        );
        assert_eq!(
            self.lab.wire.listeners.keys().copied().collect::<Vec<_>>(),
            self.model.listeners().into_iter().collect::<Vec<_>>()
        );
        let connections = || {
            let tcp = self.model.everybody().flat_map(|a| &a.tcp);
            tcp.flat_map(|tcp| tcp.iter())
        };
        let waiting: Vec<u32> = self.lab.wire.connections.keys().map(|id| id.0).collect();
        let mut wanted: Vec<u32> =
            connections().filter(|(_, c)| c.data.is_none()).map(|(id, _)| *id).collect();
        wanted.sort_unstable();
        assert_eq!(waiting, wanted);
        let spliced = connections().filter_map(|(id, c)| Some((c.data?, PeerConnection(*id))));
        assert_eq!(self.lab.wire.spliced, spliced.collect::<BTreeMap<_, _>>());
        let legs = || self.model.everybody().flat_map(|a| a.legs.values());
        let stats = self.lab.server.stats();
        assert_eq!(stats.connections, connections().count());
        assert_eq!(stats.allocations, self.model.everybody().count());
        assert_eq!(stats.relayed_addresses, legs().count());
        assert_eq!(stats.channels, legs().map(|leg| leg.channels.len()).sum::<usize>());
        assert_eq!(stats.permissions, legs().map(|leg| leg.permissions.len()).sum::<usize>());
        assert_eq!(stats.reservations, self.model.tokens.len());
    }
}

/// Room for everything but what the model counts.
fn model_config() -> Config {
    let mut config = Config { ports: 50_000..=50_199, mobility: true, tcp_relay: true, ..config() };
    // Strangers have no budget to run out of here.
    let rate = turn::limits::Rate { per_second: 1_000_000, burst: 1_000_000 };
    config.limits.unauthenticated =
        turn::limits::Budget { source: rate, prefix: rate, total: rate };
    config.limits.connections_per_allocation = CONNECTIONS_MAX;
    config
}

fn sign(lab: &mut Lab, user: &User, op: &Op) -> Vec<u8> {
    let id = lab.transaction();
    let family = |v6| if v6 { Family::V6 } else { Family::V4 };
    match op {
        Op::Move { ticket, secs } => user.sign(id, Method::REFRESH, |b| {
            b.lifetime_secs(*secs).mobility_ticket(ticket);
        }),
        Op::Connect(peer) => user.sign(id, Method::CONNECT, |b| _ = b.xor_peer_address(*peer)),
        Op::ConnectionBind(public) => {
            user.sign(id, Method::CONNECTION_BIND, |b| _ = b.connection_id(*public))
        }
        Op::Allocate { v4, v6, pair, token, mobile, tcp } => {
            user.sign(id, Method::ALLOCATE, |b: &mut Builder<'_>| {
                b.requested_transport(if *tcp { 6 } else { 17 });
                if *mobile {
                    b.mobility_ticket(&[]);
                }
                match (token, v4, v6) {
                    (Some(token), _, _) => _ = b.reservation_token(token),
                    (None, true, true) => _ = b.additional_address_family(Family::V6),
                    (None, false, true) => _ = b.requested_address_family(Family::V6),
                    _ if *pair => _ = b.even_port(true),
                    _ => {}
                }
            })
        }
        Op::Refresh { family: only, secs } => user.sign(id, Method::REFRESH, |b| {
            b.lifetime_secs(*secs);
            only.inspect(|v6| _ = b.requested_address_family(family(*v6)));
        }),
        Op::Permit(peers) => user.sign(id, Method::CREATE_PERMISSION, |b| {
            peers.iter().for_each(|&peer| _ = b.xor_peer_address(peer));
        }),
        Op::Bind(number, peer) => user.sign(id, Method::CHANNEL_BIND, |b| {
            b.channel_number(ChannelNumber::new(*number).unwrap()).xor_peer_address(*peer);
        }),
    }
}

#[test]
fn random_operations_agree_with_the_model() {
    let seed = std::env::var("TURN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_260_101);
    let steps = std::env::var("TURN_STEPS").ok().and_then(|s| s.parse().ok()).unwrap_or(STEPS);
    println!("seed {seed} (TURN_SEED), {steps} steps (TURN_STEPS)");
    let mut run = Run::new(seed);
    run.model.advance(run.lab.now.monotonic);
    for step in 0..steps {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.step()));
        if let Err(panic) = done {
            println!("at step {step} of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("codes {:?}, kinds {:?}", run.codes, run.kinds);
    assert!(run.kinds.iter().all(|&count| count > 0) || steps < STEPS);
    for code in [0, 400, 403, 437, 438, 441, 443, 446, 447, 486, 508] {
        assert!(steps < STEPS || run.codes.contains_key(&code), "no {code} was ever seen");
    }
    let stats = run.lab.server.stats();
    println!("{} crashes; since the last: {} moves", run.crashes, stats.moves);
    // What is spliced ends with its allocation, and what is absent with its lifetime.
    run.lab.pass_secs(4000);
    assert!(run.lab.server.holds_nothing());
}
