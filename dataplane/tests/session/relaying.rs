//! Messages and media of TCP clients.

use crate::kit::*;
use crate::rig::Told;
use dataplane::session::Ending;
use dataplane::{IpFields, Route, monotonic};
use std::io::Write;
use std::time::Duration;

#[test]
fn a_clients_messages_reach_the_control_thread_and_its_answers_the_client() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    let client = introduce(&mut rig, &mut stream);
    rig.plane.to_client(SESSION, client, b"an answer of any length");
    rig.plane.flush();
    assert_eq!(read(&mut stream, 23), b"an answer of any length");
    drop(stream);
    assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
    let session = rig.session();
    assert_eq!((session.open, session.begun), ([0; 4], [0, 1, 0, 0]));
    assert_eq!((session.frames_in, session.frames_out), (1, 1));
    assert_eq!((session.bytes_in, session.bytes_out), (24, 23));
    assert_eq!(session.ended(Ending::Client), 1);
}

#[test]
fn a_message_may_come_byte_by_byte_and_many_may_come_at_once() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    for byte in stun(8) {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(rig.heard().1, stun(8));
    let many: Vec<u8> = (0..500).flat_map(|at| stun(4 * (at % 50))).collect();
    let sender = std::thread::spawn(move || {
        // pieces that end anywhere
        many.chunks(997).for_each(|piece| stream.write_all(piece).unwrap());
        stream
    });
    let mut next = 0;
    while next < 500 {
        for told in rig.told(1, PATIENCE) {
            let Told::Client { bytes, .. } = told else { panic!("{told:?}") };
            assert_eq!(bytes, stun(4 * (next % 50)), "message {next}");
            next += 1;
        }
    }
    sender.join().unwrap();
}

#[test]
fn channel_data_goes_both_ways_without_the_control_thread() {
    let mut rig = start(|_| ());
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let client = introduce(&mut rig, &mut stream);
    let route = rig.bind_channel(client, 0x4001, peer.local_addr().unwrap());
    for size in [0_usize, 1, 2, 3, 4, 5, 160, 1200, 9000, 65_507] {
        let data: Vec<u8> = (0..size).map(|at| (at * 7 + size) as u8).collect();
        let padding = size.next_multiple_of(4) - size;
        let message = channel_data(0x4001, &data, padding);
        // when the client sends, in two pieces
        let (first, second) = message.split_at(message.len() / 3);
        stream.write_all(first).unwrap();
        stream.write_all(second).unwrap();
        // then the peer has it, from the relayed address; and back
        assert_eq!(receive(&peer), (data.clone(), route.relay), "{size}");
        peer.send_to(&data, route.relay).unwrap();
        assert_eq!(read(&mut stream, message.len()), message, "{size}");
    }
    let counters = rig.plane.route_counters(&route);
    assert_eq!((counters.to_peer.packets, counters.to_client.packets), (10, 10));
    assert_eq!(counters.to_peer.bytes, counters.to_client.bytes);
    assert_eq!(rig.told(1, Duration::from_millis(20)), []);
    let worker = &rig.plane.stats().workers[SESSION];
    assert_eq!((worker.settled(), worker.received), (21, 21));
}

#[test]
fn several_frames_of_one_write_reach_their_peers_in_order() {
    let mut rig = start(|_| ());
    let (mut stream, peers) = (connect(rig.tcp()), [peer(), peer()]);
    let client = introduce(&mut rig, &mut stream);
    for (channel, peer) in (0x4000..).zip(&peers) {
        rig.bind_channel(client, channel, peer.local_addr().unwrap());
    }
    // few enough for a peer's receive buffer
    let rounds = 100_u16;
    let frames = (0..rounds).flat_map(|round| {
        let data = round.to_be_bytes();
        [channel_data(0x4000, &data, 2), channel_data(0x4001, &data, 2)].concat()
    });
    stream.write_all(&frames.collect::<Vec<_>>()).unwrap();
    for round in 0..rounds {
        for peer in &peers {
            assert_eq!(receive(peer).0, round.to_be_bytes());
        }
    }
}

#[test]
fn what_has_no_channel_is_the_control_threads() {
    let mut rig = start(|_| ());
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let client = introduce(&mut rig, &mut stream);
    let route = rig.bind_channel(client, 0x4001, peer.local_addr().unwrap());
    // another channel, without its padding
    stream.write_all(&channel_data(0x4002, b"lost?", 3)).unwrap();
    assert_eq!(rig.heard(), (client, channel_data(0x4002, b"lost?", 0)));
    // another peer
    let other = crate::kit::peer();
    other.send_to(b"hello", route.relay).unwrap();
    let told = rig.told(1, PATIENCE);
    let (port, relay, peer) = (route.port, route.relay, other.local_addr().unwrap());
    assert_eq!(told, [Told::Peer { port, relay, peer, marks: None, bytes: b"hello".to_vec() }]);
    // which answers through the same port
    rig.plane.to_peer(port, peer, b"you too", IpFields::default());
    rig.plane.flush();
    assert_eq!(receive(&other), (b"you too".to_vec(), relay));
}

#[test]
fn a_channel_ends_with_its_time_its_route_its_port_and_its_client() {
    let mut rig = start(|_| ());
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let address = peer.local_addr().unwrap();
    let client = introduce(&mut rig, &mut stream);
    let route = rig.bind_channel(client, 0x4001, address);
    let send = |stream: &mut std::net::TcpStream| {
        stream.write_all(&channel_data(0x4001, b"data", 0)).unwrap();
    };
    send(&mut stream);
    assert_eq!(receive(&peer).0, b"data");
    // its time
    rig.plane.add_route(&Route { expires: monotonic(), ..route }).unwrap();
    rig.plane.flush();
    std::thread::sleep(Duration::from_millis(20));
    send(&mut stream);
    rig.until("the frame is refused", |stats| stats.refused(wire::Reason::Expired) == 1);
    peer.send_to(b"late", route.relay).unwrap();
    assert!(matches!(&rig.told(1, PATIENCE)[..], [Told::Peer { .. }]));
    // restored, then its route
    rig.plane.add_route(&route).unwrap();
    rig.plane.flush();
    send(&mut stream);
    assert_eq!(receive(&peer).0, b"data");
    rig.plane.remove_route(&route);
    rig.plane.flush();
    rig.until("no route", |stats| stats.sessions[0].routes == 0);
    send(&mut stream);
    assert_eq!(rig.heard().1, channel_data(0x4001, b"data", 0));
    // its port
    rig.plane.add_route(&route).unwrap();
    rig.plane.close_port(route.port);
    rig.plane.flush();
    rig.until("no port", |stats| {
        stats.workers[SESSION].ports == 0 && stats.sessions[0].routes == 0
    });
    // its client
    let route = rig.bind_channel(client, 0x4002, address);
    drop(stream);
    rig.until("no client", |stats| stats.sessions[0].routes == 0);
    assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
    peer.send_to(b"anyone?", route.relay).unwrap();
    assert!(matches!(&rig.told(1, PATIENCE)[..], [Told::Peer { .. }]));
}

#[test]
fn two_clients_of_one_relay_reach_each_other() {
    let mut rig = start(|_| ());
    let mut streams = [connect(rig.tcp()), connect(rig.tcp())];
    let clients = streams.each_mut().map(|stream| introduce(&mut rig, stream));
    let nobody = "127.0.0.1:9".parse().unwrap();
    let first = rig.bind_channel(clients[0], 0x4000, nobody);
    let second = rig.bind_channel(clients[1], 0x4000, first.relay);
    let route = Route { channel: 0x4007, peer: second.relay, inner: true, ..first };
    rig.plane.add_route(&route).unwrap();
    rig.plane.flush();
    rig.until("three channels", |stats| stats.sessions[0].routes == 3);
    streams[0].write_all(&channel_data(0x4007, b"from one", 0)).unwrap();
    assert_eq!(read(&mut streams[1], 12), channel_data(0x4000, b"from one", 0));
    streams[1].write_all(&channel_data(0x4000, b"from two", 0)).unwrap();
    assert_eq!(read(&mut streams[0], 12), channel_data(0x4007, b"from two", 0));
}

#[test]
fn a_closed_client_gets_what_was_sent_to_it_before() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    let client = introduce(&mut rig, &mut stream);
    for at in 0..100_u8 {
        rig.plane.to_client(SESSION, client, &[at; 1000]);
    }
    rig.plane.close_client(SESSION, client);
    rig.plane.to_client(SESSION, client, b"too late");
    rig.plane.flush();
    for at in 0..100_u8 {
        assert_eq!(read(&mut stream, 1000), [at; 1000]);
    }
    assert_closed_without_a_byte(&mut stream);
    assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
    rig.until_ended(Ending::Server, 1);
}
