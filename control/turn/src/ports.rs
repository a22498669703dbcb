//! Relay ports: which are free, and which one comes next.
//!
//! ```text
//!            take (uniform among ready)
//!   ready ────────────────────────────────> taken
//!     ^                                       │
//!     │ oldest first, after COOLING           │ free
//!     └───────────────── cooling <────────────┘
//! ```
//!
//! A port must not be guessable (RFC 6056), and a freed one should come back late, since its former
//! peers may still send to it. The two pull in opposite directions: cooling ports become ready,
//! oldest first, only when fewer than a quarter of the free ports are ready. So a draw is among at
//! least a quarter of them (once they have cooled), and a port comes back as late as that allows.
//! Even and odd ports are two pools, so that EVEN-PORT costs no search.
//!
//! Taking and freeing are O(1), but for a pair of ports (EVEN-PORT with R) in a nearly full range,
//! which is one pass over it. Memory is fixed at the start, about 14 bytes for each port.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

mod relays;

use crate::random::{Random, below};

pub use relays::RESERVATION_LIFETIME;
pub(crate) use relays::{Relays, Reservations, Wanted};

/// A freed port is not taken again earlier, unless no other is left: the longest that a peer's
/// permission, and so its sending, outlives an allocation in practice.
pub const COOLING: Duration = Duration::from_secs(60);

/// How often a pair is drawn at random before the range is searched for one.
const PAIR_DRAWS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Cooling,
    Taken,
}

/// The free ports of one parity.
#[derive(Debug, Default)]
struct Pool {
    ready: Vec<u16>,
    /// Freed ports with the time at which each has cooled, oldest first.
    cooling: VecDeque<(u16, Duration)>,
}

impl Pool {
    fn free(&self) -> usize {
        self.ready.len() + self.cooling.len()
    }
}

/// The relay ports of one relay address.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    pools: [Pool; 2],
    state: Vec<State>,
    /// Where a ready port lies in its pool's `ready`.
    position: Vec<u16>,
}

impl Ports {
    /// All ports of the range, free. Port 0 is never among them.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let (first, last) = ((*range.start()).max(1), *range.end());
        let mut ports = Self {
            first,
            pools: [Pool::default(), Pool::default()],
            state: Vec::new(),
            position: Vec::new(),
        };
        for port in first..=last {
            let pool = &mut ports.pools[usize::from(port & 1)];
            ports.position.push(pool.ready.len() as u16);
            ports.state.push(State::Ready);
            pool.ready.push(port);
        }
        for pool in &mut ports.pools {
            pool.cooling.reserve_exact(pool.ready.len());
        }
        ports
    }

    /// How many ports are free, cooling ones included.
    pub fn free_len(&self) -> usize {
        self.pools.iter().map(Pool::free).sum()
    }

    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.state.len()
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.state.is_empty()
    }

    /// Takes any port. `None` when none is free.
    pub fn take(&mut self, now: Duration, random: &mut dyn Random) -> Option<u16> {
        self.warm(now);
        let [even, odd] = &self.pools;
        let ready = even.ready.len() + odd.ready.len();
        if ready == 0 {
            // Only ports that have not cooled are left: the one that has cooled longest.
            let parity = match (even.cooling.front(), odd.cooling.front()) {
                (Some(e), Some(o)) => usize::from(o.1 < e.1),
                (Some(_), None) => 0,
                (None, _) => 1,
            };
            return self.take_coolest(parity);
        }
        let draw = below(random, ready as u32) as usize;
        let evens = even.ready.len();
        let (parity, at) = if draw < evens { (0, draw) } else { (1, draw - evens) };
        Some(self.take_ready(parity, at))
    }

    /// Takes an even port (EVEN-PORT with R = 0). Its sibling stays free.
    pub fn take_even(&mut self, now: Duration, random: &mut dyn Random) -> Option<u16> {
        self.warm(now);
        match self.pools[0].ready.len() {
            0 => self.take_coolest(0),
            ready => Some(self.take_ready(0, below(random, ready as u32) as usize)),
        }
    }

    /// Takes an even port and the next one (EVEN-PORT with R = 1); returns the even one.
    pub fn take_pair(&mut self, now: Duration, random: &mut dyn Random) -> Option<u16> {
        self.warm(now);
        let evens = self.pools[0].ready.len();
        let sibling_ready =
            |ports: &Self, port: u16| ports.state_of(port + 1) == Some(State::Ready);
        for _ in 0..PAIR_DRAWS.min(evens) {
            let port = self.pools[0].ready[below(random, evens as u32) as usize];
            if port < u16::MAX && sibling_ready(self, port) {
                return Some(self.take_both(port));
            }
        }
        let found = self.pools[0].ready.iter().copied().find(|&port| sibling_ready(self, port));
        let free = |port: &u16| {
            let state = self.state_of(port + 1);
            matches!(state, Some(State::Ready | State::Cooling))
        };
        let cooling = || self.pools[0].cooling.iter().map(|entry| entry.0);
        let port =
            found.or_else(|| self.pools[0].ready.iter().copied().chain(cooling()).find(free))?;
        Some(self.take_both(port))
    }

    /// Takes this very port, if it is free (a reservation, or a restored allocation).
    pub fn take_exactly(&mut self, port: u16) -> bool {
        match self.state_of(port) {
            Some(State::Ready) => {
                let at = usize::from(self.position[self.index(port)]);
                self.take_ready(usize::from(port & 1), at);
                true
            }
            Some(State::Cooling) => {
                let pool = &mut self.pools[usize::from(port & 1)];
                pool.cooling.retain(|entry| entry.0 != port);
                self.set(port, State::Taken);
                true
            }
            _ => false,
        }
    }

    /// Gives a taken port back; it cools from `now` on. Ports that are not taken are ignored.
    pub fn free(&mut self, port: u16, now: Duration) {
        if self.state_of(port) == Some(State::Taken) {
            self.set(port, State::Cooling);
            self.pools[usize::from(port & 1)].cooling.push_back((port, now + COOLING));
        }
    }

    /// Makes cooled ports ready while fewer than a quarter of the free ones are.
    fn warm(&mut self, now: Duration) {
        for parity in 0..2 {
            loop {
                let pool = &mut self.pools[parity];
                let enough = !pool.ready.is_empty() && pool.ready.len() * 4 >= pool.free();
                match pool.cooling.front() {
                    Some(&(port, cooled)) if !enough && cooled <= now => {
                        pool.cooling.pop_front();
                        let at = pool.ready.len() as u16;
                        pool.ready.push(port);
                        self.set(port, State::Ready);
                        let index = self.index(port);
                        self.position[index] = at;
                    }
                    _ => break,
                }
            }
        }
    }

    fn take_coolest(&mut self, parity: usize) -> Option<u16> {
        let (port, _) = self.pools[parity].cooling.pop_front()?;
        self.set(port, State::Taken);
        Some(port)
    }

    fn take_ready(&mut self, parity: usize, at: usize) -> u16 {
        let ready = &mut self.pools[parity].ready;
        let port = ready.swap_remove(at);
        if let Some(&moved) = ready.get(at) {
            let index = self.index(moved);
            self.position[index] = at as u16;
        }
        self.set(port, State::Taken);
        port
    }

    fn take_both(&mut self, even: u16) -> u16 {
        self.take_exactly(even);
        self.take_exactly(even + 1);
        even
    }

    fn index(&self, port: u16) -> usize {
        usize::from(port - self.first)
    }

    fn state_of(&self, port: u16) -> Option<State> {
        self.state.get(usize::from(port.checked_sub(self.first)?)).copied()
    }

    fn set(&mut self, port: u16, state: State) {
        let index = self.index(port);
        self.state[index] = state;
    }
}

#[cfg(test)]
mod tests;
