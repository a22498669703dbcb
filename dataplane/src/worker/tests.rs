//! A worker stepped by hand over the in-memory link: what sockets cannot be made to do at will.

use super::{Listener, Shared, Tables, UNREACHABLE_PER_SECOND, Worker};
use crate::batch::{Arrival, Batch, SocketId};
use crate::link::Unreachable;
use crate::link::memory::MemoryLink;
use crate::mailbox::{Bell, Command, ControlEnd, Letter, LetterKind, mailbox};
use crate::route::{PortId, Route, Transport};
use crate::stats::Counters;
use crate::table::{PermitWriter, Permits, RouteWriter, View};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use wire::{Direction, Reason};

mod frames;
mod indications;
mod leaving;
mod parity;

const NOW: Duration = Duration::from_secs(1000);
const LISTENER: &str = "198.51.100.1:3478";
const CLIENT: &str = "192.0.2.1:5000";
const PEER: &str = "203.0.113.9:6000";
const RELAY: &str = "198.51.100.1:50000";

struct Bench {
    worker: Worker<MemoryLink>,
    control: ControlEnd<()>,
    routes: RouteWriter,
    permits: PermitWriter,
    counters: Arc<Counters>,
    route: Route,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A worker with one listener, one relay port and one channel.
fn bench() -> Bench {
    let mut routes = RouteWriter::new(16).unwrap();
    let (mut control, mail) = mailbox(0, Arc::new(Bell::silent()), Arc::new(Bell::silent()));
    let counters = Arc::new(Counters::default());
    let listeners = vec![Listener { local: address(LISTENER) }];
    let permits = PermitWriter::new(16).unwrap();
    let shared =
        Shared { routes: Arc::clone(routes.table()), permits: Arc::clone(permits.table()) };
    let batch = Batch::new(16, 2000);
    let mut worker =
        Worker::new(MemoryLink::default(), mail, listeners, shared, Arc::clone(&counters), batch);
    let port = PortId::new(0, 3, 9);
    let route = Route {
        transport: Transport::Udp,
        client: address(CLIENT),
        listener: address(LISTENER),
        channel: 0x4000,
        relay: address(RELAY),
        port,
        peer: address(PEER),
        expires: NOW + Duration::from_secs(1),
        inner: false,
    };
    routes.insert(&route).unwrap();
    control.command(Command::Open { id: port, local: address(RELAY), port: () });
    worker.round(NOW);
    Bench { worker, control, routes, permits, counters, route }
}

impl Bench {
    fn arrive(&mut self, id: SocketId, [remote, local]: [&str; 2], bytes: &[u8]) {
        let (remote, local) = (address(remote), address(local));
        let arrival = Arrival { remote, local, ttl: 9, tos: 0x2e, truncated: false };
        self.worker.link.arrive(id, arrival, bytes);
    }

    /// Passes the batch as it is.
    fn pass(&mut self, now: Duration) {
        let Shared { routes, permits } = self.worker.shared.clone();
        let (view, permits) = (View::new(&routes, now), Permits::new(&permits, now));
        self.worker.pass(&Tables { view, permits });
    }

    fn both_ways(&mut self) {
        self.arrive(SocketId::listener(0), [CLIENT, LISTENER], b"\x40\0\0\x03out\0");
        self.arrive(SocketId::port(3), [PEER, RELAY], b"back");
    }
}

#[test]
fn a_datagram_that_the_link_refuses_is_refused_and_not_forwarded() {
    let mut bench = bench();
    bench.worker.link.refuse = Some(Reason::SocketFull);
    bench.both_ways();
    bench.worker.round(NOW);
    let stats = bench.counters.snapshot();
    assert_eq!((stats.received, stats.settled()), (2, 2));
    assert_eq!(stats.refused(Reason::SocketFull), 2);
    assert!(stats.forwarded.iter().all(|traffic| traffic.packets == 0));
    assert_eq!(bench.routes.counters(&bench.route), Default::default());
}

#[test]
fn icmp_errors_of_a_second_are_told_up_to_the_allowance_and_the_rest_is_counted() {
    let mut bench = bench();
    let (peer, many) = (address(PEER), 2 * u64::from(UNREACHABLE_PER_SECOND));
    let error = |slot| Unreachable { by: SocketId::port(slot), peer, kind: 3, code: 4, data: 1400 };
    bench.worker.link.errors.extend((0..many).map(|_| error(3)));
    // and one of a slot that is nobody's any more
    bench.worker.link.errors.push_back(error(4));
    let mut told = 0;
    bench.worker.round(NOW);
    while bench
        .control
        .events
        .take(|letter, bytes| {
            assert_eq!((letter.kind, letter.slot), (LetterKind::Unreachable, 3));
            assert_eq!((letter.generation, letter.remote), (9, peer));
            assert_eq!(bytes, [3, 4, 0, 0, 5, 120]);
        })
        .is_some()
    {
        told += 1;
    }
    let stats = bench.counters.snapshot();
    assert!(told > 0 && told <= u64::from(UNREACHABLE_PER_SECOND), "{told}");
    assert_eq!((stats.icmp_told, stats.icmp_told + stats.icmp_withheld), (told, many));
}

#[test]
fn time_is_what_the_round_was_given() {
    for (now, sent) in [(NOW, 2), (NOW + Duration::from_secs(1), 0)] {
        let mut bench = bench();
        bench.both_ways();
        bench.worker.round(now);
        assert_eq!(bench.worker.link.sent.len(), sent);
    }
}

#[test]
fn forwarded_datagrams_carry_the_marks_and_only_their_own_bytes() {
    let mut bench = bench();
    bench.arrive(SocketId::port(3), [PEER, RELAY], &[0xc5; 2000]);
    bench.worker.round(NOW);
    bench.worker.link.sent.clear();
    bench.both_ways();
    bench.worker.round(NOW);
    let [(out, data), (back, wrapped)] = &bench.worker.link.sent[..] else { panic!("two") };
    assert_eq!((out.by, out.to, &data[..]), (SocketId::port(3), address(PEER), &b"out"[..]));
    assert_eq!((back.by, back.to), (SocketId::listener(0), address(CLIENT)));
    assert_eq!(wrapped, b"\x40\0\0\x04back");
    for marks in [out.marks, back.marks] {
        assert_eq!(marks.map(|marks| (marks.ttl, marks.tos)), Some((8, 0x2e)));
    }
    assert!(!out.dont_fragment && !back.dont_fragment, "nobody has asked for it");
}

/// The other client of this relay, and the first one's channel to its relayed address.
fn inner_channel(bench: &mut Bench) -> Route {
    let other = "198.51.100.1:50002";
    let route = Route { channel: 0x4001, peer: address(other), inner: true, ..bench.route };
    bench.routes.insert(&route).unwrap();
    route
}

#[test]
fn what_is_for_a_client_without_a_channel_back_goes_by_both_relay_ports() {
    let mut bench = bench();
    let inner = inner_channel(&mut bench);
    let way_back = Route {
        client: address("192.0.2.2:5000"),
        channel: 0x4002,
        relay: inner.peer,
        peer: inner.relay,
        port: PortId::new(0, 4, 0),
        ..inner
    };
    // given no channel back at all, and then one that has expired
    for expired in [false, true] {
        if expired {
            bench.routes.insert(&Route { expires: NOW, ..way_back }).unwrap();
        }
        // when
        bench.worker.link.sent.clear();
        bench.arrive(SocketId::listener(0), [CLIENT, LISTENER], b"\x40\x01\0\x03out\0");
        bench.worker.round(NOW);
        // then
        let [(out, data)] = &bench.worker.link.sent[..] else { panic!("one, expired: {expired}") };
        assert_eq!((out.by, out.to, &data[..]), (SocketId::port(3), inner.peer, &b"out"[..]));
        assert_eq!(out.marks.map(|marks| (marks.ttl, marks.tos)), Some((8, 0x2e)));
    }
    assert_eq!(bench.counters.snapshot().forwarded[Direction::ToPeer as usize].packets, 2);
    assert!(bench.control.events.is_empty());
}

#[test]
fn what_goes_by_both_relay_ports_ends_at_its_last_hop_and_with_its_channel() {
    let (hops, late) = ([(1, 0), (2, 1)], NOW + Duration::from_secs(1));
    for (ttl, sent) in hops {
        let mut bench = bench();
        inner_channel(&mut bench);
        let (remote, local) = (address(CLIENT), address(LISTENER));
        let arrival = Arrival { remote, local, ttl, tos: 0, truncated: false };
        bench.worker.link.arrive(SocketId::listener(0), arrival, b"\x40\x01\0\x03out");
        bench.worker.round(NOW);
        assert_eq!(bench.worker.link.sent.len(), sent, "TTL {ttl}");
        let refused = bench.counters.snapshot().refused(Reason::LastHop);
        assert_eq!(refused, 1 - sent as u64, "TTL {ttl}");
    }
    for (now, sent) in [(late - Duration::from_nanos(1), 1), (late, 0)] {
        let mut bench = bench();
        inner_channel(&mut bench);
        bench.arrive(SocketId::listener(0), [CLIENT, LISTENER], b"\x40\x01\0\x03out");
        bench.worker.round(now);
        assert_eq!(bench.worker.link.sent.len(), sent, "{now:?}");
        assert_eq!(bench.counters.snapshot().refused(Reason::Expired), 1 - sent as u64);
    }
}

#[test]
fn nothing_from_a_source_that_cannot_be_answered_reaches_the_control_thread() {
    let v4 = ["192.0.2.1:0", "224.0.0.1:9", "255.255.255.255:9", "0.0.0.0:9", LISTENER];
    let sources = [&v4[..], &["[2001:db8::1]:0", "[ff02::1]:9", "[::]:9"]].concat();
    let mut bench = bench();
    let mut message = [0; 20];
    message[1] = 1;
    for source in &sources {
        bench.arrive(SocketId::listener(0), [source, LISTENER], &message);
        bench.arrive(SocketId::port(3), [source, RELAY], &message);
    }
    (0..10).for_each(|_| bench.worker.round(NOW));
    let stats = bench.counters.snapshot();
    assert_eq!(stats.refused(Reason::BadSource), 2 * sources.len() as u64);
    assert!(bench.control.events.is_empty());
}

#[test]
fn a_stale_close_and_a_stale_letter_reach_nobody() {
    let mut bench = bench();
    for generation in [8, 10] {
        let id = PortId::new(0, 3, generation);
        bench.control.command(Command::Close { id });
        let (remote, local) = (address(PEER), address(RELAY));
        let (kind, dont_fragment, slot) = (LetterKind::Peer, false, 3);
        let letter = Letter {
            kind,
            dont_fragment,
            marks: None,
            transport: Transport::Udp,
            slot,
            generation,
            remote,
            local,
        };
        assert!(bench.control.send(&letter, b"stale"));
    }
    bench.worker.round(NOW);
    assert_eq!(bench.worker.link.open, [3]);
    assert!(bench.worker.link.sent.is_empty());
    assert_eq!(bench.counters.snapshot().refused_control[Reason::PortClosed as usize], 2);
}

#[test]
fn commands_are_carried_out_before_the_letters_that_rely_on_them() {
    let mut bench = bench();
    let id = PortId::new(0, 4, 0);
    let (remote, local) = (address(PEER), address("198.51.100.1:50001"));
    let kind = LetterKind::Peer;
    let letter = Letter {
        kind,
        dont_fragment: true,
        marks: None,
        transport: Transport::Udp,
        slot: 4,
        generation: 0,
        remote,
        local,
    };
    bench.control.command(Command::Open { id, local, port: () });
    assert!(bench.control.send(&letter, b"at once"));
    bench.worker.round(NOW);
    let [(departure, bytes)] = &bench.worker.link.sent[..] else { panic!("one") };
    assert_eq!((departure.by, &bytes[..]), (SocketId::port(4), &b"at once"[..]));
    assert!(departure.dont_fragment);
    assert_eq!(bench.counters.snapshot().sent_to_peers, 1);
}

#[test]
fn a_closed_port_forwards_nothing_and_its_last_datagrams_are_counted() {
    let mut bench = bench();
    bench.control.command(Command::Close { id: bench.route.port });
    bench.both_ways();
    bench.worker.round(NOW);
    let stats = bench.counters.snapshot();
    assert_eq!((stats.received, stats.settled(), stats.ports), (2, 2, 0));
    assert_eq!(stats.refused[Direction::ToClient as usize][Reason::PortClosed as usize], 1);
    assert_eq!(stats.clients_to_control, 1, "the control thread knows what became of the port");
    assert!(bench.worker.link.sent.is_empty());
}

#[test]
fn what_was_given_before_the_end_is_sent_in_the_last_rounds() {
    let mut bench = bench();
    let (remote, local) = (address(CLIENT), address(LISTENER));
    let (kind, transport) = (LetterKind::Client, Transport::Udp);
    let letter = Letter {
        kind,
        dont_fragment: false,
        marks: None,
        transport,
        slot: 0,
        generation: 0,
        remote,
        local,
    };
    // given more than one round sends
    let many = 200_u8;
    assert!((0..many).all(|number| bench.control.send(&letter, &[number])));
    bench.both_ways();
    // when
    bench.worker.run(&AtomicBool::new(true), || NOW).unwrap();
    // then
    let sent = &bench.worker.link.sent;
    let answers = sent.iter().filter(|(_, bytes)| bytes.len() == 1);
    assert!(answers.map(|(_, bytes)| bytes[0]).eq(0..many));
    assert_eq!(sent.len(), usize::from(many) + 2, "and what had arrived is forwarded");
}
