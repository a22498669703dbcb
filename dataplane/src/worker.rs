//! A worker: one thread, its own sockets, its own counters; it shares the route table with the
//! others, to read.
//!
//! ```text
//!  loop   wait ──> hear the bell ──> read the clock once
//!           ^        ├─ commands: open and close relay ports
//!           │        ├─ letters: send what the control thread wants sent
//!           │        └─ turns: one batch of one ready socket each
//!           │             receive ─> decide ─┬─> forward in the buffer it came in
//!           │                                ├─> hand to the control thread
//!           └── nothing left ─────────────── └─> refuse, counted by reason
//! ```
//!
//! Every kind of work has a budget per round, so that neither a flood nor a busy control thread
//! starves the other.

mod egress;
mod forward;
mod judge;
mod letters;
mod tell;

pub(crate) use egress::{Egress, Listener};
pub use tell::UNREACHABLE_PER_SECOND;

use crate::batch::{Batch, SocketId, SocketKind};
use crate::link::Link;
use crate::mailbox::{Command, Returned, WorkerEnd};
use crate::stats::{Counters, batch_class};
use crate::table::{RouteTable, View};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::time::Duration;
use tell::Allowance;

/// Batches that a round receives before it looks at its mailbox and its poller again.
const TURNS_MAX: usize = 16;

/// Everything that one worker's thread owns.
pub(crate) struct Worker<L: Link> {
    link: L,
    mail: WorkerEnd<L::Port>,
    egress: Egress,
    table: Arc<RouteTable>,
    batch: Batch,
    counters: Arc<Counters>,
    allowance: Allowance,
}

impl<L: Link> Worker<L> {
    pub(crate) fn new(
        link: L,
        mail: WorkerEnd<L::Port>,
        listeners: Vec<Listener>,
        table: Arc<RouteTable>,
        counters: Arc<Counters>,
        batch: Batch,
    ) -> Self {
        let (egress, allowance) = (Egress::new(listeners), Allowance::default());
        Self { link, mail, egress, table, batch, counters, allowance }
    }

    /// Works until `stop`, reading the time with `now` once a round.
    pub(crate) fn run(&mut self, stop: &AtomicBool, now: fn() -> Duration) -> io::Result<()> {
        while !stop.load(Acquire) {
            if self.link.is_ready() || !self.mail.is_empty() {
                self.link.wait(Some(Duration::ZERO))?;
            } else {
                self.link.wait(None)?;
                self.counters.wakeups.add(1);
            }
            self.mail.bell.hear();
            self.round(now());
        }
        Ok(())
    }

    /// One round over everything that is there to be done.
    pub(crate) fn round(&mut self, now: Duration) {
        // The letters that are there now; what they rely on was commanded before.
        let waiting = self.mail.letters.waiting();
        self.carry_out();
        self.deliver(waiting);
        let table = Arc::clone(&self.table);
        let view = View::new(&table, now);
        for _ in 0..TURNS_MAX {
            self.batch.clear();
            let Some(id) = self.link.receive(&mut self.batch) else { break };
            self.turn(id, &view);
        }
        self.tell(now);
        self.counters.meet(self.link.oddities());
        self.mail.flush();
    }

    fn turn(&mut self, id: SocketId, view: &View<'_>) {
        let received = self.batch.len();
        if received == 0 {
            return;
        }
        self.counters.received.add(received as u64);
        self.counters.batches[batch_class(received)].add(1);
        match id.kind() {
            SocketKind::Listener(_) => self.pass_clients(view),
            SocketKind::Port(slot) => self.pass_peers(slot, view),
        }
    }

    fn carry_out(&mut self) {
        let Self { link, mail, egress, counters, .. } = self;
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
            // never given to a worker
            Command::Session(_) => None,
        });
    }
}

#[cfg(test)]
mod tests;
