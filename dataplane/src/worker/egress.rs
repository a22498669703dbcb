//! Which of a worker's sockets a datagram leaves by.

use crate::batch::SocketId;
use crate::route::PortId;
use std::net::{IpAddr, SocketAddr};
use wire::Endpoint;

/// A listener, as bound: maybe to all addresses of a family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) local: SocketAddr,
}

struct Port {
    id: PortId,
    source: Endpoint,
}

/// The sockets of a worker by what they send for.
pub(crate) struct Egress {
    listeners: Vec<Listener>,
    ports: Vec<Option<Port>>,
    open: u64,
}

impl Egress {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        Self { listeners, ports: Vec::new(), open: 0 }
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
        let port = self.ports.get(slot as usize)?.as_ref()?;
        let owner = port.id.bits() == route.port_id && port.source == route.source();
        owner.then_some(SocketId::port(slot))
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
