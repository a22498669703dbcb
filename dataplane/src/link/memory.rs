//! A link without any kernel beneath it: what a test puts in is received, what is sent is kept.

use super::{Link, Oddities, Unreachable};
use crate::batch::{Arrival, Batch, Departure, Outcome, SocketId};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use wire::Reason;

/// A link in memory.
#[derive(Default)]
pub struct MemoryLink {
    arriving: VecDeque<(SocketId, Arrival, Vec<u8>)>,
    /// Everything that was sent, in order.
    pub sent: Vec<(Departure, Vec<u8>)>,
    /// The slots that are open.
    pub open: Vec<u32>,
    /// The loans that are there.
    pub lent: Vec<u32>,
    /// Refuse to send, for this reason.
    pub refuse: Option<Reason>,
    /// ICMP errors to be handed over.
    pub errors: VecDeque<Unreachable>,
}

impl MemoryLink {
    /// Lets `bytes` arrive on the socket `id`.
    pub fn arrive(&mut self, id: SocketId, arrival: Arrival, bytes: &[u8]) {
        self.arriving.push_back((id, arrival, bytes.to_vec()));
    }
}

impl Link for MemoryLink {
    type Port = ();

    fn open(&mut self, slot: u32, (): ()) -> Option<()> {
        let old = self.close(slot);
        self.open.push(slot);
        old
    }

    fn close(&mut self, slot: u32) -> Option<()> {
        let at = self.open.iter().position(|open| *open == slot)?;
        self.open.swap_remove(at);
        Some(())
    }

    fn lend(&mut self, number: u32, (): ()) -> Option<()> {
        let old = self.recall(number);
        self.lent.push(number);
        old
    }

    fn recall(&mut self, number: u32) -> Option<()> {
        let at = self.lent.iter().position(|lent| *lent == number)?;
        self.lent.swap_remove(at);
        Some(())
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn is_ready(&self) -> bool {
        !self.arriving.is_empty()
    }

    fn receive(&mut self, batch: &mut Batch) -> Option<SocketId> {
        let id = self.arriving.front()?.0;
        while !batch.is_full() && self.arriving.front().is_some_and(|(next, ..)| *next == id) {
            if let Some((_, arrival, bytes)) = self.arriving.pop_front() {
                batch.push_from(id, &bytes, None, arrival);
            }
        }
        Some(id)
    }

    fn send(&mut self, batch: &mut Batch) {
        for index in 0..batch.len() {
            let Some(departure) = batch.departure(index).copied() else { continue };
            let outcome = self.refuse.map_or(Outcome::Sent, Outcome::Refused);
            if outcome == Outcome::Sent {
                self.sent.push((departure, batch.pieces(index).concat()));
            }
            batch.settle(index, outcome);
        }
    }

    fn unreachable(&mut self) -> Option<Unreachable> {
        self.errors.pop_front()
    }

    fn oddities(&self) -> Oddities {
        Oddities::default()
    }
}
