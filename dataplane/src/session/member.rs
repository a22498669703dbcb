//! One client of a session thread: who it is, how far it has come, and what it has time for.

use super::association::Association;
use super::desk::Desk;
use super::framing::{self, Cut};
use super::relay::{Channels, Relay};
use super::splice::Splice;
use super::stream::Stream;
use super::wheel::Armed;
use super::{Ending, SessionCounters};
use crate::config::SessionTimers;
use crate::route::{Client, Transport};
use std::time::Duration;
use wire::{Direction, Reason};

/// Time for the last bytes of a connection that is being closed.
const CLOSE: Duration = Duration::from_secs(5);

/// The ConnectionBind request (RFC 6062 section 6): what follows it in the stream may be the peer's.
const CONNECTION_BIND: u16 = 0x000B;

/// A client.
pub(crate) struct Member {
    pub(crate) core: Core,
    pub(crate) carrier: Carrier,
}

/// What carries its messages.
pub(crate) enum Carrier {
    Stream(Box<Flow>),
    Dtls(Box<Association>),
}

/// What every client has.
pub(crate) struct Core {
    pub(crate) client: Client,
    /// It can be found by its five-tuple.
    pub(crate) named: bool,
    /// The control thread knows it.
    pub(crate) told: bool,
    /// It has, or had, an allocation.
    pub(crate) allocated: bool,
    pub(crate) channels: Channels,
    pub(crate) armed: Armed,
    /// When it came.
    pub(crate) begun: Duration,
    /// When its handshake was over.
    pub(crate) opened: Option<Duration>,
    /// Its last message.
    pub(crate) heard: Option<Duration>,
    /// Since when it is being closed, and why.
    pub(crate) closing: Option<(Duration, Ending)>,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The load balancer's header is to come.
    Proxy,
    /// The first byte tells TLS from STUN.
    Sniff,
    /// TLS handshake.
    Handshake,
    /// Messages.
    Open,
    /// Raw bytes.
    Spliced,
}

/// A TCP or TLS client's own.
pub(crate) struct Flow {
    pub(crate) stream: Stream,
    pub(crate) phase: Phase,
    /// Plain STUN and TLS, as its listener takes them.
    pub(crate) takes: Takes,
    /// The beginning of a message; more than that while it stalls or holds.
    pub(crate) partial: Vec<u8>,
    /// Since when a message is not whole.
    pub(crate) partial_since: Option<Duration>,
    /// Since when the kernel takes nothing.
    pub(crate) stuck_since: Option<Duration>,
    /// The socket may have something to read.
    pub(crate) readable: bool,
    /// The kernel says that the client has ended its direction.
    pub(crate) read_closed: bool,
    /// In the ready queue; in the list of those to flush.
    pub(crate) queued: bool,
    pub(crate) dirty: bool,
    /// The control thread's ring was full: its next message waits.
    pub(crate) stalled: bool,
    /// After a ConnectionBind request: what follows waits for its answer.
    pub(crate) held: bool,
    pub(crate) splice: Option<Box<Splice>>,
    /// What it is counted under in the limits.
    pub(crate) source: Option<u128>,
}

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Takes {
    pub(crate) plain: bool,
    pub(crate) tls: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Dealt with.
    Done,
    /// It has to wait: the control thread's ring is full.
    Full,
    /// Dealt with, and nothing behind it may be read as messages for now.
    Hold,
}

impl Core {
    pub(crate) fn new(client: Client, now: Duration) -> Self {
        Self {
            client,
            named: false,
            told: false,
            allocated: false,
            channels: Channels::default(),
            armed: Armed::default(),
            begun: now,
            opened: None,
            heard: None,
            closing: None,
        }
    }

    /// Deals with one message: relayed, or handed to the control thread.
    pub(crate) fn take(
        &mut self,
        cut: Cut,
        bytes: &[u8],
        desk: &mut Desk,
        relay: &mut Relay,
        now: Duration,
    ) -> Taken {
        let (direction, is_stream) = (Direction::ToPeer, self.client.transport != Transport::Dtls);
        let (refused, taken) = match cut {
            Cut::Stun { .. } => {
                if desk.client(&self.client, bytes, 0) {
                    self.told = true;
                    relay.counters.to_control[direction as usize].add(1);
                    let binds = framing::stun_type(bytes) == Some(CONNECTION_BIND);
                    (None, if binds && is_stream { Taken::Hold } else { Taken::Done })
                } else if is_stream {
                    return Taken::Full;
                } else {
                    (Some(Reason::RingFull), Taken::Done)
                }
            }
            Cut::Channel { channel, data, .. } => {
                (self.channel_data(channel, &bytes[..4 + data], desk, relay, now), Taken::Done)
            }
            Cut::Partial { .. } | Cut::Refused(_) => (Some(Reason::NotStun), Taken::Done),
        };
        self.heard = Some(now);
        relay.counters.received.add(1);
        if let Some(reason) = refused {
            relay.counters.refuse(direction, reason);
        }
        taken
    }

    /// Relays data on a channel; why not, if so.
    fn channel_data(
        &mut self,
        channel: u16,
        bytes: &[u8],
        desk: &mut Desk,
        relay: &mut Relay,
        now: Duration,
    ) -> Option<Reason> {
        match self.channels.find(channel) {
            Some(way) if now < way.expires => {
                relay.send_data(way, &bytes[4..]);
                None
            }
            Some(_) => Some(Reason::Expired),
            None => {
                // the control thread is the truth; its room is first of all for messages
                let reserve = desk.mail.events_size() / 2;
                if !desk.client(&self.client, bytes, reserve) {
                    return Some(Reason::RingFull);
                }
                self.told = true;
                relay.counters.to_control[Direction::ToPeer as usize].add(1);
                None
            }
        }
    }

    /// The time that it is in, and what it ends for if that runs out.
    fn pace(&self, timers: &SessionTimers) -> (Duration, Ending) {
        match (self.opened, self.heard) {
            (None, _) => (self.begun + timers.handshake, Ending::HandshakeTimeout),
            (Some(opened), None) => (opened + timers.first_message, Ending::FirstMessageTimeout),
            (_, Some(heard)) if self.allocated => (heard + timers.idle_allocated, Ending::Idle),
            (_, Some(heard)) => (heard + timers.idle, Ending::Idle),
        }
    }
}

impl Member {
    /// The next moment at which it has to be looked at, and what it ends for if nothing changes
    /// until then.
    pub(crate) fn deadline(&self, timers: &SessionTimers) -> (Duration, Ending) {
        if let Some((since, ending)) = self.core.closing {
            return (since + CLOSE, ending);
        }
        let pace = self.core.pace(timers);
        match &self.carrier {
            Carrier::Dtls(_) => pace,
            Carrier::Stream(flow) => {
                let pace = match &flow.splice {
                    Some(splice) => (splice.moved + timers.splice_idle, Ending::SpliceIdle),
                    None => pace,
                };
                let partial = flow.partial_since.filter(|_| !flow.held && !flow.stalled);
                let partial = partial.map(|at| (at + timers.message, Ending::MessageTimeout));
                // a spliced connection may wait for as long as the other side reads nothing
                let stuck = flow.stuck_since.filter(|_| flow.splice.is_none());
                let stuck = stuck.map(|at| (at + timers.write_stall, Ending::WriteStalled));
                [Some(pace), partial, stuck].into_iter().flatten().min().unwrap_or(pace)
            }
        }
    }
}

impl Flow {
    pub(crate) fn new(stream: Stream, takes: Takes, phase: Phase) -> Self {
        Self {
            stream,
            phase,
            takes,
            partial: Vec::new(),
            partial_since: None,
            stuck_since: None,
            readable: true,
            read_closed: false,
            queued: false,
            dirty: false,
            stalled: false,
            held: false,
            splice: None,
            source: None,
        }
    }

    /// True while nothing is read from it.
    pub(crate) fn is_paused(&self) -> bool {
        self.stalled || self.held
    }
}

/// Counts a handshake's end.
pub(crate) fn count_handshake(counters: &SessionCounters, transport: Transport, good: bool) {
    let counter = if good { &counters.handshakes_ok } else { &counters.handshakes_failed };
    counter[transport as usize].add(1);
}
