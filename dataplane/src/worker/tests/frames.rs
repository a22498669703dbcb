//! A worker with AF_XDP queues on a real cable, stepped by hand: what it allocates and waits for, and
//! which way it counts what it drops.

use super::*;
use crate::counting;
use crate::frames::Frames;
use crate::futexes;
use crate::kernel::FrameTables;
use crate::kernel::testing::{ip, monotonic};
use crate::link::xsk::tests::lab::{Divert, Lab, PATIENCE, in_lab, open};
use crate::link::xsk::{FrameSize, Umem, queues};
use crate::route::{Permission, PermissionHops, Relayed};
use crate::worker::frames::direction;
use crate::worker::tests::indications::{data_of, send_to};
use std::net::UdpSocket;
use std::thread::JoinHandle;
use wire::PortUse;

/// Datagrams of a kind in a round.
const EACH: usize = 16;
const WARM: usize = 20;
const ROUNDS: usize = 200;

/// A port of the peer's without a channel.
const STRANGER: &str = "203.0.113.9:6001";

/// The interface that the test's routes leave by.
const INTERFACE: u32 = 2;

fn tables(bench: &Bench) -> FrameTables {
    let ports = [(address(RELAY).port(), PortUse::relay(0)), (3478, wire::LISTENER)];
    FrameTables::for_tests(std::slice::from_ref(&bench.route), &ports)
}

/// The client's permission for the peer's address, with hops that are known: other ports of the peer
/// have no channel.
fn permit(bench: &mut Bench) {
    let Route { client, listener, relay, port, .. } = bench.route;
    bench.permits.insert_relayed(&Relayed { client, listener, relay, port }).unwrap();
    let (peer, expires) = (address(PEER).ip(), Duration::MAX);
    let permission = Permission { client, listener, relay, peer, expires };
    bench.permits.insert_permission(&permission).unwrap();
    let hops = PermissionHops { to_peer: 1, to_client: 1 };
    bench.permits.lead_permission(peer, relay, hops);
}

/// Client and peer live on the far host, and the relay's addresses lead over the cable.
fn settle_far(lab: &Lab) {
    lab.far.run(|| {
        ip("link set x1 address 02:00:00:00:00:09");
        for own in [CLIENT, PEER] {
            ip(&format!("address replace {}/32 dev x1", address(own).ip()));
        }
        let relay = address(RELAY).ip();
        ip(&format!("route replace {relay}/32 dev x1"));
        ip(&format!("neigh replace {relay} lladdr 02:00:00:00:02:01 dev x1 nud permanent"));
    });
}

/// Everything that a warm worker does with frames, `rounds` times: both ways, by a channel and by
/// indications, a message for the control thread, and a refusal.
fn talk(rounds: usize) {
    let socket = |own: &str, relay: &str| {
        let socket = UdpSocket::bind(own).expect("an address of this host");
        socket.connect(relay).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        socket
    };
    let (client, peer) = (socket(CLIENT, LISTENER), socket(PEER, RELAY));
    let stranger = socket(STRANGER, RELAY);
    let send = send_to(STRANGER, &[7; 161], false);
    let channel_data = [&[0x40, 0, 0, 160][..], &[7; 160]].concat();
    let mut message = [0; 20];
    message[1] = 1;
    message[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    let pass =
        |from: &UdpSocket, to: &UdpSocket, sent: &[u8], is_wanted: &dyn Fn(&[u8]) -> bool| {
            (0..EACH).for_each(|_| _ = from.send(sent).expect("it sends"));
            let mut buffer = [0; 2048];
            for _ in 0..EACH {
                let size = to.recv(&mut buffer).expect("what was sent comes");
                assert!(is_wanted(&buffer[..size]), "{:?}", &buffer[..size]);
            }
        };
    for _ in 0..rounds {
        pass(&client, &peer, &channel_data, &|came| came == [7; 160]);
        pass(&peer, &client, &[7; 160], &|came| came == channel_data);
        pass(&client, &stranger, &send, &|came| came == [7; 161]);
        let data = (address(STRANGER), vec![7; 161]);
        pass(&stranger, &client, &[7; 161], &|came| data_of(came) == data);
        client.send(&message).expect("it sends");
        client.send(&[0xff; 40]).expect("it sends");
    }
}

fn exchange(lab: &Lab, rounds: usize) -> JoinHandle<()> {
    let far = Arc::clone(&lab.far);
    std::thread::spawn(move || far.run(move || talk(rounds)))
}

/// Steps the worker until `done`, and takes what it tells. How many messages it told.
fn step(bench: &mut Bench, now: &mut Duration, mut done: impl FnMut(&Bench) -> bool) -> usize {
    let (started, mut told) = (monotonic(), 0);
    while !done(bench) {
        assert!(monotonic() - started < 2 * PATIENCE, "{:?}", bench.counters.frames.snapshot());
        *now += Duration::from_millis(10);
        bench.worker.round(*now);
        while bench.control.events.take(|_, _| ()).is_some() {
            told += 1;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    told
}

#[test]
fn a_warm_worker_allocates_nothing_and_waits_for_no_lock_for_frames() {
    in_lab(|lab| {
        // given a worker with all queues of an interface
        settle_far(lab);
        let (mut bench, mut now) = (bench(), NOW);
        permit(&mut bench);
        let mut divert = Divert::attach(&lab.near);
        let mut umem = Umem::new(4096, FrameSize::Bytes2048).expect("memory");
        let numbers = 0..queues(&lab.near).expect("it is there");
        let queues: Vec<_> = numbers.map(|at| open(&lab.near, at, &mut umem, 1024)).collect();
        queues.iter().for_each(|queue| divert.add(queue));
        bench.worker.frames = Some(Frames::for_tests(umem, queues, INTERFACE, tables(&bench)));
        let settled = |rounds: usize| {
            let refused = (rounds + WARM) as u64;
            move |bench: &Bench| {
                let stats = bench.counters.snapshot();
                stats.refused.iter().flatten().sum::<u64>() >= refused
            }
        };
        let warming = exchange(lab, WARM);
        let mut told = step(&mut bench, &mut now, |_| warming.is_finished());
        warming.join().expect("everything came");
        told += step(&mut bench, &mut now, settled(0));

        // when
        let working = exchange(lab, ROUNDS);
        futexes::count_here();
        let before = (counting::counted_here(), futexes::counted());
        told += step(&mut bench, &mut now, |_| working.is_finished());
        told += step(&mut bench, &mut now, settled(ROUNDS));
        let after = (counting::counted_here(), futexes::counted());

        // then
        working.join().expect("everything came");
        assert!(before.0 > 0, "this thread's allocations are counted");
        assert_eq!(after, before, "allocations and futex calls in {ROUNDS} rounds");
        let rounds = ROUNDS + WARM;
        let stats = bench.counters.frames.snapshot();
        let forwarded = stats.forwarded.map(|traffic| traffic.packets);
        assert_eq!(forwarded, [(2 * rounds * EACH) as u64; 2], "{stats:?}");
        assert_eq!(stats.indications, [(rounds * EACH) as u64; 2], "{stats:?}");
        assert!(stats.datagrams >= 2 * rounds as u64 && stats.queues == 0, "{stats:?}");
        let refused = stats.refused.iter().flatten().sum::<u64>();
        let ends = forwarded.iter().sum::<u64>() + stats.datagrams + refused;
        assert_eq!(stats.received, ends, "each frame has one end: {stats:?}");
        let worker = bench.counters.snapshot();
        assert_eq!((worker.received, worker.settled()), (stats.datagrams, stats.datagrams));
        assert_eq!(told, rounds, "each message was told");
        let census = bench.worker.frames.as_ref().expect("it has them still").umem.census();
        assert_eq!((census.held, census.total()), (0, 4096), "{census:?}");
    });
}

#[test]
fn what_is_dropped_counts_on_the_way_that_it_went() {
    let bench = bench();
    let tables = tables(&bench);
    let view = tables.view(NOW);
    let ways = [(LISTENER, Direction::ToPeer), (RELAY, Direction::ToClient)];
    for (local, wanted) in ways {
        let frame = super::parity::unsound(CLIENT, local);
        assert_eq!(direction(&frame, &view, &bench.worker.egress), wanted, "{local}");
        assert!(crate::frames::datagram(&frame).is_err(), "{local}");
    }
    assert_eq!(direction(&[0; 60], &view, &bench.worker.egress), Direction::ToPeer, "no way known");
}
