//! A TURN client on a blocking socket: `turn`'s client, which knows no socket, given one.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use turn::ChannelNumber;
use turn::client::{Allocate, Allocated, Event, Received, Request, Settings, TurnClient};
use turnwire::random::System;
use turnwire::sys::monotonic;

use crate::relay::SOON;

/// A client with a socket of its own.
pub(crate) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    turn: TurnClient,
    buffer: Vec<u8>,
}

impl Client {
    /// A client of the relay at `server`.
    pub(crate) fn new(server: SocketAddr, (user, password): (&str, &str)) -> Client {
        let turn = TurnClient::new(Settings::new(user, password), Box::new(System));
        Client { socket: socket(), server, turn, buffer: vec![0; 65_536] }
    }

    /// Asks, and waits for what becomes of it.
    pub(crate) fn ask(&mut self, request: Request) -> Event {
        self.turn.request(monotonic(), request).expect("room for a request");
        let deadline = monotonic() + SOON;
        loop {
            while let Some(bytes) = self.turn.poll_transmit(monotonic()) {
                self.socket.send_to(bytes, self.server).expect("sent");
            }
            if let Some(event) = self.turn.poll_event() {
                return event;
            }
            assert!(monotonic() < deadline, "no answer");
            self.socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
            if let Ok((len, _)) = self.socket.recv_from(&mut self.buffer) {
                self.turn.receive(monotonic(), &self.buffer[..len]);
            }
        }
    }

    /// Allocates, which must succeed.
    pub(crate) fn allocate(&mut self) -> Allocated {
        match self.ask(Request::Allocate(Allocate::default())) {
            Event::Allocated(allocated) => allocated,
            other => panic!("{other:?}"),
        }
    }

    /// Lets `peer` send.
    pub(crate) fn permit(&mut self, peer: SocketAddr) {
        let peers = vec![peer];
        assert_eq!(
            self.ask(Request::CreatePermission { peers: peers.clone() }),
            Event::Permitted { peers }
        );
    }

    /// Binds a channel.
    pub(crate) fn bind(&mut self, channel: ChannelNumber, peer: SocketAddr) {
        let bound = self.ask(Request::ChannelBind { channel, peer });
        assert_eq!(bound, Event::Bound { channel, peer });
    }

    /// Sends data in an indication.
    pub(crate) fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let mut out = Vec::new();
        let bytes = self.turn.send_indication(&mut out, peer, data, false).expect("fits");
        self.socket.send_to(bytes, self.server).expect("sent");
    }

    /// Sends data on a channel.
    pub(crate) fn send_on(&mut self, channel: ChannelNumber, data: &[u8]) {
        let mut out = Vec::new();
        let bytes = self.turn.channel_data(&mut out, channel, data).expect("fits");
        self.socket.send_to(bytes, self.server).expect("sent");
    }

    /// Waits for data: on which channel, if on one, from which peer, and what.
    pub(crate) fn data(&mut self) -> (Option<ChannelNumber>, SocketAddr, Vec<u8>) {
        self.socket.set_read_timeout(Some(SOON)).expect("a timeout");
        let (len, _) = self.socket.recv_from(&mut self.buffer).expect("data");
        match self.turn.receive(monotonic(), &self.buffer[..len]) {
            Received::ChannelData { channel, peer, data } => (Some(channel), peer, data.to_vec()),
            Received::Data { peer, data } => (None, peer, data.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// The next datagram, whatever it is.
    pub(crate) fn message(&mut self) -> Vec<u8> {
        receive(&self.socket).1
    }

    /// The client's own address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }
}

/// A socket on loopback.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    socket
}

/// The next datagram of a peer's socket: from where, and what.
pub(crate) fn receive(peer: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    let mut buffer = vec![0; 65_536];
    let (len, from) = peer.recv_from(&mut buffer).expect("a datagram");
    buffer.truncate(len);
    (from, buffer)
}
