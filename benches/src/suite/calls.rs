//! Clients that make allocations and bind channels, over real sockets at the far end, and that go on
//! talking to the server a little while traffic runs.
//!
//! ```text
//!  with peers          client A ── channel n ── relay ──────────── peer
//!  between clients     client A ── channel n ── relay ── channel n ── client B, of the same ports
//! ```

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use traffic::abi;
use turn::client::{Allocate, Event, Negotiation, Request, Settings, TurnClient};
use turn::{ChannelNumber, Seeded, attribute};
use turnwire_tests::wait::Stopwatch;
use wire::Family;

use super::flows::{Channel, Flows};
use super::plan::Mode;
use super::site::{self, Side};

/// The user that every server knows.
pub(crate) const USER: &str = "bench";
/// The user's password.
pub(crate) const PASSWORD: &str = "mark";
const FIRST_CLIENT: u16 = 20_000;
const FIRST_PEER: u16 = 30_000;
const FIRST_RELAY: u16 = 49_152;
const FIRST_CHANNEL: u16 = 0x4000;
/// A request may take so long on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests of [`Talk`].
const TALK_EVERY: Duration = Duration::from_millis(20);

/// The clients' sockets, held open while traffic runs.
pub(crate) struct Calls {
    _sockets: Vec<UdpSocket>,
    /// What they have bound.
    pub(crate) channels: Vec<Channel>,
    /// A little control traffic.
    pub(crate) talk: Talk,
}

/// The ports that go with each channel where no relay gives any: as the bare programs need.
pub(crate) fn without_relay(flows: &Flows) -> Vec<Channel> {
    let channel = |number| {
        let (client, channel) = flows.place(number);
        Channel {
            client: FIRST_CLIENT + client,
            relay: FIRST_RELAY + client,
            peer: FIRST_PEER + channel,
            number: FIRST_CHANNEL + channel,
        }
    };
    (0..flows.count).map(channel).collect()
}

/// True once something answers STUN on the listening port.
pub(crate) fn server_answers(family: Family) -> Result<bool> {
    Side::Far.inside(|| {
        let mut client = Client::new(SocketAddr::new(site::client_ip(family), 0), family)?;
        client.socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(client.ask([Request::Binding], Duration::from_millis(150)).is_ok())
    })
}

/// Makes all allocations and binds all channels.
///
/// # Errors
/// The server refuses something, or does not answer.
pub(crate) fn set_up(flows: &Flows) -> Result<Calls> {
    Side::Far.inside(|| {
        let (mut sockets, mut channels) = (Vec::new(), Vec::new());
        while channels.len() < usize::from(flows.count) {
            let next = channels.len() as u16;
            let (place, _) = flows.place(next);
            let theirs = (next..flows.count).map(|one| flows.place(one));
            let numbers = theirs.take_while(|one| one.0 == place).map(|(_, number)| number);
            let (opened, bound) = one_client(flows, place, &numbers.collect::<Vec<_>>())?;
            sockets.extend(opened);
            channels.extend(bound);
        }
        Ok(Calls { _sockets: sockets, channels, talk: Talk::start(flows.client)? })
    })
}

/// The client at `place` (and the one at the other end), with channels of these numbers.
fn one_client(
    flows: &Flows,
    place: u16,
    numbers: &[u16],
) -> Result<(Vec<UdpSocket>, Vec<Channel>)> {
    let port = FIRST_CLIENT + place;
    let local = SocketAddr::new(site::client_ip(flows.client), port);
    let mut client = Client::new(local, flows.client)?;
    let relayed = client.allocate(flows.peer)?;
    let mut other = None;
    if flows.between_clients() {
        let local = SocketAddr::new(site::other_client_ip(flows.client), port);
        let mut second = Client::new(local, flows.client)?;
        let address = second.allocate(flows.peer)?;
        second.bind(&[(FIRST_CHANNEL, relayed)])?;
        other = Some((second, address));
    }
    let (mut channels, mut binds) = (Vec::new(), Vec::new());
    for number in numbers {
        let peer = match &other {
            Some((_, address)) => *address,
            None => SocketAddr::new(site::peer_ip(flows.peer), FIRST_PEER + number),
        };
        let number = FIRST_CHANNEL + number;
        channels.push(Channel { client: port, relay: relayed.port(), peer: peer.port(), number });
        binds.push((number, peer));
    }
    match flows.mode {
        Mode::Channels => client.bind(&binds)?,
        Mode::Indications => client.permit(binds.iter().map(|(_, peer)| *peer))?,
    }
    let sockets = std::iter::once(client.socket).chain(other.map(|(second, _)| second.socket));
    Ok((sockets.collect(), channels))
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
        // what every server understands: turn-server 4.1.5 offers SHA-256 and then refuses it
        let negotiation = Negotiation::Legacy;
        let settings = Settings { negotiation, ..Settings::new(USER, PASSWORD) };
        let turn = TurnClient::new(settings, random);
        Ok(Client { socket, turn, watch: Stopwatch::start() })
    }

    /// All at once; one event for each.
    fn ask(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
        patience: Duration,
    ) -> Result<Vec<Event>> {
        let mut wanted = 0;
        for request in requests {
            self.turn.request(self.watch.elapsed(), request)?;
            wanted += 1;
        }
        let mut events = Vec::new();
        let deadline = self.watch.elapsed() + patience;
        let mut buffer = [0; 2048];
        while events.len() < wanted {
            if self.watch.elapsed() > deadline {
                bail!(
                    "{} of {wanted} requests are not answered within {patience:?}",
                    wanted - events.len()
                );
            }
            while let Some(bytes) = self.turn.poll_transmit(self.watch.elapsed()) {
                // an ICMP error about an earlier one is no reason to give in
                let _ = self.socket.send(bytes);
            }
            if let Ok(size) = self.socket.recv(&mut buffer) {
                let _ = self.turn.receive(self.watch.elapsed(), &buffer[..size]);
            }
            while let Some(event) = self.turn.poll_event() {
                if let Event::Failed { request, why } = event {
                    bail!("{:?} failed: {why:?}", request.method());
                }
                events.push(event);
            }
        }
        Ok(events)
    }

    fn allocate(&mut self, family: Family) -> Result<SocketAddr> {
        let family = match family {
            Family::V4 => attribute::Family::V4,
            Family::V6 => attribute::Family::V6,
        };
        let allocate = Allocate { family: Some(family), ..Allocate::default() };
        match self.ask([Request::Allocate(allocate)], PATIENCE)?.as_slice() {
            [Event::Allocated(allocated)] => {
                allocated.relayed.first().copied().context("an allocation without an address")
            }
            events => bail!("not an allocation: {events:?}"),
        }
    }

    /// Installs a permission (RFC 8656 section 9): it lasts 300 s, longer than a turn.
    fn permit(&mut self, mut peers: impl Iterator<Item = SocketAddr>) -> Result<()> {
        let peers = Vec::from_iter(peers.next());
        let events = self.ask([Request::CreatePermission { peers }], PATIENCE)?;
        let permitted = matches!(events.as_slice(), [Event::Permitted { .. }]);
        ensure!(permitted, "not a permission: {events:?}");
        Ok(())
    }

    fn bind(&mut self, channels: &[(u16, SocketAddr)]) -> Result<()> {
        let mut requests = Vec::new();
        for (number, peer) in channels {
            let channel = ChannelNumber::new(*number)?;
            requests.push(Request::ChannelBind { channel, peer: *peer });
        }
        let events = self.ask(requests, PATIENCE)?;
        let all = events.iter().all(|event| matches!(event, Event::Bound { .. }));
        ensure!(all, "not channels only: {events:?}");
        Ok(())
    }
}

/// A Binding request now and then: a relay that forgets its clients over the media shows here.
pub(crate) struct Talk {
    counts: Arc<[AtomicU64; 2]>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talk {
    /// Starts a thread in the calling thread's namespace.
    fn start(family: Family) -> Result<Talk> {
        let socket = UdpSocket::bind(SocketAddr::new(site::client_ip(family), 0))?;
        socket.connect(SocketAddr::new(site::listener_ip(family), abi::LISTENER))?;
        socket.set_read_timeout(Some(TALK_EVERY))?;
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let stop = Arc::new(AtomicBool::new(false));
        let (numbers, end) = (counts.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            // a Binding request without attributes (RFC 8489 section 5), its transaction numbered
            let mut request = *b"\x00\x01\x00\x00\x21\x12\xa4\x42turnwire----";
            let mut buffer = [0; 512];
            while !end.load(Relaxed) {
                let number = numbers[0].fetch_add(1, Relaxed) + 1;
                request[16..].copy_from_slice(&(number as u32).to_be_bytes());
                // what is lost is counted by its missing answer
                let _ = socket.send(&request);
                if socket.recv(&mut buffer).is_ok_and(|size| size >= 20) {
                    numbers[1].fetch_add(1, Relaxed);
                    std::thread::sleep(TALK_EVERY);
                }
            }
        });
        Ok(Talk { counts, stop, thread: Some(thread) })
    }

    /// Requests sent, and answers, so far.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [0, 1].map(|at| self.counts[at].load(Relaxed))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // it has nothing to tell
            let _ = thread.join();
        }
    }
}
