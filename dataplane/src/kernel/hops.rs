//! The next hops in use, and their cells in the program's memory.
//!
//! A hop is a neighbour on an interface: a gateway with thousands of clients behind it, or a peer
//! on the same network. Routes name it by index, so that one changed gateway is one changed cell.
//! A cell holds what goes in front of the IP header only while all of it is known and the way is
//! open; else it is empty, and the routes over it are carried by the sockets.
//!
//! A program that is running may still hold the index of a hop that was given up. So an index
//! rests for a whole tick, about a second, before it stands for another hop, and a cell that moves
//! to another interface stays empty for as long. Index 0 is always empty: no hop.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use wire::{HOPS_MAX, HopCell};

use super::links::Links;
use super::maps::Mapping;
use super::netlink::facts::Reach;

/// The index that never leads anywhere.
pub(crate) const NO_HOP: u16 = 0;
/// A neighbour that was asked about is left in peace for so many ticks: the kernel takes about 3
/// seconds to give one up, and 8 to check a stale one.
const PATIENCE_TICKS: u64 = 8;
/// At most so many neighbours are asked about in a tick; the others have their turn in the next.
pub(crate) const ASKS_MAX: usize = 256;

/// What makes one hop different from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HopKey {
    /// The interface as the kernel routes: of a VLAN, the sub-interface.
    pub(crate) link: u32,
    /// The neighbour on it.
    pub(crate) next: IpAddr,
    /// The route's own MTU, where it has one.
    pub(crate) mtu: Option<u32>,
}

/// All [`HOPS_MAX`] hops are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HopsFull;

struct Hop {
    key: HopKey,
    uses: u32,
    reach: Reach,
    asked_at: Option<u64>,
}

#[derive(Default)]
struct Slot {
    hop: Option<Hop>,
    /// What the cell holds.
    cell: Option<wire::Hop>,
    /// The interface that the cell last led to, 0 for none yet.
    ifindex: u32,
    /// When the cell was last emptied.
    emptied_at: u64,
}

/// The hop table: its only writer.
pub(crate) struct Hops {
    cells: Mapping<HopCell>,
    slots: Vec<Slot>,
    by_neighbour: HashMap<(u32, IpAddr), Vec<u16>>,
    /// Indexes given up, with the tick of that.
    free: VecDeque<(u16, u64)>,
    ticks: u64,
    /// Where the next round of asking begins.
    turn: usize,
    /// There may be neighbours to ask about.
    curious: bool,
}

impl Hops {
    /// A table over cells that are all empty.
    pub(crate) fn new(cells: Mapping<HopCell>) -> Hops {
        let count = cells.len().min(HOPS_MAX);
        let free = (1..count as u16).map(|index| (index, 0)).collect();
        let slots = (0..count).map(|_| Slot::default()).collect();
        // Cells were never used: they need no rest.
        Hops { cells, slots, by_neighbour: HashMap::new(), free, ticks: 1, turn: 0, curious: false }
    }

    /// The index of a hop in use.
    pub(crate) fn find(&self, key: &HopKey) -> Option<u16> {
        let indexes = self.by_neighbour.get(&(key.link, key.next))?;
        indexes.iter().copied().find(|index| self.hop(*index).is_some_and(|hop| hop.key == *key))
    }

    /// What is known of a neighbour, if a hop leads to it.
    pub(crate) fn reach(&self, link: u32, next: IpAddr) -> Option<Reach> {
        let index = self.by_neighbour.get(&(link, next))?.first()?;
        self.hop(*index).map(|hop| hop.reach)
    }

    /// One more use of the hop at `index`.
    pub(crate) fn hold(&mut self, index: u16) {
        if let Some(hop) = self.hop_mut(index) {
            hop.uses += 1;
        }
    }

    /// A new hop, used once.
    pub(crate) fn add(
        &mut self,
        key: HopKey,
        reach: Reach,
        links: &Links,
    ) -> Result<u16, HopsFull> {
        let rested = self.free.front().filter(|(_, since)| *since < self.ticks);
        let (index, _) = *rested.ok_or(HopsFull)?;
        self.free.pop_front();
        self.slots[usize::from(index)].hop = Some(Hop { key, uses: 1, reach, asked_at: None });
        self.by_neighbour.entry((key.link, key.next)).or_default().push(index);
        self.curious = true;
        self.write(index, links);
        Ok(index)
    }

    /// One use less; without any, the hop is given up.
    pub(crate) fn release(&mut self, index: u16) {
        let Some(hop) = self.hop_mut(index) else { return };
        hop.uses -= 1;
        if hop.uses > 0 {
            return;
        }
        let neighbour = (hop.key.link, hop.key.next);
        self.slots[usize::from(index)].hop = None;
        self.empty(index);
        self.free.push_back((index, self.ticks));
        if let Some(indexes) = self.by_neighbour.get_mut(&neighbour) {
            indexes.retain(|one| *one != index);
            if indexes.is_empty() {
                self.by_neighbour.remove(&neighbour);
            }
        }
    }

    /// News of a neighbour. True when a hop leads to it.
    pub(crate) fn set_reach(
        &mut self,
        link: u32,
        next: IpAddr,
        reach: Reach,
        links: &Links,
    ) -> bool {
        let Some(indexes) = self.by_neighbour.get(&(link, next)) else { return false };
        self.curious = true;
        for index in indexes.clone() {
            if let Some(hop) = self.hop_mut(index) {
                hop.reach = reach;
            }
            self.write(index, links);
        }
        true
    }

    /// Makes every cell what the interfaces now say.
    pub(crate) fn write_all(&mut self, links: &Links) {
        for index in 0..self.slots.len() as u16 {
            if self.hop(index).is_some() {
                self.write(index, links);
            }
        }
    }

    /// A second has passed: cells that rested are filled.
    pub(crate) fn tick(&mut self, links: &Links) {
        self.ticks += 1;
        self.curious = true;
        self.write_all(links);
    }

    /// Neighbours to ask the kernel about: unknown ones, and ones that it would check only when it
    /// sent to them itself, which it does not while the program does.
    pub(crate) fn take_questions(&mut self) -> Vec<(u32, IpAddr)> {
        let (count, now) = (self.slots.len(), self.ticks);
        let mut asks = Vec::new();
        if !std::mem::take(&mut self.curious) {
            return asks;
        }
        for step in 0..count {
            if asks.len() == ASKS_MAX {
                self.turn = (self.turn + step) % count;
                self.curious = true;
                break;
            }
            let Some(hop) = &mut self.slots[(self.turn + step) % count].hop else { continue };
            let unsure = !matches!(hop.reach, Reach::At { stale: false, .. });
            if unsure && hop.asked_at.is_none_or(|tick| now >= tick + PATIENCE_TICKS) {
                hop.asked_at = Some(now);
                asks.push((hop.key.link, hop.key.next));
            }
        }
        asks
    }

    /// The hops over the interface `link`.
    pub(crate) fn over(&self, link: u32) -> HashSet<u16> {
        let over = self.by_neighbour.iter().filter(|((on, _), _)| *on == link);
        over.flat_map(|(_, indexes)| indexes.iter().copied()).collect()
    }

    /// The neighbours that hops lead to.
    pub(crate) fn neighbours(&self) -> Vec<(u32, IpAddr)> {
        self.by_neighbour.keys().copied().collect()
    }

    /// How many hops are in use, and how many of them lead somewhere.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let used = self.slots.iter().filter(|slot| slot.hop.is_some());
        (used.clone().count(), used.filter(|slot| slot.cell.is_some()).count())
    }

    /// True when [`Hops::add`] would find a place.
    pub(crate) fn has_room(&self) -> bool {
        self.free.front().is_some_and(|(_, since)| *since < self.ticks)
    }

    /// What the program finds at `index`.
    #[cfg(test)]
    pub(crate) fn cell(&self, index: u16) -> Option<wire::Hop> {
        self.cells[usize::from(index)].load()
    }

    fn hop(&self, index: u16) -> Option<&Hop> {
        self.slots.get(usize::from(index))?.hop.as_ref()
    }

    fn hop_mut(&mut self, index: u16) -> Option<&mut Hop> {
        self.slots.get_mut(usize::from(index))?.hop.as_mut()
    }

    /// What the cell at `index` should hold.
    fn wanted(&self, index: u16, links: &Links) -> Option<wire::Hop> {
        let hop = self.hop(index)?;
        let Reach::At { mac, .. } = hop.reach else { return None };
        let egress = links.egress(hop.key.link)?;
        let mtu = hop.key.mtu.map_or(egress.mtu, |mtu| mtu.min(egress.mtu));
        Some(wire::Hop {
            dst: mac,
            src: egress.mac,
            ifindex: egress.ifindex,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            vlan: egress.vlan.into(),
        })
    }

    fn write(&mut self, index: u16, links: &Links) {
        let wanted = self.wanted(index, links);
        if self.slots[usize::from(index)].cell == wanted {
            return;
        }
        let Some(hop) = wanted else { return self.empty(index) };
        if self.slots[usize::from(index)].ifindex != hop.ifindex {
            self.empty(index);
            let slot = &self.slots[usize::from(index)];
            if slot.ifindex != 0 && slot.emptied_at == self.ticks {
                return; // until the next tick
            }
        }
        let slot = &mut self.slots[usize::from(index)];
        self.cells[usize::from(index)].store(&hop);
        (slot.cell, slot.ifindex) = (Some(hop), hop.ifindex);
    }

    fn empty(&mut self, index: u16) {
        let slot = &mut self.slots[usize::from(index)];
        if slot.cell.take().is_some() {
            self.cells[usize::from(index)].clear();
            slot.emptied_at = self.ticks;
        }
    }
}

#[cfg(test)]
mod tests;
