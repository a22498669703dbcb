//! Clients that make allocations and bind channels, over real sockets at the far end.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use traffic::{Channel, Traffic, abi};
use turn::client::{Allocate, Event, Request, Settings, TurnClient};
use turn::{ChannelNumber, Seeded, attribute};
use turnwire_tests::wait::Stopwatch;
use wire::Family;

use super::mix::Mix;
use super::site::{self, Side};

/// The user that every server knows.
pub(crate) const USER: &str = "bench";
/// The user's password.
pub(crate) const PASSWORD: &str = "mark";
/// Channels of each client, where there are more flows than that.
const CHANNELS_EACH: u16 = 16;
/// Above so many flows a client has several channels.
const CLIENTS_MAX: u16 = 4096;
const FIRST_CLIENT: u16 = 20_000;
const FIRST_PEER: u16 = 30_000;

/// The clients' sockets, held open while traffic runs.
pub(crate) struct Calls {
    _sockets: Vec<UdpSocket>,
}

/// The ports that go with a flow where no relay gives any: as the bare programs need.
pub(crate) fn without_relay(traffic: &Traffic, mix: &Mix) {
    for number in 0..mix.flows {
        let (client, channel) = place(mix, number);
        let channel = Channel {
            client: FIRST_CLIENT + client,
            relay: 49_152 + client,
            peer: FIRST_PEER + channel,
            number: 0x4000 + channel,
        };
        traffic.set_channel(usize::from(number), &channel);
    }
}

/// The client and the channel of flow `number`.
fn place(mix: &Mix, number: u16) -> (u16, u16) {
    if mix.flows <= CLIENTS_MAX {
        (number, 0)
    } else {
        (number / CHANNELS_EACH, number % CHANNELS_EACH)
    }
}

/// True once something answers STUN on the listening port.
pub(crate) fn server_answers(family: Family) -> Result<bool> {
    Side::Far.inside(|| {
        let mut client = Client::new(SocketAddr::new(site::client_ip(family), 0), family)?;
        client.socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(client.ask(Request::Binding, Duration::from_millis(150)).is_ok())
    })
}

/// Makes all allocations, binds all channels, and tells `traffic` the ports.
pub(crate) fn set_up(traffic: &Traffic, mix: &Mix) -> Result<Calls> {
    Side::Far.inside(|| {
        let mut sockets = Vec::new();
        let mut number = 0;
        while number < mix.flows {
            let (place_of_client, _) = place(mix, number);
            let local =
                SocketAddr::new(site::client_ip(mix.client), FIRST_CLIENT + place_of_client);
            let mut client = Client::new(local, mix.client)?;
            let relayed = client.allocate(mix.peer)?;
            while number < mix.flows && place(mix, number).0 == place_of_client {
                let (_, at) = place(mix, number);
                let peer = SocketAddr::new(site::peer_ip(mix.peer), FIRST_PEER + at);
                let channel = Channel {
                    client: local.port(),
                    relay: relayed.port(),
                    peer: peer.port(),
                    number: 0x4000 + at,
                };
                client.bind(channel.number, peer)?;
                traffic.set_channel(usize::from(number), &channel);
                number += 1;
            }
            sockets.push(client.socket);
        }
        Ok(Calls { _sockets: sockets })
    })
}

struct Client {
    socket: UdpSocket,
    turn: TurnClient,
    watch: Stopwatch,
}

impl Client {
    fn new(local: SocketAddr, family: Family) -> Result<Client> {
        let socket = UdpSocket::bind(local).with_context(|| format!("binding {local}"))?;
        socket.connect(SocketAddr::new(site::listener_ip(family), abi::LISTENER))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let random = Box::new(Seeded::new(u64::from(socket.local_addr()?.port())));
        let turn = TurnClient::new(Settings::new(USER, PASSWORD), random);
        Ok(Client { socket, turn, watch: Stopwatch::start() })
    }

    fn ask(&mut self, request: Request, patience: Duration) -> Result<Event> {
        let what = request.method();
        self.turn.request(self.watch.elapsed(), request)?;
        let deadline = self.watch.elapsed() + patience;
        let mut buffer = [0; 2048];
        while self.watch.elapsed() < deadline {
            while let Some(bytes) = self.turn.poll_transmit(self.watch.elapsed()) {
                // an ICMP error about an earlier one is no reason to give in
                let _ = self.socket.send(bytes);
            }
            if let Ok(size) = self.socket.recv(&mut buffer) {
                let _ = self.turn.receive(self.watch.elapsed(), &buffer[..size]);
            }
            match self.turn.poll_event() {
                Some(Event::Failed { why, .. }) => bail!("{what:?} failed: {why:?}"),
                Some(event) => return Ok(event),
                None => {}
            }
        }
        bail!("{what:?}: no answer within {patience:?}")
    }

    fn allocate(&mut self, family: Family) -> Result<SocketAddr> {
        let family = match family {
            Family::V4 => attribute::Family::V4,
            Family::V6 => attribute::Family::V6,
        };
        let allocate = Allocate { family: Some(family), ..Allocate::default() };
        match self.ask(Request::Allocate(allocate), Duration::from_secs(10))? {
            Event::Allocated(allocated) => {
                allocated.relayed.first().copied().context("an allocation without an address")
            }
            event => bail!("not an allocation: {event:?}"),
        }
    }

    fn bind(&mut self, channel: u16, peer: SocketAddr) -> Result<()> {
        let channel = ChannelNumber::new(channel)?;
        match self.ask(Request::ChannelBind { channel, peer }, Duration::from_secs(10))? {
            Event::Bound { .. } => Ok(()),
            event => bail!("not a channel: {event:?}"),
        }
    }
}
