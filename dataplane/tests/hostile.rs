//! What must not get through, and that every datagram is counted once.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/rig.rs"]
mod rig;

use dataplane::batch::Marks;
use dataplane::{Config, Dataplane, IpFields, OpenPortError, StartError, Tuning, monotonic};
use mio::{Poll, Token, Waker};
use rig::{Host, PATIENCE, Rig, Told, channel_data, config, stun};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use turnwire_tests::random::Random;
use wire::Reason;

/// The one reason that a snapshot's worker 0 refused anything for, and how often.
fn refused(rig: &Rig) -> Vec<(Reason, u64)> {
    let stats = rig.plane.stats();
    let all = Reason::ALL.iter().map(|reason| (*reason, stats.refused(*reason)));
    all.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn every_datagram_ends_in_exactly_one_counter() {
    let mut random = Random::replayable(2024);
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let (mut stranger, listener) = (Host::new("127.0.0.1"), rig.listener(0));
    let route = rig.channel(client.address, listener, "127.0.0.1", peer.address);
    let (mut sent, mut to_peer, mut to_client, mut told) = (0, 0, 0, 0);
    let last_hop = Some(Marks { ttl: 1, tos: 0 });
    for _ in 0..100 {
        let (mut got_peer, mut got_client, mut got_told) = (0, 0, 0);
        for _ in 0..32 {
            let data = vec![0x31; random.below(1200)];
            sent += 1;
            match random.below(10) {
                0 | 1 => {
                    client.put(listener, &channel_data(0x4000, &data, random.below(4)), None);
                    got_peer += 1;
                }
                2 | 3 => {
                    peer.put(route.relay, &data, None);
                    got_client += 1;
                }
                4 => client.put(listener, &channel_data(0x4000, &data, 5), None),
                5 => client.put(listener, &channel_data(0x4000, &data, 0), last_hop),
                6 => peer.put(route.relay, &data, last_hop),
                7 => client.put(listener, &[0x90; 30], None),
                8 => {
                    stranger.put(route.relay, &data, None);
                    got_told += 1;
                }
                _ => {
                    stranger.put(listener, &stun(random.below(100)), None);
                    got_told += 1;
                }
            }
        }
        [&mut client, &mut peer, &mut stranger].into_iter().for_each(Host::flush);
        assert_eq!(peer.each(got_peer, PATIENCE, |_, _| ()), got_peer);
        assert_eq!(client.each(got_client, PATIENCE, |_, _| ()), got_client);
        assert_eq!(rig.told(got_told, PATIENCE).len(), got_told);
        (to_peer, to_client, told) =
            (to_peer + got_peer, to_client + got_client, told + got_told as u64);
    }
    rig.until("all are settled", |stats| {
        let worker = &stats.workers[0];
        worker.received == sent && worker.settled() == sent
    });
    let worker = &rig.plane.stats().workers[0];
    assert_eq!(
        worker.forwarded.map(|traffic| traffic.packets),
        [to_peer, to_client].map(|n| n as u64)
    );
    assert_eq!(worker.clients_to_control + worker.peers_to_control, told);
    let kinds: Vec<_> = refused(&rig).iter().map(|(reason, _)| *reason).collect();
    assert_eq!(kinds, [Reason::NotStun, Reason::BadChannelData, Reason::LastHop]);
    assert_eq!(worker.overflowed + worker.receive_errors, 0);
}

#[test]
fn a_full_ring_refuses_messages_and_keeps_those_it_has() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, listener) = (Host::new("127.0.0.1"), rig.listener(0));
    // when nobody polls, and more comes than the ring holds
    let many = 4000;
    for round in 1..=many / 50 {
        (0..50).for_each(|_| client.put(listener, &stun(250), None));
        client.flush();
        rig.until("all are settled", |stats| stats.workers[0].settled() == round * 50);
    }
    // then
    let kept = rig.plane.stats().workers[0].clients_to_control;
    assert!(kept > 1024 && kept < many, "{kept}");
    assert_eq!(refused(&rig), [(Reason::RingFull, many - kept)]);
    assert_eq!(rig.told(kept as usize, PATIENCE).len(), kept as usize);
    client.send(listener, &stun(0));
    assert_eq!(rig.told(1, PATIENCE).len(), 1, "there is room again");
}

#[test]
fn a_flood_of_unrouted_datagrams_leaves_room_for_messages() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut flooder) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let (_, relay) = rig.open(0, "127.0.0.1");
    let mut sent = 0;
    while rig.plane.stats().refused(Reason::RingFull) == 0 {
        (0..50).for_each(|_| flooder.put(relay, &[1; 1000], None));
        flooder.flush();
        sent += 50;
        rig.until("all are settled", |stats| stats.workers[0].settled() == sent);
    }
    client.send(rig.listener(0), &stun(40));
    rig.until("the message is taken", |stats| stats.workers[0].clients_to_control == 1);
}

#[test]
fn a_full_ring_to_a_worker_refuses_and_counts() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let mut client = Host::new("127.0.0.1");
    let listener = rig.listener(0);
    let many = 5000;
    for _ in 0..many {
        rig.plane.to_client(0, rig::udp(listener, client.address), &[3; 500]);
    }
    rig.plane.flush();
    let refused = rig.plane.stats().refused_control[Reason::RingFull as usize];
    assert!(refused > 0 && refused < many, "{refused}");
    let sent = many - refused;
    rig.until("the rest is sent", |stats| stats.workers[0].sent_to_clients == sent);
    assert!(client.each(1, PATIENCE, |_, bytes| assert_eq!(bytes, [3; 500])) > 0);
}

#[test]
fn an_old_owner_of_a_port_cannot_reach_the_new_one() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let mut peer = Host::new("127.0.0.1");
    let mut owners = Vec::new();
    let mut current = rig.open(0, "127.0.0.1");
    for round in 0..50 {
        owners.push(current.0);
        rig.plane.close_port(current.0);
        rig.plane.flush();
        rig.until("the worker let go", |stats| stats.workers[0].ports == 0);
        assert!(rig.told(0, Duration::ZERO).is_empty());
        current = rig.open(0, "127.0.0.1");
        // when every old owner sends and closes
        for old in &owners {
            assert_ne!(*old, current.0);
            rig.plane.to_peer(*old, peer.address, b"stale", IpFields::default());
            rig.plane.close_port(*old);
        }
        // then only the new one is heard, and it is still open
        rig.plane.to_peer(current.0, peer.address, b"fresh", IpFields::default());
        rig.plane.flush();
        let got = peer.receive_one();
        assert_eq!((got.from, &got.bytes[..]), (current.1, &b"fresh"[..]), "round {round}");
    }
    assert_eq!(rig.plane.stats().refused(Reason::PortClosed), (1..=50).sum::<u64>());
}

#[test]
fn a_relay_address_in_use_is_told_from_other_failures() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (port, relay) = rig.open(0, "127.0.0.1");
    assert!(matches!(rig.plane.open_port(0, relay), Err(OpenPortError::InUse)));
    let foreign = "192.0.2.77:50000".parse().unwrap();
    assert!(matches!(rig.plane.open_port(0, foreign), Err(OpenPortError::Io(_))));
    assert!(matches!(rig.plane.open_port(9, relay), Err(OpenPortError::Io(_))));
    // closed, and given back by the worker: free again
    rig.plane.close_port(port);
    rig.plane.flush();
    let end = monotonic() + PATIENCE;
    while rig.plane.open_port(0, relay).is_err() {
        assert!(monotonic() < end, "still in use");
        rig.told(1, Duration::from_millis(1));
    }
}

#[test]
fn the_limit_of_ports_is_kept_and_closing_makes_room() {
    let limited = Config { ports_max: 3, ..config(1, &["127.0.0.1:0"]) };
    let mut rig = Rig::tuned(limited, Tuning::default());
    let ports: Vec<_> = (0..3).map(|_| rig.open(0, "127.0.0.1")).collect();
    let further = "127.0.0.1:0".parse().unwrap();
    assert!(matches!(rig.plane.open_port(0, further), Err(OpenPortError::Exhausted)));
    rig.plane.close_port(ports[1].0);
    assert!(rig.plane.open_port(0, further).is_ok());
}

#[test]
fn what_is_longer_than_the_buffer_is_refused_not_cut() {
    let tuning = Tuning { datagram_max: 100, ..Tuning::default() };
    let mut rig = Rig::tuned(config(1, &["127.0.0.1:0"]), tuning);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    let route = rig.channel(client.address, listener, "127.0.0.1", peer.address);
    client.send(listener, &channel_data(0x4000, &[1; 97], 0));
    client.send(listener, &stun(81));
    peer.send(route.relay, &[2; 101]);
    rig.until("all are refused", |stats| stats.refused(Reason::Truncated) == 3);
    client.send(listener, &channel_data(0x4000, &[1; 96], 0));
    assert_eq!(peer.receive_one().bytes, [1; 96]);
    peer.send(route.relay, &[2; 100]);
    assert_eq!(client.receive_one().bytes.len(), 104);
    assert!(rig.told(1, Duration::from_millis(20)).is_empty());
}

#[test]
fn short_datagrams_are_refused_or_relayed_by_where_they_come_in() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    let route = rig.channel(client.address, listener, "127.0.0.1", peer.address);
    for bytes in [&[][..], &[0x40], &[0x40, 0], &[0x40, 0, 0], &[0x50, 0, 0, 0], &[0; 19]] {
        client.send(listener, bytes);
    }
    rig.until("all are refused", |stats| stats.workers[0].settled() == 6);
    peer.send(route.relay, &[]);
    assert_eq!(client.receive_one().bytes, channel_data(0x4000, &[], 0));
    assert_eq!(refused(&rig).iter().map(|(_, count)| count).sum::<u64>(), 6, "{:?}", refused(&rig));
}

#[test]
fn one_flooding_peer_does_not_starve_another_client() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    rig.channel(client.address, listener, "127.0.0.1", peer.address);
    let (_, flooded) = rig.open(0, "127.0.0.1");
    let mut flooder = Host::new("127.0.0.1");
    for round in 0..100_u8 {
        (0..64).for_each(|_| flooder.put(flooded, &[0; 700], None));
        flooder.flush();
        client.send(listener, &channel_data(0x4000, &[round], 0));
        assert_eq!(peer.receive_one().bytes, [round]);
    }
}

#[test]
fn a_listening_port_in_use_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let running = Rig::start(2, &["127.0.0.1:0"]);
    for (address, workers) in [(address, 1), (address, 2), (running.listener(0), 2)] {
        let error = start(config(workers, &[&address.to_string()])).err().unwrap();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(matches!(error, StartError::Listen { .. }));
    }
    assert!(matches!(start(config(1, &[])), Err(StartError::NoListener)));
}

#[test]
fn an_address_goes_before_one_that_stands_for_all() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let all = format!("0.0.0.0:{}", free.port());
    for workers in [1, 2] {
        let mut rig = Rig::start(workers, &[&all, &free.to_string()]);
        for reached in ["127.0.0.1", "127.0.0.2"] {
            let mut client = Host::new("127.0.0.1");
            let to = SocketAddr::new(reached.parse().unwrap(), free.port());
            client.send(to, &stun(0));
            let told = rig.told(1, PATIENCE);
            let [Told::Client { worker, local, .. }] = told[..] else { panic!("{told:?}") };
            assert_eq!(local, to);
            rig.plane.to_client(worker, rig::udp(local, client.address), b"here");
            rig.plane.flush();
            assert_eq!(client.receive_one().from, to);
        }
    }
    let twice = start(config(2, &[&all, &all])).err().unwrap();
    assert!(twice.to_string().contains("given twice"), "{twice}");
}

fn start(config: Config) -> Result<Dataplane, StartError> {
    let poll = Poll::new().unwrap();
    Dataplane::start(config, Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()))
}

#[test]
fn a_core_that_is_not_there_leaves_its_worker_unpinned_and_working() {
    let cores = Config { cores: vec![9999, 0], ..config(0, &["127.0.0.1:0"]) };
    let mut rig = Rig::tuned(cores, Tuning::default());
    let info: Vec<_> = rig.plane.workers().collect();
    assert_eq!(info[0].core, Some(9999));
    assert!(!info[0].pinned && info[1].pinned, "{info:?}");
    assert!(info[0].listener_buffers.receive >= 100_000, "{info:?}");
    let mut told = 0;
    for _ in 0..16 {
        let mut client = Host::new("127.0.0.1");
        client.send(rig.listener(0), &stun(0));
        told += rig.told(1, PATIENCE).iter().filter(|told| is_client(told)).count();
    }
    assert_eq!(told, 16);
}

fn is_client(told: &Told) -> bool {
    matches!(told, Told::Client { .. })
}

#[test]
fn link_local_channels_are_left_to_the_control_thread() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let client: SocketAddr = "[fe80::1%1]:5000".parse().unwrap();
    let (listener, peer) = (rig.listener(0), "127.0.0.1:9".parse().unwrap());
    rig.channel(client, listener, "127.0.0.1", peer);
    assert_eq!(rig.plane.stats().routes, 0);
}

#[test]
fn a_stopped_data_plane_has_let_go_of_its_port() {
    let rig = Rig::start(2, &["127.0.0.1:0"]);
    let listener = rig.listener(0);
    let begun = monotonic();
    rig.plane.stop();
    assert!(monotonic() - begun < PATIENCE);
    assert!(std::net::UdpSocket::bind(listener).is_ok());
}
