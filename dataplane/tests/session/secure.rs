//! TLS.

use crate::kit::*;
use crate::rig::{Rig, Told};
use dataplane::session::Ending;
use dataplane::{Client, Identity, IdentityError, StartError, Transport};
use dial::{Dialer, Received, Trust};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

fn dialer(server: SocketAddr, transport: dial::Transport) -> Dialer {
    let trust = Some(Arc::new(Trust::new("127.0.0.1", None, true).unwrap()));
    Dialer { server, transport, trust, local: None }
}

fn introduce(rig: &mut Rig, link: &mut dial::Link) -> Client {
    link.send(&stun(4)).unwrap();
    let (client, bytes) = rig.heard();
    assert_eq!((client.remote, bytes), (link.local().unwrap(), stun(4)));
    client
}

fn is_closed(received: std::io::Result<Received>) -> bool {
    matches!(received, Ok(Received::Closed))
}

#[test]
fn messages_and_media_go_both_ways_over_tls() {
    let folder = Folder::new("tls");
    let mut rig = start_secure(&folder, |_| ());
    let mut link = dialer(rig.tls(), dial::Transport::Tls).dial().unwrap();
    println!("{:?}", link.security());
    assert!(link.security().unwrap().contains("stun.turn"), "{:?}", link.security());
    let client = introduce(&mut rig, &mut link);
    assert_eq!(client.transport, Transport::Tls);
    rig.plane.to_client(SESSION, client, &stun(8));
    rig.plane.flush();
    assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(stun(8)));
    let peer = peer();
    let route = rig.bind_channel(client, 0x4001, peer.local_addr().unwrap());
    for size in [0_usize, 1, 3, 160, 1200, 20_000, 65_507] {
        let data: Vec<u8> = (0..size).map(|at| (at * 3 + size) as u8).collect();
        let padding = size.next_multiple_of(4) - size;
        // pieces of a message in records of their own
        for piece in channel_data(0x4001, &data, padding).chunks(size / 2 + 3) {
            link.send(piece).unwrap();
        }
        assert_eq!(receive(&peer), (data.clone(), route.relay), "{size}");
        peer.send_to(&data, route.relay).unwrap();
        let expected = channel_data(0x4001, &data, 0);
        assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(expected), "{size}");
    }
    drop(link);
    assert_eq!(rig.told(1, PATIENCE), [Told::Gone { worker: SESSION, client }]);
    let session = rig.session();
    assert_eq!((session.handshakes_ok, session.open), ([0, 0, 1, 0], [0; 4]));
}

#[test]
fn one_port_takes_tls_and_plain_and_the_first_byte_tells() {
    let folder = Folder::new("both");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = start_secure(&folder, |sessions| {
        (sessions.tcp_listen, sessions.tls_listen) = (vec![port], vec![port]);
    });
    assert_eq!((rig.tcp(), rig.tls()), (port, port));
    let mut link = dialer(port, dial::Transport::Tls).dial().unwrap();
    assert_eq!(introduce(&mut rig, &mut link).transport, Transport::Tls);
    let mut stream = connect(port);
    crate::kit::introduce(&mut rig, &mut stream);
    assert_eq!(rig.session().open, [0, 1, 1, 0]);
}

#[test]
fn plain_stun_on_a_tls_port_and_broken_tls_get_no_byte() {
    let folder = Folder::new("broken");
    let mut rig = start_secure(&folder, |sessions| {
        sessions.timers.handshake = Duration::from_secs(1);
    });
    let mut plain = connect(rig.tls());
    plain.write_all(&stun(4)).unwrap();
    assert_closed_without_a_byte(&mut plain);
    rig.until_ended(Ending::NotStun, 1);
    let mut garbage = connect(rig.tls());
    garbage.write_all(b"\x16HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    assert_closed_without_a_byte(&mut garbage);
    rig.until_ended(Ending::Tls, 1);
    // a handshake that begins and goes no further
    let mut half = connect(rig.tls());
    half.write_all(&client_hello()[..50]).unwrap();
    assert_closed_without_a_byte(&mut half);
    let mut whole = connect(rig.tls());
    whole.write_all(&client_hello()).unwrap();
    whole.read_to_end(&mut Vec::new()).unwrap();
    rig.until_ended(Ending::HandshakeTimeout, 2);
    assert_eq!(rig.session().handshakes_failed, [0, 0, 3, 0]);
}

/// The certificate that a server shows.
fn shown_by(server: SocketAddr) -> Vec<u8> {
    let out = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &server.to_string(), "-showcerts"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let start = text.find("subject=").unwrap_or_else(|| panic!("{text}"));
    text[start..].lines().next().unwrap().as_bytes().to_vec()
}

#[test]
fn another_identity_is_shown_to_new_clients_and_nobody_is_dropped() {
    let folder = Folder::new("renewed");
    let mut rig = start_secure(&folder, |_| ());
    let mut link = dialer(rig.tls(), dial::Transport::Tls).dial().unwrap();
    let client = introduce(&mut rig, &mut link);
    assert_eq!(shown_by(rig.tls()), b"subject=CN = first");
    rig.plane.replace_identity(&folder.identity("second", KeyKind::P256)).unwrap();
    rig.plane.flush();
    let end = std::time::Instant::now() + PATIENCE;
    while shown_by(rig.tls()) != b"subject=CN = second" {
        assert!(std::time::Instant::now() < end, "the old certificate is still shown");
    }
    rig.plane.to_client(SESSION, client, &stun(0));
    rig.plane.flush();
    assert_eq!(link.receive(PATIENCE).unwrap(), Received::Message(stun(0)));
    // one that DTLS cannot use is refused, and changes nothing
    let rsa = folder.identity("third", KeyKind::Rsa);
    let error = rig.plane.replace_identity(&rsa).unwrap_err();
    assert!(matches!(error, IdentityError::KeyForDtls { .. }), "{error}");
    rig.plane.flush();
    assert_eq!(shown_by(rig.tls()), b"subject=CN = second");
}

#[test]
fn both_versions_and_every_offer_of_protocols_that_names_ours_is_taken() {
    let folder = Folder::new("versions");
    let rig = start_secure(&folder, |_| ());
    for (arguments, expected) in [
        (&["-tls1_2"][..], "Protocol  : TLSv1.2"),
        (&["-tls1_3"], "TLSv1.3"),
        (&["-alpn", "stun.nat-discovery"], "ALPN protocol: stun.nat-discovery"),
        (&["-alpn", "h2,stun.turn"], "ALPN protocol: stun.turn"),
        (&[], "No ALPN negotiated"),
    ] {
        let out = std::process::Command::new("openssl")
            .args(["s_client", "-connect", &rig.tls().to_string()])
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    assert!(rig.session().handshakes_ok[Transport::Tls as usize] >= 5);
}

#[test]
fn an_rsa_key_is_good_for_tls_and_refused_for_dtls_in_words() {
    let folder = Folder::new("rsa");
    let rig = start(|sessions| {
        sessions.tls_listen = vec!["127.0.0.1:0".parse().unwrap()];
        sessions.identity = Some(folder.identity("first", KeyKind::Rsa));
    });
    assert_eq!(shown_by(rig.tls()), b"subject=CN = first");
    let sessions = dataplane::Sessions {
        dtls_listen: vec!["127.0.0.1:0".parse().unwrap()],
        identity: Some(folder.identity("first", KeyKind::Rsa)),
        ..Default::default()
    };
    let config = dataplane::Config { sessions, ..crate::rig::config(1, &["127.0.0.1:0"]) };
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let error = dataplane::Dataplane::start(config, waker).err().unwrap();
    assert!(matches!(error, StartError::Identity(IdentityError::KeyForDtls { .. })), "{error}");
    assert!(error.to_string().contains("first.key"), "{error}");
}

#[test]
fn an_identity_that_cannot_be_used_names_the_file_and_the_reason() {
    let folder = Folder::new("identities");
    let [certificate, key] = folder.certificate("good", KeyKind::P256);
    let [other, other_key] = folder.certificate("other", KeyKind::Rsa);
    let missing = folder.path().join("missing.pem");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing here\n").unwrap();
    let text = |certificate: &std::path::Path, key: &std::path::Path| {
        Identity::load(certificate, key).err().unwrap().to_string()
    };
    let cases = [
        (text(&missing, &key), "cannot read", "missing.pem"),
        (text(&certificate, &missing), "cannot read", "missing.pem"),
        (text(&empty, &key), "no certificate in", "empty.pem"),
        (text(&certificate, &empty), "no private key in", "empty.pem"),
        (text(&key, &key), "no certificate in", "good.key"),
        (text(&certificate, &certificate), "no private key in", "good.crt"),
        (text(&other, &key), "does not belong to the certificate", "other.crt"),
        (text(&certificate, &other_key), "does not belong to the certificate", "other.key"),
    ];
    for (text, reason, file) in cases {
        println!("{text}");
        assert!(text.contains(reason) && text.contains(file), "{text}");
    }
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_a_handshake_is_forgotten() {
    let folder = Folder::new("away");
    let mut rig = start_secure(&folder, |_| ());
    for _ in 0..50 {
        let mut stream = TcpStream::connect(rig.tls()).unwrap();
        stream.write_all(&client_hello()).unwrap();
    }
    rig.until("all are gone", |stats| {
        let session = &stats.sessions[0];
        session.handshakes_failed[2] == 50 && session.open == [0; 4]
    });
    let mut link = dialer(rig.tls(), dial::Transport::Tls).dial().unwrap();
    introduce(&mut rig, &mut link);
    assert!(!is_closed(link.receive(Duration::from_millis(10))));
}
