//! DTLS.

use crate::kit::*;
use crate::rig::Told;
use dataplane::session::Ending;
use dataplane::{Client, Transport};
use dial::{Dialer, Received, Trust};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use turnwire_tests::random::Random;

fn dial(server: SocketAddr) -> dial::Link {
    let trust = Some(Arc::new(Trust::new("127.0.0.1", None, true).unwrap()));
    Dialer { server, transport: dial::Transport::Dtls, trust, local: None }.dial().unwrap()
}

#[test]
fn messages_and_media_go_both_ways_over_dtls() {
    let folder = Folder::new("dtls");
    let mut rig = start_secure(&folder, |_| ());
    let mut link = dial(rig.dtls());
    println!("{:?}", link.security());
    link.send(&stun(4)).unwrap();
    let (client, bytes) = rig.heard();
    let (local, remote) = (rig.dtls(), link.local().unwrap());
    assert_eq!(client, Client { transport: Transport::Dtls, local, remote });
    assert_eq!(bytes, stun(4));
    rig.plane.to_client(SESSION, client, &stun(8));
    rig.plane.flush();
    assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(stun(8)));
    let peer = peer();
    let route = rig.bind_channel(client, 0x4001, peer.local_addr().unwrap());
    for size in [0_usize, 1, 3, 160, 1200, 1400] {
        let data = vec![size as u8; size];
        for padding in [0, size.next_multiple_of(4) - size] {
            link.send(&channel_data(0x4001, &data, padding)).unwrap();
            assert_eq!(receive(&peer), (data.clone(), route.relay), "{size}");
        }
        peer.send_to(&data, route.relay).unwrap();
        // no padding: a record is a datagram
        let expected = channel_data(0x4001, &data, 0);
        assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(expected), "{size}");
    }
    let session = rig.session();
    assert_eq!((session.handshakes_ok, session.open), ([0, 0, 0, 1], [0, 0, 0, 1]));
    assert_eq!(session.handshaking, 0);
    // the end is told by either side
    rig.plane.close_client(SESSION, client);
    rig.plane.flush();
    assert_eq!(link.receive(PATIENCE).unwrap(), Received::Closed);
    assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
    assert_eq!(rig.session().open, [0; 4]);
}

#[test]
fn openssl_speaks_dtls_1_2_with_us_and_its_end_is_told() {
    let folder = Folder::new("openssl");
    let mut rig = start_secure(&folder, |_| ());
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-dtls1_2", "-connect", &rig.dtls().to_string(), "-quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    use std::io::{Read, Write};
    let mut input = openssl.stdin.take().unwrap();
    input.write_all(&stun(4)).unwrap();
    input.flush().unwrap();
    let (client, bytes) = rig.heard();
    assert_eq!(bytes, stun(4));
    rig.plane.to_client(SESSION, client, b"an answer\n");
    rig.plane.flush();
    let mut got = [0; 10];
    openssl.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    assert_eq!(&got, b"an answer\n");
    drop(input);
    // s_client ends with its input, or has to be helped
    std::thread::sleep(Duration::from_millis(100));
    let _ = openssl.kill();
    openssl.wait().unwrap();
}

/// A ClientHello of DTLS 1.2 as openssl writes it: its first datagram.
fn client_hello() -> Vec<u8> {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-dtls1_2", "-connect", &server.local_addr().unwrap().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut bytes = vec![0; 2000];
    let (size, _) = server.recv_from(&mut bytes).unwrap();
    openssl.kill().unwrap();
    openssl.wait().unwrap();
    bytes.truncate(size);
    bytes
}

#[test]
fn a_flood_of_client_hellos_is_bounded_and_does_not_keep_a_client_out() {
    let folder = Folder::new("flood");
    let mut rig = start_secure(&folder, |sessions| {
        sessions.limits.half_open_per_thread = 100;
        sessions.limits.half_open_per_source = 10_000;
    });
    let hello = client_hello();
    let sockets: Vec<_> = (0..1000).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for socket in &sockets {
        socket.send_to(&hello, rig.dtls()).unwrap();
    }
    rig.until("the flood is over", |stats| stats.sessions[0].begun[3] == 1000);
    let session = rig.session();
    assert!(session.handshaking <= 100 && session.open[3] <= 100, "{session:#?}");
    assert_eq!(session.ended(Ending::Evicted), 900);
    // no more came back than went out, but for little
    std::thread::sleep(Duration::from_millis(50));
    let mut back = 0;
    for socket in &sockets {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 2000];
        while let Ok((size, _)) = socket.recv_from(&mut bytes) {
            back += size;
        }
    }
    let out = 1000 * hello.len();
    println!("{out} bytes out, {back} bytes back, {} a hello", hello.len());
    assert!(back <= 3 * out && back > 0);
    // and a client is served
    let mut link = dial(rig.dtls());
    link.send(&stun(4)).unwrap();
    assert_eq!(rig.heard().1, stun(4));
    assert_eq!(rig.told(1, Duration::from_millis(10)), [], "nobody else was told of");
}

/// Hands datagrams on both ways, so that all who write to it are one client to the server.
struct Middle {
    front: SocketAddr,
    back: Arc<UdpSocket>,
    /// Datagrams of the server that came before any client's.
    swallowed: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Middle {
    fn new(server: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        back.connect(server).unwrap();
        let middle = Self {
            front: front.local_addr().unwrap(),
            back,
            swallowed: Arc::default(),
            over: Arc::default(),
        };
        let (back, over) = (Arc::clone(&middle.back), Arc::clone(&middle.over));
        let swallowed = Arc::clone(&middle.swallowed);
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        }
        std::thread::spawn(move || {
            let (mut bytes, mut latest) = ([0; 2000], None);
            while !over.load(Ordering::Relaxed) {
                if let Ok((size, from)) = front.recv_from(&mut bytes) {
                    latest = Some(from);
                    back.send(&bytes[..size]).unwrap();
                }
                match (back.recv(&mut bytes), latest) {
                    // where nobody listens any more it is lost
                    (Ok(size), Some(to)) => _ = front.send_to(&bytes[..size], to),
                    (Ok(_), None) => _ = swallowed.fetch_add(1, Ordering::Relaxed),
                    (Err(_), _) => {}
                }
            }
        });
        middle
    }

    /// A ClientHello that is nobody's.
    fn forge(&self, hello: &[u8], number: u8) {
        let mut hello = hello.to_vec();
        hello[30] = number;
        self.back.send(&hello).unwrap();
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_cookie_is_asked_for_again_when_the_hello_comes_again_and_not_by_a_timer() {
    let folder = Folder::new("cookie");
    let rig = start_secure(&folder, |_| ());
    let mut hello = client_hello();
    let socket = peer();
    socket.connect(rig.dtls()).unwrap();
    // when a ClientHello comes, and again because the answer was lost
    for record in 0..2 {
        hello[10] = record;
        socket.send(&hello).unwrap();
        // then
        assert!(socket.recv(&mut [0; 2000]).unwrap() > 25);
    }
    // and no more, for longer than the library waits before it sends anything again
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(socket.recv(&mut [0; 2000]).is_err(), "once for each hello");
    assert_eq!(rig.session().handshaking, 1);
}

#[test]
fn a_client_whose_version_is_refused_is_told_at_once() {
    let folder = Folder::new("version");
    let mut rig = start_secure(&folder, |_| ());
    // given a ClientHello of DTLS 1.0, which turnutils_uclient draws for one connection in two
    let mut hello = client_hello();
    hello[26] = 0xFF;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..2 {
        socket.send_to(&hello, rig.dtls()).unwrap();
        // then an alert comes: fatal, protocol_version
        let mut bytes = [0; 100];
        let (size, _) = socket.recv_from(&mut bytes).unwrap();
        let alert = [21, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 70];
        assert_eq!(bytes[..size], alert);
    }
    rig.until_ended(Ending::Tls, 2);
    assert_eq!((rig.session().open, rig.session().handshaking), ([0; 4], 0));
    // and openssl believes it
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-dtls1", "-cipher", "ALL:@SECLEVEL=0", "-connect"])
        .arg(rig.dtls().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(openssl.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert!(!openssl.wait().unwrap().success());
    assert!(said.contains("alert protocol version"), "{said}");
}

#[test]
fn a_client_that_begins_anew_is_served_at_once_and_its_old_end_is_told_first() {
    let folder = Folder::new("anew");
    let mut rig = start_secure(&folder, |_| ());
    let middle = Middle::new(rig.dtls());
    // given a handshake that stops after its first datagram
    middle.forge(&client_hello(), 1);
    rig.until("it has begun", |stats| {
        // its answer would ask the next client for a wrong cookie
        stats.sessions[0].handshaking == 1 && middle.swallowed.load(Ordering::Relaxed) == 1
    });
    let mut before: Option<dial::Link> = None;
    for round in 0..4 {
        // when another begins from the same address
        let mut link = dial(middle.front);
        link.send(&stun(4)).unwrap();
        // then the old one's end comes before the new one's first message
        let told = rig.told(1 + usize::from(before.is_some()), PATIENCE);
        let gone = told.iter().position(|told| matches!(told, Told::Gone { .. }));
        let (true, Some(Told::Client { local, remote, .. })) =
            (gone == before.as_ref().map(|_| 0), told.last())
        else {
            panic!("{told:?}")
        };
        let client = Client { transport: Transport::Dtls, local: *local, remote: *remote };
        rig.plane.to_client(SESSION, client, &stun(8));
        rig.plane.flush();
        assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(stun(8)));
        rig.until_ended(Ending::Duplicate, round + 1);
        assert_eq!((rig.session().open, rig.session().handshaking), ([0, 0, 0, 1], 0));
        before = Some(link);
    }
}

#[test]
fn a_forged_client_hello_does_not_end_the_association_that_is_there() {
    let folder = Folder::new("forged");
    let mut rig = start_secure(&folder, |sessions| {
        sessions.timers.handshake = Duration::from_secs(2);
    });
    let middle = Middle::new(rig.dtls());
    let mut link = dial(middle.front);
    link.send(&stun(4)).unwrap();
    let (client, _) = rig.heard();
    let (hello, mut old) = (client_hello(), client_hello());
    old[26] = 0xFF;
    for number in 0..20 {
        middle.forge(if number % 4 == 3 { &old } else { &hello }, number);
        link.send(&stun(12)).unwrap();
        assert_eq!(rig.heard(), (client, stun(12)));
        rig.plane.to_client(SESSION, client, &stun(8));
        rig.plane.flush();
        assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(stun(8)));
        let session = rig.session();
        assert!(session.open[3] <= 2 && session.handshaking <= 1, "{session:#?}");
    }
    rig.until("only the live one is left", |stats| stats.sessions[0].open[3] == 1);
    link.send(&stun(16)).unwrap();
    assert_eq!(rig.heard(), (client, stun(16)));
    assert_eq!(rig.session().ended(Ending::Duplicate), 0);
}

#[test]
fn half_open_associations_of_one_source_are_limited_and_run_out_of_time() {
    let folder = Folder::new("half-open");
    let mut rig = start_secure(&folder, |sessions| {
        sessions.limits.half_open_per_source = 5;
        sessions.timers.handshake = Duration::from_secs(2);
    });
    let hello = client_hello();
    let sockets: Vec<_> = (0..20).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for socket in &sockets {
        socket.send_to(&hello, rig.dtls()).unwrap();
    }
    rig.until_ended(Ending::SourceFull, 15);
    rig.until_ended(Ending::HandshakeTimeout, 5);
    let session = rig.session();
    assert_eq!((session.handshaking, session.open, session.handshakes_failed[3]), (0, [0; 4], 5));
}

#[test]
fn what_is_no_dtls_makes_no_association_and_gets_no_answer() {
    let folder = Folder::new("no-dtls");
    let mut rig = start_secure(&folder, |_| ());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let hello = client_hello();
    let mut old = hello.clone();
    old[1] = 3;
    let cases: [&[u8]; 8] =
        [b"", b"\x16", &hello[..25], &old, &stun(4), &[20; 100], &[63; 1500], b"\x40\0\0\0"];
    for bytes in cases {
        socket.send_to(bytes, rig.dtls()).unwrap();
    }
    rig.until("all are refused", |stats| {
        stats.workers[SESSION].refused(wire::Reason::NotStun) == cases.len() as u64
    });
    // mutations of a good one never do harm
    let mut random = Random::replayable(7);
    for _ in 0..2000 {
        let mut bytes = hello.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next_u64() as u8;
        }
        bytes.truncate(1 + random.below(bytes.len()));
        socket.send_to(&bytes, rig.dtls()).unwrap();
    }
    let mut link = dial(rig.dtls());
    link.send(&stun(4)).unwrap();
    assert_eq!(rig.heard().1, stun(4));
    let _ = socket;
}

#[test]
fn plain_udp_and_dtls_share_an_address_and_the_first_byte_tells() {
    let folder = Folder::new("shared");
    for workers in [1, 2] {
        // given one address for both
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let sessions = dataplane::Sessions {
            dtls_listen: vec![address],
            identity: Some(folder.identity("first", KeyKind::P256)),
            ..Default::default()
        };
        let config = crate::rig::config(workers, &[&address.to_string()]);
        let config = dataplane::Config { sessions, ..config };
        let mut rig = crate::rig::Rig::tuned(config, Default::default());
        assert_eq!((rig.listener(0), rig.dtls()), (address, address));
        let mut held = Vec::new();
        for _ in 0..8 {
            // when clients of both kinds come, then each is served by its kind of thread
            let plain = peer();
            let mut link = dial(address);
            plain.send_to(&stun(4), address).unwrap();
            let told = rig.told(1, PATIENCE);
            let [Told::Client { worker, transport: Transport::Udp, .. }] = told[..] else {
                panic!("{told:?}")
            };
            assert!(worker < workers);
            link.send(&stun(8)).unwrap();
            let told = rig.told(1, PATIENCE);
            let [Told::Client { worker, transport: Transport::Dtls, local, remote, .. }] = told[..]
            else {
                panic!("{told:?}")
            };
            assert!(worker >= workers);
            let client = Client { transport: Transport::Dtls, local, remote };
            rig.plane.to_client(worker, client, &stun(12));
            rig.plane.flush();
            assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(stun(12)));
            held.push(link);
        }
    }
    // an address that would swallow the other's is refused
    let sessions = dataplane::Sessions {
        dtls_listen: vec!["127.0.0.1:55349".parse().unwrap()],
        identity: Some(folder.identity("first", KeyKind::P256)),
        ..Default::default()
    };
    let config = dataplane::Config { sessions, ..crate::rig::config(2, &["0.0.0.0:55349"]) };
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let error = dataplane::Dataplane::start(config, waker).err().unwrap().to_string();
    assert!(error.contains("need the same address"), "{error}");
}
