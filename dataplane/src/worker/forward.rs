//! Batches on their way through: judged, changed in place, sent, counted.

use super::Worker;
use super::judge::{Judgement, Plan, TO_LISTENER, TO_RELAY, judge};
use crate::batch::{BATCH_MAX, Batch, Outcome};
use crate::link::Link;
use crate::mailbox::{Letter, LetterKind};
use crate::route::{PortId, Transport};
use crate::table::View;
use wire::table::Entry;
use wire::{Direction, PortUse, Reason};

/// What is counted once a datagram has left.
#[derive(Clone, Copy)]
struct Tally<'t> {
    to_peer: Option<&'t Entry>,
    to_client: Option<&'t Entry>,
    data: u64,
}

/// Whom a batch came from.
#[derive(Clone, Copy)]
struct Side {
    port: PortUse,
    direction: Direction,
    kind: LetterKind,
    /// Of the relay port.
    id: Option<PortId>,
}

impl<L: Link> Worker<L> {
    /// A batch from a listener.
    pub(super) fn pass_clients(&mut self, view: &View<'_>) {
        let (direction, kind) = (Direction::ToPeer, LetterKind::Client);
        self.pass(Side { port: TO_LISTENER, direction, kind, id: None }, view);
    }

    /// A batch from the relay port in `slot`.
    pub(super) fn pass_peers(&mut self, slot: u32, view: &View<'_>) {
        let direction = Direction::ToClient;
        match self.egress.owner(slot) {
            Some(id) => {
                let (port, kind) = (TO_RELAY, LetterKind::Peer);
                self.pass(Side { port, direction, kind, id: Some(id) }, view);
            }
            None => (0..self.batch.len())
                .for_each(|_| self.counters.refuse(direction, Reason::PortClosed)),
        }
    }

    fn pass(&mut self, side: Side, view: &View<'_>) {
        let mut tallies: [Option<Tally<'_>>; BATCH_MAX] = [None; BATCH_MAX];
        let received = self.batch.len();
        for (index, tally) in tallies.iter_mut().enumerate().take(received) {
            let (arrival, payload) = (self.batch.arrival(index), self.batch.payload(index));
            let refused = match judge(arrival, payload, side.port, view, &self.egress) {
                Judgement::Forward(plan) => {
                    let done = apply(&mut self.batch, index, &plan);
                    let Plan { to_peer, to_client, data, .. } = plan;
                    *tally = done.then_some(Tally { to_peer, to_client, data: data as u64 });
                    (!done).then_some(Reason::NoHeadroom)
                }
                Judgement::Message => self.hand_over(index, side, 0),
                Judgement::Unrouted => self.hand_over(index, side, self.mail.events_size() / 2),
                Judgement::Refuse(reason) => Some(reason),
            };
            if let Some(reason) = refused {
                self.counters.refuse(side.direction, reason);
            }
        }
        self.link.send(&mut self.batch);
        for (index, tally) in tallies.iter().enumerate().take(self.batch.len()) {
            if let Some(tally) = tally {
                self.count(index, tally, side.direction);
            }
        }
    }

    /// Hands a datagram to the control thread; why not, if its ring is too full.
    fn hand_over(&mut self, index: usize, side: Side, reserve: usize) -> Option<Reason> {
        let arrival = self.batch.arrival(index);
        let letter = Letter {
            kind: side.kind,
            dont_fragment: false,
            transport: Transport::Udp,
            slot: side.id.map_or(0, PortId::slot),
            generation: side.id.map_or(0, PortId::generation),
            remote: arrival.remote,
            local: arrival.local,
        };
        if self.mail.report(&letter, self.batch.payload(index), reserve) {
            self.counters.to_control[side.direction as usize].add(1);
            return None;
        }
        Some(Reason::RingFull)
    }

    fn count(&self, index: usize, tally: &Tally<'_>, came: Direction) {
        match self.batch.outcome(index) {
            Outcome::Sent => {
                let sides =
                    [(Direction::ToPeer, tally.to_peer), (Direction::ToClient, tally.to_client)];
                for (direction, entry) in sides {
                    if let Some(entry) = entry {
                        entry.count(tally.data);
                        self.counters.forward(direction, tally.data);
                    }
                }
                let inner = tally.to_peer.is_some() && tally.to_client.is_some();
                self.counters.inner.add(inner.into());
            }
            Outcome::Refused(reason) => self.counters.refuse(came, reason),
            // a link settles every datagram that has a departure
            Outcome::Unsent => self.counters.refuse(came, Reason::SendFailed),
        }
    }
}

/// Changes the datagram in its buffer and marks it for sending. False, and not marked, when its
/// buffer has no room for that; its bytes are not used any more.
fn apply(batch: &mut Batch, index: usize, plan: &Plan<'_>) -> bool {
    let done = batch.narrow(index, plan.strip, plan.data)
        && plan.header.is_none_or(|header| batch.prepend(index, header));
    if done {
        batch.depart(index, plan.departure);
    }
    done
}
