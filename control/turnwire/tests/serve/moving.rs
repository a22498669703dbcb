//! Clients that come back by another transport and keep their allocation (RFC 8016).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use turn::ChannelNumber;
use turn::client::{Allocate, Event, Request, Settings, TurnClient};
use turnwire::random::System;
use turnwire::sys::monotonic;

use crate::client::{Client, receive, socket};
use crate::relay::{LOOPBACK, Relay, SOON, USER, eventually, program};

const CHANNEL: ChannelNumber = ChannelNumber::MIN;

/// Data each way in one place.
const ROUNDS: u8 = 10;

/// A client over TCP. It only moves: the allocation is another five-tuple's.
struct Stream {
    stream: TcpStream,
    turn: TurnClient,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(server: SocketAddr) -> Stream {
        let stream = TcpStream::connect(server).expect("connected");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let mut settings = Settings::new(USER.0, USER.1);
        settings.pad_channel_data = true;
        Stream { stream, turn: TurnClient::new(settings, Box::new(System)), bytes: Vec::new() }
    }

    fn ask(&mut self, request: Request) -> Event {
        self.turn.request(monotonic(), request).expect("room for a request");
        loop {
            while let Some(bytes) = self.turn.poll_transmit(monotonic()) {
                self.stream.write_all(bytes).expect("sent");
            }
            if let Some(event) = self.turn.poll_event() {
                return event;
            }
            let message = self.message();
            self.turn.receive(monotonic(), &message);
        }
    }

    /// The next message, ChannelData without its padding.
    fn message(&mut self) -> Vec<u8> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).expect("a message");
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let is_data = head[0] >= 0x40;
        let rest = if is_data { len.next_multiple_of(4) } else { len + 16 };
        self.bytes.resize(rest, 0);
        self.stream.read_exact(&mut self.bytes).expect("the rest of it");
        if is_data {
            self.bytes.truncate(len);
        }
        [&head[..], &self.bytes].concat()
    }

    fn send_on(&mut self, data: &[u8]) {
        let mut bytes = CHANNEL.number().to_be_bytes().to_vec();
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.stream.write_all(&bytes).expect("sent");
    }

    /// Data on the channel.
    fn data(&mut self) -> Vec<u8> {
        let message = self.message();
        assert_eq!(message[..2], CHANNEL.number().to_be_bytes(), "{message:?}");
        message[4..].to_vec()
    }
}

fn mobile() -> Relay {
    let mut command = program();
    command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user=alice:wonderland"]);
    command.arg("--mobility");
    Relay::start_as(command)
}

/// Where it listens by TCP: the kernel chose another port than for UDP.
fn tcp_of(relay: &Relay) -> SocketAddr {
    let log = relay.log_text();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut tcp = lines.filter(|line| line["message"] == "listening" && line["transport"] == "tcp");
    let line = tcp.next().expect("a TCP listener");
    line["address"].as_str().and_then(|text| text.parse().ok()).expect("an address")
}

/// What a tier has forwarded: to the peer, to the client.
fn forwarded(relay: &Relay, tier: &str) -> [u64; 2] {
    ["to_peer", "to_client"].map(|direction| {
        let series = "turnwire_forwarded_packets_total";
        relay.metric(&format!("{series}{{tier=\"{tier}\",direction=\"{direction}\"}}"))
    })
}

fn moved(event: Event) -> Vec<u8> {
    let Event::Moved { ticket, .. } = event else { panic!("{event:?}") };
    ticket
}

#[test]
fn a_client_that_changes_to_tcp_and_back_is_served_by_the_tier_of_its_transport_each_time() {
    // given a client over UDP with a channel, which the workers forward
    let relay = mobile();
    let mut first = Client::new(relay.listen, USER);
    let allocate = Allocate { mobile: true, ..Allocate::default() };
    let event = first.ask(Request::Allocate(allocate));
    let Event::Allocated(allocated) = event else { panic!("{event:?}") };
    let (relayed, ticket) = (allocated.relayed[0], allocated.ticket.expect("a ticket"));
    let peer = socket();
    let peer_address = peer.local_addr().expect("bound");
    first.bind(CHANNEL, peer_address);
    for round in 0..ROUNDS {
        first.send_on(CHANNEL, &[round; 100]);
        assert_eq!(receive(&peer), (relayed, vec![round; 100]));
        peer.send_to(&[round; 99], relayed).expect("sent");
        assert_eq!(first.data(), (Some(CHANNEL), peer_address, vec![round; 99]));
    }
    let all = u64::from(ROUNDS);
    eventually(|| forwarded(&relay, "socket") == [all; 2]);
    let control = forwarded(&relay, "control");
    // when it goes on by TCP: the first data takes the port along
    let mut stream = Stream::new(tcp_of(&relay));
    let ticket = moved(stream.ask(Request::Move { ticket, lifetime_secs: None }));
    for round in 0..=ROUNDS {
        stream.send_on(&[round; 98]);
        assert_eq!(receive(&peer), (relayed, vec![round; 98]));
        peer.send_to(&[round; 97], relayed).expect("sent");
        assert_eq!(stream.data(), vec![round; 97]);
    }
    // then the session thread forwards all but that first one
    eventually(|| forwarded(&relay, "session") == [all, all + 1]);
    assert_eq!(forwarded(&relay, "socket"), [all; 2]);
    assert_eq!(forwarded(&relay, "control"), [control[0] + 1, control[1]]);
    // and when it is back on UDP, from another port, the workers do
    let mut back = Client::new(relay.listen, USER);
    moved(back.ask(Request::Move { ticket, lifetime_secs: None }));
    for round in 0..=ROUNDS {
        back.send_on(CHANNEL, &[round; 96]);
        assert_eq!(receive(&peer), (relayed, vec![round; 96]));
        peer.send_to(&[round; 95], relayed).expect("sent");
        let got = back.message();
        assert_eq!((&got[..2], &got[4..]), (&CHANNEL.number().to_be_bytes()[..], &[round; 95][..]));
    }
    eventually(|| forwarded(&relay, "socket") == [2 * all, 2 * all + 1]);
    assert_eq!(forwarded(&relay, "session"), [all, all + 1]);
    assert_eq!(forwarded(&relay, "control"), [control[0] + 2, control[1]]);
    // and one port is open, until it is deleted
    assert_eq!(relay.metric("turnwire_relay_ports_open"), 1);
    assert_eq!(back.ask(Request::delete()), Event::Deleted);
    assert_eq!(relay.metric("turnwire_relay_ports_open"), 0);
    assert_eq!(relay.metric("turnwire_routes"), 0);
}
