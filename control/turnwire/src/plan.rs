//! A configuration as it can be carried out on this host: addresses found or checked, cores
//! chosen, and what the operator should know of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use turn::policy::Profile;

use crate::config::Config;
use crate::config::check::{listener_in_relay_ports, pair_externals};
use crate::host::{Host, is_global};
use crate::settings::{Given, Problem, Problems, Source};

mod listeners;

pub use listeners::Discovery;
use listeners::{Finder, Listeners};

/// What `turnwire serve` will do.
#[derive(Debug)]
pub struct Plan {
    /// What was configured.
    pub config: Config,
    /// Addresses to listen on by UDP.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on by TCP.
    pub tcp_listen: Vec<SocketAddr>,
    /// Addresses to listen on by TLS.
    pub tls_listen: Vec<SocketAddr>,
    /// The same by DTLS, unless the certificate's key is one that DTLS cannot use.
    pub dtls_listen: Vec<SocketAddr>,
    /// Pairs of addresses and ports for NAT behaviour discovery.
    pub discovery: Vec<Discovery>,
    /// Relay addresses, all of this host.
    pub relay_ips: Vec<IpAddr>,
    /// Public addresses, each with the relay address behind it.
    pub externals: Vec<(IpAddr, IpAddr)>,
    /// Cores with a pinned worker each. Empty: as many workers as the process has time for,
    /// unpinned.
    pub cores: Vec<usize>,
    /// What the operator should know, though it stops nothing.
    pub notes: Vec<String>,
}

impl Plan {
    /// Plans `config` for `host`.
    ///
    /// # Errors
    /// Everything that the host does not have.
    pub fn new(config: Config, host: &Host) -> Result<Plan, Problems> {
        let mut problems = Vec::new();
        let mut notes = config.notes.clone();
        let relay_ips = relay_ips(&config, host, &mut notes, &mut problems);
        let mut finder = Finder {
            config: &config,
            host,
            relay_ips: &relay_ips,
            notes: &mut notes,
            problems: &mut problems,
        };
        let Listeners { udp, tcp, tls, dtls, discovery } = finder.listeners();
        let externals = pair_externals(&config.externals, &relay_ips, &mut problems);
        let cores = cores(&config, host, &mut problems);
        listener_in_relay_ports(&config, &relay_ips, &mut problems);
        problems.dedup();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let mut plan = Plan {
            config,
            listen: udp,
            tcp_listen: tcp,
            tls_listen: tls,
            dtls_listen: dtls,
            discovery,
            relay_ips,
            externals,
            cores,
            notes,
        };
        plan.note_reach();
        plan.note_sizes();
        Ok(plan)
    }

    /// The address that clients and peers know a relay address by.
    pub fn advertised(&self, relay_ip: IpAddr) -> IpAddr {
        let pair = self.externals.iter().find(|pair| pair.1 == relay_ip);
        pair.map_or(relay_ip, |pair| pair.0)
    }

    /// The relay ports of one address.
    pub fn ports_per_ip(&self) -> usize {
        self.config.relay_ports.value.len()
    }

    /// Allocations that there can be at once: no more than relay ports.
    pub fn allocations_possible(&self) -> usize {
        self.config.max_allocations.value.min(self.ports_per_ip() * self.relay_ips.len())
    }

    /// The setting that has this relay listen on `address`.
    pub fn listener_source(&self, address: SocketAddr) -> Option<Source> {
        let Config { transports, features, .. } = &self.config;
        let udp = self.config.listen_or_default();
        let given = udp.iter().chain(&transports.tls_listen).chain(&features.nat_discovery);
        let exact = |given: &&Given<SocketAddr>| given.value == address;
        match given.clone().find(exact) {
            Some(given) => Some(given.source.clone()),
            // beside those that were given
            None if self.tls_listen.contains(&address) => Some(Source::Default("tls-listen")),
            None => features.nat_discovery.first().map(|given| given.source.clone()),
        }
    }

    fn note_reach(&mut self) {
        if self.config.relay_ips.is_empty() {
            for &ip in &self.relay_ips {
                if !ip.is_loopback() && !is_global(self.advertised(ip)) {
                    self.notes.push(format!(
                        "the relay address {ip} was found on this host and is private: peers and \
                         clients elsewhere cannot reach it. Behind a 1:1 NAT add \
                         --external-ip PUBLIC={ip}"
                    ));
                }
            }
        }
        let private = self.relay_ips.iter().all(|&ip| !is_global(self.advertised(ip)));
        if private
            && self.config.peer_policy == Profile::Public
            && self.config.allow_peers.is_empty()
        {
            self.notes.push(
                "this host has private addresses only, and the peer policy is public: relaying to \
                 private addresses, so to others on this network, is refused with 403. For a trial \
                 on a LAN add --peer-policy lan"
                    .to_owned(),
            );
        }
        if let Some(admin) = &self.config.admin
            && !admin.value.ip().is_loopback()
        {
            self.notes.push(format!(
                "the admin server on {} asks nobody who they are: keep others away from it",
                admin.value
            ));
        }
    }

    fn note_sizes(&mut self) {
        let most = &self.config.max_allocations;
        let ports = self.ports_per_ip() * self.relay_ips.len();
        if !matches!(most.source, Source::Default(_)) && most.value > ports {
            self.notes.push(format!(
                "max-allocations is {}, but there are {ports} relay ports: {} on each of {} relay \
                 addresses",
                most.value,
                self.ports_per_ip(),
                self.relay_ips.len()
            ));
        }
    }
}

fn relay_ips(
    config: &Config,
    host: &Host,
    notes: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    for given in &config.relay_ips {
        if !host.has(given.value) {
            let message = format!(
                "{} is not an address of this host, which has {}; if it is the public address of \
                 a 1:1 NAT, it is an --external-ip",
                given.value,
                addresses(host)
            );
            problems.push(Problem::new(&given.source, message));
        }
    }
    if !config.relay_ips.is_empty() {
        return config.relay_ips.iter().map(|given| given.value).collect();
    }
    let found: Vec<IpAddr> = [true, false].into_iter().filter_map(|v4| host.relay_ip(v4)).collect();
    if !found.is_empty() {
        return found;
    }
    notes.push(
        "this host has no address but loopback: relaying from there, which only clients and peers \
         on this host can use"
            .to_owned(),
    );
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    loopback.into_iter().filter(|&ip| host.has(ip)).collect()
}

fn addresses(host: &Host) -> String {
    let mut texts: Vec<String> =
        host.addresses.iter().map(|address| address.ip.to_string()).collect();
    texts.dedup();
    texts.join(", ")
}

fn cores(config: &Config, host: &Host, problems: &mut Vec<Problem>) -> Vec<usize> {
    for given in &config.cores {
        if !host.cores.contains(&given.value) {
            let message = format!(
                "core {} is not one that this process may use; those are {}",
                given.value,
                ranges(&host.cores)
            );
            problems.push(Problem::new(&given.source, message));
        }
    }
    if !config.cores.is_empty() {
        return config.cores.iter().map(|given| given.value).collect();
    }
    // With a share of the cores' time, being held to some of them would cost.
    if host.parallelism < host.cores.len() { Vec::new() } else { host.cores.clone() }
}

/// Numbers in order, as `0-3,6`.
pub fn ranges(numbers: &[usize]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for run in numbers.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [only] => texts.push(only.to_string()),
            [first, .., last] => texts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::tests::host;
    use crate::settings::file;

    fn plan(text: &str, host: &Host) -> Result<Plan, Problems> {
        let settings = file::parse(Path::new("turnwire.toml"), text).expect("good settings");
        Plan::new(Config::new(&settings).expect("a good configuration"), host)
    }

    #[test]
    fn what_the_host_lacks_stops_the_start() {
        let host = host(&["lo 127.0.0.1/8", "eth0 10.0.0.7/24"]);
        for (text, message) in [
            (
                "relay-ip = \"198.51.100.7\"",
                "relay-ip: 198.51.100.7 is not an address of this host, which has 127.0.0.1, \
                 10.0.0.7; if it is the public address of a 1:1 NAT, it is an --external-ip",
            ),
            (
                "listen = \"198.51.100.7:3478\"",
                "listen: 198.51.100.7 is not an address of this host, which has 127.0.0.1, \
                 10.0.0.7",
            ),
            (
                "cores = \"0,7\"",
                "cores: core 7 is not one that this process may use; those are 0-1",
            ),
            (
                "external-ip = \"2001:4860::1\"",
                "external-ip: 2001:4860::1 has no IPv6 relay-ip behind it; add --relay-ip with the \
                 address of this host that 2001:4860::1 leads to",
            ),
            (
                "listen = \"10.0.0.7:50000\"",
                "listen: the listening port 50000 is one of the relay-ports 49152-65535; move one \
                 of them",
            ),
        ] {
            let problems = plan(text, &host).expect_err(text);
            assert_eq!(problems.to_string(), format!("turnwire.toml:1: {message}"));
        }
    }

    #[test]
    fn a_listener_on_an_address_that_does_not_relay_may_be_in_the_range() {
        let host = host(&["lo 127.0.0.1/8", "eth0 10.0.0.7/24"]);
        assert!(plan("listen = \"127.0.0.1:50000\"", &host).is_ok());
    }

    #[test]
    fn a_private_address_that_was_found_is_told_with_the_flag_that_helps() {
        // given
        let host = host(&["lo 127.0.0.1/8", "eth0 10.0.0.7/24"]);
        // when
        let plain = plan("", &host).expect("a plan");
        let mapped = plan("external-ip = \"8.8.4.4\"", &host).expect("a plan");
        // then
        assert_eq!(plain.relay_ips, [IpAddr::from([10, 0, 0, 7])]);
        assert!(plain.notes[0].contains("--external-ip PUBLIC=10.0.0.7"), "{:?}", plain.notes);
        assert!(plain.notes[1].contains("--peer-policy lan"), "{:?}", plain.notes);
        assert_eq!(mapped.externals, [([8, 8, 4, 4].into(), [10, 0, 0, 7].into())]);
        assert!(mapped.notes.is_empty(), "{:?}", mapped.notes);
    }

    #[test]
    fn a_host_with_loopback_only_relays_from_it_and_says_so() {
        let plan = plan("", &host(&["lo 127.0.0.1/8"])).expect("a plan");
        assert_eq!(plan.relay_ips[0], IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(plan.notes[0].contains("no address but loopback"), "{:?}", plan.notes);
    }

    #[test]
    fn more_allocations_than_ports_are_noted_only_when_asked_for() {
        let host = host(&["eth0 8.8.4.4/24"]);
        assert!(plan("", &host).expect("a plan").notes.is_empty());
        let asked = plan("max-allocations = 20000", &host).expect("a plan");
        assert!(asked.notes[0].contains("16384 relay ports"), "{:?}", asked.notes);
    }

    #[test]
    fn a_share_of_the_cores_leaves_the_workers_unpinned() {
        let mut host = host(&["eth0 8.8.4.4/24"]);
        assert_eq!(plan("", &host).expect("a plan").cores, [0, 1]);
        host.parallelism = 1;
        assert!(plan("", &host).expect("a plan").cores.is_empty());
    }
}
