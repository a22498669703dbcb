//! The clients of one session thread: numbered places, and which client has which.

use crate::route::Client;
use std::collections::HashMap;

/// A place and which of its owners: what still names the old one reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    pub(crate) fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// As a number of 51 bits, for a token with flags above.
    pub(crate) fn bits(self) -> usize {
        (self.generation as usize & 0x7F_FFFF) << 28 | self.slot as usize
    }

    /// What [`bits`](Self::bits) gave.
    pub(crate) fn from_bits(bits: usize) -> Self {
        Self::new(bits as u32 & 0xFFF_FFFF, (bits >> 28) as u32 & 0x7F_FFFF)
    }
}

struct Place<T> {
    generation: u32,
    member: Option<T>,
}

/// All members.
pub(crate) struct Members<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    by_client: HashMap<Client, Key>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), by_client: HashMap::new() }
    }
}

impl<T> Members<T> {
    /// Members there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The key that [`insert`](Self::insert) gives out next.
    pub(crate) fn next(&self) -> Key {
        let slot = self.free.last().copied().unwrap_or(self.places.len() as u32);
        let generation = self.places.get(slot as usize).map_or(0, |place| place.generation);
        Key::new(slot, generation)
    }

    pub(crate) fn insert(&mut self, member: T) -> Key {
        let key = self.next();
        match self.free.pop() {
            Some(slot) => self.places[slot as usize].member = Some(member),
            None => self.places.push(Place { generation: 0, member: Some(member) }),
        }
        key
    }

    pub(crate) fn get(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.slot as usize)?;
        if place.generation == key.generation { place.member.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.slot as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let member = place.member.take()?;
        place.generation = (place.generation + 1) & 0x7F_FFFF;
        self.free.push(key.slot);
        Some(member)
    }

    /// Lets `client` be found; whoever had its name before is no longer found by it.
    pub(crate) fn name(&mut self, client: Client, key: Key) -> Option<Key> {
        self.by_client.insert(client, key)
    }

    /// Forgets the name, if it is this member's.
    pub(crate) fn unname(&mut self, client: &Client, key: Key) {
        if self.by_client.get(client) == Some(&key) {
            self.by_client.remove(client);
        }
    }

    pub(crate) fn find(&self, client: &Client) -> Option<Key> {
        self.by_client.get(client).copied()
    }

    /// The keys of all members.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let places = self.places.iter().enumerate();
        let taken = places.filter(|(_, place)| place.member.is_some());
        taken.map(|(slot, place)| Key::new(slot as u32, place.generation)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Transport;

    #[test]
    fn a_place_answers_only_to_its_owner() {
        let mut members = Members::default();
        let (old, other) = (members.insert("old"), members.insert("other"));
        assert_eq!(members.remove(old), Some("old"));
        let new = members.insert("new");
        assert!(members.get(old).is_none() && members.remove(old).is_none());
        assert_eq!(members.get(new), Some(&mut "new"));
        assert_eq!((members.len(), members.get(other).is_some()), (2, true));
        assert_eq!(members.keys(), [new, other]);
    }

    #[test]
    fn keys_survive_the_way_through_a_token() {
        for key in [Key::new(0, 0), Key::new(0xFFF_FFFF, 0x7F_FFFF), Key::new(5, 9)] {
            assert_eq!(Key::from_bits(key.bits()), key);
            assert!(key.bits() < 1 << 51);
        }
    }

    #[test]
    fn a_name_is_forgotten_only_by_the_one_that_has_it() {
        let mut members = Members::default();
        let address = |port: u16| std::net::SocketAddr::from(([192, 0, 2, 1], port));
        let client = Client { transport: Transport::Tcp, local: address(1), remote: address(2) };
        let (first, second) = (members.insert(1), members.insert(2));
        assert_eq!(members.name(client, first), None);
        assert_eq!(members.name(client, second), Some(first));
        members.unname(&client, first);
        assert_eq!(members.find(&client), Some(second));
        members.unname(&client, second);
        assert_eq!(members.find(&client), None);
    }
}
