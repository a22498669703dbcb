//! Settings that contradict each other.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;

use super::{AfXdp, Config, External, XdpForward, XdpMode};
use crate::settings::{Given, Problem, Source};

/// Checks `config` as a whole; every contradiction becomes a problem.
pub(super) fn together(config: &Config, problems: &mut Vec<Problem>) {
    twice(&config.listen, problems);
    twice(&config.transports.tls_listen, problems);
    twice(&config.transports.proxies, problems);
    twice(&config.relay_ips, problems);
    twice(&config.allow_peers, problems);
    twice(&config.deny_peers, problems);
    twice(&config.xdp, problems);
    twice(&config.cores, problems);
    let relay_ips: Vec<IpAddr> = config.relay_ips.iter().map(|given| given.value).collect();
    if !relay_ips.is_empty() {
        // Without relay-ip they are found on the host, and this is checked there.
        pair_externals(&config.externals, &relay_ips, problems);
    }
    listener_in_relay_ports(config, &relay_ips, problems);
    peers(config, problems);
    xdp(config, problems);
    af_xdp(config, problems);
    quota(config, problems);
}

fn twice<T: Eq + Hash + ToString>(values: &[Given<T>], problems: &mut Vec<Problem>) {
    let mut seen = HashSet::new();
    for given in values {
        if !seen.insert(&given.value) {
            let message = format!("{} is given twice", given.value.to_string());
            problems.push(Problem::new(&given.source, message));
        }
    }
}

/// Each public address with the relay address behind it, out of `relay_ips`. What cannot be paired
/// becomes a problem.
pub fn pair_externals(
    externals: &[Given<External>],
    relay_ips: &[IpAddr],
    problems: &mut Vec<Problem>,
) -> Vec<(IpAddr, IpAddr)> {
    let mut pairs: Vec<(IpAddr, IpAddr)> = Vec::new();
    for given in externals {
        let public = given.value.public;
        let known = |private: &IpAddr| pairs.iter().find(|pair| pair.1 == *private);
        let paired = behind(&given.value, relay_ips).and_then(|private| match known(&private) {
            Some((other, _)) => Err(format!("{private} already stands behind {other}")),
            None if pairs.iter().any(|pair| pair.0 == public) => {
                Err(format!("{public} is given twice"))
            }
            None => Ok((public, private)),
        });
        match paired {
            Ok(pair) => pairs.push(pair),
            Err(message) => problems.push(Problem::new(&given.source, message)),
        }
    }
    pairs
}

/// The relay address that stands behind a public one.
fn behind(external: &External, relay_ips: &[IpAddr]) -> Result<IpAddr, String> {
    let public = external.public;
    let same: Vec<IpAddr> =
        relay_ips.iter().copied().filter(|ip| ip.is_ipv4() == public.is_ipv4()).collect();
    match (external.private, same.as_slice()) {
        (Some(private), _) if same.contains(&private) => Ok(private),
        (Some(private), _) => {
            Err(format!("{private} is not a relay-ip; those of its family: {}", list(&same)))
        }
        (None, [only]) => Ok(*only),
        (None, []) => {
            let family = if public.is_ipv4() { "IPv4" } else { "IPv6" };
            Err(format!(
                "{public} has no {family} relay-ip behind it; add --relay-ip with the address of \
                 this host that {public} leads to"
            ))
        }
        (None, several) => Err(format!(
            "{public} could stand before each of {}; write {public}={}",
            list(several),
            several[0]
        )),
    }
}

fn list(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// A listening port inside the relay range of the same address would be the listener's or the
/// relay's, whoever came first.
pub fn listener_in_relay_ports(config: &Config, relay_ips: &[IpAddr], problems: &mut Vec<Problem>) {
    let range = &config.relay_ports.value;
    let tls = config.transports.tls_listen.iter().chain(&config.features.nat_discovery);
    for given in config.listen_or_default().iter().chain(tls) {
        let address = given.value;
        let shared = address.ip().is_unspecified() || relay_ips.contains(&address.ip());
        if shared && range.contains(&address.port()) {
            let source = match &given.source {
                Source::Default(_) => &config.relay_ports.source,
                told => told,
            };
            let message = format!(
                "the listening port {} is one of the relay-ports {}-{}; move one of them",
                address.port(),
                range.start(),
                range.end()
            );
            problems.push(Problem::new(source, message));
        }
    }
}

/// The most specific range decides, so only the same range in both lists is a contradiction.
fn peers(config: &Config, problems: &mut Vec<Problem>) {
    for allow in &config.allow_peers {
        if config.deny_peers.iter().any(|deny| deny.value == allow.value) {
            let message = format!("{} is in deny-peer too; remove one of them", allow.value);
            problems.push(Problem::new(&allow.source, message));
        }
    }
}

/// What goes to workers goes through the program on the interfaces that are named for it.
fn af_xdp(config: &Config, problems: &mut Vec<Problem>) {
    let wanted = match config.af_xdp.value {
        AfXdp::Copy => Some("copy"),
        AfXdp::ZeroCopy => Some("zero-copy"),
        AfXdp::Auto | AfXdp::Off => None,
    };
    let no_program = config.xdp.is_empty() || config.xdp_mode.value == XdpMode::Off;
    if let Some(wanted) = wanted.filter(|_| no_program) {
        let message = format!(
            "\"{wanted}\" needs the kernel program: add --xdp IFACE without --xdp-mode off, or leave \
             af-xdp out"
        );
        problems.push(Problem::new(&config.af_xdp.source, message));
    }
    if config.xdp_forward.value != XdpForward::Workers {
        return;
    }
    let message = if no_program {
        "\"workers\" needs the kernel program: add --xdp IFACE without --xdp-mode off, or leave \
         xdp-forward out"
    } else if config.af_xdp.value == AfXdp::Off {
        "\"workers\" needs AF_XDP, which is off: leave one of the two out"
    } else {
        return;
    };
    problems.push(Problem::new(&config.xdp_forward.source, message));
}

fn xdp(config: &Config, problems: &mut Vec<Problem>) {
    let wanted = match config.xdp_mode.value {
        XdpMode::Native => "native",
        XdpMode::Generic => "generic",
        XdpMode::Auto | XdpMode::Off => return,
    };
    if config.xdp.is_empty() {
        let message = format!(
            "\"{wanted}\" needs the interfaces that carry the fast path: add --xdp IFACE, or leave \
             xdp-mode out"
        );
        problems.push(Problem::new(&config.xdp_mode.source, message));
    }
}

fn quota(config: &Config, problems: &mut Vec<Problem>) {
    let most = config.max_allocations.value;
    if let Some(quota) = &config.user_quota
        && quota.value > most
    {
        let message = format!("\"{}\" is more than max-allocations, which is {most}", quota.value);
        problems.push(Problem::new(&quota.source, message));
    }
}
