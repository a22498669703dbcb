//! What is printed once when the relay starts without any credentials configured: a made-up user,
//! and all that is needed to try it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::ice;
use crate::plan::Plan;
use crate::random;
use crate::tier::Tier;

/// A user that was made up for one run.
#[derive(Debug, Clone)]
pub struct Guest {
    /// USERNAME.
    pub name: String,
    /// The password: 120 bits that nobody can guess.
    pub password: String,
}

impl Guest {
    /// Someone new.
    pub fn new(random: &mut dyn turn::Random) -> Guest {
        let name = format!("guest-{}", random::text(random, 4));
        Guest { name, password: random::text(random, 24) }
    }
}

/// The text that is printed to standard output.
pub fn text(plan: &Plan, listen: &[SocketAddr], tier: &Tier, guest: &Guest) -> String {
    let mut text = String::new();
    let ports = &plan.config.relay_ports.value;
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    line("listening", join(listen));
    line("relaying", format!("{}, ports {}-{}", join(&plan.relay_ips), ports.start(), ports.end()));
    line("tier", format!("{}: {}", tier.name, tier.why));
    for note in &plan.notes {
        line("note", note.clone());
    }
    line("user", format!("{}, made up for this run, as none is configured", guest.name));
    let block = ice::servers_block(&urls(plan, listen), &guest.name, &guest.password);
    let version = env!("CARGO_PKG_VERSION");
    format!("Turnwire {version} is serving.\n{text}\nFor an RTCPeerConnection:\n\n{block}\n")
}

/// One URL for each family: of a listener that is on an address, or on all of them.
fn urls(plan: &Plan, listen: &[SocketAddr]) -> Vec<String> {
    let mut urls = Vec::new();
    for address in listen {
        let host = match address.ip() {
            ip if !ip.is_unspecified() => Some(plan.advertised(ip)),
            any => first_of(plan, any.is_ipv4()).map(|ip| plan.advertised(ip)),
        };
        if let Some(ip) = host {
            urls.push(ice::url_of(SocketAddr::new(ip, address.port())));
        }
    }
    urls.dedup();
    urls
}

fn first_of(plan: &Plan, ipv4: bool) -> Option<IpAddr> {
    plan.relay_ips.iter().copied().find(|ip| ip.is_ipv4() == ipv4)
}

fn join<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}
