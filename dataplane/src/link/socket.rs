//! The link of every host: UDP sockets, in batches, over an edge-triggered poller.
//!
//! ```text
//!  epoll (edges) ──> ready queue: each socket at most once ──> recvmmsg, one batch at a time
//!                         ^                                        │ batch came back full
//!                         └────────────────────────────────────────┘ (its turn comes again)
//! ```
//!
//! A socket that floods gets one batch per turn, as every other. A batch that is not full means
//! that the socket is drained: whatever arrives later makes a new edge.
//!
//! The kernel merges what one sender sends (UDP_GRO) and cuts what goes to one destination
//! (UDP_SEGMENT), where it is asked to: see [`Offload`].
//!
//! With IP_RECVERR an ICMP error that one peer caused is reported by the next call on that socket,
//! whoever that call is for. Such a call is made once more, after the error queue was drained.

mod bind;
mod busy;
mod cmsg;
mod errors;
mod lanes;
mod name;
mod plan;
mod pressure;
mod share;
mod source;
mod spread;
mod sys;
mod ttl;

pub use bind::{Bound, BufferSizes, bind_listener, bind_relay, deregister, duplicate, register};
pub use busy::{BusyPolling, busy_poll};
pub use spread::{Member, SPREAD_MAX, SPREAD_MIN, Spreading};
pub use sys::{descriptors_max, monotonic};

use super::{Link, Oddities, Offload, Unreachable};
use crate::batch::{Arrival, BATCH_MAX, Batch, Outcome, SEGMENTS_MAX, SocketId, SocketKind};
use bind::Defaults;
use errors::{Errors, is_about_segments, refusal};
use lanes::{Admission, Kind, Lanes};
use mio::{Events, Poll, Token};
use plan::Plan;
use source::{Source, take};
use spread::BEHIND;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use sys::{Receiver, Sender};
use ttl::Ttl;
use wire::Reason;

/// The token of a worker's waker; every other token is a [`SocketId`].
pub const WAKE: Token = Token(usize::MAX);

/// Most edges that one wait takes in.
const EVENTS_MAX: usize = 1024;

/// Messages that a socket gives in its turn at most. One that the end of a batch cut off goes on with
/// the next batch: else a lane behind a hundred relay ports would give a few each time, and wait long.
const TURN_MAX: usize = BATCH_MAX;

/// The same of a lane, which has several clients where a relay port has one.
const LANE_TURN_MAX: usize = 4 * BATCH_MAX;

/// One worker's sockets.
pub struct SocketLink {
    poll: Poll,
    events: Events,
    listeners: Vec<Source>,
    ports: Vec<Option<Source>>,
    loans: Vec<Option<Source>>,
    ready: VecDeque<SocketId>,
    lanes: Lanes,
    spreading: Option<Member>,
    /// A listener gives more than this worker takes.
    behind: bool,
    receiver: Receiver,
    sender: Sender,
    plan: Plan,
    offload: Offload,
    defaults: Defaults,
    errors: Errors,
    oddities: Oddities,
}

impl SocketLink {
    /// A link over `listeners`, which are registered with `poll` already (see [`register`]), each
    /// as [`SocketId::listener`] of its index. Without any [`Offload`]: one message, one datagram.
    pub fn new(poll: Poll, listeners: Vec<Bound>) -> Self {
        Self::with_offload(poll, listeners, Offload::default())
    }

    /// [`new`](Self::new), and the kernel is asked for this much help.
    pub fn with_offload(poll: Poll, listeners: Vec<Bound>, offload: Offload) -> Self {
        Self::with_lanes(poll, (listeners, Vec::new()), offload, None)
    }

    /// [`with_offload`](Self::with_offload), and behind the listeners come lanes, registered with the
    /// indices that follow theirs: as many rows of the listeners' addresses as `spreading` says, over
    /// which the kernel spreads clients while the worker is behind.
    pub fn with_lanes(
        poll: Poll,
        (mut listeners, lanes): (Vec<Bound>, Vec<Bound>),
        offload: Offload,
        spreading: Option<Member>,
    ) -> Self {
        let most = if offload.receive { BATCH_MAX * SEGMENTS_MAX } else { BATCH_MAX };
        let first_lane = listeners.len();
        listeners.extend(lanes);
        let mut link = Self {
            lanes: Lanes::new(listeners.len(), first_lane),
            spreading,
            behind: false,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            ready: VecDeque::with_capacity(listeners.len() + EVENTS_MAX),
            listeners: listeners.into_iter().map(|bound| Source::new(bound, offload)).collect(),
            ports: Vec::new(),
            loans: Vec::new(),
            receiver: Receiver::new(),
            sender: Sender::new(),
            plan: Plan::new(most),
            offload,
            defaults: Defaults::read(),
            errors: Errors::new(),
            oddities: Oddities::default(),
        };
        // what came to a lane before is told of by the poller
        link.queue_all(0..first_lane);
        link
    }

    fn queue(&mut self, id: SocketId) {
        if let Some(source) = find((&mut self.listeners, &mut self.ports, &mut self.loans), id)
            && !source.queued
            && !source.deaf
        {
            source.queued = true;
            self.ready.push_back(id);
            self.lanes.queued(id);
        }
    }

    fn queue_all(&mut self, listeners: std::ops::Range<usize>) {
        listeners.for_each(|at| self.queue(SocketId::listener(at)));
    }

    /// The socket whose turn it is to be read.
    fn next(&mut self) -> Option<SocketId> {
        while let Some(id) = self.ready.pop_front() {
            match self.lanes.admit(id) {
                Admission::Read => return Some(id),
                Admission::Held => {}
                Admission::HeldFirst => {
                    if !self.lanes.is_spread() {
                        // an edge may be on its way, and has to be known before the lanes are read
                        self.queue_all(0..self.lanes.listeners());
                    }
                    self.release();
                }
            }
        }
        None
    }

    /// Lets those be read that were held back, once it is time.
    fn release(&mut self) {
        if self.lanes.settle() {
            while let Some(id) = self.lanes.released() {
                self.ready.push_back(id);
                self.lanes.queued(id);
            }
        }
    }

    fn place(&mut self, slot: u32, source: Source) -> Option<Bound> {
        let slot = slot as usize;
        if self.ports.len() <= slot {
            self.ports.resize_with(slot + 1, || None);
        }
        let old = self.ports[slot].replace(source);
        // every socket may be ready at once
        let ports = self.ports.len() + self.listeners.len();
        self.ready.reserve(ports.saturating_sub(self.ready.len()));
        old.map(Source::given_back)
    }

    /// Adds to `batch` from the socket `id`.
    fn receive_from(&mut self, id: SocketId, batch: &mut Batch) {
        let turn_max = match id.kind() {
            _ if self.lanes.is_lane(id) => LANE_TURN_MAX,
            // all clients' datagrams come by it; whether it is behind shows in one turn
            SocketKind::Listener(_) => BEHIND,
            _ => TURN_MAX,
        };
        let Self { listeners, ports, loans, receiver, errors, oddities, .. } = self;
        let Some(source) = find((listeners, ports, loans), id) else { return };
        source.queued = false;
        let mut drain = |source: &Source| errors.drain(source.bound.descriptor(), id, oddities);
        if std::mem::take(&mut source.erred) {
            drain(source);
        }
        let first = batch.messages();
        let left = turn_max - source.given;
        let received = take(source, receiver, (batch, left), drain);
        oddities.receive_errors += received.unexplained;
        for index in first..first + received.count.unwrap_or(0) {
            let message = receiver.message(index);
            let known = cmsg::received(message.control);
            if let Some(total) = known.overflowed {
                oddities.overflowed += u64::from(total.wrapping_sub(source.overflowed));
                source.overflowed = total;
            }
            let mut local = source.bound.local();
            if let Some(ip) = known.local {
                local.set_ip(ip);
            }
            // the kernel always names the sender of a datagram; nothing is ever sent to this one
            let remote = name::decode(message.name).unwrap_or(UNNAMED);
            let (ttl, tos, truncated) = (known.ttl, known.tos, message.truncated);
            let arrival = Arrival { remote, local, ttl, tos, truncated };
            batch.note(id, message.size, known.segment, arrival);
        }
        match received.count {
            Some(count) if count < left && !batch.is_full() => {
                (source.undrained, source.given) = (0, 0);
            }
            // full, or given up on: the edge is used up, so the turn has to come again by itself
            count => {
                source.undrained += count.unwrap_or(0);
                self.behind |= source.undrained >= BEHIND && self.lanes.is_listener(id);
                let cut_off = count.is_some_and(|count| count < left);
                source.given = if cut_off { source.given + count.unwrap_or(0) } else { 0 };
                self.queue(id);
                if cut_off {
                    self.ready.rotate_right(1);
                }
            }
        }
    }

    /// Sends the datagrams at `first..last` of the plan, all of one socket, as far as possible.
    fn send_group(&mut self, batch: &mut Batch, by: SocketId, first: usize, last: usize) {
        let Self { listeners, ports, loans, sender, plan, errors, oddities, defaults, .. } = self;
        let Some(source) = find((listeners, ports, loans), by) else {
            settle(plan, batch, first..last, Outcome::Refused(Reason::PortClosed));
            return;
        };
        let (mut at, mut retried, mut explained) = (first, false, false);
        while at < last {
            let mut segments = source.segments;
            let (order, messages, whole) = plan.messages(batch, at..last, &mut segments);
            let front = messages[0];
            source.segments = segments;
            source.set_dont_fragment(whole);
            let marks = batch.departure(order[0] as usize).and_then(|departure| departure.marks);
            if let Some(marks) = marks {
                source.prefer_ttl(marks.ttl);
            }
            let known = (&source.ttl, *defaults);
            let sent = sender.send(source.bound.descriptor(), batch, (order, messages), known);
            let error = match sent {
                Ok(sent) => {
                    let end = at + messages[..sent].iter().map(|sent| sent.count).sum::<usize>();
                    oddities.messages_sent += sent as u64;
                    settle(plan, batch, at..end, Outcome::Sent);
                    (at, retried, explained) = (end, false, false);
                    continue;
                }
                Err(error) => error,
            };
            match refusal(&error) {
                _ if error.kind() == io::ErrorKind::Interrupted => {}
                _ if !explained
                    && errors.explain(&error, (source.bound.descriptor(), by), oddities) =>
                {
                    explained = true;
                }
                _ if front.count > 1 && is_about_segments(&error) => {
                    let all = error.raw_os_error() == Some(libc::EIO);
                    source.segments.refuse(front.segment, all);
                    oddities.segmentation_refused += 1;
                }
                Some(Reason::SocketFull) => {
                    settle(plan, batch, at..last, Outcome::Refused(Reason::SocketFull));
                    return;
                }
                Some(Reason::TooBig) if !whole && !retried => {
                    source.bound.set_dont_fragment(false);
                    retried = true;
                }
                None if !retried => {
                    errors.drain(source.bound.descriptor(), by, oddities);
                    retried = true;
                }
                reason => {
                    let refused = Outcome::Refused(reason.unwrap_or(Reason::SendFailed));
                    settle(plan, batch, at..at + front.count, refused);
                    (at, retried, explained) = (at + front.count, false, false);
                }
            }
        }
    }
}

/// Settles the datagrams at these places of the plan.
fn settle(plan: &Plan, batch: &mut Batch, places: std::ops::Range<usize>, outcome: Outcome) {
    places.for_each(|place| batch.settle(plan.datagram(place), outcome));
}

impl Link for SocketLink {
    type Port = Bound;

    fn open(&mut self, slot: u32, port: Bound) -> Option<Bound> {
        let old = self.place(slot, Source::new(port, self.offload));
        // its first edge may have come before it was known here
        self.queue(SocketId::port(slot));
        old
    }

    fn close(&mut self, slot: u32) -> Option<Bound> {
        self.ports.get_mut(slot as usize)?.take().map(Source::given_back)
    }

    fn take_over(&mut self, slot: u32, port: Bound) -> Option<Bound> {
        self.place(slot, Source::deaf(port, self.offload))
    }

    fn hear(&mut self, slot: u32, overflowed: u32) {
        let offload = self.offload;
        let Some(Some(source)) = self.ports.get_mut(slot as usize) else { return };
        // Once merging is on it stays on: what waits may be merged already, and every batch of relay
        // ports can take it.
        if offload.receive {
            source.bound.set_merged();
        }
        // the link before set it as its own datagrams needed it
        source.bound.set_dont_fragment(source.whole);
        if source.bound.set_ttl(None).is_ok() {
            source.ttl = Ttl::settable();
        }
        (source.deaf, source.overflowed) = (false, overflowed);
        // its edges went by
        self.queue(SocketId::port(slot));
    }

    fn lend(&mut self, number: u32, port: Bound) -> Option<Bound> {
        let index = number as usize;
        if self.loans.len() <= index {
            self.loans.resize_with(index + 1, || None);
        }
        // never received from: that is its owner's
        let old = self.loans[index].replace(Source::lent(port, self.offload));
        old.map(|source| source.bound)
    }

    fn recall(&mut self, number: u32) -> Option<Bound> {
        self.loans.get_mut(number as usize)?.take().map(|source| source.bound)
    }

    fn begin_round(&mut self, now: Duration) {
        let behind = std::mem::take(&mut self.behind);
        let Some(member) = &mut self.spreading else { return };
        member.round(now);
        let listeners = self.listeners.iter().map(|source| &source.bound);
        self.oddities.spreads += u64::from(member.spreading.look(behind, now, listeners));
        // whether they are empty is found out by reading
        match member.changed() {
            Some(Kind::Listeners) => self.queue_all(0..self.lanes.listeners()),
            Some(Kind::Lanes) => self.queue_all(self.lanes.listeners()..self.listeners.len()),
            None => {}
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if let Some(member) = &mut self.spreading {
            if member.unsettled().is_some_and(|left| self.lanes.is_drained(left)) {
                member.settle();
            }
            if timeout != Some(Duration::ZERO) {
                member.pressure.rest();
            }
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let Self { events, listeners, ports, loans, ready, lanes, .. } = self;
        for event in events.iter().filter(|event| event.token() != WAKE) {
            let id = SocketId::from(event.token());
            let Some(source) = find((listeners, ports, loans), id) else { continue };
            source.erred |= event.is_error();
            if !source.queued && !source.deaf {
                source.queued = true;
                ready.push_back(id);
                lanes.queued(id);
            }
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn receive(&mut self, batch: &mut Batch) -> Option<SocketId> {
        let id = self.next()?;
        let before = batch.messages();
        self.receive_from(id, batch);
        self.lanes.turned(id, batch.messages() > before);
        self.release();
        Some(id)
    }

    fn send(&mut self, batch: &mut Batch) {
        self.plan.arrange(batch);
        let (mut first, before) = (0, self.oddities.messages_sent);
        while first < self.plan.len() {
            let (by, last) = self.plan.group(batch, first);
            self.send_group(batch, by, first, last);
            first = last;
        }
        if let Some(member) = &mut self.spreading {
            let messages = self.oddities.messages_sent - before;
            member.pressure.sent(self.plan.len(), messages as usize);
        }
    }

    fn unreachable(&mut self) -> Option<Unreachable> {
        self.errors.next()
    }

    fn oddities(&self) -> Oddities {
        Oddities { is_spread: self.lanes.is_spread(), ..self.oddities }
    }
}

/// Stands for a sender that the kernel did not name: port 0 is never answered.
const UNNAMED: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Listeners, relay ports, and relay ports of other workers.
type Sources<'s> = (&'s mut [Source], &'s mut [Option<Source>], &'s mut [Option<Source>]);

fn find<'s>((listeners, ports, loans): Sources<'s>, id: SocketId) -> Option<&'s mut Source> {
    match id.kind() {
        SocketKind::Listener(index) => listeners.get_mut(index),
        SocketKind::Port(slot) => ports.get_mut(slot as usize)?.as_mut(),
        SocketKind::Loan(number) => loans.get_mut(number as usize)?.as_mut(),
        SocketKind::Relayed => None,
    }
}

#[cfg(test)]
mod tests;
