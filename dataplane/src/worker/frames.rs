//! Frames on their way through a worker: forwarded as they lie, or made datagrams of its batch.

pub(super) mod indication;

use super::indication::Ids;
use super::{Tables, Worker};
use crate::batch::{Batch, SocketId};
use crate::frames::{BURST_MAX, BURSTS_MAX, FrameCounters, Frames, datagram, target};
use crate::kernel::{FrameView, Looked};
use crate::link::Link;
use crate::link::xsk::View;
use crate::stats::batch_class;
use indication::{Carried, Known};
use std::net::SocketAddr;
use std::time::Duration;
use wire::{Direction, Forward, Reason, Tables as _};

/// What becomes of a frame.
pub(super) enum Way<'t> {
    /// Out by this queue: it is rewritten.
    Out(usize, Forward<'t>),
    /// It has no live channel as a frame, or leaves by a socket, for this reason.
    Datagram(Reason),
    /// Dropped, on this way.
    Refuse(Direction, Reason),
}

impl<L: Link> Worker<L> {
    /// What the queues have, within the round's budget.
    pub(super) fn pass_frames(&mut self, now: Duration, tables: &Tables<'_>) {
        let Some(mut frames) = self.frames.take() else { return };
        let shared = std::sync::Arc::clone(&frames.tables);
        let kernel = shared.view(now);
        for lane in 0..frames.lanes.len() {
            for _ in 0..BURSTS_MAX {
                if self.burst(&mut frames, lane, &kernel, tables) < BURST_MAX {
                    break;
                }
            }
        }
        frames.settle(now, &self.counters.frames);
        self.frames = Some(frames);
    }

    /// Gives the queues back that were asked for, once what they have received has gone through.
    pub(super) fn give_frames(&mut self, now: Duration) {
        if let Some(frames) = self.frames.take_if(|frames| frames.may_leave(now)) {
            frames.go_home(&self.counters.frames);
        }
        self.frames_asked = self.frames.is_some();
    }

    /// One burst of one queue; how many frames it had.
    fn burst(
        &mut self,
        frames: &mut Frames,
        from: usize,
        kernel: &FrameView<'_>,
        tables: &Tables<'_>,
    ) -> usize {
        let Frames { umem, lanes, received, .. } = frames;
        let most = self.batch.capacity().min(BURST_MAX);
        let count = lanes[from].queue.receive(umem, received, most);
        if count == 0 {
            return 0;
        }
        self.counters.frames.received.add(count as u64);
        self.counters.frames.batches[batch_class(count)].add(1);
        self.batch.clear();
        for mut frame in received.drain(..) {
            let out = |interface| Frames::egress(lanes, from, interface);
            let known = Known { kernel, tables, egress: &self.egress };
            let leaving = leaving(&mut umem.view(&mut frame), &known, &mut self.ids, out);
            let counters = &self.counters.frames;
            let stays = match leaving {
                Ok((lane, leaving)) => match lanes[lane].queue.transmit(umem, frame) {
                    Ok(()) => {
                        leaving.count(counters);
                        continue;
                    }
                    Err(back) => {
                        frame = back;
                        Stays::Refused(leaving.came(), Reason::SocketFull)
                    }
                },
                Err(stays) => stays,
            };
            let bytes = umem.bytes(&frame);
            let refused = match stays {
                Stays::Refused(direction, reason) => Some((direction, reason)),
                Stays::Datagram(why) => {
                    why.into_iter().for_each(|why| counters.by_socket(why));
                    let entered = enter(&mut self.batch, bytes, kernel, &self.egress);
                    entered.err().map(|reason| (direction(bytes, kernel, &self.egress), reason))
                }
            };
            match refused {
                Some((direction, reason)) => counters.refuse(direction, reason),
                None => counters.datagrams.add(1),
            }
            umem.give(frame);
        }
        if !self.batch.is_empty() {
            let size = self.batch.len();
            self.counters.received.add(size as u64);
            self.counters.messages.add(size as u64);
            self.counters.batches[batch_class(size)].add(1);
            self.pass(tables);
        }
        count
    }
}

/// Decides about a frame, and rewrites it where it goes out again.
pub(super) fn way<'t, F: wire::Frame>(
    frame: &mut F,
    kernel: &'t FrameView<'_>,
    out: impl Fn(u32) -> Option<usize>,
) -> Way<'t> {
    let plan = match wire::plan(frame, kernel, &Looked) {
        Ok(plan) => plan,
        // not what the program hands to workers, and on no way of ours
        Err(reason @ (Reason::NotUdp | Reason::Malformed | Reason::NotOurs)) => {
            return Way::Refuse(Direction::ToPeer, reason);
        }
        Err(reason) => return Way::Datagram(reason),
    };
    let Some(lane) = out(plan.hop.ifindex) else { return Way::Datagram(Reason::NoHop) };
    match wire::rewrite(frame, &plan) {
        Ok(()) => Way::Out(lane, plan.forward),
        Err(Reason::NoHeadroom) => Way::Datagram(Reason::NoHeadroom),
        Err(reason) => Way::Refuse(came(&plan.forward), reason),
    }
}

/// Enters the datagram in `frame` in the batch.
fn enter(
    batch: &mut Batch,
    frame: &[u8],
    kernel: &FrameView<'_>,
    egress: &super::Egress,
) -> Result<(), Reason> {
    let (arrival, payload) = datagram(frame)?;
    let by = receiver(arrival.local, kernel, egress);
    let entered = batch.push_from(by, &frame[payload], None, arrival);
    entered.then_some(()).ok_or(Reason::Truncated)
}

/// Whose socket would have received what came to `local`.
fn receiver(local: SocketAddr, kernel: &FrameView<'_>, egress: &super::Egress) -> SocketId {
    match egress.by_listener(local) {
        Some((listener, _)) if kernel.port(local.port()).is_listener() => listener,
        _ => SocketId::RELAYED,
    }
}

/// Which way a frame was going that became no datagram; a listener's goes to peers.
pub(super) fn direction(frame: &[u8], kernel: &FrameView<'_>, egress: &super::Egress) -> Direction {
    match target(frame).map(|local| receiver(local, kernel, egress)) {
        Some(SocketId::RELAYED) => Direction::ToClient,
        _ => Direction::ToPeer,
    }
}

/// Rewrites a frame that leaves as it lies, by which queue; or says what becomes of it.
pub(super) fn leaving<'t>(
    frame: &mut View<'_>,
    known: &Known<'t>,
    ids: &mut Ids,
    out: impl Fn(u32) -> Option<usize>,
) -> Result<(usize, Leaving<'t>), Stays> {
    match way(frame, known.kernel, &out) {
        Way::Out(lane, forward) => Ok((lane, Leaving::Channel(forward))),
        Way::Refuse(direction, reason) => Err(Stays::Refused(direction, reason)),
        Way::Datagram(Reason::Stun | Reason::NoRoute | Reason::Expired) => {
            match indication::way(frame, known, ids, out) {
                indication::Way::Out(lane, carried) => Ok((lane, Leaving::Indication(carried))),
                indication::Way::Refuse(direction, reason) => {
                    Err(Stays::Refused(direction, reason))
                }
                indication::Way::Datagram(why) => Err(Stays::Datagram(why)),
            }
        }
        Way::Datagram(reason) => {
            use Reason::{Busy, NoHeadroom, NoHop, TooBig, ZeroChecksum};
            let has_way = matches!(reason, Busy | NoHeadroom | NoHop | TooBig | ZeroChecksum);
            Err(Stays::Datagram(has_way.then_some(reason)))
        }
    }
}

/// A frame that goes out.
pub(super) enum Leaving<'t> {
    Channel(Forward<'t>),
    Indication(Carried<'t>),
}

/// One that does not.
pub(super) enum Stays {
    /// It becomes a datagram; though it has a way, for this reason.
    Datagram(Option<Reason>),
    Refused(Direction, Reason),
}

impl Leaving<'_> {
    fn came(&self) -> Direction {
        match self {
            Self::Channel(forward) => came(forward),
            Self::Indication(carried) => carried.direction,
        }
    }

    fn count(&self, counters: &FrameCounters) {
        match self {
            Self::Channel(forward) => count_forwarded(forward, counters),
            Self::Indication(Carried { direction, entry, data }) => {
                let data = u64::from(*data);
                // a permission's datagrams may come by several workers' queues
                entry.count_shared(data);
                counters.forward(*direction, data);
                counters.indications[*direction as usize].add(1);
            }
        }
    }
}

fn came(forward: &Forward<'_>) -> Direction {
    if forward.to_peer.is_some() { Direction::ToPeer } else { Direction::ToClient }
}

fn count_forwarded(forward: &Forward<'_>, counters: &FrameCounters) {
    forward.count();
    for direction in forward.directions().into_iter().flatten() {
        counters.forward(direction, forward.data.into());
    }
}
