//! The control thread's book of relay ports: which slots are taken, by which of their owners.
//!
//! ```text
//!   free ── take ──> open ── close ──> closing ── the worker gave the socket back ──> free
//!                                      generation + 1
//! ```

use crate::route::PortId;
use std::net::SocketAddr;

/// Most relay ports that one data plane can hold: half of the slots that a [`PortId`] can name,
/// since a closing port still holds its slot.
pub(crate) const PORTS_MAX: usize = 1 << (PortId::SLOT_BITS - 1);

#[derive(Clone, Copy)]
enum State {
    Free,
    Open { worker: usize, relay: SocketAddr },
    Closing,
}

struct Slot {
    generation: u32,
    state: State,
}

/// All slots.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
    ports_max: usize,
}

impl Slots {
    /// For `ports_max` ports open at once.
    pub(crate) fn new(ports_max: usize) -> Self {
        let ports_max = ports_max.clamp(1, PORTS_MAX);
        Self { slots: Vec::new(), free: Vec::new(), open: 0, ports_max }
    }

    /// True when a port can be taken now.
    pub(crate) fn has_room(&self) -> bool {
        self.open < self.ports_max
            && (!self.free.is_empty() || self.slots.len() < 2 * self.ports_max)
    }

    /// The slot that [`take`](Self::take) would give out next.
    pub(crate) fn next(&self, worker: usize) -> Option<PortId> {
        if !self.has_room() {
            return None;
        }
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation);
        Some(PortId::new(worker, slot, generation))
    }

    /// Takes the slot that [`next`](Self::next) named.
    pub(crate) fn take(&mut self, id: PortId, relay: SocketAddr) {
        let state = State::Open { worker: id.worker(), relay };
        let index = id.slot() as usize;
        if index == self.slots.len() {
            self.slots.push(Slot { generation: id.generation(), state });
        } else {
            let taken = self.free.pop();
            debug_assert_eq!(taken, Some(id.slot()), "the slot that `next` named");
            self.slots[index].state = state;
        }
        self.open += 1;
    }

    /// The relayed transport address of an open port; nothing for an old owner's.
    pub(crate) fn relay(&self, id: PortId) -> Option<SocketAddr> {
        let slot = self.slots.get(id.slot() as usize)?;
        match slot.state {
            State::Open { worker, relay }
                if slot.generation == id.generation() && worker == id.worker() =>
            {
                Some(relay)
            }
            _ => None,
        }
    }

    /// Begins to close. False for a port that is not open, or not its any more.
    pub(crate) fn close(&mut self, id: PortId) -> bool {
        if self.relay(id).is_none() {
            return false;
        }
        let slot = &mut self.slots[id.slot() as usize];
        slot.state = State::Closing;
        slot.generation = slot.generation.wrapping_add(1);
        self.open -= 1;
        true
    }

    /// The worker gave the socket back: the slot is free.
    pub(crate) fn release(&mut self, id: PortId) {
        if let Some(slot) = self.slots.get_mut(id.slot() as usize)
            && matches!(slot.state, State::Closing)
        {
            slot.state = State::Free;
            self.free.push(id.slot());
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
        let id = slots.next(3)?;
        slots.take(id, relay());
        Some(id)
    }

    #[test]
    fn a_slot_has_another_generation_for_its_next_owner() {
        let mut slots = Slots::new(1);
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
        let mut slots = Slots::new(10);
        let mut closed = Vec::new();
        while let Some(id) = take(&mut slots) {
            assert!(slots.close(id));
            closed.push(id);
        }
        assert_eq!(closed.len(), 20, "each closing port holds one of twice as many slots");
        closed.drain(..).for_each(|id| slots.release(id));
        let open: Vec<_> = std::iter::from_fn(|| take(&mut slots)).collect();
        assert_eq!(open.len(), 10);
    }
}
