//! Batches on their way through: judged, changed in place, sent, counted.

use super::indication::DataHeader;
use super::judge::{Judgement, Plan, Relaying, TO_LISTENER, TO_RELAY, judge, marks};
use super::{Tables, Worker};
use crate::batch::{Batch, Outcome, SocketId, SocketKind};
use crate::link::Link;
use crate::mailbox::{ELSEWHERE, Letter, LetterKind};
use crate::route::{PortId, Transport};
use wire::table::Table;
use wire::{Direction, PortUse, Reason};

/// What is counted once a datagram has left: numbers of route entries.
#[derive(Clone, Copy)]
pub(super) struct Tally {
    index: u32,
    data: u32,
    to_peer: Option<u32>,
    to_client: Option<u32>,
    /// It came or left as an indication: the numbers are of the other table.
    indication: bool,
}

/// Whom a datagram came from.
#[derive(Clone, Copy)]
struct Side {
    port: PortUse,
    direction: Direction,
    kind: LetterKind,
    /// Of the relay port.
    id: Option<PortId>,
}

impl<L: Link> Worker<L> {
    /// Whom the datagrams of a socket come from; nothing for a port that is closed.
    fn side(&self, by: SocketId) -> Option<Side> {
        match by.kind() {
            SocketKind::Listener(_) => {
                let (direction, kind) = (Direction::ToPeer, LetterKind::Client);
                Some(Side { port: TO_LISTENER, direction, kind, id: None })
            }
            SocketKind::Port(slot) => {
                let id = Some(self.egress.owner(slot)?);
                let (direction, kind) = (Direction::ToClient, LetterKind::Peer);
                Some(Side { port: TO_RELAY, direction, kind, id })
            }
            SocketKind::Relayed => {
                let (direction, kind) = (Direction::ToClient, LetterKind::Peer);
                Some(Side { port: TO_RELAY, direction, kind, id: None })
            }
            // nothing is received by those
            SocketKind::Loan(_) => None,
        }
    }

    /// The batch on its way through.
    pub(super) fn pass(&mut self, tables: &Tables<'_>) {
        self.tallies.clear();
        let mut from = None;
        for index in 0..self.batch.len() {
            let by = self.batch.by(index);
            let side = match from {
                Some((known, side)) if known == by => side,
                _ => self.side(by),
            };
            from = Some((by, side));
            let Some(side) = side else {
                self.counters.refuse(Direction::ToClient, Reason::PortClosed);
                continue;
            };
            if let Some(reason) = self.pass_one(index, side, tables) {
                self.counters.refuse(side.direction, reason);
            }
        }
        self.link.send(&mut self.batch);
        for tally in &self.tallies {
            self.count(tally, tables);
        }
    }

    /// Judges one datagram and changes it in its room; why not, if it goes nowhere.
    fn pass_one(&mut self, index: usize, side: Side, tables: &Tables<'_>) -> Option<Reason> {
        let (arrival, payload) = (self.batch.arrival(index), self.batch.payload(index));
        let Tables { view, permits } = tables;
        match judge(arrival, payload, side.port, (view, permits), &self.egress) {
            Judgement::Forward(plan) => {
                let tally = Tally {
                    index: index as u32,
                    data: plan.data as u32,
                    to_peer: plan.to_peer.and_then(|entry| view.number(entry)),
                    to_client: plan.to_client.and_then(|entry| view.number(entry)),
                    indication: false,
                };
                if !apply(&mut self.batch, index, &plan) {
                    return Some(Reason::NoHeadroom);
                }
                self.tallies.push(tally);
                None
            }
            Judgement::Send(relaying, skip, data) => {
                let narrowed = self.batch.narrow(index, skip, data);
                self.relay(index, side, &relaying, (data, narrowed), tables)
            }
            Judgement::Data(relaying) => {
                let (peer, data) = (arrival.remote, payload.len());
                let header = self.ids.draw().and_then(|id| DataHeader::new(peer, data, id));
                // too long, which is the control thread's to say; or there is no randomness
                let Some(header) = header else {
                    return self.hand_over(index, side, 0, self.mail.events_size() / 2);
                };
                let wrapped = self.batch.prepend(index, header.bytes())
                    && self.batch.pad(index, header.padding);
                self.relay(index, side, &relaying, (data, wrapped), tables)
            }
            Judgement::Message => self.hand_over(index, side, 0, 0),
            Judgement::Unrouted => self.hand_over(index, side, 0, self.mail.events_size() / 2),
            Judgement::Elsewhere => {
                self.hand_over(index, side, ELSEWHERE, self.mail.events_size() / 2)
            }
            Judgement::Refuse(reason) => Some(reason),
        }
    }

    /// Marks what was an indication, or became one, for sending.
    fn relay(
        &mut self,
        index: usize,
        side: Side,
        relaying: &Relaying<'_>,
        (data, changed): (usize, bool),
        tables: &Tables<'_>,
    ) -> Option<Reason> {
        if !changed {
            return Some(Reason::NoHeadroom);
        }
        self.batch.depart(index, relaying.departure);
        let entry = tables.permits.view().number(relaying.entry);
        let (to_peer, to_client) = match side.direction {
            Direction::ToPeer => (entry, None),
            Direction::ToClient => (None, entry),
        };
        let (index, data) = (index as u32, data as u32);
        self.tallies.push(Tally { index, data, to_peer, to_client, indication: true });
        None
    }

    /// Hands a datagram to the control thread; why not, if its ring is too full.
    fn hand_over(
        &mut self,
        index: usize,
        side: Side,
        of_client: u32,
        reserve: usize,
    ) -> Option<Reason> {
        let arrival = self.batch.arrival(index);
        let letter = Letter {
            kind: side.kind,
            dont_fragment: false,
            marks: marks(arrival),
            transport: Transport::Udp,
            slot: match (side.id, side.kind) {
                (Some(id), _) => id.slot(),
                // by AF_XDP: the control thread knows it by its address
                (None, LetterKind::Peer) => ELSEWHERE,
                (None, _) => of_client,
            },
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

    fn count(&self, tally: &Tally, tables: &Tables<'_>) {
        let view = if tally.indication { tables.permits.view() } else { &tables.view };
        let came = if tally.to_peer.is_some() { Direction::ToPeer } else { Direction::ToClient };
        match self.batch.outcome(tally.index as usize) {
            Outcome::Sent => {
                let sides =
                    [(Direction::ToPeer, tally.to_peer), (Direction::ToClient, tally.to_client)];
                for (direction, entry) in sides {
                    let Some(entry) = entry.and_then(|entry| view.entry(entry)) else { continue };
                    self.counters.forward(direction, tally.data.into());
                    if tally.indication {
                        // a permission's datagrams may come by several workers' queues
                        entry.count_shared(tally.data.into());
                        self.counters.indications[direction as usize].add(1);
                    } else {
                        entry.count(tally.data.into());
                    }
                }
                if tally.to_peer.is_some() && tally.to_client.is_some() {
                    self.counters.inner.add(1);
                }
            }
            Outcome::Refused(reason) => self.counters.refuse(came, reason),
            // a link settles every datagram that has a departure
            Outcome::Unsent => self.counters.refuse(came, Reason::SendFailed),
        }
    }
}

/// Changes the datagram in its room and marks it for sending. False, and not marked, when there is
/// no place for that; its bytes are not used any more.
fn apply(batch: &mut Batch, index: usize, plan: &Plan<'_>) -> bool {
    let done = batch.narrow(index, plan.strip, plan.data)
        && plan.header.is_none_or(|header| batch.prepend(index, &header));
    if done {
        batch.depart(index, plan.departure);
    }
    done
}
