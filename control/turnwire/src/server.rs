//! The protocol's server, as the plan describes it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use turn::{Alternate, Limits, NatDiscovery, Policy, Random, RelayAddress, Server};

use crate::clock;
use crate::config::Config;
use crate::host::Host;
use crate::nonce_keys::NonceKeys;
use crate::plan::Plan;
use crate::random::System;
use crate::settings::Given;

/// Relay ports that may be held for a RESERVATION-TOKEN.
pub const RESERVATIONS_MAX: usize = 1024;

/// Which addresses may be peers: what is configured, and never this host's broadcast addresses.
pub fn policy(config: &Config, host: &Host) -> Policy {
    let nets = |given: &[Given<IpNet>]| given.iter().map(|given| given.value).collect::<Vec<_>>();
    let mut deny = nets(&config.deny_peers);
    deny.extend(host.broadcasts().into_iter().map(|ip| IpNet::from(IpAddr::from(ip))));
    Policy::new(config.peer_policy, nets(&config.allow_peers), deny)
}

/// The server of this plan. `services` is everything else that listens here.
pub fn server(plan: Plan, host: &Host, services: Vec<SocketAddr>, keys: &NonceKeys) -> Server {
    let relay = |local: IpAddr| RelayAddress { local, advertised: plan.advertised(local) };
    let relays = plan.relay_ips.iter().map(|&ip| relay(ip)).collect();
    let nat_discovery = plan
        .discovery
        .iter()
        .map(|found| NatDiscovery { addresses: found.ips.map(relay), ports: found.ports });
    let nat_discovery = nat_discovery.collect();
    let config = plan.config;
    let features = &config.features;
    let domain = &features.alternate_domain;
    let alternate =
        |given: &Given<SocketAddr>| Alternate { address: given.value, domain: domain.clone() };
    let [before, present] = keys.first(&mut System);
    let server = turn::Config {
        relays,
        ports: config.relay_ports.value.clone(),
        services,
        local_addresses: host.addresses.iter().map(|address| address.ip).collect(),
        policy: policy(&config, host),
        lifetime_default: config.allocation_lifetime,
        nonce_key: Some(before),
        tcp_relay: features.tcp_relay,
        mobility: features.mobility,
        nat_discovery,
        alternates: features.alternates.iter().map(alternate).collect(),
        redirect: features.redirect,
        software: features.software.clone(),
        limits: Limits {
            allocations: config.max_allocations.value,
            channels: config.max_channels.value,
            allocations_per_user: config.user_quota.map(|given| given.value),
            reservations: RESERVATIONS_MAX,
            connections: features.tcp_peers,
            ..Limits::default()
        },
        ..turn::Config::default()
    };
    let random: Box<dyn Random + Send> = Box::new(System);
    let mut server = Server::new(server, config.credentials, random, clock::now());
    server.rotate_nonce_key(&present);
    server
}
