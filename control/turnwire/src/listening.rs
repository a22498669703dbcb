//! Where clients reach a relay that runs: addresses as they were bound, by transport.

use std::net::{IpAddr, SocketAddr};

use dataplane::{Dataplane, Transport};

use crate::ice;
use crate::plan::Plan;

/// Bound addresses, UDP first.
#[derive(Debug, Clone, Default)]
pub struct Listening(Vec<(Transport, SocketAddr)>);

impl Listening {
    /// Those of a data plane.
    pub fn of(plane: &Dataplane) -> Listening {
        let sessions = plane.session_addresses();
        let lists = [
            (Transport::Udp, plane.listen_addresses()),
            (Transport::Tcp, &sessions.tcp),
            (Transport::Tls, &sessions.tls),
            (Transport::Dtls, &sessions.dtls),
        ];
        let each = |(transport, list): (Transport, &[SocketAddr])| {
            list.iter().map(|&address| (transport, address)).collect::<Vec<_>>()
        };
        Listening(lists.into_iter().flat_map(each).collect())
    }

    /// Each transport's name with an address.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.0.iter().map(|&(transport, address)| (transport.name(), address))
    }

    /// All addresses, each once.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self.0.iter().map(|&(_, address)| address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.into_iter()
    }

    /// Of one transport.
    pub fn by(&self, transport: Transport) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter(move |one| one.0 == transport).map(|one| one.1)
    }

    /// The URLs that clients reach it by: of each address, or of the first relay address where it is
    /// all of a family. TLS over TCP is what browsers take of `turns`.
    pub fn urls(&self, plan: &Plan) -> Vec<String> {
        let mut urls = Vec::new();
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            for address in self.by(transport) {
                let host = match address.ip() {
                    ip if !ip.is_unspecified() => Some(ip),
                    any => first_of(plan, any.is_ipv4()),
                };
                let Some(ip) = host.map(|ip| plan.advertised(ip)) else { continue };
                let url = ice::url_of(SocketAddr::new(ip, address.port()), transport);
                if !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        urls
    }
}

fn first_of(plan: &Plan, ipv4: bool) -> Option<IpAddr> {
    plan.relay_ips.iter().copied().find(|ip| ip.is_ipv4() == ipv4)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::host::tests::host;
    use crate::settings::file;

    #[test]
    fn every_transport_that_is_on_has_a_url_with_the_address_that_clients_know() {
        // given
        let text = "external-ip = \"8.8.4.4\"\n";
        let settings = file::parse(Path::new("turnwire.toml"), text).expect("good settings");
        let config = Config::new(&settings).expect("a good configuration");
        let plan = Plan::new(config, &host(&["eth0 10.0.0.7/24"])).expect("a plan");
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let listening = Listening(vec![
            (Transport::Udp, address("0.0.0.0:3478")),
            (Transport::Udp, address("10.0.0.7:3478")),
            (Transport::Udp, address("[::]:3478")),
            (Transport::Tcp, address("0.0.0.0:3478")),
            (Transport::Tls, address("10.0.0.7:443")),
            (Transport::Dtls, address("10.0.0.7:443")),
        ]);
        // when, then
        assert_eq!(
            listening.urls(&plan),
            [
                "turn:8.8.4.4:3478?transport=udp",
                "turn:8.8.4.4:3478?transport=tcp",
                "turns:8.8.4.4:443?transport=tcp",
            ]
        );
        assert_eq!(listening.addresses().count(), 4);
    }
}
