//! PROXY protocol version 2.

use crate::kit::*;
use crate::rig::Told;
use dataplane::session::Ending;
use dataplane::{Client, Transport};
use std::io::Write;
use std::net::SocketAddr;

/// A header for a client over IPv4.
fn header(remote: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (SocketAddr::V4(remote), SocketAddr::V4(local)) = (remote, local) else { panic!("IPv4") };
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend(remote.ip().octets());
    bytes.extend(local.ip().octets());
    bytes.extend(remote.port().to_be_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes
}

fn client(port: u16) -> Client {
    let local = "203.0.113.1:3478".parse().unwrap();
    Client { transport: Transport::Tcp, local, remote: SocketAddr::from(([192, 0, 2, 1], port)) }
}

fn proxies() -> Vec<ipnet::IpNet> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

#[test]
fn the_client_is_whom_the_load_balancer_names_and_answers_go_over_the_connection() {
    let mut rig = start(|sessions| sessions.proxy_sources = proxies());
    let mut stream = connect(rig.tcp());
    let client = client(50_000);
    // in pieces, with the first message behind it
    let bytes = [header(client.remote, client.local), stun(4)].concat();
    for piece in bytes.chunks(7) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(rig.heard(), (client, stun(4)));
    rig.plane.to_client(SESSION, client, &stun(8));
    rig.plane.flush();
    assert_eq!(read(&mut stream, 28), stun(8));
    // media too
    let peer = peer();
    let route = rig.bind_channel(client, 0x4000, peer.local_addr().unwrap());
    stream.write_all(&channel_data(0x4000, b"data", 0)).unwrap();
    assert_eq!(receive(&peer), (b"data".to_vec(), route.relay));
    drop(stream);
    assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
}

#[test]
fn a_missing_old_or_malformed_header_closes_without_a_byte() {
    let mut rig = start(|sessions| sessions.proxy_sources = proxies());
    let mut bad = header(client(1).remote, client(1).local);
    bad[12] = 0x11;
    let v1 = b"PROXY TCP4 192.0.2.1 203.0.113.1 50000 3478\r\n";
    for (count, bytes) in (1..).zip([&stun(4)[..], v1, &bad]) {
        let mut stream = connect(rig.tcp());
        stream.write_all(bytes).unwrap();
        assert_closed_without_a_byte(&mut stream);
        rig.until_ended(Ending::BadProxy, count);
    }
    assert_eq!(rig.told(1, std::time::Duration::from_millis(20)), []);
}

#[test]
fn from_other_sources_a_header_is_no_stun() {
    let mut rig = start(|sessions| {
        sessions.proxy_sources = vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()];
    });
    let mut stream = connect(rig.tcp());
    stream.write_all(&header(client(1).remote, client(1).local)).unwrap();
    assert_closed_without_a_byte(&mut stream);
    rig.until_ended(Ending::NotStun, 1);
}

#[test]
fn a_client_named_twice_is_the_later_one_and_a_source_is_limited_by_its_own_name() {
    let mut rig = start(|sessions| {
        sessions.proxy_sources = proxies();
        sessions.limits.connections_per_source = 2;
    });
    let come = |rig: &mut crate::rig::Rig, port: u16| {
        let mut stream = connect(rig.tcp());
        let client = client(port);
        stream.write_all(&[header(client.remote, client.local), stun(4)].concat()).unwrap();
        stream
    };
    let mut old = come(&mut rig, 1);
    rig.heard();
    let mut new = come(&mut rig, 1);
    assert_closed_without_a_byte(&mut old);
    rig.until_ended(Ending::Duplicate, 1);
    // the end of the old, then the message of the new, or the other way: both are told of
    let told = rig.told(2, PATIENCE);
    assert_eq!(told.iter().filter(|told| matches!(told, Told::Gone { .. })).count(), 1);
    rig.plane.to_client(SESSION, client(1), &stun(0));
    rig.plane.flush();
    assert_eq!(read(&mut new, 20), stun(0));
    let _second = come(&mut rig, 2);
    rig.heard();
    assert_closed_without_a_byte(&mut come(&mut rig, 3));
    rig.until_ended(Ending::SourceFull, 1);
}
