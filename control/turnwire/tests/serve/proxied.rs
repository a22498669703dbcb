//! PROXY protocol version 2: behind a load balancer the client is whom its header names.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use turn::attribute::PasswordAlgorithm;
use turn::integrity::Key;
use turn::message::{Message, Method};

use crate::by_hand::{Challenge, Line, UDP, code, request};
use crate::relay::{LOOPBACK, Relay, SOON, USER, eventually, program};

/// The load balancer, and a host that is none.
const BALANCER: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];

fn relay() -> Relay {
    let mut command = program();
    command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user=alice:wonderland"]);
    command.arg("--proxy-protocol-from=127.0.0.2/32");
    Relay::start_as(command)
}

/// Where it listens by TCP: at port 0 that is another port than by UDP.
fn tcp(relay: &Relay) -> SocketAddr {
    let log = relay.log_text();
    let line = log.lines().find(|line| line.contains("\"transport\":\"tcp\"")).expect("a listener");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
}

/// A connection from this address.
fn connect(relay: &Relay, from: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
    socket.connect(&tcp(relay).into()).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream
}

/// The header: this client's connection, to the address of the balancer that it knows.
fn header(client: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(client) = client else { panic!("IPv4") };
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend(client.ip().octets());
    bytes.extend([203, 0, 113, 1]);
    bytes.extend(client.port().to_be_bytes());
    bytes.extend(3478u16.to_be_bytes());
    bytes
}

fn mapped(answer: &[u8]) -> SocketAddr {
    assert_eq!(code(answer), 0);
    let message = Message::parse(answer).expect("a message");
    message.xor_mapped_address().expect("well formed").expect("XOR-MAPPED-ADDRESS")
}

/// Reads to the end, at which there has been nothing.
fn closed_without_a_byte(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        // What the relay had not read when it closed makes a reset of the end.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    assert_eq!(bytes, b"");
}

#[test]
fn from_a_named_source_the_client_is_whom_the_header_says() {
    // given two clients of one balancer
    let relay = relay();
    for client in ["198.51.100.7:40001", "198.51.100.8:40001"] {
        let client: SocketAddr = client.parse().expect("an address");
        let mut stream = connect(&relay, BALANCER);
        // when
        stream.write_all(&header(client)).expect("written");
        let mut line = Line::Stream(stream);
        // then
        assert_eq!(mapped(&line.exchange(&request(Method::BINDING, |_| {}))), client);
        // and so it is for its allocation
        let challenge = Challenge::of(&mut line);
        let key = Key::long_term(PasswordAlgorithm::Md5, USER.0, &challenge.realm, USER.1);
        let answer = challenge.ask(&mut line, Method::ALLOCATE, (USER.0, &key), |b| {
            b.requested_transport(UDP);
        });
        assert_eq!(mapped(&answer), client);
        let (_, page) = relay.get("/allocations");
        assert!(page.contains(&client.to_string()), "{page}");
    }
}

#[test]
fn from_other_sources_a_header_ends_the_connection_and_a_named_one_must_send_it() {
    let relay = relay();
    let client: SocketAddr = "198.51.100.7:40001".parse().expect("an address");
    let binding = request(Method::BINDING, |_| {});
    let ended = |reason: &str| {
        relay.metric(&format!("turnwire_connections_ended_total{{reason=\"{reason}\"}}"))
    };
    // a header of somebody who is no balancer
    let mut stream = connect(&relay, OTHER);
    stream.write_all(&[header(client), binding.clone()].concat()).expect("written");
    closed_without_a_byte(stream);
    eventually(|| ended("not_stun") == 1);
    // who gets the address that it has
    let stream = connect(&relay, OTHER);
    let own = stream.local_addr().expect("connected");
    assert_eq!(mapped(&Line::Stream(stream).exchange(&binding)), own);
    // no header of a balancer
    let mut stream = connect(&relay, BALANCER);
    stream.write_all(&binding).expect("written");
    closed_without_a_byte(stream);
    eventually(|| ended("bad_proxy_header") == 1);
}
