//! The peer policy over the server's methods: every forbidden target, in every encoding, by every
//! way to name or to be a peer, over every transport. Nothing may pass; what is good, does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use turn::attribute::Family;
use turn::message::Method;
use turn::{Config, Input, PeerConnection, Reason, Transport};

use crate::lab::{Lab, client, code, config, over};
use crate::user::{Mode, User};
use crate::wire::Event;

const TRANSPORTS: [Transport; 4] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls];

/// Forbidden IPv4 targets: ends and middles of every special range, and our own addresses.
const TARGETS: &[&str] = &[
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.0",
    "10.0.0.1",
    "10.123.45.67",
    "10.255.255.255",
    "100.64.0.0",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.53",
    "127.1.2.3",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.0",
    "172.16.0.1",
    "172.17.0.1",
    "172.24.8.8",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.1",
    "192.0.2.255",
    "192.88.99.0",
    "192.88.99.1",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.0.1",
    "192.168.1.254",
    "192.168.255.255",
    "198.18.0.0",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.7",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.9",
    "203.0.113.255",
    "168.63.129.16",
    "224.0.0.0",
    "224.0.0.1",
    "224.0.0.251",
    "232.1.2.3",
    "239.255.255.250",
    "239.255.255.255",
    "240.0.0.0",
    "240.0.0.1",
    "250.250.250.250",
    "255.255.255.254",
    "255.255.255.255",
    // Of this host: the directed broadcast and another address, as the configuration says.
    "93.184.216.255",
    "85.1.2.3",
];

/// Forbidden IPv6 targets.
const TARGETS_V6: &[&str] = &[
    "::",
    "::1",
    "::2",
    "100::1",
    "64:ff9b::",
    "64:ff9b:1::1",
    "1000::1",
    "1fff::1",
    "2001::1",
    "2001:1::4",
    "2001:2::1",
    "2001:10::1",
    "2001:1f::1",
    "2001:40::1",
    "2001:db8::1",
    "2001:1ff::1",
    "2002::1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "8000::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fe00::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "ffff::1",
    "::ffff:0:0",
    "2a02:100::dead",
];

/// The nine ways to write an IPv4 address as a peer.
fn encodings(ip: Ipv4Addr) -> [(&'static str, IpAddr); 9] {
    let [a, b, c, d] = ip.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let v6 = |segments: [u16; 8]| IpAddr::V6(Ipv6Addr::from(segments));
    [
        ("plain", ip.into()),
        ("mapped", v6([0, 0, 0, 0, 0, 0xffff, high, low])),
        ("compatible", v6([0, 0, 0, 0, 0, 0, high, low])),
        ("6to4", v6([0x2002, high, low, 0, 0, 0, 0, 1])),
        ("Teredo", v6([0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !high, !low])),
        ("NAT64", v6([0x64, 0xff9b, 0, 0, 0, 0, high, low])),
        ("local NAT64", v6([0x64, 0xff9b, 1, 0, 0, 0, high, low])),
        ("SIIT", v6([0, 0, 0, 0, 0xffff, 0, high, low])),
        ("ISATAP", v6([0x2a03, 0xdead, 0, 0, 0x0200, 0x5efe, high, low])),
    ]
}

fn lab() -> (Lab, User) {
    lab_over(Transport::Udp)
}

fn lab_over(transport: Transport) -> (Lab, User) {
    let deny = vec![turn::policy::parse_rule("93.184.216.255").unwrap()];
    let policy = turn::Policy::new(turn::policy::Profile::Public, Vec::new(), deny);
    let local_addresses = vec!["85.1.2.3".parse().unwrap(), "2a02:100::dead".parse().unwrap()];
    let mut lab = Lab::with(Config { policy, local_addresses, tcp_relay: true, ..config() });
    let mut user = User::new("alice", over(transport, client(1)), Mode::Legacy);
    user.allocate_dual(&mut lab);
    (lab, user)
}

/// A TCP allocation of both families, which only streams may have, and its relayed addresses.
struct Listening {
    user: User,
    relays: [SocketAddr; 2],
}

impl Listening {
    fn new(lab: &mut Lab, transport: Transport) -> Option<Self> {
        let mut user = User::new("bob", over(transport, client(2)), Mode::Legacy);
        let answer = user.ask(lab, Method::ALLOCATE, |b| {
            b.requested_transport(6).additional_address_family(Family::V6);
        });
        if !transport.is_stream() {
            assert_eq!(answer.code(), 400, "{transport:?}");
            return None;
        }
        let relays = answer.relayed().try_into().expect("two addresses");
        Some(Self { user, relays })
    }

    /// CreatePermission and Connect, and then the peer connects itself: the codes of the first two,
    /// and whether the third was announced.
    fn attempt(&mut self, lab: &mut Lab, peer: SocketAddr) -> ([u16; 2], bool) {
        let codes = [self.user.permit(lab, &[peer]), self.connect(lab, peer)];
        (codes, self.is_announced(lab, peer))
    }

    /// Asks for a connection: the code of the error, or 0 when it is begun.
    fn connect(&self, lab: &mut Lab, peer: SocketAddr) -> u16 {
        let transaction = lab.transaction();
        let fill = |b: &mut turn::message::Builder<'_>| _ = b.xor_peer_address(peer);
        let request = self.user.sign(transaction, Method::CONNECT, fill);
        match lab.input(self.user.client, &request).as_slice() {
            [Event::Connect { peer: to, .. }] if *to == peer => 0,
            [Event::ToClient(_, bytes)] => code(bytes).expect("an error"),
            other => panic!("{other:?}"),
        }
    }

    /// Whether the client is told of this peer's connection; the others are closed.
    fn is_announced(&self, lab: &mut Lab, peer: SocketAddr) -> bool {
        let relay = self.relays[usize::from(peer.is_ipv6())];
        let id = PeerConnection(PeerConnection::ACCEPTED | 1);
        lab.wire.connections.insert(id, relay);
        lab.server.handle(lab.now, Input::Accepted { relay, peer, id }, &mut lab.wire);
        match lab.wire.take().as_slice() {
            [Event::ToClient(to, _)] if *to == self.user.client => true,
            [Event::ClosePeer(closed)] if *closed == id => false,
            other => panic!("{other:?}"),
        }
    }
}

/// CreatePermission, ChannelBind and Send: the codes of the first two, and whether Send passed.
fn attempt(lab: &mut Lab, user: &mut User, peer: SocketAddr) -> ([u16; 2], bool) {
    let permitted = user.permit(lab, &[peer]);
    let bound = user.bind(lab, 0x4000, peer);
    ([permitted, bound], lab.send(user.client, peer, b"canary").is_some())
}

#[test]
fn no_forbidden_target_passes_in_any_encoding_by_any_method_over_any_transport() {
    assert!(TARGETS.len() >= 64);
    std::thread::scope(|scope| {
        for transport in TRANSPORTS {
            scope.spawn(move || nothing_passes(transport));
        }
    });
}

fn nothing_passes(transport: Transport) {
    let (mut lab, mut user) = lab_over(transport);
    let mut listening = Listening::new(&mut lab, transport);
    let mut cells = 0;
    let mut refused = |peer: SocketAddr, code: u16, what: &str| {
        let what = format!("{peer}, {what} over {transport:?}");
        assert_eq!(attempt(&mut lab, &mut user, peer), ([code; 2], false), "{what}");
        cells += 3;
        if let Some(listening) = &mut listening {
            assert_eq!(listening.attempt(&mut lab, peer), ([code; 2], false), "{what}, by TCP");
            cells += 3;
        }
    };
    for target in TARGETS {
        for (encoding, ip) in encodings(target.parse().unwrap()) {
            let code = if encoding == "mapped" { 443 } else { 403 };
            for port in [9, 3478, 65535] {
                refused((ip, port).into(), code, encoding);
            }
        }
    }
    for target in TARGETS_V6 {
        let ip: Ipv6Addr = target.parse().unwrap();
        let code = if ip.to_ipv4_mapped().is_some() { 443 } else { 403 };
        refused((ip, 9).into(), code, "IPv6");
    }
    let methods = if transport.is_stream() { 6 } else { 3 };
    assert!(cells >= 64 * 9 * methods);
    assert!(lab.wire.routes.is_empty() && lab.wire.connections.is_empty());
    let stats = lab.server.stats();
    assert_eq!((stats.permissions, stats.channels, stats.connections), (0, 0, 0));
    assert_eq!(stats.carried.to_peer.packets, 0);
}

#[test]
fn an_encoding_is_refused_whatever_it_embeds() {
    let (mut lab, mut user) = lab();
    let mut listening = Listening::new(&mut lab, Transport::Tls).unwrap();
    for good in ["9.9.9.9", "1.1.1.1", "81.0.1.7"] {
        for (encoding, ip) in encodings(good.parse().unwrap()).into_iter().skip(1) {
            let (codes, sent) = attempt(&mut lab, &mut user, (ip, 9).into());
            let code = if encoding == "mapped" { 443 } else { 403 };
            assert_eq!((codes, sent), ([code; 2], false), "{good} as {encoding}");
            let by_tcp = listening.attempt(&mut lab, (ip, 9).into());
            assert_eq!(by_tcp, ([code; 2], false), "{good} as {encoding}");
        }
    }
}

#[test]
fn our_own_addresses_pass_only_where_they_are_relayed() {
    let (mut lab, mut user) = lab();
    let (_, other) = crate::user::alice(&mut lab, 2);
    let ours = other.ip();
    // Any port of a relay address may be permitted: a permission has no port. None but the live
    // relayed one may be bound, or sent to.
    for port in [1, 22, 80, 3479, 65535].into_iter().filter(|&port| port != other.port()) {
        let (codes, sent) = attempt(&mut lab, &mut user, (ours, port).into());
        assert_eq!((codes, sent), ([0, 403], false), "port {port}");
    }
    let (codes, sent) = attempt(&mut lab, &mut user, (ours, 3478).into());
    assert_eq!((codes, sent), ([403, 403], false));
    let (codes, sent) = attempt(&mut lab, &mut user, other);
    assert_eq!((codes, sent), ([0, 0], true));
}

#[test]
fn by_tcp_our_own_addresses_pass_only_where_they_listen_and_connect_from_no_service() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let (mut lab, _) = lab_over(transport);
        let mut listening = Listening::new(&mut lab, transport).unwrap();
        let [ours, _] = listening.relays;
        let other = |port| SocketAddr::new(ours.ip(), port);
        // Nobody is let in by its address alone.
        assert!(!listening.is_announced(&mut lab, other(1)));
        assert_eq!(lab.refused(Reason::AcceptedNoPermission), 1);
        for port in [1, 22, 80, 3479, 65535].into_iter().filter(|&port| port != ours.port()) {
            assert_eq!(listening.user.permit(&mut lab, &[other(port)]), 0);
            assert_eq!(listening.connect(&mut lab, other(port)), 403, "port {port}");
        }
        // The permission is for all ports of it, that of our service too; the policy is asked again.
        assert!(!listening.is_announced(&mut lab, other(3478)));
        assert_eq!(lab.refused(Reason::AcceptedForbidden), 1);
        assert!(listening.is_announced(&mut lab, other(40000)), "any port may have been chosen");
    }
}

#[test]
fn loopback_passes_where_the_operator_says_so_in_both_families() {
    for (rule, peer, other_clothes) in [
        ("127.0.0.1", "127.0.0.1:5000", "[::7f00:1]:5000"),
        ("::1", "[::1]:5000", "[::ffff:0:1]:5000"),
    ] {
        let allow = vec![turn::policy::parse_rule(rule).unwrap()];
        let policy = turn::Policy::new(turn::policy::Profile::Public, allow, Vec::new());
        let mut lab = Lab::with(Config { policy, ..config() });
        let mut user = User::new("alice", client(1), Mode::Legacy);
        user.allocate_dual(&mut lab);
        assert_eq!(attempt(&mut lab, &mut user, peer.parse().unwrap()), ([0, 0], true), "{peer}");
        // Our own services stay forbidden on it, and so does the address in other clothes.
        for never in ["127.0.0.1:9641", other_clothes] {
            let (codes, sent) = attempt(&mut lab, &mut user, never.parse().unwrap());
            assert!(codes.iter().all(|code| *code != 0) && !sent, "{never}: {codes:?}");
        }
    }
}

#[test]
fn the_good_ones_pass() {
    for good in [
        "9.9.9.9",
        "1.1.1.1",
        "81.0.1.7",
        "93.184.216.11",
        "223.255.255.254",
        "2620:fe::fe",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "3ffe::1",
    ] {
        let peer = (good.parse::<IpAddr>().unwrap(), 9).into();
        for transport in TRANSPORTS {
            let (mut lab, mut user) = lab_over(transport);
            assert_eq!(attempt(&mut lab, &mut user, peer), ([0, 0], true), "{good} {transport:?}");
            let Some(mut listening) = Listening::new(&mut lab, transport) else { continue };
            let by_tcp = listening.attempt(&mut lab, peer);
            assert_eq!(by_tcp, ([0, 0], true), "{good} {transport:?}");
        }
    }
}
