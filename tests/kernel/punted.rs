//! What is handed to workers by AF_XDP, and what must be left to the stack: by the program, and by the
//! same function on the host.

use std::net::{IpAddr, SocketAddr};

use turnwire_tests::frame::Datagram;
use wire::{LISTENER, PUNTED_MAX, Place, PortUse, Punt};

use crate::calls::{OUR_MAC, THEIR_MAC, call, from_client, from_peer, world};
use crate::cases;
use crate::host::Host;
use crate::program::{PUNTED, Program, xdp_socket};
use crate::world::{Outcome, Relay};

const OWN: [&str; 5] = ["44.1.0.1", "44.1.0.2", "44.1.0.3", "2e00::1", "2e00::2"];
const RELAYS: [&str; 3] = ["44.1.0.2", "44.1.0.3", "2e00::2"];

pub(crate) fn places() -> Vec<(Place, u64)> {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address of the test");
    let own = OWN.map(|text| {
        // all of them are relay address 0 to the test's table of ports
        let relay = if RELAYS.contains(&text) { PortUse::relay(0) } else { 0 };
        (Place::new(ip(text).into(), 0.into()), LISTENER | relay)
    });
    let listeners =
        ["44.1.0.1", "2e00::1"].map(|text| (Place::new(ip(text).into(), 3478.into()), LISTENER));
    own.into_iter().chain(listeners).collect()
}

pub(crate) fn program(punt: Punt) -> Program {
    let mut program = Program::load_punting(&world(), punt).expect("the program loads");
    let socket = xdp_socket().expect("an AF_XDP socket");
    program.take_frames(&places(), socket).expect("its maps take them");
    program
}

/// Both executors, by name.
fn relays(punt: Punt) -> [(&'static str, Box<dyn Relay>); 2] {
    let host = Host::punting(&world(), punt, &places());
    [("kernel", Box::new(program(punt))), ("host", Box::new(host))]
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address of the test")
}

fn datagram(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    Datagram::new((THEIR_MAC, OUR_MAC), at(source), at(destination)).carrying(payload).frame()
}

fn is_punted(outcome: &Outcome) -> bool {
    outcome.counted[PUNTED] == 1
}

/// A Binding request, as far as the program looks.
const STUN: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// A message that makes an IPv4 frame of `size` bytes.
fn long(size: usize) -> Vec<u8> {
    let mut message = STUN.to_vec();
    message.resize(size - (14 + 20 + 8), 0);
    message
}

fn first_byte(first: u8) -> Vec<u8> {
    let mut message = STUN.to_vec();
    message[0] = first;
    message
}

#[test]
fn what_is_ours_and_has_no_live_route_goes_to_the_worker() {
    let mut relays = relays(Punt::Unrouted);
    let (expired, inner_lone) = (call("expired"), call("inner lone"));
    let unbound = [&[0x4f, 0xf0, 0, 4][..], b"data"].concat();
    for (name, frame) in [
        ("STUN over IPv4", datagram("44.9.0.9:1", "44.1.0.1:3478", &STUN)),
        ("STUN over IPv6", datagram("[2e09::9]:1", "[2e00::1]:3478", &STUN)),
        ("a channel nobody has", datagram("44.9.0.9:1", "44.1.0.1:3478", &unbound)),
        ("an expired channel", from_client(&expired, b"data").frame()),
        ("its peer", from_peer(&expired, b"data").frame()),
        ("a peer without a channel", datagram("44.9.0.9:1", "44.1.0.2:50000", b"data")),
        ("the same over IPv6", datagram("[2e09::9]:1", "[2e00::2]:50001", b"data")),
        ("a client whose peer has no channel back", from_client(&inner_lone, b"data").frame()),
        ("the last first byte of STUN", datagram("44.9.0.9:1", "44.1.0.1:3478", &first_byte(3))),
        ("as long a frame as may be", datagram("44.9.0.9:1", "44.1.0.1:3478", &long(PUNTED_MAX))),
        ("from below the groups", datagram("223.0.0.9:1", "44.1.0.1:3478", &STUN)),
        ("half like a link-local address", datagram("[2e80::9]:1", "[2e00::1]:3478", &STUN)),
        ("below link-local addresses", datagram("[fe7f::9]:1", "[2e00::1]:3478", &STUN)),
        ("above link-local addresses", datagram("[fec0::9]:1", "[2e00::1]:3478", &STUN)),
        ("below the groups of IPv6", datagram("[fdff::9]:1", "[2e00::1]:3478", &STUN)),
    ] {
        for (by, relay) in &mut relays {
            let outcome = relay.run(&frame);
            assert!(is_punted(&outcome), "{name}, {by}: {:?}", outcome.counted);
            assert_eq!(outcome.frame, frame, "{name}, {by}: changed");
            assert_eq!(outcome.forwarded, None, "{name}, {by}");
        }
    }
}

#[test]
fn what_may_be_anothers_or_needs_the_stack_stays_the_stacks() {
    let mut relays = relays(Punt::Unrouted);
    let mut fragmented = Datagram::new((THEIR_MAC, OUR_MAC), at("44.9.0.9:1"), at("44.1.0.1:3478"))
        .carrying(&[&STUN[..], &[0; 100]].concat());
    let fragments = fragmented.fragments(16);
    fragmented.options = vec![0; 8];
    let foreign = Datagram::new((THEIR_MAC, THEIR_MAC), at("44.9.0.9:1"), at("44.1.0.1:3478"));
    for (name, frame) in [
        ("the listening port of another address", datagram("44.9.0.9:1", "44.1.0.2:3478", &STUN)),
        ("a host behind us", datagram("44.9.0.9:1", "44.77.0.1:3478", &STUN)),
        (
            "a relay port of an address that relays not",
            datagram("44.9.0.9:1", "44.1.0.1:50000", b"x"),
        ),
        ("a port nobody has", datagram("44.9.0.9:1", "44.1.0.2:50999", b"data")),
        ("a DTLS record", datagram("44.9.0.9:1", "44.1.0.1:3478", &first_byte(22))),
        ("the first of RFC 7983's DTLS", datagram("44.9.0.9:1", "44.1.0.1:3478", &first_byte(20))),
        ("the last of them", datagram("44.9.0.9:1", "44.1.0.1:3478", &first_byte(63))),
        ("no protocol of ours", datagram("44.9.0.9:1", "44.1.0.1:3478", &first_byte(4))),
        ("QUIC", datagram("44.9.0.9:1", "44.1.0.1:3478", &first_byte(0xc0))),
        ("a channel beyond the range", datagram("44.9.0.9:1", "44.1.0.1:3478", &first_byte(0x50))),
        ("from loopback", datagram("127.0.0.1:1", "44.1.0.1:3478", &STUN)),
        ("from this network", datagram("0.0.0.0:1", "44.1.0.1:3478", &STUN)),
        ("from a group", datagram("224.0.0.1:1", "44.1.0.1:3478", &STUN)),
        ("from ourselves", datagram("44.1.0.2:50000", "44.1.0.1:3478", &STUN)),
        ("from a link-local address", datagram("[fe80::9]:1", "[2e00::1]:3478", &STUN)),
        ("from the last of them", datagram("[febf::9]:1", "[2e00::1]:3478", &STUN)),
        ("from a group of IPv6", datagram("[ff0e::9]:1", "[2e00::1]:3478", &STUN)),
        ("from the unspecified address", datagram("[::]:1", "[2e00::1]:3478", &STUN)),
        ("another host's frame", foreign.carrying(&STUN).frame()),
        ("options", fragmented.frame()),
        ("a first fragment", fragments[0].clone()),
        ("a later fragment", fragments[1].clone()),
        (
            "a checksum that is yet to be made",
            cases::unfinished(
                &Datagram::new((THEIR_MAC, OUR_MAC), at("44.9.0.9:1"), at("44.1.0.1:3478"))
                    .carrying(&STUN),
            ),
        ),
        ("a frame too long", datagram("44.9.0.9:1", "44.1.0.1:3478", &long(PUNTED_MAX + 1))),
        ("too big for the way out", from_client(&call("narrow"), &[7; 300]).frame()),
        ("a next hop not known", from_client(&call("no hop"), b"data").frame()),
    ] {
        for (by, relay) in &mut relays {
            let outcome = relay.run(&frame);
            assert!(!is_punted(&outcome), "{name}, {by}");
            assert_eq!((outcome.forwarded, &outcome.frame), (None, &frame), "{name}, {by}");
        }
    }
}

#[test]
fn a_live_route_is_forwarded_by_the_program_unless_workers_forward_everything() {
    let frame = from_client(&call("44"), b"data").frame();
    let stun = datagram("44.9.0.9:1", "44.1.0.1:3478", &STUN);
    for (by, mut relay) in relays(Punt::Unrouted) {
        let outcome = relay.run(&frame);
        assert!(outcome.forwarded.is_some() && !is_punted(&outcome), "{by}");
    }
    for (by, mut relay) in relays(Punt::All) {
        let outcome = relay.run(&frame);
        assert!(outcome.forwarded.is_none() && is_punted(&outcome), "{by}");
        assert_eq!(outcome.frame, frame, "{by}");
        assert!(is_punted(&relay.run(&stun)), "{by}");
    }
    for (by, mut relay) in relays(Punt::Off) {
        assert!(!is_punted(&relay.run(&stun)), "{by}");
    }
}

/// Such a frame may lie in the memory of a worker, from where not every driver sends it back.
#[test]
fn a_live_route_on_a_queue_that_has_lost_its_socket_is_the_stacks_where_workers_forward_everything()
{
    let frame = from_client(&call("44"), b"data").frame();
    let mut workers = program(Punt::All);
    workers.lose_socket();
    let outcome = workers.run(&frame);
    assert!(outcome.forwarded.is_none() && !is_punted(&outcome));
    assert_eq!(outcome.frame, frame);
    let mut kernel = program(Punt::Unrouted);
    kernel.lose_socket();
    assert!(kernel.run(&frame).forwarded.is_some());
}

/// Nobody's fault stops anything: an interface without sockets is served as if there were no AF_XDP.
#[test]
fn without_a_socket_the_case_table_holds_whatever_is_switched_on() {
    for punt in [Punt::Unrouted, Punt::All] {
        let mut program = Program::load_punting(&world(), punt).unwrap();
        for case in cases::all() {
            let outcome = program.run(&case.frame);
            assert_eq!(outcome.reason(), case.refused, "{punt:?}: {}", case.name);
            assert_eq!(outcome.forwarded.is_some(), case.refused.is_none(), "{}", case.name);
        }
    }
}
