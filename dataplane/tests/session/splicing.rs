//! Data connections of RFC 6062: a client's connection joined with a peer's.

use crate::kit::*;
use crate::rig::{Rig, Told};
use dataplane::Client;
use dataplane::session::Ending;
use dial::{Dialer, Received, Trust};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use turnwire_tests::random::Random;

/// A ConnectionBind request.
fn connection_bind() -> Vec<u8> {
    let mut bytes = stun(8);
    bytes[..2].copy_from_slice(&[0x00, 0x0B]);
    bytes
}

/// Its responses: success, and 401.
fn response(kind: u16) -> Vec<u8> {
    let mut bytes = stun(4);
    bytes[..2].copy_from_slice(&kind.to_be_bytes());
    bytes
}

/// Both ends of a connection to a peer: ours, the peer's.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peers, _) = listener.accept().unwrap();
    peers.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours, peers)
}

fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..size / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect()
}

fn bind(rig: &mut Rig, client: Client, ours: TcpStream) {
    rig.plane.to_client(SESSION, client, &response(0x010B));
    rig.plane.splice(SESSION, client, ours);
    rig.plane.flush();
}

#[test]
fn ten_megabytes_go_each_way_at_once_and_each_end_is_carried_over() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    let (ours, mut peers) = pair();
    // given a peer that has spoken already, and a client that does not wait for the answer
    peers.write_all(b"from the peer, before").unwrap();
    stream.write_all(&[connection_bind(), b"from the client, at once".to_vec()].concat()).unwrap();
    let (client, request) = rig.heard();
    assert_eq!(request, connection_bind());
    thread::sleep(Duration::from_millis(20));
    bind(&mut rig, client, ours);
    assert_eq!(read(&mut stream, 24), response(0x010B));
    assert_eq!(read(&mut stream, 21), b"from the peer, before");
    assert_eq!(read(&mut peers, 24), b"from the client, at once");
    // when both write at once, and the peer reads late
    let (to_peer, to_client) = (bytes(1, 10 << 20), bytes(2, 10 << 20));
    let writers = [(&stream, to_peer.clone()), (&peers, to_client.clone())].map(|(end, bytes)| {
        let mut end = end.try_clone().unwrap();
        thread::spawn(move || {
            end.write_all(&bytes).unwrap();
            end.shutdown(Shutdown::Write).unwrap();
        })
    });
    thread::sleep(Duration::from_millis(300));
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        peers.read_to_end(&mut got).unwrap();
        got
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == to_client, "{} bytes to the client", got.len());
    assert!(reader.join().unwrap() == to_peer, "to the peer");
    for writer in writers {
        writer.join().unwrap();
    }
    rig.until_ended(Ending::SpliceDone, 1);
    assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
    let session = rig.session();
    assert_eq!(session.splice_bytes[0], (10 << 20) + 24);
    assert!(session.splice_bytes[1] >= (10 << 20) + 21);
    assert_eq!(session.splices, 0);
}

#[test]
fn the_same_over_tls() {
    let folder = Folder::new("splice");
    let mut rig = start_secure(&folder, |_| ());
    let trust = Some(Arc::new(Trust::new("127.0.0.1", None, true).unwrap()));
    let dialer = Dialer { server: rig.tls(), transport: dial::Transport::Tls, trust, local: None };
    let mut link = dialer.dial().unwrap();
    let (ours, mut peers) = pair();
    link.send(&[connection_bind(), b"at once".to_vec()].concat()).unwrap();
    let (client, _) = rig.heard();
    bind(&mut rig, client, ours);
    assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(response(0x010B)));
    assert_eq!(read(&mut peers, 7), b"at once");
    let (to_peer, to_client) = (bytes(3, 2 << 20), bytes(4, 10 << 20));
    let (expected, mut writer) = (to_client.clone(), peers.try_clone().unwrap());
    let writer = thread::spawn(move || {
        writer.write_all(&to_client).unwrap();
        writer
    });
    let reader = thread::spawn(move || read(&mut peers, 2 << 20));
    to_peer.chunks(16_000).for_each(|piece| link.send(piece).unwrap());
    assert!(reader.join().unwrap() == to_peer);
    let mut got = Vec::new();
    while got.len() < expected.len() {
        match link.receive_raw(PATIENCE).unwrap() {
            Received::Message(bytes) | Received::Foreign(bytes) => got.extend(bytes),
            end => panic!("{end:?} after {} bytes", got.len()),
        }
    }
    assert!(got == expected, "{} bytes to the client", got.len());
    // the peer's end comes as TLS's own
    writer.join().unwrap().shutdown(Shutdown::Write).unwrap();
    assert_eq!(link.receive_raw(PATIENCE).unwrap(), Received::Closed);
    drop(link);
    rig.until("over", |stats| stats.sessions[0].splices == 0);
}

#[test]
fn a_refused_request_lets_the_client_try_again_on_the_same_connection() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    // given two messages behind the first, which could be the peer's
    stream.write_all(&[connection_bind(), stun(4), stun(8)].concat()).unwrap();
    let (client, _) = rig.heard();
    assert_eq!(rig.told(1, Duration::from_millis(50)), []);
    rig.plane.to_client(SESSION, client, &response(0x011B));
    rig.plane.flush();
    let told = rig.told(2, PATIENCE);
    let [Told::Client { bytes: a, .. }, Told::Client { bytes: b, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((a, b), (&stun(4), &stun(8)));
}

#[test]
fn a_peer_that_breaks_and_a_server_that_closes_end_the_client() {
    let mut rig = start(|_| ());
    for by_server in [false, true] {
        let mut stream = connect(rig.tcp());
        let (ours, mut peers) = pair();
        stream.write_all(&connection_bind()).unwrap();
        let (client, _) = rig.heard();
        bind(&mut rig, client, ours);
        assert_eq!(read(&mut stream, 24), response(0x010B));
        if by_server {
            rig.plane.close_client(SESSION, client);
            rig.plane.flush();
            assert_closed_without_a_byte(&mut peers);
        } else {
            // unread bytes make a close a reset
            stream.write_all(b"unread").unwrap();
            thread::sleep(Duration::from_millis(50));
            drop(peers);
        }
        assert_closed_without_a_byte(&mut stream);
        assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
    }
    assert_eq!((rig.session().splices, rig.session().open), (0, [0; 4]));
}

#[test]
fn a_pair_without_traffic_runs_out_of_time_and_a_busy_one_does_not() {
    // longer than a busy machine lets anybody wait
    const IDLE: Duration = Duration::from_millis(1500);
    let mut rig = start(|sessions| {
        sessions.timers.splice_idle = IDLE;
        sessions.timers.idle = IDLE / 2;
    });
    let mut stream = connect(rig.tcp());
    let (ours, mut peers) = pair();
    stream.write_all(&connection_bind()).unwrap();
    let (client, _) = rig.heard();
    bind(&mut rig, client, ours);
    read(&mut stream, 24);
    let mut last = Instant::now();
    for _ in 0..20 {
        thread::sleep(IDLE / 15);
        last = Instant::now();
        stream.write_all(b"still here").unwrap();
        assert_eq!(read(&mut peers, 10), b"still here");
    }
    assert_closed_without_a_byte(&mut stream);
    assert!(last.elapsed() > IDLE * 2 / 3, "{:?}", last.elapsed());
    rig.until_ended(Ending::SpliceIdle, 1);
}

#[test]
fn a_client_that_is_gone_takes_the_peers_connection_with_it() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    let client = introduce(&mut rig, &mut stream);
    drop(stream);
    rig.until("gone", |stats| stats.sessions[0].open == [0; 4]);
    let (ours, mut peers) = pair();
    bind(&mut rig, client, ours);
    assert_closed_without_a_byte(&mut peers);
    // one that ends while its answer is to come has its end carried over
    let mut stream = connect(rig.tcp());
    stream.write_all(&[connection_bind(), b"all of it".to_vec()].concat()).unwrap();
    assert!(matches!(rig.told(2, PATIENCE)[..], [Told::Gone { .. }, Told::Client { .. }]));
    let client = tcp_client(&stream);
    drop(stream);
    let (ours, mut peers) = pair();
    bind(&mut rig, client, ours);
    let mut got = Vec::new();
    peers.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"all of it");
    drop(peers);
    rig.until("over", |stats| stats.sessions[0].open == [0; 4]);
}
