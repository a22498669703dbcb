//! One measurement at a sink.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use hdrhistogram::Histogram;

use super::{Outgoing, Results};
use crate::framing::Framing;
use crate::latency;
use crate::link::Link;
use crate::mix::Mix;
use crate::schedule::Schedule;
use crate::stamp::{Filler, PAYLOAD_MAX, Stamp};
use crate::tracker::{Arrival, Tracker};
use crate::traffic::{Egress, Sender, Sent, Shared, Slots};

/// Numbers of a flow among which duplicates are told.
const WINDOW: usize = 1_024;

/// What a sink knows of one measurement.
#[derive(Default)]
pub(super) struct State {
    flows: HashMap<u32, Tracker>,
    latency: Option<Histogram<u64>>,
    by_slot: Vec<u64>,
    slots: Option<Slots>,
    /// The sink's clock less the run's.
    offset: i64,
    /// Flows to send, and where to.
    wanted: Vec<(u32, usize, SocketAddr)>,
    shared: Arc<Shared>,
    sender: Option<JoinHandle<(Vec<u32>, Sent)>>,
    sent: Option<Outgoing>,
    /// The time in the last `Hello`.
    pub(super) hello: u64,
    /// Counters of the whole sink when this began.
    pub(super) unreadable_before: u64,
    pub(super) drops_before: u64,
    /// The results as text, once they are made up.
    pub(super) text: Option<String>,
    pub(super) going: bool,
}

/// What `Go` says.
pub(super) struct Start {
    pub(super) offset: i64,
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) slots: (u64, usize),
    pub(super) rate: Option<f64>,
    pub(super) mix: Mix,
}

impl State {
    pub(super) fn want(&mut self, flow: u32, socket: usize, to: SocketAddr) {
        if !self.wanted.iter().any(|(wanted, ..)| *wanted == flow) {
            self.wanted.push((flow, socket, to));
        }
    }

    /// Begins: from now on datagrams have their parts, and the sender sends.
    pub(super) fn go(&mut self, tag: u8, start: Start, links: &[Arc<Link>]) {
        let Start { offset, start, len, slots, rate, mix } = start;
        self.offset = offset;
        let slots = Slots { start, len: slots.0.max(1), count: slots.1.clamp(1, 1_000) };
        self.by_slot = vec![0; slots.count];
        self.slots = Some(slots);
        self.going = true;
        if self.wanted.is_empty() {
            return;
        }
        self.wanted.sort_unstable_by_key(|(flow, socket, _)| (*socket, *flow));
        let egress: Vec<Egress> = self
            .wanted
            .iter()
            .map(|(flow, socket, to)| Egress {
                flow: *flow,
                socket: *socket,
                to: Some((*to).into()),
                framing: Framing::Bare,
            })
            .collect();
        let (links, shared) = (links.to_vec(), self.shared.clone());
        let here = start.saturating_add_signed(offset);
        self.sender = Some(thread::spawn(move || {
            let filler = Filler::new(mix.longest());
            let sender = Sender {
                flows: &egress,
                links: &links,
                tag,
                mix: &mix,
                filler: &filler,
                schedule: Schedule { start: here, end: here + len, rate },
                slots: Slots { start: here, ..slots },
                clock_offset: offset,
                spin: false,
                offload: false,
                shared: &shared,
            };
            let sent = sender.run();
            (egress.iter().map(|egress| egress.flow).collect(), sent)
        }));
    }

    /// An intact or damaged datagram, at this time of the sink's clock.
    pub(super) fn note(&mut self, stamp: Stamp, intact: bool, now: u64) {
        let flow = self.flows.entry(stamp.flow).or_insert_with(|| Tracker::new(WINDOW));
        let slot = self.slots.map(|slots| slots.of(stamp.scheduled));
        if !intact {
            flow.damaged(stamp.sequence);
            return;
        }
        if flow.intact(stamp.sequence) == Arrival::Duplicate {
            return;
        }
        if let Some(slot) = slot {
            self.by_slot[slot] += 1;
        }
        let now = now.saturating_add_signed(-self.offset);
        let latency = self.latency.get_or_insert_with(latency::histogram);
        latency.saturating_record(now.saturating_sub(stamp.scheduled));
    }

    /// Ends the sender, and says what there is.
    pub(super) fn results(&mut self, unreadable: u64, drops: u64) -> Results {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        if let Some(Ok((flows, sent))) = self.sender.take().map(JoinHandle::join) {
            self.sent = Some(Outgoing {
                offered: sent.offered,
                by_flow: flows.into_iter().zip(sent.by_flow.iter().copied()).collect(),
                by_slot: sent.by_slot,
                refused: (sent.refused, sent.refusal),
                lateness: latency::encode(&sent.lateness),
                ended: sent.ended.saturating_add_signed(-self.offset),
            });
        }
        let flows = self.flows.iter().map(|(flow, tracker)| {
            let seen = tracker.arrivals();
            (*flow, seen.received, seen.reordered, seen.duplicated, seen.corrupted)
        });
        Results {
            flows: flows.collect(),
            unreadable: unreadable.saturating_sub(self.unreadable_before),
            by_slot: self.by_slot.clone(),
            latency: self.latency.as_ref().map(latency::encode).unwrap_or_default(),
            dropped_here: drops.saturating_sub(self.drops_before),
            sent: self.sent.clone(),
        }
    }

    /// Sent and received so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let received = self.flows.values().map(|flow| flow.arrivals().received).sum();
        (self.shared.counts().0, received)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
    }
}

/// The filler that every payload is judged by.
pub(super) fn filler() -> Filler {
    Filler::new(PAYLOAD_MAX)
}
