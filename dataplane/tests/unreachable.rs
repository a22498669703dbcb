//! ICMP errors of one peer against the traffic of another, on the same relay port.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/rig.rs"]
mod rig;

use dataplane::{IpFields, Route, monotonic};
use rig::{Host, PATIENCE, Rig, Told, channel_data};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use wire::Reason;

#[test]
fn an_unreachable_peer_does_not_disturb_another_on_the_same_relay_port() {
    for ip in ["127.0.0.1", "::1"] {
        // given one relay port with two channels, one to a peer that is not there
        let mut rig = Rig::start(1, &["127.0.0.1:0", "[::1]:0"]);
        let (mut client, mut peer) = (Host::new(ip), Host::new(ip));
        let listener = rig.listener(usize::from(client.address.is_ipv6()));
        let route = rig.channel(client.address, listener, ip, peer.address);
        let gone = Route { channel: 0x4001, peer: closed_port(ip), ..route };
        rig.plane.add_route(&gone).unwrap();
        // when datagrams to both are mixed, so that each call meets the other's errors
        let rounds = 200_u32;
        for round in 0..rounds {
            client.put(listener, &channel_data(0x4001, b"nobody", 0), None);
            client.put(listener, &channel_data(0x4000, &round.to_be_bytes(), 0), None);
            client.put(listener, &channel_data(0x4001, b"nobody", 0), None);
            client.flush();
            // then the other peer gets each of its own, in order
            assert_eq!(peer.receive_one().bytes, round.to_be_bytes(), "{ip}");
            peer.send(route.relay, &round.to_le_bytes());
            let expected = channel_data(0x4000, &round.to_le_bytes(), 0);
            assert_eq!(client.receive_one().bytes, expected, "{ip}");
        }
        // and the errors were seen, taken off the queue, and did not keep the worker busy
        rig.until("all are settled", |stats| {
            let worker = &stats.workers[0];
            worker.received == u64::from(rounds) * 4 && worker.settled() == worker.received
        });
        let stats = rig.plane.stats();
        println!(
            "{ip}: {} ICMP errors, {} refused",
            stats.workers[0].icmp_errors,
            stats.refused(Reason::SendFailed)
        );
        assert!(stats.workers[0].icmp_errors > 0, "{ip}");
        assert_eq!(stats.workers[0].receive_errors, 0, "{ip}");
        assert!(is_asleep(&rig), "{ip}: no wakeup without traffic");
    }
}

#[test]
fn the_control_thread_is_told_of_icmp_errors_with_relay_and_peer() {
    for (ip, icmp) in [("127.0.0.1", (3, 3, 0)), ("::1", (1, 4, 0))] {
        // given a relay port with a channel to a peer that is not there
        let mut rig = Rig::start(1, &["127.0.0.1:0", "[::1]:0"]);
        let mut client = Host::new(ip);
        let listener = rig.listener(usize::from(client.address.is_ipv6()));
        let peer = closed_port(ip);
        let route = rig.channel(client.address, listener, ip, peer);
        let (port, relay) = (route.port, route.relay);
        let expected = Told::Unreachable { port, relay, peer, icmp };
        // when a worker sends there, then it tells without waiting for other traffic
        client.send(listener, &channel_data(0x4000, b"nobody", 0));
        assert_eq!(rig.told(1, PATIENCE), std::slice::from_ref(&expected), "{ip}");
        // and the same for what the control thread sends
        rig.plane.to_peer(port, peer, b"nobody", IpFields::default());
        rig.plane.flush();
        assert_eq!(rig.told(1, PATIENCE), std::slice::from_ref(&expected), "{ip}");
        // and nothing of a port that is closed
        rig.plane.to_peer(port, peer, b"nobody", IpFields::default());
        rig.plane.close_port(port);
        rig.plane.flush();
        assert_eq!(rig.told(1, Duration::from_millis(50)), [], "{ip}");
        let worker = &rig.plane.stats().workers[0];
        assert!(worker.icmp_told >= 2 && worker.icmp_withheld == 0, "{worker:?}");
    }
}

#[test]
fn a_flood_of_icmp_errors_is_told_within_its_bounds() {
    // given a client that never stops sending to a peer that is not there
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let mut client = Host::new("127.0.0.1");
    let listener = rig.listener(0);
    rig.channel(client.address, listener, "127.0.0.1", closed_port("127.0.0.1"));
    let (begun, mut told) = (monotonic(), 0);
    for round in 1..=400 {
        (0..32).for_each(|_| client.put(listener, &channel_data(0x4000, b"nobody", 0), None));
        client.flush();
        rig.until("all are settled", |stats| stats.workers[0].settled() == round * 32);
        told += rig.told(0, Duration::ZERO).len() as u64;
    }
    // then no second has more than its allowance, and nothing is lost without a count
    let seconds =
        u64::from(dataplane::UNREACHABLE_PER_SECOND) * (2 + (monotonic() - begun).as_secs());
    assert!(told > 0 && told <= seconds, "{told}");
    rig.until("each is told or withheld", |stats| {
        let worker = &stats.workers[0];
        worker.icmp_told + worker.icmp_withheld == worker.icmp_errors
    });
}

#[test]
fn answers_of_the_control_thread_get_past_the_errors_of_another_peer() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let mut peer = Host::new("127.0.0.1");
    let (port, relay) = rig.open(0, "127.0.0.1");
    let gone = closed_port("127.0.0.1");
    for round in 0..200_u32 {
        rig.plane.to_peer(port, gone, b"nobody", IpFields::default());
        rig.plane.to_peer(port, peer.address, &round.to_be_bytes(), IpFields::default());
        rig.plane.flush();
        let got = peer.receive_one();
        assert_eq!((got.from, &got.bytes[..]), (relay, &round.to_be_bytes()[..]));
    }
}

#[test]
fn datagrams_behind_one_that_the_kernel_refuses_still_leave() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let mut peer = Host::new("127.0.0.1");
    let (port, _) = rig.open(0, "127.0.0.1");
    // given destinations that cannot be: broadcast, port 0, the other family
    let refused = ["255.255.255.255:9", "127.0.0.1:0", "[::1]:9"].map(|to| to.parse().unwrap());
    for round in 0..50_u8 {
        for to in refused {
            rig.plane.to_peer(port, to, b"never", IpFields::default());
            rig.plane.to_peer(
                port,
                peer.address,
                &[round],
                IpFields { dont_fragment: round % 2 == 0, marks: None },
            );
        }
        rig.plane.flush();
        let got = peer.receive(3, PATIENCE);
        assert!(got.len() == 3 && got.iter().all(|got| got.bytes == [round]), "{got:?}");
    }
    rig.until("all are settled", |stats| {
        stats.refused(Reason::SendFailed) == 150 && stats.workers[0].sent_to_peers == 150
    });
}

/// An address that nobody listens on.
fn closed_port(ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.local_addr().unwrap()
}

fn is_asleep(rig: &Rig) -> bool {
    let end = monotonic() + PATIENCE;
    while monotonic() < end {
        let before = rig.plane.stats().workers[0].wakeups;
        std::thread::sleep(Duration::from_millis(50));
        if rig.plane.stats().workers[0].wakeups == before {
            return true;
        }
    }
    false
}
