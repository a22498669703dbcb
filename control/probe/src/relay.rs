//! An allocation, and a relayed echo: two allocations of ours send to each other through the server.
//!
//! ```text
//!   one ── channel ──> server ── relay A ──> relay B ── server ── channel ──> two
//!       <───────────────────────── the same way back ─────────────────────────
//! ```
//!
//! Both ends are here, so no peer is needed, and no NAT between the server and a peer matters.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dial::{Dialer, Link, Received};
use serde::Serialize;
use turn::client::{Allocate, Event, Failure, Request, Retransmission, Settings, TurnClient};
use turn::{ChannelNumber, Random};

use crate::{Login, millis};

/// How long the whole of a request may take.
const REQUEST: Duration = Duration::from_secs(8);
/// How long the last datagrams of an echo are waited for.
const LATE: Duration = Duration::from_secs(1);
/// The channel at both ends.
const CHANNEL: u16 = 0x4000;

/// What was found out by one transport.
#[derive(Clone, Debug, Serialize)]
pub struct Relay {
    /// By what the server was reached.
    pub transport: &'static str,
    /// The relayed address.
    pub relayed: Option<SocketAddr>,
    /// Seconds that the allocation would have lived.
    pub lifetime_secs: Option<u32>,
    /// From the first request to the allocation.
    pub allocate_ms: Option<f64>,
    /// Datagrams that were sent to be echoed.
    pub sent: u32,
    /// Of them, those that came back.
    pub received: u32,
    /// Milliseconds for a datagram through the relay and back through it: least, median, most.
    pub rtt_ms: Option<[f64; 3]>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Allocates, echoes, and gives the allocations back.
pub(crate) fn probe(dialer: &Dialer, login: &Login, settings: &crate::Settings) -> Relay {
    let mut relay = Relay {
        transport: dialer.transport.name(),
        relayed: None,
        lifetime_secs: None,
        allocate_ms: None,
        sent: 0,
        received: 0,
        rtt_ms: None,
        error: None,
    };
    if let Err(error) = relay.look(dialer, login, settings) {
        relay.error = Some(error);
    }
    relay
}

impl Relay {
    fn look(
        &mut self,
        dialer: &Dialer,
        login: &Login,
        settings: &crate::Settings,
    ) -> Result<(), String> {
        let start = Instant::now();
        let mut one = Session::open(dialer, login)?;
        let here = one.allocate()?;
        self.allocate_ms = Some(millis(start.elapsed()));
        self.relayed = Some(here);
        self.lifetime_secs = Some(one.lifetime_secs);
        let mut two = Session::open(dialer, login)?;
        let there = two.allocate()?;
        let words = |error| format!("a channel between two relayed addresses: {error}");
        one.bind(there).map_err(words)?;
        two.bind(here).map_err(words)?;
        self.echo(&mut one, &mut two, settings)
    }

    fn echo(
        &mut self,
        one: &mut Session,
        two: &mut Session,
        settings: &crate::Settings,
    ) -> Result<(), String> {
        let mut sent_at = Vec::new();
        let mut trips: Vec<Option<Duration>> = vec![None; settings.packets as usize];
        let mut next = Instant::now();
        let mut end = next + LATE;
        loop {
            let now = Instant::now();
            if sent_at.len() < trips.len() && now >= next {
                let mut data = b"turnwire probe ".to_vec();
                data.extend_from_slice(&(sent_at.len() as u32).to_be_bytes());
                sent_at.push(now);
                one.send(&data)?;
                self.sent += 1;
                next += settings.interval;
                end = now + LATE;
            }
            if let Some(data) = two.data(Duration::from_millis(1))? {
                two.send(&data)?;
            }
            if let Some(data) = one.data(Duration::from_millis(1))? {
                let number = data.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
                let number = number.and_then(|number| usize::try_from(number).ok());
                let slot = number.and_then(|number| trips.get_mut(number)).filter(|t| t.is_none());
                if let (Some(slot), Some(at)) = (slot, number.and_then(|n| sent_at.get(n))) {
                    *slot = Some(at.elapsed());
                    self.received += 1;
                }
            }
            let all = sent_at.len() == trips.len();
            if all && (self.received == self.sent || Instant::now() >= end) {
                break;
            }
        }
        let mut trips: Vec<Duration> = trips.into_iter().flatten().collect();
        trips.sort_unstable();
        if let (Some(least), Some(most)) = (trips.first(), trips.last()) {
            self.rtt_ms = Some([*least, trips[trips.len() / 2], *most].map(millis));
        }
        Ok(())
    }
}

struct Randomness;

impl Random for Randomness {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

/// One client on one five-tuple.
struct Session {
    link: Link,
    client: TurnClient,
    start: Instant,
    inbox: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    allocated: bool,
    lifetime_secs: u32,
}

impl Session {
    fn open(dialer: &Dialer, login: &Login) -> Result<Session, String> {
        let link = dialer.dial().map_err(|error| error.to_string())?;
        let stream = dialer.transport.is_stream();
        let mut settings = Settings::new(login.user.clone(), login.password.clone());
        settings.pad_channel_data = stream;
        // Whoever probes wants to know what the server says.
        settings.trust_unsigned_errors = true;
        if stream {
            settings.retransmission = Retransmission::STREAM;
        }
        Ok(Session {
            link,
            client: TurnClient::new(settings, Box::new(Randomness)),
            start: Instant::now(),
            inbox: VecDeque::new(),
            buffer: Vec::new(),
            allocated: false,
            lifetime_secs: 0,
        })
    }

    fn request(&mut self, request: Request) -> Result<Event, String> {
        let asked = self.client.request(self.start.elapsed(), request);
        asked.map_err(|error| error.to_string())?;
        let until = Instant::now() + REQUEST;
        loop {
            while let Some(bytes) = self.client.poll_transmit(self.start.elapsed()) {
                self.link.send(bytes).map_err(|error| error.to_string())?;
            }
            if let Some(event) = self.client.poll_event() {
                return match event {
                    Event::Failed { why, .. } => Err(words(&why)),
                    event => Ok(event),
                };
            }
            let now = Instant::now();
            if now >= until {
                return Err("no answer".into());
            }
            let timer = self.client.deadline().map_or(until, |at| self.start + at);
            let wait = timer.min(until).saturating_duration_since(now);
            self.receive(wait.max(Duration::from_millis(1)))?;
        }
    }

    fn receive(&mut self, limit: Duration) -> Result<(), String> {
        match self.link.receive(limit).map_err(|error| error.to_string())? {
            Received::Message(bytes) => {
                let now = self.start.elapsed();
                if let turn::client::Received::ChannelData { data, .. } =
                    self.client.receive(now, &bytes)
                {
                    self.inbox.push_back(data.to_vec());
                }
                Ok(())
            }
            Received::Nothing => Ok(()),
            Received::Closed => Err("the server closed the connection".into()),
            Received::Foreign(_) => Err("the server sent what is no STUN".into()),
        }
    }

    fn allocate(&mut self) -> Result<SocketAddr, String> {
        let event = self.request(Request::Allocate(Allocate::default()));
        match event.map_err(|error| format!("Allocate: {error}"))? {
            Event::Allocated(allocated) => {
                self.allocated = true;
                self.lifetime_secs = allocated.lifetime_secs;
                allocated.relayed.first().copied().ok_or("no relayed address".into())
            }
            other => Err(format!("Allocate: {other:?}")),
        }
    }

    fn bind(&mut self, peer: SocketAddr) -> Result<(), String> {
        let channel = ChannelNumber::new(CHANNEL).map_err(|_| "no channel number")?;
        self.request(Request::ChannelBind { channel, peer }).map(|_| ())
    }

    fn send(&mut self, data: &[u8]) -> Result<(), String> {
        let channel = ChannelNumber::new(CHANNEL).map_err(|_| "no channel number")?;
        let bytes = self.client.channel_data(&mut self.buffer, channel, data);
        let bytes = bytes.ok_or("too much data")?;
        self.link.send(bytes).map_err(|error| error.to_string())
    }

    fn data(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, String> {
        if self.inbox.is_empty() {
            self.receive(limit)?;
        }
        Ok(self.inbox.pop_front())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.allocated {
            // The server forgets it by itself in ten minutes, whatever becomes of this.
            let _ = self.request(Request::Refresh { lifetime_secs: Some(0), family: None });
        }
    }
}

/// A failure as a user would say it.
fn words(failure: &Failure) -> String {
    match failure {
        Failure::Error { code, alternate_server } => match alternate_server {
            Some(other) => format!("{code}: try {other}"),
            None => code.to_string(),
        },
        Failure::Timeout => "no answer".into(),
        Failure::Integrity => "only answers that are not authentic (a wrong password?)".into(),
        Failure::Response(what) => format!("an answer without {what}"),
        Failure::Algorithms => "no password algorithm that both know".into(),
        other => format!("{other:?}"),
    }
}
