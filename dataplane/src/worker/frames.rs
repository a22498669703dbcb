//! Frames on their way through a worker: forwarded as they lie, or made datagrams of its batch.

use super::{Tables, Worker};
use crate::batch::{Batch, SocketId};
use crate::frames::{BURST_MAX, BURSTS_MAX, FrameCounters, Frames, datagram, target};
use crate::kernel::{FrameView, Looked};
use crate::link::Link;
use crate::stats::batch_class;
use std::net::SocketAddr;
use std::time::Duration;
use wire::{Direction, Forward, Reason, Tables as _};

/// What becomes of a frame.
pub(super) enum Way<'t> {
    /// Out by this queue: it is rewritten.
    Out(usize, Forward<'t>),
    /// To the batch.
    Datagram,
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
        match frames.settle(now, &self.counters.frames) {
            Ok(()) => self.frames = Some(frames),
            Err(error) => frames.go_home(Some(error), &self.counters.frames),
        }
    }

    /// Gives the queues back, once what they have received has gone through.
    pub(super) fn give_frames(&mut self, now: Duration, tables: &Tables<'_>) {
        self.frames_asked = false;
        self.pass_frames(now, tables);
        if let Some(frames) = self.frames.take() {
            frames.go_home(None, &self.counters.frames);
        }
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
        let counters = &self.counters.frames;
        counters.received.add(count as u64);
        self.batch.clear();
        for mut frame in received.drain(..) {
            let out = |interface| Frames::egress(lanes, from, interface);
            let (direction, reason) = match way(&mut umem.view(&mut frame), kernel, out) {
                Way::Out(lane, forward) => match lanes[lane].queue.transmit(umem, frame) {
                    Ok(()) => {
                        count_forwarded(&forward, counters);
                        continue;
                    }
                    Err(back) => {
                        frame = back;
                        (came(&forward), Reason::SocketFull)
                    }
                },
                Way::Datagram => {
                    match enter(&mut self.batch, umem.bytes(&frame), kernel, &self.egress) {
                        Ok(()) => {
                            counters.datagrams.add(1);
                            umem.give(frame);
                            continue;
                        }
                        Err(reason) => {
                            let bytes = umem.bytes(&frame);
                            (direction(bytes, kernel, &self.egress), reason)
                        }
                    }
                }
                Way::Refuse(direction, reason) => (direction, reason),
            };
            umem.give(frame);
            counters.refuse(direction, reason);
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
        Err(_) => return Way::Datagram,
    };
    let Some(lane) = out(plan.hop.ifindex) else { return Way::Datagram };
    match wire::rewrite(frame, &plan) {
        Ok(()) => Way::Out(lane, plan.forward),
        Err(Reason::NoHeadroom) => Way::Datagram,
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

fn came(forward: &Forward<'_>) -> Direction {
    if forward.to_peer.is_some() { Direction::ToPeer } else { Direction::ToClient }
}

fn count_forwarded(forward: &Forward<'_>, counters: &FrameCounters) {
    forward.count();
    for direction in forward.directions().into_iter().flatten() {
        counters.forward(direction, forward.data.into());
    }
}
