//! A worker: one thread, its own sockets, its own counters; it shares the route table with the
//! others, to read.
//!
//! ```text
//!  loop   wait ──> hear the bell ──> read the clock once
//!           ^        ├─ commands: open and close relay ports
//!           │        ├─ letters: send what the control thread wants sent
//!           │        └─ turns: one batch each, of the sockets that are ready
//!           │             receive ─> decide ─┬─> forward in the buffer it came in
//!           │                                ├─> forward a Send, wrap a Data indication
//!           │                                ├─> hand to the control thread
//!           └── nothing left ─────────────── └─> refuse, counted by reason
//! ```
//!
//! Every kind of work has a budget per round, so that neither a flood nor a busy control thread
//! starves the other.

mod egress;
mod forward;
mod frames;
pub(crate) mod indication;
mod judge;
mod letters;
mod stepped;
mod tell;

pub(crate) use egress::{Egress, Listener};
#[doc(hidden)]
pub use indication::Indication;
pub use stepped::Stepped;
pub(crate) use tell::Allowance;
pub use tell::UNREACHABLE_PER_SECOND;

use crate::batch::{BATCH_MAX, Batch, SEGMENTS_MAX};
use crate::frames::Frames;
use crate::link::Link;
use crate::mailbox::{Command, Returned, WorkerEnd};
use crate::route::PortId;
use crate::stats::{Counters, batch_class};
use crate::table::{Permits, RouteTable, View};
use forward::Tally;
use indication::Ids;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::time::Duration;

/// Batches that a round receives before it looks at its mailbox and its poller again.
const TURNS_MAX: usize = 16;

/// Datagrams that a round receives before it does, to the end of the batch that reaches it.
const DATAGRAMS_MAX: usize = 2048;

/// What all workers read and the control thread writes.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Channels.
    pub(crate) routes: Arc<RouteTable>,
    /// Relayed addresses and permissions, for indications.
    pub(crate) permits: Arc<RouteTable>,
}

/// The shared tables in one round.
struct Tables<'t> {
    view: View<'t>,
    permits: Permits<'t>,
}

/// Everything that one worker's thread owns.
pub(crate) struct Worker<L: Link> {
    link: L,
    mail: WorkerEnd<L::Port>,
    egress: Egress,
    shared: Shared,
    batch: Batch,
    tallies: Vec<Tally>,
    ids: Ids,
    counters: Arc<Counters>,
    allowance: Allowance,
    /// AF_XDP queues, where the host has them for this worker.
    frames: Option<Box<Frames>>,
    /// The control thread wants them back.
    frames_asked: bool,
}

impl<L: Link> Worker<L> {
    pub(crate) fn new(
        link: L,
        mail: WorkerEnd<L::Port>,
        listeners: Vec<Listener>,
        shared: Shared,
        counters: Arc<Counters>,
        batch: Batch,
    ) -> Self {
        let (egress, allowance) = (Egress::new(listeners), Allowance::default());
        let tallies = Vec::with_capacity(batch.capacity() * SEGMENTS_MAX);
        let (ids, frames, frames_asked) = (Ids::new(), None, false);
        Self {
            link,
            mail,
            egress,
            shared,
            batch,
            tallies,
            ids,
            counters,
            allowance,
            frames,
            frames_asked,
        }
    }

    /// Works until `stop`, reading the time with `now` once a round; then sends what it was given
    /// until then.
    pub(crate) fn run(&mut self, stop: &AtomicBool, now: fn() -> Duration) -> io::Result<()> {
        while !stop.load(Acquire) {
            let frames = self.frames.as_mut();
            let (ready, patience) =
                frames.map_or((false, None), |it| (it.is_ready(), Some(it.patience())));
            if ready || self.link.is_ready() || !self.mail.is_empty() {
                self.link.wait(Some(Duration::ZERO))?;
            } else {
                self.link.wait(patience)?;
                self.counters.wakeups.add(1);
            }
            self.mail.bell.hear();
            self.round(now());
        }
        self.last_rounds(now);
        Ok(())
    }

    /// Sends the answers that were queued when the relay was told to end, and forwards what had
    /// arrived. The control thread waits meanwhile, so that the ring bounds the letters.
    fn last_rounds(&mut self, now: fn() -> Duration) {
        loop {
            self.round(now());
            if self.mail.letters.is_empty() {
                return;
            }
        }
    }

    /// One round over everything that is there to be done.
    pub(crate) fn round(&mut self, now: Duration) {
        self.link.begin_round(now);
        // The letters that are there now; what they rely on was commanded before.
        let waiting = self.mail.letters.waiting();
        self.carry_out();
        self.deliver(waiting);
        let Shared { routes, permits } = self.shared.clone();
        let tables = Tables { view: View::new(&routes, now), permits: Permits::new(&permits, now) };
        let mut left = DATAGRAMS_MAX;
        for _ in 0..TURNS_MAX {
            self.fill();
            let received = self.batch.len();
            if received == 0 && !self.link.is_ready() {
                break;
            }
            self.pass(&tables);
            left = left.saturating_sub(received);
            if left == 0 {
                break;
            }
        }
        self.pass_frames(now, &tables);
        if self.frames_asked {
            self.give_frames(now);
        }
        self.tell(now);
        self.counters.meet(self.link.oddities());
        self.mail.flush();
    }

    /// Receives from sockets that are ready, one after the other, until the batch is full: the more
    /// of them it holds, the more leave by one system call.
    fn fill(&mut self) {
        let Self { link, batch, counters, .. } = self;
        batch.clear();
        // as many as there are rooms, even where one was ready for nothing
        for _ in 0..BATCH_MAX {
            if batch.is_full() || link.receive(batch).is_none() {
                break;
            }
        }
        if !batch.is_empty() {
            counters.received.add(batch.len() as u64);
            counters.messages.add(batch.messages() as u64);
            counters.batches[batch_class(batch.len())].add(1);
        }
    }

    fn carry_out(&mut self) {
        let Self { link, mail, egress, counters, frames, frames_asked, .. } = self;
        mail.carry_out(|command| match command {
            Command::Open { id, local, port } => {
                egress.open(id, local);
                counters.ports.set(egress.open_ports());
                // never there: the slot's last owner was given back before it was used again
                link.open(id.slot(), port).map(|port| Returned { id, port: Some(port) })
            }
            Command::Close { id } => {
                let port = egress.close(id).then(|| link.close(id.slot())).flatten();
                counters.ports.set(egress.open_ports());
                Some(Returned { id, port })
            }
            Command::TakeOver { id, local, port } => {
                egress.open(id, local);
                counters.ports.set(egress.open_ports());
                link.take_over(id.slot(), port).map(|port| Returned { id, port: Some(port) })
            }
            Command::Hear { id, overflowed } => {
                // not where it was closed meanwhile
                if egress.by_port(id).is_some() {
                    link.hear(id.slot(), overflowed);
                }
                None
            }
            Command::Lend { id, local, port } => {
                let refused = match egress.lend(id, local) {
                    Some(number) => link.lend(number, port),
                    None => Some(port),
                };
                refused.map(|port| Returned { id: PortId::NOBODY, port: Some(port) })
            }
            Command::Recall { id, local } => {
                let port = egress.recall(id, local).and_then(|number| link.recall(number));
                Some(Returned { id: PortId::NOBODY, port })
            }
            Command::Frames(queues) => {
                counters.frames.own(&queues);
                (*frames, *frames_asked) = (Some(queues), false);
                None
            }
            Command::AskFrames => {
                *frames_asked = true;
                None
            }
            // never given to a worker
            Command::Session(_) => None,
        });
    }
}

#[cfg(test)]
mod tests;
