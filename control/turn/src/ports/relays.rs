//! The relay addresses, the free ports of each, and the ports that are held for a token.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Ports;
use crate::attribute::Family;
use crate::config::RelayAddress;
use crate::random::{Random, below};

/// How long a port is held for its RESERVATION-TOKEN (RFC 8656 section 7.2: at least 30 s).
pub const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);

/// What is asked of a relay port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Even,
    /// Even, and the next port is taken too.
    Pair,
}

#[derive(Debug)]
struct Relay {
    address: RelayAddress,
    ports: Ports,
}

/// All relay addresses.
#[derive(Debug)]
pub(crate) struct Relays(Vec<Relay>);

impl Relays {
    pub(crate) fn new(addresses: &[RelayAddress], range: &RangeInclusive<u16>) -> Self {
        let relay = |&address| Relay { address, ports: Ports::new(range.clone()) };
        Self(addresses.iter().map(relay).collect())
    }

    pub(crate) fn has(&self, family: Family) -> bool {
        self.0.iter().any(|relay| Family::of(&relay.address.local) == family)
    }

    /// Takes a port on one of the family's addresses, chosen at random; the next one's turn comes
    /// when it has none.
    pub(crate) fn take(
        &mut self,
        family: Family,
        wanted: Wanted,
        now: Duration,
        random: &mut dyn Random,
    ) -> Option<SocketAddr> {
        let count = self.0.len();
        let start = below(random, count as u32) as usize;
        for at in (0..count).map(|n| (start + n) % count) {
            let Relay { address, ports } = &mut self.0[at];
            if Family::of(&address.local) != family {
                continue;
            }
            let port = match wanted {
                Wanted::Any => ports.take(now, random),
                Wanted::Even => ports.take_even(now, random),
                Wanted::Pair => ports.take_pair(now, random),
            };
            if let Some(port) = port {
                return Some(SocketAddr::new(address.local, port));
            }
        }
        None
    }

    /// Gives a taken port back.
    pub(crate) fn free(&mut self, relay: SocketAddr, now: Duration) {
        if let Some(found) = self.0.iter_mut().find(|r| r.address.local == relay.ip()) {
            found.ports.free(relay.port(), now);
        }
    }

    /// How many ports are free on all addresses.
    pub(crate) fn free_len(&self) -> usize {
        self.0.iter().map(|relay| relay.ports.free_len()).sum()
    }

    /// The address that clients and peers see for one of ours; any other stays.
    pub(crate) fn advertised(&self, address: SocketAddr) -> SocketAddr {
        let found = self.0.iter().find(|relay| relay.address.local == address.ip());
        found.map_or(address, |r| SocketAddr::new(r.address.advertised, address.port()))
    }

    /// The local addresses that an address may stand for: none when it is not one that we
    /// advertise for another. Several when they share it.
    pub(crate) fn locals(&self, ip: IpAddr) -> impl Iterator<Item = IpAddr> {
        let mapped =
            move |relay: &&Relay| relay.address.advertised == ip && relay.address.local != ip;
        self.0.iter().filter(mapped).map(|relay| relay.address.local)
    }
}

/// A port held for whoever shows the token.
#[derive(Debug, Clone)]
struct Reservation {
    token: [u8; 8],
    relay: SocketAddr,
    expires: Duration,
    /// Whose quota it counts for.
    user: Box<str>,
}

/// The reserved ports, oldest first: all are held equally long.
#[derive(Debug, Default)]
pub(crate) struct Reservations(VecDeque<Reservation>);

impl Reservations {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        self.0.front().map(|reservation| reservation.expires)
    }

    /// Holds a taken port under a new token.
    pub(crate) fn hold(
        &mut self,
        relay: SocketAddr,
        user: &str,
        now: Duration,
        random: &mut dyn Random,
    ) -> [u8; 8] {
        let mut token = [0; 8];
        random.fill(&mut token);
        let expires = now + RESERVATION_LIFETIME;
        self.0.push_back(Reservation { token, relay, expires, user: user.into() });
        token
    }

    /// The port that the token stands for, if it still does, and whose quota it counts for.
    pub(crate) fn find(&self, token: &[u8; 8], now: Duration) -> Option<(SocketAddr, &str)> {
        let live = |r: &&Reservation| r.token == *token && now < r.expires;
        self.0.iter().find(live).map(|r| (r.relay, &*r.user))
    }

    /// Uses a token up; returns the port and whose quota it counted for.
    pub(crate) fn redeem(&mut self, token: &[u8; 8]) -> Option<(SocketAddr, Box<str>)> {
        let at = self.0.iter().position(|r| r.token == *token)?;
        self.0.remove(at).map(|r| (r.relay, r.user))
    }

    /// Lets one port go whose time is over.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<(SocketAddr, Box<str>)> {
        if self.next_expiry()? > now {
            return None;
        }
        self.0.pop_front().map(|r| (r.relay, r.user))
    }
}
