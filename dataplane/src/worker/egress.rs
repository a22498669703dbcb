//! Which of a worker's sockets a datagram leaves by.

use crate::batch::SocketId;
use crate::route::PortId;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use wire::Endpoint;

/// Relay ports of other workers that one worker holds at most.
pub(crate) const LOANS_MAX: usize = 65_536;

/// A listener, as bound: maybe to all addresses of a family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) local: SocketAddr,
}

struct Port {
    id: PortId,
    source: Endpoint,
}

/// Another worker's relay port.
struct Loan {
    id: PortId,
    number: u32,
}

/// The sockets of a worker by what they send for.
pub(crate) struct Egress {
    listeners: Vec<Listener>,
    ports: Vec<Option<Port>>,
    open: u64,
    /// By relayed address: two workers' ports may have the same [`PortId::bits`].
    loans: HashMap<SocketAddr, Loan>,
    /// Numbers that were given back.
    free: Vec<u32>,
}

impl Egress {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        let (ports, loans, free) = (Vec::new(), HashMap::new(), Vec::new());
        Self { listeners, ports, open: 0, loans, free }
    }

    /// The number for another worker's relay port; nothing when it has as many as it can.
    pub(crate) fn lend(&mut self, id: PortId, local: SocketAddr) -> Option<u32> {
        if self.loans.len() >= LOANS_MAX || self.loans.contains_key(&local) {
            return None;
        }
        // all numbers below are taken or free
        let next = (self.loans.len() + self.free.len()) as u32;
        let number = self.free.pop().unwrap_or(next);
        self.loans.insert(local, Loan { id, number });
        Some(number)
    }

    /// The number of a loan that is to be given back.
    pub(crate) fn recall(&mut self, id: PortId, local: SocketAddr) -> Option<u32> {
        let loan = self.loans.get(&local).filter(|loan| loan.id == id)?;
        let number = loan.number;
        self.loans.remove(&local);
        self.free.push(number);
        Some(number)
    }

    pub(crate) fn open_ports(&self) -> u64 {
        self.open
    }

    pub(crate) fn open(&mut self, id: PortId, local: SocketAddr) {
        let slot = id.slot() as usize;
        if self.ports.len() <= slot {
            self.ports.resize_with(slot + 1, || None);
        }
        let port = Port { id, source: local.into() };
        self.open += u64::from(self.ports[slot].replace(port).is_none());
    }

    /// False when the slot has another owner, or none.
    pub(crate) fn close(&mut self, id: PortId) -> bool {
        let Some(port) = self.ports.get_mut(id.slot() as usize) else { return false };
        let owned = port.as_ref().is_some_and(|port| port.id == id);
        if owned {
            *port = None;
            self.open -= 1;
        }
        owned
    }

    /// Who owns a slot.
    pub(crate) fn owner(&self, slot: u32) -> Option<PortId> {
        self.ports.get(slot as usize)?.as_ref().map(|port| port.id)
    }

    /// The socket of a relay port, if it is still this owner's.
    pub(crate) fn by_port(&self, id: PortId) -> Option<SocketId> {
        let port = self.ports.get(id.slot() as usize)?.as_ref()?;
        (port.id == id).then_some(SocketId::port(id.slot()))
    }

    /// The socket of the relay port that a route names, if it sends from the route's own source:
    /// on another worker the same slot is another port.
    pub(crate) fn by_route(&self, route: &wire::Route) -> Option<SocketId> {
        let slot = route.port_id & ((1 << PortId::SLOT_BITS) - 1);
        if let Some(Some(port)) = self.ports.get(slot as usize)
            && port.id.bits() == route.port_id
            && port.source == route.source()
        {
            return Some(SocketId::port(slot));
        }
        if self.loans.is_empty() {
            return None;
        }
        let loan = self.loans.get(&route.source().into())?;
        (loan.id.bits() == route.port_id).then_some(SocketId::loan(loan.number))
    }

    /// The listener that sends from `local`, and the source address to tell it, if it is bound to
    /// all of its family.
    pub(crate) fn by_listener(&self, local: SocketAddr) -> Option<(SocketId, Option<IpAddr>)> {
        let sends = |listener: &Listener| {
            listener.local.port() == local.port() && listener.local.ip() == local.ip()
        };
        let covers = |listener: &Listener| {
            listener.local.port() == local.port()
                && listener.local.ip().is_unspecified()
                && listener.local.is_ipv4() == local.is_ipv4()
        };
        if let Some(index) = self.listeners.iter().position(sends) {
            return Some((SocketId::listener(index), None));
        }
        let index = self.listeners.iter().position(covers)?;
        Some((SocketId::listener(index), Some(local.ip())))
    }

    /// True for an address that this worker listens on.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| listener.local == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_answers_only_to_its_owner() {
        let mut egress = Egress::new(Vec::new());
        let (old, new) = (PortId::new(0, 5, 1), PortId::new(0, 5, 2));
        egress.open(old, address("192.0.2.1:50000"));
        assert_eq!(egress.by_port(old), Some(SocketId::port(5)));
        assert!(egress.close(old));
        egress.open(new, address("192.0.2.1:50001"));
        assert!(egress.by_port(old).is_none() && !egress.close(old));
        assert_eq!((egress.by_port(new), egress.open_ports()), (Some(SocketId::port(5)), 1));
    }

    #[test]
    fn a_loan_answers_to_its_routes_until_it_is_recalled_and_its_number_is_used_again() {
        let mut egress = Egress::new(Vec::new());
        let relay = |port| address(&format!("192.0.2.1:{port}"));
        let route = |id: PortId, port: u16| {
            let peer = wire::Endpoint::from(address("203.0.113.1:9"));
            let tuple = wire::Tuple { src: relay(port).into(), dst: peer };
            let mut route = wire::Route::new(tuple, tuple, 0, 0);
            route.port_id = id.bits();
            route
        };
        let (one, two) = (PortId::new(1, 5, 1), PortId::new(2, 5, 1));
        assert_eq!(egress.lend(one, relay(1000)), Some(0));
        assert_eq!(egress.lend(two, relay(2000)), Some(1));
        assert_eq!(egress.lend(two, relay(2000)), None, "it has it already");
        assert_eq!(egress.by_route(&route(one, 1000)), Some(SocketId::loan(0)));
        assert_eq!(egress.by_route(&route(two, 2000)), Some(SocketId::loan(1)));
        assert_eq!(egress.by_route(&route(one, 3000)), None);
        let next = PortId::new(1, 5, 2);
        assert_eq!(egress.by_route(&route(next, 1000)), None, "the slot's next owner is not it");
        assert_eq!(egress.recall(next, relay(1000)), None);
        assert_eq!(egress.recall(one, relay(1000)), Some(0));
        assert_eq!(egress.by_route(&route(one, 1000)), None);
        assert_eq!(egress.lend(next, relay(1000)), Some(0));
        assert_eq!(egress.by_route(&route(next, 1000)), Some(SocketId::loan(0)));
    }

    #[test]
    fn an_exact_listener_goes_before_one_on_all_addresses() {
        let locals = ["0.0.0.0:3478", "192.0.2.1:3478", "[::]:3478", "0.0.0.0:80"];
        let egress = Egress::new(locals.map(|local| Listener { local: address(local) }).to_vec());
        let cases = [
            ("192.0.2.1:3478", Some((1, None))),
            ("192.0.2.2:3478", Some((0, Some("192.0.2.2")))),
            ("[2001:db8::1]:3478", Some((2, Some("2001:db8::1")))),
            ("192.0.2.1:80", Some((3, Some("192.0.2.1")))),
            ("[2001:db8::1]:80", None),
        ];
        for (local, expected) in cases {
            let expected = expected.map(|(index, from)| {
                (SocketId::listener(index), from.map(|ip| ip.parse().unwrap()))
            });
            assert_eq!(egress.by_listener(address(local)), expected, "{local}");
        }
    }
}
