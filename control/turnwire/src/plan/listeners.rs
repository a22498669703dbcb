//! Where clients reach the relay: the listening addresses, those of TLS and DTLS beside them, and
//! the second address and port of NAT behaviour discovery.
//!
//! ```text
//!   listen  A1:P1   UDP, TCP         nat-discovery A2:P2  also UDP on A2:P1, A1:P2 and A2:P2
//!   TLS     A1:5349 TLS, DTLS        (fewer where 0.0.0.0 or [::] covers both addresses)
//! ```

use std::net::{IpAddr, SocketAddr};

use super::addresses;
use crate::config::Config;
use crate::config::transports::TLS_PORT;
use crate::host::Host;
use crate::settings::{Given, Problem, Source};

/// Two addresses and two ports of one family (RFC 5780 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discovery {
    /// The primary address, and the other.
    pub ips: [IpAddr; 2],
    /// The primary port, and the other.
    pub ports: [u16; 2],
}

/// Everything that is listened on.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) udp: Vec<SocketAddr>,
    pub(super) tcp: Vec<SocketAddr>,
    pub(super) tls: Vec<SocketAddr>,
    pub(super) dtls: Vec<SocketAddr>,
    pub(super) discovery: Vec<Discovery>,
}

/// What the host and the configuration make of them.
pub(super) struct Finder<'a> {
    pub(super) config: &'a Config,
    pub(super) host: &'a Host,
    pub(super) relay_ips: &'a [IpAddr],
    pub(super) notes: &'a mut Vec<String>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Finder<'_> {
    pub(super) fn listeners(&mut self) -> Listeners {
        let udp = self.present(self.config.listen_or_default());
        let transports = &self.config.transports;
        let tcp = if transports.tcp { udp.clone() } else { Vec::new() };
        let (mut tls, mut dtls) = (Vec::new(), Vec::new());
        if let Some(certificate) = &transports.certificate {
            tls = self.present(self.tls(&udp));
            match certificate.identity.check_dtls() {
                Ok(()) => dtls.clone_from(&tls),
                Err(error) => self.notes.push(format!("TLS without DTLS: {error}")),
            }
        }
        let mut listeners = Listeners { udp, tcp, tls, dtls, discovery: Vec::new() };
        for other in &self.config.features.nat_discovery {
            self.discover(other, &mut listeners);
        }
        listeners
    }

    /// Those that this host has; the others are problems, or notes if nobody asked for them.
    fn present(&mut self, wanted: Vec<Given<SocketAddr>>) -> Vec<SocketAddr> {
        let mut present = Vec::new();
        for Given { value, source } in wanted {
            if (self.host.can_bind)(value.ip()) || self.host.has(value.ip()) {
                present.push(value);
            } else if matches!(source, Source::Default(_)) {
                self.notes.push(format!("not listening on {value}: this host has no such family"));
            } else {
                let has = addresses(self.host);
                let message =
                    format!("{} is not an address of this host, which has {has}", value.ip());
                self.problems.push(Problem::new(&source, message));
            }
        }
        present
    }

    fn tls(&self, udp: &[SocketAddr]) -> Vec<Given<SocketAddr>> {
        let given = &self.config.transports.tls_listen;
        if !given.is_empty() {
            return given.clone();
        }
        let mut ips: Vec<IpAddr> = udp.iter().map(SocketAddr::ip).collect();
        ips.dedup();
        let beside = |ip| Given {
            value: SocketAddr::new(ip, TLS_PORT),
            source: Source::Default("tls-listen"),
        };
        ips.into_iter().map(beside).collect()
    }

    /// Adds the listeners of the second address and port.
    fn discover(&mut self, other: &Given<SocketAddr>, listeners: &mut Listeners) {
        let (ip, port) = (other.value.ip(), other.value.port());
        let primary =
            listeners.udp.iter().copied().find(|address| address.is_ipv4() == ip.is_ipv4());
        let Some(primary) = primary else {
            let message = format!("{ip} has no listening address of its family beside it");
            self.problems.push(Problem::new(&other.source, message));
            return;
        };
        let wildcard = primary.ip().is_unspecified();
        let first = if wildcard {
            self.relay_ips.iter().copied().find(|&one| one.is_ipv4() == ip.is_ipv4() && one != ip)
        } else {
            Some(primary.ip())
        };
        let wrong = if !self.host.has(ip) {
            Some(format!("{ip} is not an address of this host, which has {}", addresses(self.host)))
        } else if port == primary.port() {
            Some(format!("the port has to be another than that of {primary}"))
        } else if first.is_none() || first == Some(ip) {
            Some(format!("the address has to be another than that of {primary}"))
        } else {
            None
        };
        if let Some(message) = wrong {
            self.problems.push(Problem::new(&other.source, message));
        }
        let Some(first) = first else { return };
        let more = if wildcard {
            vec![SocketAddr::new(primary.ip(), port)]
        } else {
            vec![
                SocketAddr::new(ip, primary.port()),
                SocketAddr::new(first, port),
                SocketAddr::new(ip, port),
            ]
        };
        for address in more {
            if !listeners.udp.contains(&address) {
                listeners.udp.push(address);
            }
        }
        let ports = [primary.port(), port];
        listeners.discovery.push(Discovery { ips: [first, ip], ports });
    }
}
