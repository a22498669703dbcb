//! All allocations, in numbered slots. A slot's number is what timers and indexes keep.

use std::collections::HashMap;

use super::Allocation;
use crate::outbox::Client;

/// The allocations and the index by five-tuple.
#[derive(Debug, Default)]
pub(crate) struct Allocations {
    slots: Vec<Option<Box<Allocation>>>,
    free: Vec<u32>,
    by_client: HashMap<Client, u32>,
}

impl Allocations {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn slot_of(&self, client: &Client) -> Option<u32> {
        self.by_client.get(client).copied()
    }

    /// The slot that the next [`insert`](Self::insert) fills.
    pub(crate) fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    pub(crate) fn insert(&mut self, allocation: Allocation) -> u32 {
        let slot = self.next_slot();
        self.by_client.insert(allocation.client, slot);
        let boxed = Some(Box::new(allocation));
        match self.free.pop() {
            Some(_) => self.slots[slot as usize] = boxed,
            None => self.slots.push(boxed),
        }
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Box<Allocation>> {
        let allocation = self.slots.get_mut(slot as usize)?.take()?;
        self.remove_client(&allocation.client, slot);
        if let Some((next, _)) = allocation.mobile.as_ref().and_then(|mobile| mobile.next) {
            self.remove_client(&next, slot);
        }
        self.free.push(slot);
        Some(allocation)
    }

    /// Makes the allocation known by another five-tuple, too.
    pub(crate) fn add_client(&mut self, client: Client, slot: u32) {
        self.by_client.insert(client, slot);
    }

    /// The allocation is not known by this five-tuple any more. Another's stays.
    pub(crate) fn remove_client(&mut self, client: &Client, slot: u32) {
        if self.by_client.get(client) == Some(&slot) {
            self.by_client.remove(client);
        }
    }

    /// Whether anything is left of anybody's.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.by_client.is_empty()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Allocation> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Allocation> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.slots.len() as u32
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Allocation> {
        self.slots.iter().flatten().map(|boxed| &**boxed)
    }
}
