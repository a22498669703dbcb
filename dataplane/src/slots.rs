//! The control thread's book of relay ports: which slots are taken, by which of their owners.
//!
//! ```text
//!   free ── take ──> open ── close ──> closing ── the worker gave the socket back ──> free
//!                                      generation + 1
//! ```

use crate::route::PortId;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Most relay ports that one data plane can hold: half of the slots that a [`PortId`] can name,
/// since a closing port still holds its slot.
pub(crate) const PORTS_MAX: usize = 1 << (PortId::SLOT_BITS - 1);

#[derive(Clone, Copy)]
enum State {
    Free,
    Open { relay: SocketAddr, descriptor: RawFd },
    Closing,
}

struct Slot {
    generation: u32,
    state: State,
}

/// One worker's slots: its own numbers from 0, so that its tables are no longer than it has ports.
#[derive(Default)]
struct Book {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// All slots of all workers.
pub(crate) struct Slots {
    books: Vec<Book>,
    open: usize,
    ports_max: usize,
}

impl Slots {
    /// For `ports_max` ports open at once on `workers` together.
    pub(crate) fn new(workers: usize, ports_max: usize) -> Self {
        let ports_max = ports_max.clamp(1, PORTS_MAX);
        Self { books: (0..workers).map(|_| Book::default()).collect(), open: 0, ports_max }
    }

    /// The slot that [`take`](Self::take) would give out next on `worker`; nothing when all ports
    /// are open, or too many of the worker's are still closing.
    pub(crate) fn next(&self, worker: usize) -> Option<PortId> {
        if self.open >= self.ports_max { None } else { self.next_of_open(worker) }
    }

    /// [`next`](Self::next), for a port of another worker that is closed there at once.
    pub(crate) fn next_of_open(&self, worker: usize) -> Option<PortId> {
        let Book { slots, free } = self.books.get(worker)?;
        if free.is_empty() && slots.len() >= 2 * self.ports_max {
            return None;
        }
        let slot = free.last().copied().unwrap_or(slots.len() as u32);
        let generation = slots.get(slot as usize).map_or(0, |slot| slot.generation);
        Some(PortId::new(worker, slot, generation))
    }

    /// Takes the slot that [`next`](Self::next) named.
    pub(crate) fn take(&mut self, id: PortId, relay: SocketAddr, descriptor: RawFd) {
        let Book { slots, free } = &mut self.books[id.worker()];
        let (index, state) = (id.slot() as usize, State::Open { relay, descriptor });
        if index == slots.len() {
            slots.push(Slot { generation: id.generation(), state });
        } else {
            let taken = free.pop();
            debug_assert_eq!(taken, Some(id.slot()), "the slot that `next` named");
            slots[index].state = state;
        }
        self.open += 1;
    }

    fn slot(&mut self, id: PortId) -> Option<&mut Slot> {
        self.books.get_mut(id.worker())?.slots.get_mut(id.slot() as usize)
    }

    /// The relayed transport address of an open port; nothing for an old owner's.
    pub(crate) fn relay(&self, id: PortId) -> Option<SocketAddr> {
        self.socket(id).map(|(relay, _)| relay)
    }

    /// The relayed transport address of an open port, and its socket's descriptor: no one but the
    /// control thread closes that, and not before the port is closing.
    pub(crate) fn socket(&self, id: PortId) -> Option<(SocketAddr, RawFd)> {
        let slot = self.books.get(id.worker())?.slots.get(id.slot() as usize)?;
        match slot.state {
            State::Open { relay, descriptor } if slot.generation == id.generation() => {
                Some((relay, descriptor))
            }
            _ => None,
        }
    }

    /// The open port at `relay` that a route names by these [`PortId::bits`], whichever worker has
    /// it.
    pub(crate) fn find(&self, bits: u32, relay: SocketAddr) -> Option<PortId> {
        let number = bits & ((1 << PortId::SLOT_BITS) - 1);
        self.books.iter().enumerate().find_map(|(worker, book)| {
            let generation = book.slots.get(number as usize)?.generation;
            let id = PortId::new(worker, number, generation);
            (id.bits() == bits && self.relay(id) == Some(relay)).then_some(id)
        })
    }

    /// Begins to close. False for a port that is not open, or not its any more.
    pub(crate) fn close(&mut self, id: PortId) -> bool {
        let open = self.relay(id).is_some();
        if open && let Some(slot) = self.slot(id) {
            slot.state = State::Closing;
            slot.generation = slot.generation.wrapping_add(1);
            self.open -= 1;
        }
        open
    }

    /// The worker gave the socket back: the slot is free.
    pub(crate) fn release(&mut self, id: PortId) {
        if let Some(slot) = self.slot(id)
            && matches!(slot.state, State::Closing)
        {
            slot.state = State::Free;
            self.books[id.worker()].free.push(id.slot());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 50_000))
    }

    fn take(slots: &mut Slots) -> Option<PortId> {
        let id = slots.next(1)?;
        slots.take(id, relay(), 3);
        Some(id)
    }

    #[test]
    fn a_slot_has_another_generation_for_its_next_owner() {
        let mut slots = Slots::new(2, 1);
        let old = take(&mut slots).unwrap();
        assert!(slots.close(old) && !slots.close(old));
        slots.release(old);
        let new = take(&mut slots).unwrap();
        assert_eq!(old.slot(), new.slot());
        assert!(slots.relay(old).is_none() && !slots.close(old));
        assert_eq!(slots.relay(new), Some(relay()));
    }

    #[test]
    fn slots_are_limited_even_while_a_worker_gives_none_back() {
        let mut slots = Slots::new(2, 10);
        let mut closed = Vec::new();
        while let Some(id) = take(&mut slots) {
            assert!(slots.close(id));
            closed.push(id);
        }
        assert_eq!(closed.len(), 20, "each closing port holds one of twice as many slots");
        closed.drain(..).for_each(|id| slots.release(id));
        let open: Vec<_> = std::iter::from_fn(|| take(&mut slots)).collect();
        assert_eq!(open.len(), 10);
        assert!(slots.next(0).is_none(), "the limit is of all workers together");
    }

    #[test]
    fn a_route_finds_its_port_on_whichever_worker_has_it() {
        let mut slots = Slots::new(2, 10);
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let ids = [(0, 1000), (1, 1001)].map(|(worker, port)| {
            let id = slots.next(worker).unwrap();
            slots.take(id, address(port), 3);
            id
        });
        assert_eq!(ids[0].bits(), ids[1].bits(), "only the address tells them apart");
        assert_eq!(slots.find(ids[1].bits(), address(1001)), Some(ids[1]));
        assert_eq!(slots.find(ids[0].bits(), address(1000)), Some(ids[0]));
        assert_eq!(slots.find(ids[0].bits(), address(1002)), None);
        assert!(slots.close(ids[1]));
        assert_eq!(slots.find(ids[1].bits(), address(1001)), None);
    }

    #[test]
    fn each_worker_has_its_own_numbers() {
        let mut slots = Slots::new(3, 10);
        for (worker, slot) in [(0, 0), (2, 0), (0, 1), (1, 0), (2, 1)] {
            let id = slots.next(worker).unwrap();
            slots.take(id, relay(), 3);
            assert_eq!((id.worker(), id.slot()), (worker, slot));
        }
        assert!(slots.next(3).is_none(), "no such worker");
    }
}
